"""`lmstack feedback`: what people thought of the answers on the page."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lmstack.app.cli.command import command, group
from lmstack.app.cli.commands._index_options import chosen_index
from lmstack.app.cli.commands._options import Docs, IndexFolder
from lmstack.app.cli.output import Output
from lmstack.app.formats import printable
from lmstack.core import InputError

if TYPE_CHECKING:
    from lmstack.release.feedback import FeedbackStore

__all__ = ["clear", "export", "feedback_store", "show"]

_WORDS = {"helpful": "helpful", "not_helpful": "not helpful", None: "no verdict"}


group(
    "feedback",
    "list export clear",
    """
    Read what people thought of answers.

    The page of `lmstack up` asks under each answer whether it helped, which sources are wrong and
    how it should read. What is said is kept beside the index, with the question, the answer and its
    passages.

    lmstack feedback list --docs docs
    """,
)


@command("feedback list", "lmstack feedback list --docs docs --json")
def show(out: Output, docs: Docs = None, index: IndexFolder = None) -> None:
    """Print each judgement: when, what it says, of which question.

    With the comment, the sources that were called wrong, the correction, and whether models may be
    trained with it, the oldest first.
    """
    records = feedback_store(docs, index, "lmstack feedback list").all()
    if out.as_json:
        out.result(records)
        return
    for record in records:
        question = printable(str(record["question"]), one_line=True)
        out.line(f"{record['time']}  {_WORDS[record['verdict']]}: {question}")
        if record["comment"]:
            out.line(f"  {printable(str(record['comment']), one_line=True)}")
        out.lines([f"  wrong source: {line}" for line in _wrong(record)])
        if record["edit"]:
            out.line(f"  corrected: {printable(str(record['edit']), one_line=True)}")
        if record["consent"]:
            out.line("  models may be trained with it")
    if not records:
        out.note("nobody has judged an answer yet")


@command("feedback export", "lmstack feedback export --docs docs > feedback.jsonl")
def export(out: Output, docs: Docs = None, index: IndexFolder = None) -> None:
    """Print all that is kept, one JSON object a line; with --json as one list."""
    records = feedback_store(docs, index, "lmstack feedback export").all()
    if out.as_json:
        out.result(records)
    else:
        out.lines([json.dumps(record) for record in records])


@command("feedback clear", "lmstack feedback clear --docs docs")
def clear(out: Output, docs: Docs = None, index: IndexFolder = None) -> None:
    """Forget all judgements."""
    cleared = feedback_store(docs, index, "lmstack feedback clear").clear()
    if out.as_json:
        out.result({"cleared": cleared})
    else:
        out.line(f"{cleared} forgotten")


def _wrong(record: dict[str, Any]) -> list[str]:
    return [
        printable(f"{citation['path']} {' '.join(citation['quote'].split())}", one_line=True)
        for citation in record["citations"]
        if citation["id"] in record["wrong_sources"]
    ]


def feedback_store(docs: Path | None, index: Any, command: str) -> FeedbackStore:
    """What is kept beside the index that the options name; ``command``: for the hints."""
    from lmstack.release.feedback import FeedbackStore

    # A folder of which no answer was judged may have no index yet.
    folder = chosen_index(docs, index, command, create=True).place
    if not isinstance(folder, Path):
        raise InputError(
            "feedback is kept beside an index in a folder", hint="--docs DIR", param="index"
        )
    return FeedbackStore(folder)
