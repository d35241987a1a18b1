"""The progress bar of a terminal: what, how far, how fast, and when it ends.

Its own file because rich is imported only when a bar is drawn. Plain lines for pipes are in
`output.py`.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, ProgressColumn, Task, TextColumn
from rich.progress import Progress as RichProgress
from rich.text import Text

from lmstack.app.formats import figures, is_colourful, printable

__all__ = ["TerminalProgress", "terminal_progress"]


class FiguresColumn(ProgressColumn):
    """Counts, rate over the whole time, time left, and what is being worked on."""

    def __init__(self, unit: str) -> None:
        super().__init__()
        self._unit = unit

    def render(self, task: Task) -> Text:
        total = None if task.total is None else int(task.total)
        text = task.fields["told"] or figures(
            int(task.completed), total, self._unit, task.elapsed or 0.0, task.fields["before"]
        )
        return Text(f"{text}   {task.fields['label']}".rstrip(), no_wrap=True, overflow="ellipsis")


class TerminalProgress:
    """One bar of a rich display. ``label`` (a file name) is shown after the figures."""

    def __init__(self, display: RichProgress, title: str, unit: str) -> None:
        self._display = display
        self._task = display.add_task(title, total=None, label="", told=None, before=0)
        self._before = None if unit == "bytes" else 0

    def update(
        self, done: int, total: int | None = None, label: str = "", told: str | None = None
    ) -> None:
        if self._before is None:
            self._before = done
        label = printable(label, one_line=True)
        shown: dict[str, Any] = {"label": label, "told": told, "before": self._before}
        if total is None:
            self._display.update(self._task, completed=done, **shown)
        else:
            self._display.update(self._task, completed=done, total=total, **shown)


@contextmanager
def terminal_progress(title: str, unit: str) -> Iterator[TerminalProgress]:
    """A bar on stderr that disappears when the work ends."""
    console = Console(file=sys.stderr, no_color=not is_colourful(sys.stderr))
    bar = BarColumn(
        bar_width=20,
        style="bright_black",
        complete_style="default",
        finished_style="default",
        pulse_style="bright_black",
    )
    display = RichProgress(
        TextColumn("{task.description}", markup=False),
        bar,
        FiguresColumn(unit),
        console=console,
        transient=True,
        refresh_per_second=8,
    )
    with display:
        yield TerminalProgress(display, title, unit)
