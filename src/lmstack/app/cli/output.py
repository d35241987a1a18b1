"""What the command line writes: results on stdout, progress and notes on stderr.

Covers JSON or text results, aligned columns, colour only where a person looks (a terminal, and
`NO_COLOR` unset), progress bars on a terminal and plain lines in a pipe, and the note that Ctrl-C
prints. Text from documents and models passes through `printable`, so it cannot move the cursor
or repaint the terminal. Does not cover errors (`failure.py`) or help (`help.py`).
"""

from __future__ import annotations

import json
import shlex
import sys
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from lmstack.app.formats import count, figures, is_colourful, printable, seconds
from lmstack.core import StoreError

__all__ = ["Output", "OutputError", "Progress"]


Tone = Literal["tone 1", "tone 2", "tone 3", "tone 4", "unknown"]
Style = Literal["bold", "dim", "red", "yellow", "green"] | Tone
SGR: dict[Style, str] = {
    "bold": "1",
    "dim": "2",
    "red": "31",
    "yellow": "33",
    "green": "32",
    # Black on four light grounds that differ for every kind of colour vision; white on red.
    "tone 1": "38;5;16;48;5;153",
    "tone 2": "38;5;16;48;5;222",
    "tone 3": "38;5;16;48;5;158",
    "tone 4": "38;5;16;48;5;218",
    "unknown": "4;38;5;231;48;5;160",
}
PIPE_LINE_EVERY_S = 10.0


class OutputError(StoreError):
    """The result could not be written where standard output goes (a full disk)."""


class Progress(Protocol):
    """One long piece of work. ``done`` and ``total`` are in its unit; ``total`` may be unknown.
    ``told`` stands in place of the figures that follow from them."""

    def update(
        self, done: int, total: int | None = None, label: str = "", told: str | None = None
    ) -> None: ...


@dataclass
class Output:
    """Where a command writes. ``typed``: the words after `lmstack`. ``interrupted`` is what
    Ctrl-C prints: what is kept, and the command that goes on. ``started``: when people began to
    wait, by `time.monotonic`; ``spent`` are the seconds of it by what they went to."""

    typed: tuple[str, ...] = ()
    as_json: bool = False
    quiet: bool = False
    verbose: int = 0
    interrupted: tuple[str, str] | None = None
    started: float = field(default_factory=time.monotonic)
    spent: dict[str, float] = field(default_factory=dict)

    def again(
        self,
        *,
        setting: Mapping[str, str | None] | None = None,
        without: Collection[str] = (),
    ) -> str:
        """The command that was typed, with other options (`retyped`)."""
        return retyped(self.typed, setting=setting, without=without)

    def result(self, data: Any) -> None:
        """Print ``data`` as JSON on stdout."""
        text = json.dumps(data, ensure_ascii=False, indent=2)
        encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
        try:
            text.encode(encoding)
        except UnicodeEncodeError:
            text = json.dumps(data, indent=2)
        self._put(text + "\n")

    def line(self, text: str = "") -> None:
        """One line (or more) of a result that people read."""
        self.write(text + "\n")

    def write(self, text: str) -> None:
        """Part of a line, shown at once."""
        encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
        self._put(text.encode(encoding, "replace").decode(encoding))
        self.flush()

    def flush(self) -> None:
        self._put("", flush=True)

    @staticmethod
    def _put(text: str, *, flush: bool = False) -> None:
        try:
            sys.stdout.write(text)
            if flush:
                sys.stdout.flush()
        except BrokenPipeError:
            raise
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise OutputError(
                f"the output cannot be written: {reason}",
                hint="check where the output goes, and the space there",
            ) from error

    def lines(self, rows: Sequence[str]) -> None:
        for row in rows:
            self.line(row)

    def note(self, text: str) -> None:
        """What is going on, on stderr; nothing when quiet."""
        if not self.quiet:
            print(text, file=sys.stderr, flush=True)

    def detail(self, text: str) -> None:
        """More of it, for ``-v``."""
        if self.verbose:
            print(f"[{self.elapsed:7.3f} s] {text}", file=sys.stderr, flush=True)

    @property
    def elapsed(self) -> float:
        """Seconds since the command started."""
        return time.monotonic() - self.started

    @contextmanager
    def timed(self, what: str) -> Iterator[None]:
        """Count the seconds of a piece of work as ``spent``."""
        before = time.monotonic()
        try:
            yield
        finally:
            self.spent[what] = self.spent.get(what, 0.0) + time.monotonic() - before

    def problems(self, problems: Sequence[Mapping[str, Any]]) -> None:
        """Files that were left out, each with the reason; the rest is not affected."""
        for problem in problems:
            what = "hidden" if problem.get("kind") == "access" else "left out"
            text = f"{what}: {problem['path']}: {problem['message']}; {problem['hint']}"
            self.note(printable(text, one_line=True))

    def style(self, text: str, style: Style) -> str:
        """``text`` in a colour or weight, where stdout is a terminal that wants it."""
        return f"\x1b[{SGR[style]}m{text}\x1b[0m" if is_colourful(sys.stdout) else text

    @property
    def is_terminal(self) -> bool:
        return sys.stdout.isatty()

    @contextmanager
    def progress(self, title: str, unit: str, *, shown: bool = True) -> Iterator[Progress]:
        """Progress of one piece of work; ``unit`` is a plural noun, or ``bytes``. ``shown``:
        False where the results themselves show how far it is."""
        if not shown or self.quiet or (self.as_json and not sys.stderr.isatty()):
            yield _Silent()
        elif sys.stderr.isatty():
            from lmstack.app.cli.progress_bar import terminal_progress

            with terminal_progress(title, unit) as bar:
                yield bar
        else:
            plain = _PlainProgress(title, unit)
            yield plain
            plain.finish()


