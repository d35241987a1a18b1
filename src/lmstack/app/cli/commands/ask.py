"""`lmstack ask`: an answer about documents, with sources that can be checked."""

from __future__ import annotations

import asyncio
import shlex
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from lmstack.app import wiring
from lmstack.app.cli import indexing
from lmstack.app.cli.command import command
from lmstack.app.cli.commands._options import (
    Docs,
    EmbedderName,
    IndexFolder,
    ModelName,
    ReaderName,
    Rebuild,
    Weights,
    Where,
    check_words,
    filter_of,
    one_source,
    say_if_remote,
)
from lmstack.app.cli.output import Output
from lmstack.app.cli.printed_answer import AnswerExplanation, PrintedAnswer
from lmstack.app.server.command_socket import RunningServer, ServerGoneError
from lmstack.app.server.not_read import not_read_note
from lmstack.app.wiring import documents, retrieval

if TYPE_CHECKING:
    from lmstack.rag import Answer, Answerer, AnswerEvent
    from lmstack.rag.filters import Filter

__all__ = ["ask"]


@command(
    "ask",
    """
    QUESTION: What you want to know.
    -k N 1..100: How many passages are found. [default: as for the page]
    --write/--quote: Let the model write the answer, each sentence checked, or quote the documents.
        [default: models that write well write]
    --task TASK: What the model is to write: answer, summarize, compare, list or draft; all but
        answer from whole documents or many passages. [default: models that write well see for
        themselves]
    --document PATH: Only this file, or the files in this folder; repeat it for several. A task is
        written from all of them.
    --strict/--closest: Where no passage is certain to answer, show nothing, or what comes closest
        in any case. [default: what is close enough]
    --explain: Also show the passages with their ranks, the prompt, and what became of each sentence
        that was written.
    --no-server: Answer in this process, also where `lmstack up` serves the folder.

    lmstack ask "your question" --docs docs
    lmstack ask "your question" --docs docs --json
    """,
)
def ask(
    out: Output,
    question: str,
    docs: Docs = None,
    index: IndexFolder = None,
    k: int | None = None,
    model: ModelName = None,
    weights: Weights = None,
    where: Where = None,
    embedder: EmbedderName = None,
    reader: ReaderName = None,
    write: bool | None = None,
    task: Literal["answer", "summarize", "compare", "list", "draft"] | None = None,
    document: list[str] | None = None,
    strict: bool | None = None,
    explain: bool = False,
    rebuild: Rebuild = False,
    no_server: bool = False,
) -> None:
    """Answer a question about documents, with sources.

    With --docs the folder's index is made on the first call and updated on later ones; it is
    kept under $LMSTACK_HOME/indexes. The answer streams, then come its sources: file, lines and
    the words that bear on the question. Where no passage is certain to answer, what comes closest
    is shown and marked as such; that is not an error.

    Where `lmstack up` serves the same folder with the same models, it answers, since its models
    are loaded; the last line then ends with "served".

    Nothing is downloaded: `lmstack pull` gets the models. Nothing is sent anywhere unless
    --model names a remote model.
    """
    one_source(docs, index, "lmstack ask", out.again())
    check_words(question, "question", "lmstack ask")
    wiring.require_models(model, embedder, weights)
    say_if_remote(out, model)
    wanted, wishes = _narrowed(filter_of(where), document), _wishes(write, strict, task)
    if docs is not None and k is None and not (explain or rebuild or no_server):
        server = documents.running_server(docs, model, embedder, weights, reader)
        if server is not None and _served(out, server, docs, question, wanted, wishes):
            return
    with (
        retrieval.answer_reranker_ahead(out.note, reader) as reranker,
        indexing.open_source(out, docs, index, embedder, rebuild=rebuild) as opened,
        documents.answering(opened.matching(wanted), reranker, model, k, weights, wishes) as ready,
    ):
        answerer, heard = ready
        out.detail("the index is open")
        printed = PrintedAnswer(out)
        answer = asyncio.run(_answer(answerer, question, printed))
        printed.end(explanation=AnswerExplanation(answer, heard) if explain else None)


async def _answer(answerer: Answerer, question: str, printed: PrintedAnswer) -> Answer:
    """Print the text of an answer as it comes."""
    from lmstack.app.server.told_answer import told
    from lmstack.rag import AnswerDone

    answers: list[Answer] = []

    async def events() -> AsyncGenerator[AnswerEvent, None]:
        async for event in answerer.stream(question):
            if isinstance(event, AnswerDone):
                answers.append(event.answer)
            yield event

    async for event in told(events(), answerer.index, lambda path: path):
        printed.see(event)
    return answers[0]


def _narrowed(where: Filter | None, documents: Sequence[str] | None) -> Filter | None:
    """``where``, within ``documents``."""
    if not documents:
        return where
    from lmstack.rag.filters import Condition, Or, all_of

    return all_of(where, Or(tuple(Condition("path", "under", path) for path in documents)))


def _wishes(write: bool | None, strict: bool | None, task: str | None) -> dict[str, str]:
    """The fields of `lmstack.rag.AnswerWishes` that were asked for."""
    wishes = {} if task is None else {"task": task}
    if write is not None:
        wishes["answers"] = "write" if write else "quote"
    if strict is not None:
        wishes["unsure"] = "strict" if strict else "closest"
    return wishes


def _served(
    out: Output,
    server: RunningServer,
    docs: Path,
    question: str,
    where: Filter | None,
    wishes: Mapping[str, str],
) -> bool:
    """Whether the running server answered; not if it ended before it said anything."""
    printed = PrintedAnswer(out)
    out.interrupted = ("the index is kept", out.again())
    try:
        with server:
            events = server.ask(question, _as_json(where), wishes)
            _show_indexing(out, events, docs)
            for event in events:
                printed.see(event)
    except ServerGoneError:
        if printed.begun:
            raise
        out.detail("the running server ended, so this process answers")
        return False
    printed.end(served=True)
    return True


def _show_indexing(out: Output, events: Iterator[Mapping[str, Any]], docs: Path) -> None:
    """Until the server's index is up to date; what is not read only if it was not before."""
    changed = False
    with out.timed("indexing"), out.progress(f"Indexing {docs}", "files") as bar:
        for event in events:
            if event["event"] == "indexed":
                break
            changed = True
            bar.update(event["done"], event["total"])
    note = not_read_note(event["not_read"], f"--docs {shlex.quote(str(docs))}")
    if changed and note:
        out.note(note)


def _as_json(where: Filter | None) -> dict[str, Any] | None:
    """For a process in another folder."""
    if where is None:
        return None
    from lmstack.rag.catalogue.schema import with_absolute_paths

    absolute = with_absolute_paths(where)
    return None if absolute is None else absolute.to_json()
