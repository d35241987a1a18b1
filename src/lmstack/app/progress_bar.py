"""The progress bar of a terminal: what, how far, how fast, and when it ends.

Its own file because rich is imported only when a bar is drawn. Plain lines for pipes are in
`output.py`.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.progress import Progress as RichProgress
from rich.text import Text

from lmstack.app.output import is_colourful, printable

__all__ = ["TerminalProgress", "terminal_progress"]


class RateColumn(ProgressColumn):
    """Units a second."""

    def __init__(self, unit: str) -> None:
        super().__init__()
        self._unit = unit

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text(f"{speed:.0f} {self._unit}/s" if speed else "")


class TerminalProgress:
    """One bar of a rich display. ``label`` (a file name) is shown after the figures."""

    def __init__(self, display: RichProgress, title: str) -> None:
        self._display = display
        self._task = display.add_task(title, total=None, label="")

    def update(self, done: int, total: int | None = None, label: str = "") -> None:
        shown = escape(printable(label, one_line=True))
        if total is None:
            self._display.update(self._task, completed=done, label=shown)
        else:
            self._display.update(self._task, completed=done, total=total, label=shown)


@contextmanager
def terminal_progress(title: str, unit: str) -> Iterator[TerminalProgress]:
    """A bar on stderr that disappears when the work ends."""
    console = Console(file=sys.stderr, no_color=not is_colourful(sys.stderr))
    figures: tuple[ProgressColumn, ...] = (
        (DownloadColumn(), TransferSpeedColumn())
        if unit == "bytes"
        else (MofNCompleteColumn(), RateColumn(unit))
    )
    display = RichProgress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        *figures,
        TimeRemainingColumn(compact=True),
        TextColumn("{task.fields[label]}"),
        console=console,
        transient=True,
    )
    with display:
        yield TerminalProgress(display, title)