class _Silent:
    def update(
        self, done: int, total: int | None = None, label: str = "", told: str | None = None
    ) -> None:
        pass


class _PlainProgress:
    """Lines for a pipe or a log: a start, at most one each ten seconds, an end with the time."""

    def __init__(self, title: str, unit: str) -> None:
        self._title, self._unit = title, unit
        self._start = self._last = time.monotonic()
        self._done = 0
        self._total: int | None = None
        self._before = 0
        self._any = False

    def update(
        self, done: int, total: int | None = None, label: str = "", told: str | None = None
    ) -> None:
        self._done, self._total = done, total if total is not None else self._total
        now = time.monotonic()
        if not self._any and self._unit == "bytes":
            self._before = done
        if not self._any or now - self._last >= PIPE_LINE_EVERY_S:
            self._any, self._last = True, now
            elapsed = now - self._start
            text = told or figures(self._done, self._total, self._unit, elapsed, self._before)
            self._say(f"{self._title}: {text} {printable(label, one_line=True)}".rstrip())

    def finish(self) -> None:
        if self._any:
            took = seconds(time.monotonic() - self._start)
            self._say(f"{self._title}: {count(self._done, self._unit)} in {took}, done")

    @staticmethod
    def _say(text: str) -> None:
        print(text, file=sys.stderr, flush=True)


def retyped(
    words: Sequence[str],
    *,
    setting: Mapping[str, str | None] | None = None,
    without: Collection[str] = (),
) -> str:
    """``words`` as a command. ``setting``: options that take the place of those typed, each with
    its value, None for one that has none. ``without``: options to leave out that have none."""
    setting = setting or {}
    end = words.index("--") if "--" in words else len(words)
    kept: list[str] = []
    options = iter(words[:end])
    for word in options:
        name, equals, _ = word.partition("=")
        if word in without:
            continue
        if name in setting:
            if not equals and setting[name] is not None:
                next(options, None)  # its value is a word of its own
            continue
        kept.append(word)
    for name, value in setting.items():
        kept += [name] if value is None else [name, value]
    return shlex.join(["lmstack", *kept, *words[end:]])
