"""The page over a real index: what it is told while a folder is indexed and asked."""

from __future__ import annotations

import os
import threading
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest

from lmstack.app.page.suggestions import candidate_questions, question_about
from lmstack.app.page.view import PageView
from lmstack.app.server.workspace import Workspace, WorkspaceConfig
from lmstack.core import InputError, ModelInfo, NotFoundError, ScriptedModel
from lmstack.rag import Index


async def answer(view: PageView, question: str) -> list[tuple[str, Any]]:
    async with aclosing(view.ask(question)) as events:
        return [event async for event in events]


def test_status_goes_from_starting_over_indexing_to_ready(
    make: Any, embedder: Any, until: Any
) -> None:
    embedder.gate.clear()
    view = make()
    assert view.status()["state"] == "starting"
    view.start_indexing()
    until(lambda: view.status()["state"] == "indexing")
    assert view.status()["files"] == {"total": 2, "indexed": 0, "problems": 0, "not_read": 0}
    rows = view.documents()["documents"]
    assert [(row["id"], row["state"]) for row in rows] == [(None, "waiting")] * 2
    embedder.gate.set()
    until(lambda: view.status()["state"] == "ready")
    assert view.status()["files"] == {"total": 2, "indexed": 2, "problems": 0, "not_read": 0}
    rows = view.documents()["documents"]
    assert [(os.path.basename(row["path"]), row["state"]) for row in rows] == [
        ("garden.md", "indexed"),
        ("serving.md", "indexed"),
    ]


async def test_answers_work_on_what_is_in_while_the_rest_is_indexed(
    make: Any, embedder: Any, docs: Path, until: Any
) -> None:
    view = make()
    view.start_indexing()
    until(lambda: view.status()["state"] == "ready")
    embedder.gate.clear()
    (docs / "new.md").write_text("# New\n\nThis file is still being read.\n")
    view.start_indexing()
    until(lambda: view.status()["state"] == "indexing")
    name, done = (await answer(view, "When do roses need water?"))[-1]
    assert (name, done["outcome"]) == ("done", "answer")
    assert done["searched"]["waiting"] == 1
    embedder.gate.set()


async def test_citation_is_a_span_of_the_document_that_it_opens(make: Any, until: Any) -> None:
    view = make()
    view.start_indexing()
    until(lambda: view.status()["state"] == "ready")
    events = await answer(view, "Roses need water when?")
    names = [name for name, _ in events]
    assert names[:2] == ["searching", "hits"]
    assert "delta" in names
    done = events[-1][1]
    assert done["citations"]
    for citation in done["citations"]:
        page = view.document(citation["document_id"], around=citation["start"])
        start, end = citation["start"] - page["start"], citation["end"] - page["start"]
        assert page["text"][start:end] == citation["quote"]
        assert citation["ranks"].keys() == {"dense", "lexical"}
    streamed = "".join(data["text"] for name, data in events if name == "delta")
    assert streamed == done["answer"]
    for sentence in done["sentences"]:
        assert streamed[sentence["start"] : sentence["end"]].strip()


@pytest.mark.parametrize(
    ("question", "outcome", "cited"),
    [("Quantum chromodynamics lattice?", "nothing", 0), ("Water ice dynamics?", "closest", 3)],
)
async def test_outcome_is_known_before_the_first_text(
    question: str, outcome: str, cited: int, make: Any, until: Any
) -> None:
    view = make()
    view.start_indexing()
    until(lambda: view.status()["state"] == "ready")
    events = await answer(view, question)
    names = [name for name, _ in events]
    assert dict(events)["outcome"] == {"outcome": outcome}
    assert names.index("outcome") < names.index("delta")
    done = events[-1][1]
    assert done["outcome"] == outcome
    assert 0 < done["confidence"] < 0.3
    assert len(done["citations"]) == cited
    for citation in done["citations"]:
        start, end = citation["focus"]
        assert citation["start"] <= start < end <= citation["end"]


