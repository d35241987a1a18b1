"""What the command line writes: results on stdout, progress and notes on stderr.

Covers JSON or text results, aligned columns, colour only where a person looks (a terminal, and
`NO_COLOR` unset), progress bars on a terminal and plain lines in a pipe, and the note that Ctrl-C
prints. Text from documents and models passes through `printable`, so it cannot move the cursor
or repaint the terminal. Does not cover errors (`failure.py`) or help (`help.py`).
"""

from __future__ import annotations

import json
import os
import sys
import time
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import IO, Any, Literal, Protocol

__all__ = [
    "Output",
    "Progress",
    "columns",
    "figures",
    "is_colourful",
    "printable",
    "seconds",
    "size",
]

Style = Literal["bold", "dim", "red", "yellow", "green"]
SGR: dict[Style, str] = {"bold": "1", "dim": "2", "red": "31", "yellow": "33", "green": "32"}
# Characters that reorder the text around them: a file name or a quote could read as another one.
BIDI_CONTROLS = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
PIPE_LINE_EVERY_S = 10.0


def printable(text: str, *, one_line: bool = False) -> str:
    """``text`` without control characters: each becomes its escape (``\\x1b``). Newlines and
    tabs stay unless ``one_line``."""
    if text.isprintable():
        return text
    kept = "" if one_line else "\n\t"
    return "".join(
        c
        if c in kept or not (unicodedata.category(c) in ("Cc", "Cs") or c in BIDI_CONTROLS)
        else c.encode("unicode_escape").decode("ascii")
        for c in text
    )


def is_colourful(stream: IO[str]) -> bool:
    """Whether ``stream`` is a terminal on which colour is wanted (https://no-color.org)."""
    if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return False
    return stream.isatty()


def size(num_bytes: float) -> str:
    """Bytes in decimal units, as disks and downloads are sold: ``98.4 MB``."""
    for unit in ("B", "kB", "MB", "GB"):
        if abs(num_bytes) < 999.5:
            return f"{num_bytes:.0f} B" if unit == "B" else f"{num_bytes:.1f} {unit}"
        num_bytes /= 1000
    return f"{num_bytes:.1f} TB"


def seconds(value: float) -> str:
    """A duration: ``0.4 s``, ``2 min 05 s``, ``1 h 02 min``."""
    if value < 60:
        return f"{value:.1f} s"
    minutes, rest = divmod(round(value), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def columns(rows: Sequence[Sequence[str]], *, indent: int = 0, gap: int = 3) -> list[str]:
    """Rows as aligned lines; the last column is not padded."""
    if not rows:
        return []
    widths = [max(_width(row[i]) for row in rows) for i in range(len(rows[0]))]
    return [
        " " * indent
        + (" " * gap)
        .join(cell + " " * (width - _width(cell)) for cell, width in zip(row, widths, strict=True))
        .rstrip()
        for row in rows
    ]


def _width(text: str) -> int:
    return sum(
        0 if unicodedata.combining(c) else 1 + (unicodedata.east_asian_width(c) in "WF")
        for c in text
    )


class Progress(Protocol):
    """One long piece of work. ``done`` and ``total`` are in its unit; ``total`` may be unknown."""

    def update(self, done: int, total: int | None = None, label: str = "") -> None: ...


@dataclass
class Output:
    """Where a command writes. ``interrupted`` is what Ctrl-C prints: what is kept, and the
    command that goes on."""

    as_json: bool = False
    quiet: bool = False
    verbose: int = 0
    interrupted: tuple[str, str] | None = None
    started: float = field(default_factory=time.monotonic)

    def result(self, data: Any) -> None:
        """Print ``data`` as JSON on stdout."""
        text = json.dumps(data, ensure_ascii=False, indent=2)
        encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
        try:
            text.encode(encoding)
        except UnicodeEncodeError:
            text = json.dumps(data, indent=2)
        sys.stdout.write(text + "\n")

    def line(self, text: str = "") -> None:
        """One line (or more) of a result that people read."""
        self.write(text + "\n")

    def write(self, text: str) -> None:
        """Part of a line, shown at once."""
        encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
        sys.stdout.write(text.encode(encoding, "replace").decode(encoding))
        sys.stdout.flush()

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

    def problems(self, problems: Sequence[Mapping[str, Any]]) -> None:
        """Files that were left out, each with the reason; the rest is not affected."""
        for problem in problems:
            text = f"left out: {problem['path']} {problem['message']}; {problem['hint']}"
            self.note(printable(text, one_line=True))

    def style(self, text: str, style: Style) -> str:
        """``text`` in a colour or weight, where stdout is a terminal that wants it."""
        return f"\x1b[{SGR[style]}m{text}\x1b[0m" if is_colourful(sys.stdout) else text

    @property
    def is_terminal(self) -> bool:
        return sys.stdout.isatty()

    @contextmanager
    def progress(self, title: str, unit: str) -> Iterator[Progress]:
        """Progress of one piece of work; ``unit`` is a plural noun, or ``bytes``."""
        if self.quiet or (self.as_json and not sys.stderr.isatty()):
            yield _Silent()
        elif sys.stderr.isatty():
            from lmstack.app.progress_bar import terminal_progress

            with terminal_progress(title, unit) as bar:
                yield bar
        else:
            plain = _PlainProgress(title, unit)
            yield plain
            plain.finish()


class _Silent:
    def update(self, done: int, total: int | None = None, label: str = "") -> None:
        pass


class _PlainProgress:
    """Lines for a pipe or a log: a start, at most one each ten seconds, an end with the time."""

    def __init__(self, title: str, unit: str) -> None:
        self._title, self._unit = title, unit
        self._start = self._last = time.monotonic()
        self._done = 0
        self._total: int | None = None
        self._any = False

    def update(self, done: int, total: int | None = None, label: str = "") -> None:
        self._done, self._total = done, total if total is not None else self._total
        now = time.monotonic()
        if not self._any or now - self._last >= PIPE_LINE_EVERY_S:
            self._any, self._last = True, now
            text = figures(self._done, self._total, self._unit, now - self._start)
            self._say(f"{self._title}: {text} {printable(label, one_line=True)}".rstrip())

    def finish(self) -> None:
        if self._any:
            took = seconds(time.monotonic() - self._start)
            self._say(f"{self._title}: {_count(self._done, self._unit)} in {took}, done")

    @staticmethod
    def _say(text: str) -> None:
        print(text, file=sys.stderr, flush=True)


def figures(done: int, total: int | None, unit: str, elapsed_s: float) -> str:
    """``5 of 14 files, 3 files/s, 2.8 s left``; rate and end once there is something to go by."""
    counted = _count(done, unit)
    if total is not None:
        counted = f"{done if unit != 'bytes' else size(done)} of {_count(total, unit)}"
    if not done or elapsed_s < 0.5:
        return counted
    rate = done / elapsed_s
    speed = f"{size(rate)}/s" if unit == "bytes" else f"{rate:.1f} {unit}/s"
    left = f", {seconds((total - done) / rate)} left" if total is not None else ""
    return f"{counted}, {speed}{left}"


def _count(number: int, unit: str) -> str:
    return size(number) if unit == "bytes" else f"{number} {unit}"
