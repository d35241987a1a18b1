"""An answer on the terminal, or as JSON: text as it comes, then sources, then figures.

Takes the plain data of `told_answer`. Text is wrapped as it streams. Quotes and model text come
from outside, so all of it goes through `printable`.
"""

from __future__ import annotations

import dataclasses
import re
import textwrap
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lmstack.app.cli.output import Output, Progress
from lmstack.app.formats import columns, count, printable, seconds
from lmstack.core import EngineError, Request

if TYPE_CHECKING:
    from lmstack.rag import Answer

__all__ = [
    "AnswerExplanation",
    "PrintedAnswer",
    "WrappedStream",
    "quoted",
    "source_lines",
    "status_line",
]


HEADINGS = {
    "answer": "Answer",
    "closest": "Closest in your documents, and it may not answer",
    "nothing": "No answer",
}


@dataclass(frozen=True)
class AnswerExplanation:
    """What `--explain` adds: the passages with their ranks, what the model was asked to write, and
    each sentence that it wrote with what became of it."""

    answer: Answer
    asked: Sequence[Request]

    def to_json(self) -> dict[str, Any]:
        return {
            "passages": [{**hit.to_json(), "ranks": dict(hit.ranks)} for hit in self.answer.hits],
            "prompts": [
                [{"role": m.role, "content": m.content} for m in request.messages]
                if request.messages
                else request.prompt
                for request in self._prompts
            ],
            "sentences": [dataclasses.asdict(sentence) for sentence in self.answer.sentences],
            "dropped": [dataclasses.asdict(sentence) for sentence in self.answer.dropped],
        }

    @property
    def _prompts(self) -> list[Request]:
        """Without those that ask about a sentence, whose answers stand beside the sentences."""
        return [request for request in self.asked if request.sampling.logprobs is None]

    def print(self, out: Output) -> None:
        out.line()
        out.line(out.style("Passages", "bold"))
        rows = [("RANK", "SCORE", "BY MEANING", "BY WORDS", "PASSAGE")]
        for hit in self.answer.hits:
            dense, lexical = (str(hit.ranks.get(kind) or "-") for kind in ("dense", "lexical"))
            place = printable(f"{hit.path} ({hit.start}-{hit.end})", one_line=True)
            rows.append((str(hit.rank), f"{hit.score:.4f}", dense, lexical, place))
        out.lines(columns(rows, indent=2))
        self._print_sentences(out)
        for request in self._prompts:
            out.line()
            out.line(out.style("Prompt", "bold"))
            for message in request.messages:
                out.line(f"  --- {message.role}")
                out.line(textwrap.indent(printable(message.content), "  "))
            if request.prompt is not None:
                out.line(textwrap.indent(printable(str(request.prompt)), "  "))

    def _print_sentences(self, out: Output) -> None:
        if not self._prompts:
            return
        rows = [("SUPPORT", "SOURCES", "SENTENCE")]
        for said in self.answer.sentences:
            numbers = " ".join(f"[{number}]" for number in said.citations)
            text = printable(said.text, one_line=True)
            rows.append((f"{said.support:.2f}", numbers or "none", text))
        for left in self.answer.dropped:
            text = printable(f"{left.text} (left out: {left.reason})", one_line=True)
            rows.append((f"{left.support:.2f}", "-", text))
        out.line()
        out.line(out.style("Written", "bold"))
        out.lines(columns(rows, indent=2))


class PrintedAnswer:
    """Give its events to `see`, then call `end`. ``begun``: whether anything was printed."""

    def __init__(self, out: Output) -> None:
        self._out = out
        self._text = WrappedStream(out.write)
        self._done: Mapping[str, Any] | None = None
        self._outcome = "answer"
        self._first_word_s: float | None = None
        self.begun = self._headed = False
        self._found: list[tuple[str, str]] = []
        self._reading = ExitStack()
        self._bar: Progress | None = None

    def see(self, event: Mapping[str, Any]) -> None:
        if event["event"] == "reading":
            self._read(event["done"], event["total"])
            return
        if self._first_word_s is None and event["event"] not in ("outcome", "quotes"):
            self._reading.close()
            self._first_word_s = self._out.elapsed
        if event["event"] == "done":
            self._done = event
        elif event["event"] == "outcome":
            self._outcome = event["outcome"]
        elif event["event"] == "quotes":
            self._found = [(place, quoted(point)) for place, point in event["quotes"]]
            self._print_found()
        elif not self._out.as_json:
            if not self._headed:
                self._out.line(self._out.style(HEADINGS[self._outcome], "bold"))
                self.begun = self._headed = True
            self._text.push(event["text"])

    def _print_found(self) -> None:
        """What the documents say, while the model is about to write."""
        if self._found and not self._out.as_json:
            self._out.line(self._out.style("Found", "bold"))
            self._out.lines(columns(self._found, indent=2))
            self._out.line()
            self.begun = True

    def _read(self, done: int, total: int) -> None:
        """How far the model is, until the first word shows it."""
        if self._first_word_s is None:
            if self._bar is None:
                self._bar = self._reading.enter_context(self._out.progress("Reading", "passages"))
            self._bar.update(done, total)

    def end(self, *, served: bool = False, explanation: AnswerExplanation | None = None) -> None:
        """Print what follows the text. ``served``: a running `lmstack up` answered."""
        done, out = self._done, self._out
        if done is None:
            raise EngineError("the answer ended before it was complete", hint="ask again")
        if out.as_json:
            extra = {} if explanation is None else explanation.to_json()
            out.result({**done["answer"], "waited": self._waited(), **extra})
            return
        self._text.close()
        self._print_limits(done["answer"])
        self._print_sources(done)
        if explanation is not None:
            explanation.print(out)
        out.line()
        out.line(out.style(_status(done, **self._waited(), served=served), "dim"))

    def _waited(self) -> dict[str, float]:
        """The seconds from Enter to the first word, and those of them that the index took."""
        first_word_s = self._out.elapsed if self._first_word_s is None else self._first_word_s
        return {"first_word_s": first_word_s, "indexing_s": self._out.spent.get("indexing", 0.0)}

    def _print_limits(self, answer: Mapping[str, Any]) -> None:
        """What the text does not cover, and what of it no document bears out."""
        limits = {
            "not read: there are too many passages (narrow them with --document)": "unread",
            "without a number: no passage bears them out": "unsupported",
        }
        for what, name in limits.items():
            if answer[name]:
                unit = "passages" if name == "unread" else "sentences"
                self._out.line()
                self._out.line(f"  {self._out.style(f'{count(answer[name], unit)} {what}', 'dim')}")

    def _print_sources(self, done: Mapping[str, Any]) -> None:
        """Citations, and why there is no answer if there is none."""
        out = self._out
        out.line()
        if done["reason"]:
            out.line(f"  {out.style(printable(done['reason'], one_line=True), 'dim')}")
            if done["sources"]:
                out.line()
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
        writing_s=timings["writing_s"],
        tokens=usage["completion_tokens"],
        cited=done["cited"],
        passages=done["passages"],
        reused=usage["cached_tokens"] / max(1, usage["prompt_tokens"]),
        served=served,
    )