def test_changed_file_is_found_without_being_told(make: Any, docs: Path, until: Any) -> None:
    view = make(rescan_s=0.05)
    view.start_indexing()
    until(lambda: view.status()["state"] == "ready")
    seen = view.status()["revision"]
    (docs / "garden.md").unlink()
    (docs / "tulips.md").write_text("# Tulips\n\nTulips bloom in spring.\n")
    until(
        lambda: (
            [os.path.basename(row["path"]) for row in view.documents()["documents"]]
            == ["serving.md", "tulips.md"]
        )
    )
    until(lambda: view.status()["state"] == "ready")
    assert view.status()["revision"] > seen


def test_quiet_rounds_leave_the_revision_alone(make: Any, until: Any) -> None:
    view = make()
    view.start_indexing()
    until(lambda: view.status()["state"] == "ready")
    seen = view.status()["revision"]
    view.workspace._kept._run_once()
    assert view.status()["revision"] == seen
    assert view.status()["state"] == "ready"


def test_broken_file_is_a_problem_and_the_others_are_in(make: Any, docs: Path, until: Any) -> None:
    (docs / "bad.md").write_bytes(b"\xff\xfe\xff")
    view = make()
    view.start_indexing()
    until(lambda: view.status()["state"] == "ready")
    assert view.status()["files"] == {"total": 3, "indexed": 2, "problems": 1, "not_read": 0}
    first = view.documents()["documents"][0]
    assert first["state"] == "problem"
    assert first["path"].endswith("bad.md")
    assert first["problem"]["message"]
    assert first["problem"]["hint"]


def test_failed_round_says_why_and_the_next_one_mends_it(
    make: Any, embedder: Any, until: Any
) -> None:
    embedder.failure = InputError("the embedder is gone", hint="bring it back")
    view = make()
    view.start_indexing()
    until(lambda: view.status()["state"] == "problem")
    assert view.status()["problem"] == {
        "message": "the embedder is gone",
        "hint": "bring it back",
    }
    embedder.failure = None
    view.start_indexing()
    until(lambda: view.status()["state"] == "ready")
    assert view.status()["problem"] is None
    assert view.status()["files"]["indexed"] == 2


def test_folder_that_vanishes_keeps_its_documents_and_is_a_problem_until_it_returns(
    make: Any, docs: Path, until: Any
) -> None:
    view = make(rescan_s=0.05)
    view.start_indexing()
    until(lambda: view.status()["state"] == "ready")
    docs.rename(docs.with_name("elsewhere"))
    until(lambda: view.status()["files"]["problems"] == 1)
    assert view.status()["files"]["indexed"] == 2
    docs.with_name("elsewhere").rename(docs)
    until(lambda: view.status()["files"]["problems"] == 0)
    until(lambda: view.status()["state"] == "ready")


def test_closing_in_the_middle_of_indexing_leaves_a_good_index(
    make: Any, embedder: Any, until: Any
) -> None:
    embedder.gate.clear()
    view = make()
    view.start_indexing()
    until(lambda: view.status()["state"] == "indexing")
    threading.Timer(0.1, embedder.gate.set).start()
    view.close()
    assert "lmstack-indexing" not in {thread.name for thread in threading.enumerate()}
    again = make()
    assert again.workspace.index.verify().ok
    again.start_indexing()
    until(lambda: again.status()["state"] == "ready")
    assert again.status()["files"]["indexed"] == 2


def test_long_document_is_served_in_pages_that_join_without_a_gap(
    make: Any, docs: Path, until: Any
) -> None:
    text = "# Long\n\n" + "One 🚀 line of a long document.\n" * 9000
    (docs / "long.md").write_text(text, encoding="utf-8")
    view = make()
    view.start_indexing()
    until(lambda: view.status()["state"] == "ready")
    identity = next(
        row["id"] for row in view.documents("long.md")["documents"] if row["id"] is not None
    )
    joined, start = "", 0
    while start < len(text):
        page = view.document(identity, start=start)
        joined, start = joined + page["text"], page["end"]
        assert len(page["text"]) <= 100_000
    assert joined == text
    around = view.document(identity, around=200_000)
    assert around["start"] < 200_000 < around["end"]
    assert text[around["start"] - 1] == "\n"


