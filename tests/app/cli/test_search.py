"""`lmstack search` with stages: what it explains, what it needs, what it refuses."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from lmstack.app.wiring import retrieval
from lmstack.core import ModelInfo
from lmstack.rag import Retriever

LETTERS = "# Letters\n\nLetters are kept for ten years, in the cellar.\n\nThen burnt.\n"


@pytest.fixture
def index(run, embedder, tmp_path, monkeypatch) -> str:
    monkeypatch.chdir(tmp_path)
    docs = Path("docs")
    docs.mkdir()
    (docs / "letters.md").write_text(
        "# Letters\n\nLetters are kept for ten years.\n\nThen burnt.\n"
    )
    (docs / "fees-v1.md").write_text("# Fees\n\nThe fee for letters is ten coins.\n")
    (docs / "fees-v2.md").write_text("# Fees\n\nThe fee for letters is twelve coins.\n")
    assert run("index", "add", "--index", "i", "docs").code == 0
    return "i"


@pytest.mark.parametrize(
    ("condition", "names"),
    [
        ("path under ~/docs", ["fees-v1.md", "fees-v2.md", "letters.md"]),
        ("path = ~/docs/letters.md", ["letters.md"]),
        ("path in ~/docs/letters.md, ~/docs/fees-v2.md", ["fees-v2.md", "letters.md"]),
    ],
)
def test_a_condition_may_name_the_home(run, index, monkeypatch, condition, names):
    monkeypatch.setenv("HOME", str(Path.cwd()))
    ran = run("search", "letters", "--index", index, "--where", condition, "--json")
    assert ran.code == 0, ran.json
    assert sorted({Path(hit["path"]).name for hit in ran.json}) == names


def test_explain_says_ranks_times_and_why_not(run, index):
    ran = run("search", "letters", "--index", index, "-k", "1", "--explain")
    assert ran.code == 0
    heading = next(line for line in ran.out.splitlines() if line.startswith("  RANK"))
    assert heading.split() == [
        *("RANK", "MEANING", "WORDS", "CANDIDATES", "VERSIONS", "DUPLICATES", "PASSAGE")
    ]
    assert "not among the first 1" in ran.out
    assert "STAGE" in ran.out


def test_json_has_the_explanation_only_when_asked(run, index):
    plain = run("search", "letters", "--index", index, "--json").json
    asked = run("search", "letters", "--index", index, "--json", "--explain").json
    assert asked["hits"] == plain
    assert [s["name"] for s in asked["explain"]["stages"]][:2] == ["query", "candidates"]


def test_older_version_is_marked_and_behind(run, index):
    ran = run("search", "fee coins", "--index", index)
    assert "superseded by docs/fees-v2.md" in ran.out
    assert ran.out.index("fees-v2.md (") < ran.out.index("fees-v1.md (")


def test_section_is_shown_whole(run, index):
    [hit] = run(
        "search", "burnt", "--index", index, "-k", "1", "--expand", "section", "--json"
    ).json
    text = Path(hit["path"]).read_text()
    assert hit["text"] == text[hit["start"] : hit["end"]] == text.strip()


def test_only_documents_whose_fields_match(run, index):
    where = ("--where", "format = markdown", "--where", "path = docs/letters.md")
    hits = run("search", "letters fee", "--index", index, "--json", *where).json
    assert {hit["path"] for hit in hits} == {"docs/letters.md"}


def test_filter_that_cannot_be_read_is_the_users_mistake(run, index):
    ran = run("search", "letters", "--index", index, "--where", "format pdf")
    assert ran.code == 1
    assert "format = pdf" in ran.err


def test_a_filter_by_what_no_document_has_says_what_there_is(run, index):
    wrong = run("search", "letters", "--index", index, "--where", "formt = pdf")
    assert (wrong.code, wrong.out) == (1, "")
    assert "did you mean 'format'?" in wrong.err
    absent = run("search", "letters", "--index", index, "--where", "format = pdf")
    assert absent.code == 1
    assert "there are: markdown" in absent.err


@pytest.mark.parametrize("asked", [("--rerank",), ("--preset", "best")])
def test_model_that_was_asked_for_and_is_missing_is_an_error(run, index, asked):
    ran = run("search", "letters", "--index", index, *asked)
    assert ran.code == 1
    assert "lmstack pull" in ran.err


def test_reranker_orders_what_was_found(run, index, monkeypatch):
    class Longest:
        info = ModelInfo("longest")

        def score(self, query, passages):
            return np.array([len(p) for p in passages], np.float32)

    monkeypatch.setattr(retrieval, "retriever", lambda i, c: Retriever(i, c, reranker=Longest()))
    hits = run("search", "letters", "--index", index, "--rerank", "--json").json
    assert [h["path"] for h in hits] == ["docs/letters.md", "docs/fees-v2.md", "docs/fees-v1.md"]


@pytest.mark.parametrize(("option", "value"), [("--mmr", "2"), ("--fresh-days", "0")])
def test_bad_settings_are_the_users_mistake(run, index, option, value):
    ran = run("search", "letters", "--index", index, option, value)
    assert ran.code == 1
    assert value in ran.err