WIDTH = 76
INDENT = "  "
MAX_QUOTE = 110
# Shorter work at the index is no news to whoever waited for it.
FELT_S = 0.5


class WrappedStream:
    """Writes text that arrives in pieces as an indented block, breaking lines between words.

    Paragraphs (blank lines) stay, and so do the lines of code between two fences, which are not
    shown themselves. A word is held until its end is seen, so a line never has to be taken back.
    """

    def __init__(self, write: Callable[[str], None], width: int = WIDTH) -> None:
        self._write = write
        self._width = width
        self._column = 0
        self._word = ""
        self._breaks = 0
        self._started = False
        self._in_code = False
        self._space = ""  # before the next word of code

    def push(self, text: str) -> None:
        for part in re.findall(r"\n|[^\S\n]+|\S+", printable(text)):
            if part == "\n":
                self._end_word()
                self._breaks += 1
                self._space = ""
            elif part.isspace():
                self._end_word()
                self._space += part if self._in_code else ""
            else:
                self._word += part

    def close(self) -> None:
        self._end_word()
        if self._started:
            self._write("\n")

    def _end_word(self) -> None:
        if not self._word:
            return
        word, self._word = self._word, ""
        space, self._space = self._space, ""
        if word.startswith("```") and (self._breaks or not self._started):
            self._in_code = not self._in_code
            return
        fits = self._in_code or self._column + 1 + len(word) <= self._width
        if not self._started:
            lead = INDENT + space
        elif self._breaks > 1:
            lead = "\n\n" + INDENT + space
        elif self._breaks == 1 or not fits:
            lead = "\n" + INDENT + space
        else:
            lead = space or " "
        starts_line = not self._started or self._breaks > 0 or not fits
        self._column = (0 if starts_line else self._column + 1) + len(word)
        self._started, self._breaks = True, 0
        self._write(lead + word)


def quoted(quote: str) -> str:
    """A quote on one line, cut in the middle of nothing."""
    flat = " ".join(printable(quote).split())
    if len(flat) > MAX_QUOTE:
        flat = flat[:MAX_QUOTE].rsplit(" ", 1)[0] + " …"
    return f'"{flat}"'


def source_lines(sources: list[tuple[int, str, str]]) -> list[str]:
    """``(id, place, quote)`` as ``[1] docs/a.md:12-14   "..."``, aligned."""
    return columns([(f"[{number}] {place}", quoted(quote)) for number, place, quote in sources])


def conflict_line(relation: str, citation: int, date: str, place: str, quote: str) -> str:
    """``[1] An older edition (2019-03-04) says otherwise: docs/a.md:12   "..."``."""
    who = "Another document" if relation == "other" else f"An {relation} edition"
    who = "A newer edition" if relation == "newer" else who
    when = f" ({printable(date, one_line=True)})" if date else ""
    return f"  [{citation}] {who}{when} says otherwise: {place}   {quoted(quote)}"


def status_line(
    *,
    model: str,
    digest: str | None,
    first_word_s: float,
    indexing_s: float,
    writing_s: float,
    tokens: int,
    cited: int,
    passages: int,
    reused: float = 0.0,
    served: bool = False,
) -> str:
    """``smollm2-135m-instruct@3f2a91c · 9.1 s to first word (7.0 s indexing) · 152 tokens/s ·
    2 of 8 passages cited``. ``first_word_s`` is what was waited, ``indexing_s`` of it for the
    index, which is said where it is felt; ``writing_s`` what the tokens after the first took: one
    token has no speed. ``reused``: the share of the prompts that was computed before. ``served``:
    by a running `lmstack up`."""
    short = digest.removeprefix("sha256:")[:7] if digest else ""
    indexed = f" ({seconds(indexing_s)} indexing)" if indexing_s >= FELT_S else ""
    waited = f"{seconds(first_word_s)} to first word{indexed}"
    parts = [f"{model}@{short}" if short else model, waited]
    if tokens > 1 and writing_s > 0:
        parts.append(f"{(tokens - 1) / writing_s:.0f} tokens/s")
    if reused:
        parts.append(f"prefix {reused:.0%}")
    parts.append(f"{cited} of {passages} passages cited")
    if served:
        parts.append("served")
    return " · ".join(parts)
