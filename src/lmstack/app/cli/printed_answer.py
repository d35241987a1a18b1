"""An answer on the terminal, or as JSON: text as it comes, then sources, then figures.

Takes the plain data of `told_answer`. Does not cover how lines are made (`answer_text`).
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lmstack.app.cli.answer_text import WrappedStream, conflict_line, source_lines, status_line
from lmstack.app.cli.output import Output
from lmstack.app.formats import columns, printable
from lmstack.core import EngineError, Request

if TYPE_CHECKING:
    from lmstack.rag import Answer

__all__ = ["Explanation", "PrintedAnswer"]

HEADINGS = {
    "answer": "Answer",
    "closest": "Closest in your documents, and it may not answer",
    "nothing": "No answer",
}


@dataclass(frozen=True)
class Explanation:
    """What `--explain` adds: the passages with their ranks, and what the model was asked."""

    answer: Answer
    asked: Sequence[Request]

    def to_json(self) -> dict[str, Any]:
        return {
            "passages": [{**hit.to_json(), "ranks": dict(hit.ranks)} for hit in self.answer.hits],
            "prompts": [
                [{"role": m.role, "content": m.content} for m in request.messages]
                if request.messages
                else request.prompt
                for request in self.asked
            ],
        }

    def print(self, out: Output) -> None:
        out.line()
        out.line(out.style("Passages", "bold"))
        rows = [("RANK", "SCORE", "BY MEANING", "BY WORDS", "PASSAGE")]
        for hit in self.answer.hits:
            dense, lexical = (str(hit.ranks.get(kind) or "-") for kind in ("dense", "lexical"))
            place = printable(f"{hit.path} ({hit.start}-{hit.end})", one_line=True)
            rows.append((str(hit.rank), f"{hit.score:.4f}", dense, lexical, place))
        out.lines(columns(rows, indent=2))
        for request in self.asked:
            out.line()
            out.line(out.style("Prompt", "bold"))
            for message in request.messages:
                out.line(f"  --- {message.role}")
                out.line(textwrap.indent(printable(message.content), "  "))
            if request.prompt is not None:
                out.line(textwrap.indent(printable(str(request.prompt)), "  "))


class PrintedAnswer:
    """Give its events to `see`, then call `end`. ``begun``: whether anything was printed."""

    def __init__(self, out: Output) -> None:
        self._out = out
        self._text = WrappedStream(out.write)
        self._done: Mapping[str, Any] | None = None
        self._outcome = "answer"
        self._first_word_s: float | None = None
        self.begun = False

    def see(self, event: Mapping[str, Any]) -> None:
        if self._first_word_s is None and event["event"] != "outcome":
            self._first_word_s = self._out.elapsed
        if event["event"] == "done":
            self._done = event
        elif event["event"] == "outcome":
            self._outcome = event["outcome"]
        elif not self._out.as_json:
            if not self.begun:
                self._out.line(self._out.style(HEADINGS[self._outcome], "bold"))
                self.begun = True
            self._text.push(event["text"])

    def end(self, *, served: bool = False, explanation: Explanation | None = None) -> None:
        """Print what follows the text. ``served``: a running `lmstack up` answered."""
        done, out = self._done, self._out
        if done is None:
            raise EngineError("the answer ended before it was complete", hint="ask again")
        if out.as_json:
            extra = {} if explanation is None else explanation.to_json()
            out.result({**done["answer"], "waited": self._waited(), **extra})
            return
        self._text.close()
        self._print_sources(done)
        if explanation is not None:
            explanation.print(out)
        out.line()
        out.line(out.style(_status(done, **self._waited(), served=served), "dim"))

    def _waited(self) -> dict[str, float]:
        """The seconds from Enter to the first word, and those of them that the index took."""
        first_word_s = self._out.elapsed if self._first_word_s is None else self._first_word_s
        return {"first_word_s": first_word_s, "indexing_s": self._out.spent.get("indexing", 0.0)}

    def _print_sources(self, done: Mapping[str, Any]) -> None:
        """Citations, and why there is no answer if there is none."""
        out = self._out
        out.line()
        if done["reason"]:
            out.line(f"  {out.style(printable(done['reason'], one_line=True), 'dim')}")
        out.lines(
            source_lines([(number, place, quote) for number, place, quote in done["sources"]])
        )
        for relation, citation, date, place, quote in done["conflicts"]:
            out.line(conflict_line(relation, citation, date, place, quote))


def _status(
    done: Mapping[str, Any], *, first_word_s: float, indexing_s: float, served: bool
) -> str:
    model, usage, timings = (done["answer"][name] for name in ("model", "usage", "timings"))
    return status_line(
        model=model["name"],
        digest=model["digest"],
        first_word_s=first_word_s,
        indexing_s=indexing_s,
        writing_s=timings["total_s"] - timings["first_token_s"],
        tokens=usage["completion_tokens"],
        cited=done["cited"],
        passages=done["passages"],
        reused=usage["cached_tokens"] / max(1, usage["prompt_tokens"]),
        served=served,
    )