def test_document_that_is_gone_says_so(make: Any) -> None:
    with pytest.raises(NotFoundError, match="no longer in the index"):
        make().document(12345, path="docs/none.md\0")


async def test_suggestions_come_from_headings_and_can_be_answered(
    make: Any, docs: Path, until: Any
) -> None:
    (docs / "odd.md").write_text("# Odd\n\n## Configure zyx wvut srq\n")
    view = make()
    assert await view.suggestions() == []
    view.start_indexing()
    until(lambda: view.status()["state"] == "ready")
    questions = await view.suggestions()
    assert set(questions) == {"How do I start the server?", "How do I stop the server?"}
    assert view.workspace.model.requests == []
    for question in questions:
        assert (await answer(view, question))[-1][1]["outcome"] == "answer"


def test_questions_that_headings_ask_come_first_and_many_files_without_one_do_not_hide_them(
    make: Any, docs: Path, until: Any
) -> None:
    for number in range(40):
        (docs / f"about{number:02}.md").write_text(f"# A\n\n## The letter {number}\n\nA letter.\n")
    (docs / "deep").mkdir()
    (docs / "deep" / "faq.md").write_text("# FAQ\n\n## Is it fast?\n\nIt is.\n")
    view = make()
    view.start_indexing()
    until(lambda: view.status()["state"] == "ready")
    questions = candidate_questions(view.workspace.index)
    assert questions[:2] == ["Is it fast?", "How do I start the server?"]
    assert questions[-1].startswith("What is said about")


@pytest.mark.parametrize(
    ("heading", "question"),
    [
        ("Start the server", "How do I start the server?"),
        ("3.1 Install `lmstack`", "How do I install lmstack?"),
        ("How to read the log", "How do I read the log?"),
        ("What is a card?", "What is a card?"),
        ("The prefix cache", "What is said about “The prefix cache”?"),
        ("See [the guide](guide.md) first", "What is said about “See the guide first”?"),
        ("Search and answers", "What is said about “Search and answers”?"),
        ("2026-11-25 · Read the log", "How do I read the log?"),
        ("What an answer looks like", "What does an answer look like?"),
        ("When the disk is full", "What happens when the disk is full?"),
        ("How text becomes passages", "How does text become passages?"),
        ("How search works", "How does search work?"),
        ("How tokens flow", None),
        ("What a model is", "What is a model?"),
        ("Who may call", None),
        ("Which files are read", "Which files are read?"),
        ("Why not", None),
        ("Introduction", None),
        ("Back up the index", "How do I back up the index?"),
        ("Back to the example", "What is said about “Back to the example”?"),
        ("How do I …?", None),
        ("", None),
        ("x " * 60, None),
    ],
)
def test_heading_becomes_the_question_it_answers(heading: str, question: str | None) -> None:
    assert question_about(heading) == question


def test_index_that_was_changed_to_another_embedder_is_opened_again(
    docs: Path, tmp_path: Path, embedder: Any, until: Any
) -> None:
    other = type(embedder)()
    other.info = ModelInfo("other", "sha256:" + "0" * 64)
    asked = []

    def named(name: str, digest: str) -> Any:
        asked.append(name)
        return other

    config = WorkspaceConfig(rescan_s=0)
    with Workspace(
        docs,
        tmp_path / "index",
        model=ScriptedModel(),
        embedder=embedder,
        config=config,
        embedder_of=named,
    ) as workspace:
        view = PageView(workspace)
        view.start_indexing()
        until(lambda: view.status()["state"] == "ready")
        with Index.open(tmp_path / "index", create=False) as index:
            index.reembed(other)
        assert view.documents()["total"] == 2
        assert view.workspace.answerer_of("local").index.is_current()
        view.start_indexing()
        until(lambda: view.status()["state"] == "ready")
        assert asked == ["other"]
