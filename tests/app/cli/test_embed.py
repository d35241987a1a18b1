"""`lmstack embed`, with an embedder that needs no model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from lmstack.app import wiring
from lmstack.app.wiring.retrieval import embedder_named, shaped_name
from lmstack.core import AuthError, InputError

if TYPE_CHECKING:
    from tests.app.conftest import HashEmbedder, Run

TEXTS = ("the whale swims", "a whale swims", "trains stop here", "the trains stop")


def test_vectors_are_those_of_the_embedder(run: Run, embedder: HashEmbedder) -> None:
    found = run("embed", *TEXTS, "--json").json
    assert found["digest"] == embedder.info.digest
    assert [item["text"] for item in found["items"]] == list(TEXTS)
    vectors = [item["embedding"] for item in found["items"]]
    np.testing.assert_allclose(vectors, embedder.embed(TEXTS), rtol=1e-6)


def test_lines_of_a_file_are_texts(run: Run, embedder: HashEmbedder, tmp_path: Path) -> None:
    (tmp_path / "lines.txt").write_text("one\n\n  two \n")
    found = run("embed", "-f", str(tmp_path / "lines.txt"), "--json").json
    assert [item["text"] for item in found["items"]] == ["one", "two"]


def test_array_is_written_under_the_name_given(
    run: Run, embedder: HashEmbedder, tmp_path: Path
) -> None:
    ran = run("embed", *TEXTS, "--npy", str(tmp_path / "v"), "--json")
    np.testing.assert_array_equal(np.load(tmp_path / "v"), embedder.embed(TEXTS))
    assert "embedding" not in ran.json["items"][0]


def test_matrix_is_symmetric_and_is_printed(run: Run, embedder: HashEmbedder) -> None:
    matrix = np.array(run("embed", *TEXTS, "--matrix", "--json").json["matrix"])
    np.testing.assert_allclose(matrix, matrix.T, atol=1e-6)
    np.testing.assert_allclose(np.diag(matrix), 1, atol=1e-6)
    lines = run("embed", *TEXTS, "--matrix", "--metric", "euclidean").out.splitlines()
    assert lines[0] == "euclidean"
    assert lines[2].split()[-4:][0] == "-0.00" or "0.00" in lines[2]


def test_groups_have_words_and_duplicates_are_found(run: Run, embedder: HashEmbedder) -> None:
    texts = [*TEXTS, "the whale swims"]
    found = run("embed", *texts, "--cluster", "2", "--duplicates", "0.99", "--json").json
    assert found["clusters"]["labels"] == [0, 0, 1, 1, 0]
    assert [words[0] for words in found["clusters"]["words"]] == ["swims", "stop"]
    assert found["duplicates"] == [[0, 4]]
    printed = run("embed", *texts, "--cluster", "2", "--duplicates", "0.99").out
    assert "2 groups, silhouette" in printed
    assert "near-duplicates 1: 2 texts" in printed


def test_index_keeps_its_vectors_and_needs_no_model(
    run: Run, docs: Path, embedder: HashEmbedder, monkeypatch: pytest.MonkeyPatch
) -> None:
    run("index", "add", "--index", "my.idx", "docs")
    monkeypatch.setattr(wiring, "embedder", None)
    found = run("embed", "--index", "my.idx", "--json").json
    assert [Path(item["path"]).name for item in found["items"]] == ["letters.md", "ports.txt"]
    lengths = [np.linalg.norm(item["embedding"]) for item in found["items"]]
    np.testing.assert_allclose(lengths, 1, rtol=1e-5)


def test_pictures_are_drawn_with_the_texts(
    run: Run, embedder: HashEmbedder, tmp_path: Path
) -> None:
    heat, plane = tmp_path / "h.svg", tmp_path / "m.svg"
    ran = run(
        "embed", *TEXTS, "--heat-map", str(heat), "--map", str(plane), "--cluster", "2", "--json"
    )
    assert ran.json["map"]["method"] == "pca"
    assert "Similarity (cosine)" in heat.read_text()
    assert all(text in heat.read_text() and text in plane.read_text() for text in TEXTS)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "needs texts"),
        (("a", "--index", "x"), "needs texts"),
        (("a", "--cluster", "many"), "--cluster is"),
        (("a", "--cluster", "2"), "clusters is 2"),
        (("a", "--map", "x.gif"), "names no kind of picture"),
        (("-f", "nowhere.txt"), "cannot read"),
        ((*("a" * 201), "--matrix"), "matrix of 201"),
    ],
)
def test_mistakes_are_said(
    run: Run, embedder: HashEmbedder, arguments: tuple[str, ...], said: str
) -> None:
    ran = run("embed", *arguments)
    assert ran.code in (1, 2)
    assert said in ran.err


def test_remote_embedder_is_named_and_said(
    run: Run, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with pytest.raises(AuthError):
        embedder_named("openai:text-embedding-3-small")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test")
    assert embedder_named("openai:text-embedding-3-small,dimensions=256").dimensions == 256
    with pytest.raises(InputError, match="dimensions"):
        embedder_named("openai:text-embedding-3-small,dimensions=99999")


def test_shape_in_a_name_reaches_the_model(
    home: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    seen: list[dict[str, object]] = []

    class Lazy:
        def __init__(self, folder: object, **options: object) -> None:
            seen.append(options)

    class Folder:
        kind, name = "embed", "m"

    monkeypatch.setattr("lmstack.serve.lazy.LazyEmbedder", Lazy)
    monkeypatch.setattr("lmstack.registry.Store.resolve", lambda self, name: Folder())
    embedder_named("m,dimensions=64,tokens=128")
    embedder_named("m")
    assert seen == [{"dimensions": 64, "max_tokens": 128}, {}]
    assert json.dumps(seen)


@pytest.mark.parametrize(
    ("digest", "name"),
    [
        ("sha256:ab", "m"),
        ("sha256:ab+128tokens+64d", "m,tokens=128,dimensions=64"),
        ("sha256:ab+64d", "m,dimensions=64"),
        ("name:m:64", "m"),
    ],
)
def test_index_knows_the_shape_of_its_model(digest: str, name: str) -> None:
    assert shaped_name("m", digest) == name
