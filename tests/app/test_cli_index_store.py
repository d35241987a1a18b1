"""`lmstack index` with a store of vectors besides."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.app.conftest import HashEmbedder, Run


def test_an_index_keeps_a_store_moves_and_is_compared_with_it(
    run: Run, docs: Path, embedder: HashEmbedder
) -> None:
    add = run("index", "add", "--index", "my.idx", "--store", "sqlite:rows.sqlite", "docs")
    assert add.code == 0
    store = run("index", "status", "--index", "my.idx", "--json").json["store"]
    assert store == f"sqlite:{Path('rows.sqlite').absolute()}"
    hits = run("search", "port server", "--index", "my.idx", "--json").json
    assert hits
    moved = run("index", "move", "--index", "my.idx", "--to", "faiss:my.faiss", "--json").json
    assert moved["report"]["findings"] == []
    assert run("search", "port server", "--index", "my.idx", "--json").json == hits
    report = run("index", "verify", "--index", "my.idx", "--json").json
    assert (report["ok"], report["store"]["rows"]) == (True, report["chunks"])
    back = run("index", "move", "--index", "my.idx", "--to", "none")
    assert "searched by itself" in back.out
    assert run("index", "verify", "--index", "my.idx", "--json").json["store"] is None


def test_a_store_that_is_away_is_told_and_the_search_goes_on(
    run: Run, docs: Path, embedder: HashEmbedder
) -> None:
    run("index", "add", "--index", "my.idx", "--store", "sqlite:away/rows.sqlite", "docs")
    hits = run("search", "port server", "--index", "my.idx", "--mode", "dense", "--json").json
    for path in Path("away").iterdir():
        path.unlink()
    Path("away").rmdir()
    Path("away").write_text("in the way")
    ran = run("search", "port server", "--index", "my.idx", "--mode", "dense", "--json")
    assert ran.json == hits
    assert "warning: without its store" in ran.err


def test_a_store_that_differs_fails_the_check(run: Run, docs: Path, embedder: HashEmbedder) -> None:
    run("index", "add", "--index", "my.idx", "--store", "sqlite:rows.sqlite", "docs")
    (path,) = Path().glob("rows-*.sqlite")
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE rows SET fields = '{}'")
    connection.close()
    ran = run("index", "verify", "--index", "my.idx")
    assert ran.code == 1
    assert "differs from the index" in ran.err
    again = run("index", "move", "--index", "my.idx", "--to", "sqlite:rows.sqlite")
    assert again.code == 0
    assert run("index", "verify", "--index", "my.idx").code == 0
