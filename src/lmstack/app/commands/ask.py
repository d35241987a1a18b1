"""`lmstack ask`: an answer about documents, with sources that can be checked."""

from __future__ import annotations

import asyncio
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lmstack.app import document_wiring, retrieval_wiring, wiring
from lmstack.app.answer_text import (
    WrappedStream,
    conflict_line,
    line_numbers,
    place_text,
    source_lines,
    status_line,
)
from lmstack.app.command import command
from lmstack.app.commands._options import (
    Docs,
    EmbedderName,
    IndexFolder,
    ModelName,
    Rebuild,
    Weights,
    check_words,
    filter_of,
    one_source,
    say_if_remote,
)
from lmstack.app.commands._search_options import Where
from lmstack.app.formats import columns, printable
from lmstack.app.output import Output
from lmstack.core import EngineError, Request

if TYPE_CHECKING:
    from lmstack.rag import Answer, Answerer, Index

__all__ = ["register"]

NEAREST = 3


def register(app: typer.Typer) -> None:
    command(
        app,
        "ask",
        example='lmstack ask "How do I open the page?" --docs docs\n'
        'lmstack ask "How do I open the page?" --docs docs --json',
    )(ask)


def ask(
    out: Output,
    question: Annotated[str, typer.Argument(metavar="QUESTION", help="What you want to know.")],
    docs: Docs = None,
    index: IndexFolder = None,
    k: Annotated[
        int | None,
        typer.Option(
            "-k",
            metavar="N",
            min=1,
            max=100,
            help="How many passages are found. [default: as for the page]",
        ),
    ] = None,
    model: ModelName = None,
    weights: Weights = None,
    where: Where = None,
    embedder: EmbedderName = None,
    explain: Annotated[
        bool,
        typer.Option("--explain", help="Also show the passages with their ranks, and the prompt."),
    ] = False,
    rebuild: Rebuild = False,
) -> None:
    """Answer a question about documents, with sources.

    With --docs the folder's index is made on the first call and updated on later ones; it is
    kept under $LMSTACK_HOME/indexes. The answer streams, then come its sources: file, lines and
    the words quoted. If the documents do not support an answer, the nearest passages are shown
    instead; that is not an error.

    Nothing is downloaded: `lmstack pull` gets the models. Nothing is sent anywhere unless
    --model names a remote model.
    """
    one_source(docs, index, "lmstack ask")
    check_words(question, "question", "lmstack ask")
    wiring.require_models(model, embedder, weights)
    say_if_remote(out, model)
    wanted = filter_of(where)
    with (
        retrieval_wiring.answer_reranker_ahead(out.note) as reranker,
        document_wiring.open_source(out, docs, index, embedder, rebuild=rebuild) as opened,
        document_wiring.answering(opened.matching(wanted), reranker, model, k, weights) as ready,
    ):
        answerer, heard = ready
        out.detail("the index is open")
        if out.as_json:
            answer = asyncio.run(answerer.answer(question))
            extra = _explanation(answer, heard) if explain else {}
            out.result({**answer.to_json(), **extra})
            return
        answer, reason = asyncio.run(_stream(out, answerer, question))
        _print_sources(out, opened, answer, reason)
        if explain:
            _print_explanation(out, answer, heard)
        _print_status(out, answer)


async def _stream(out: Output, answerer: Answerer, question: str) -> tuple[Answer, str]:
    """Print the text of an answer as it comes; also the reason of an abstention."""
    from lmstack.rag import Abstained, AnswerDone, TextDelta

    text = WrappedStream(out.write)
    headed, reason = False, ""
    async for event in answerer.stream(question):
        if isinstance(event, TextDelta):
            if not headed:
                out.line(out.style("Answer", "bold"))
                headed = True
            text.push(event.text)
        elif isinstance(event, Abstained):
            reason = event.reason
        elif isinstance(event, AnswerDone):
            text.close()
            return event.answer, reason
    raise EngineError("the answer ended before it was complete", hint="ask again")


def _print_sources(out: Output, index: Index, answer: Answer, reason: str) -> None:
    """Citations, or after an abstention why, and the nearest passages."""
    out.line()
    if answer.abstained:
        rows = [(h.rank, h.path, h.start, h.end, h.text, h.page) for h in answer.hits[:NEAREST]]
        heading = "Nearest passages" if rows else "No passages"
        out.line(f"{out.style(heading, 'bold')} ({printable(reason, one_line=True)})")
    else:
        rows = [(c.id, c.path, c.start, c.end, c.quote, c.page) for c in answer.citations]
    sources = [
        (number, _place(index, path, start, end, page), quote)
        for number, path, start, end, quote, page in rows
    ]
    out.lines(source_lines(sources))
    for c in answer.conflicts:
        place = _place(index, c.path, c.start, c.end, c.page)
        out.line(conflict_line(c.relation, c.citation, c.date, place, c.quote))


def _place(index: Index, path: str, start: int, end: int, page: int | None) -> str:
    """With line numbers, where the document's text is the file's."""
    document = index.document(path)
    is_file = document.format in ("text", "markdown", "csv", "jsonl", "code")
    return place_text(path, line_numbers(document.text, start, end) if is_file else None, page)


def _print_status(out: Output, answer: Answer) -> None:
    cited = {citation.passage for citation in answer.citations}
    line = status_line(
        model=answer.model.name,
        digest=answer.model.digest,
        first_token_s=answer.timings.first_token_s,
        total_s=answer.timings.total_s,
        tokens=answer.usage.completion_tokens,
        cited=len(cited),
        passages=len(answer.hits),
        reused=answer.usage.cached_tokens / max(1, answer.usage.prompt_tokens),
    )
    out.line()
    out.line(out.style(line, "dim"))


def _explanation(answer: Answer, heard: Sequence[Request]) -> dict[str, Any]:
    return {
        "passages": [{**hit.to_json(), "ranks": dict(hit.ranks)} for hit in answer.hits],
        "prompts": [
            [{"role": m.role, "content": m.content} for m in request.messages]
            if request.messages
            else request.prompt
            for request in heard
        ],
    }


def _print_explanation(out: Output, answer: Answer, heard: Sequence[Request]) -> None:
    out.line()
    out.line(out.style("Passages", "bold"))
    rows = [("RANK", "SCORE", "BY MEANING", "BY WORDS", "PASSAGE")]
    for hit in answer.hits:
        dense, lexical = (str(hit.ranks.get(kind) or "-") for kind in ("dense", "lexical"))
        place = printable(f"{hit.path} ({hit.start}-{hit.end})", one_line=True)
        rows.append((str(hit.rank), f"{hit.score:.4f}", dense, lexical, place))
    out.lines(columns(rows, indent=2))
    for request in heard:
        out.line()
        out.line(out.style("Prompt", "bold"))
        for message in request.messages:
            out.line(f"  --- {message.role}")
            out.line(textwrap.indent(printable(message.content), "  "))
        if request.prompt is not None:
            out.line(textwrap.indent(printable(str(request.prompt)), "  "))
