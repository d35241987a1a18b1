"""The index that a command asks, how an update of it is shown, and how it follows its folders.

Covers the figures of a running update (files, content, passages, the end), problems as they come,
and `--watch`. Does not cover what a command says when it is done (`commands.index`).
"""

from __future__ import annotations

import shlex
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lmstack.app import wiring
from lmstack.app.cli.output import Output, Progress
from lmstack.app.formats import count, printable, seconds, size
from lmstack.app.server.not_read import not_read_note, not_read_text, nothing_to_read
from lmstack.app.wiring import documents
from lmstack.app.wiring.retrieval import is_remote_embedder
from lmstack.core import LmstackError

if TYPE_CHECKING:
    from lmstack.rag import Index, UpdateResult
    from lmstack.rag import UpdateProgress as Done

__all__ = [
    "Shown",
    "follow",
    "open_source",
    "say_where_texts_go",
    "shown_progress",
    "tell_of_not_read",
    "tell_of_problems",
    "tell_of_refused",
    "tell_of_store",
    "told",
]

# How long to wait before an update that failed is tried again.
RETRY_S = 10.0


class Shown:
    """Called with the progress of an update; ``problems`` are the paths already told of."""

    def __init__(self, out: Output, bar: Progress) -> None:
        self.problems: set[str] = set()
        self._out, self._bar = out, bar

    def __call__(self, done: Done) -> None:
        if done.problem is not None:
            self.problems.add(done.problem.path)
            self._out.problems([wiring.as_json(done.problem)])
        self._bar.update(done.done, done.total, _label(done), told(done))

    def rest(self, problems: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        """Those of ``problems`` that were not told yet."""
        return [problem for problem in problems if problem["path"] not in self.problems]


@contextmanager
def shown_progress(out: Output, title: str = "Indexing") -> Iterator[Shown]:
    """A bar, or plain lines in a pipe, for one update."""
    with out.progress(title, "files") as bar:
        yield Shown(out, bar)


def tell_of_store(out: Output, index: Index) -> None:
    """Say so where an index keeps a store and had to do without it."""
    if index.store_problem is not None:
        why = printable(index.store_problem, one_line=True)
        out.note(f"warning: without its store the index was searched itself: {why}")


def tell_of_refused(out: Output, index: Index) -> None:
    """Say so where an update could not put documents into the store of an index."""
    if index.store_refused:
        first = printable(index.store_refused[0], one_line=True)
        number = len(index.store_refused)
        out.note(f"not in the store, found by scanning the index: {number}; the first is {first}")


def tell_of_problems(out: Output, result: UpdateResult, progress: Shown | None) -> None:
    """Each problem that was new in this update and was not told while it ran."""
    problems = [wiring.as_json(problem) for problem in result.new_problems]
    out.problems(progress.rest(problems) if progress else problems)


def tell_of_not_read(out: Output, result: UpdateResult, option: str) -> None:
    """One line that counts what an update did not read; ``option`` names the index in it."""
    note = not_read_note(not_read_text(result.plan.not_read, result.problems), option)
    if note:
        out.note(note)


def told(done: Done) -> str:
    """``5 of 14 files, 3.1 files/s, 240 kB/s, 60 passages/s, 2.8 s left``: rates and end once
    there is something to go by. The end goes by content: a large file takes longer."""
    text = f"{done.done:,} of {count(done.total, 'files')}"
    if done.elapsed_s < 0.5:
        return text
    if done.done:
        text += f", {done.done / done.elapsed_s:.1f} files/s"
    if done.bytes_done:
        text += f", {size(done.bytes_done / done.elapsed_s)}/s"
    if done.chunks:
        text += f", {done.chunks / done.elapsed_s:.0f} passages/s"
    if done.remaining_s is not None:
        text += f", {seconds(done.remaining_s)} left"
    return text


def _label(done: Done) -> str:
    """The file that was just finished, or those that a worker is at."""
    if not done.at_work:
        return done.path
    first, *more = done.at_work
    return f"{first} and {len(more)} more" if more else first


def follow(
    out: Output,
    index: Index,
    paths: Sequence[Path] | None,
    tell: Callable[[UpdateResult], None],
) -> None:
    """Update ``index`` whenever something changes under ``paths`` (all its sources without
    them), until interrupted. An update that fails is noted, and tried again."""
    from lmstack.rag.ingest.watch import Watcher

    roots = [str(path) for path in paths or index.status(check=False).sources]
    changed = threading.Event()
    with Watcher(roots, changed.set, [index.folder] if index.folder else []) as watcher:
        out.note(printable(f"Watching {', '.join(roots)}; Ctrl-C ends it", one_line=True))
        was_polling = False
        while True:
            changed.wait()
            changed.clear()
            if watcher.polling and not was_polling:
                was_polling = True
                out.note("no file events to be had here; looking for changes again and again")
            try:
                result = index.update(paths)
            except LmstackError as error:
                out.note(printable(f"not updated: {error.message}; {error.hint}", one_line=True))
                changed.wait(RETRY_S)
                changed.set()
                continue
            if not result.plan.up_to_date:
                tell(result)


def say_where_texts_go(out: Output, name: str | None) -> None:
    """Nothing leaves this machine unsaid."""
    if is_remote_embedder(name):
        out.note("texts are sent to openai to be embedded")


@contextmanager
def open_source(
    out: Output,
    docs: Path | None,
    index: Path | str | None,
    embedder_name: str | None,
    *,
    rebuild: bool = False,
    embeds: bool = True,
) -> Iterator[Index]:
    """The index of ``--docs``, brought up to date, or that of ``--index`` as it is."""
    say_where_texts_go(out, embedder_name)
    # Not --rebuild: the documents indexed so far would be indexed once more.
    out.interrupted = ("the index is kept", out.again(without=["--rebuild"]))
    if docs is None:
        assert index is not None
        with documents.open_index(
            index, embedder_name, create=False, rebuild=rebuild, embeds=embeds
        ) as opened:
            yield opened
            tell_of_store(out, opened)
        return
    source = wiring.existing_folder(docs)
    folder = wiring.index_of(source)
    out.detail(f"the index of {docs} is {folder}")
    with documents.open_index(
        folder, embedder_name, create=True, rebuild=rebuild, sources=[source], note=out.note
    ) as opened:
        with (
            out.timed("indexing"),
            shown_progress(out, f"Indexing {docs}") as progress,
        ):
            result = opened.update([source], progress=progress)
        tell_of_problems(out, result, progress)
        if not opened.documents():
            raise nothing_to_read(str(docs), not_read_text(result.plan.not_read, result.problems))
        # Not at every question: who has been told once can look it up.
        if result.changed_anything:
            tell_of_not_read(out, result, f"--docs {shlex.quote(str(docs))}")
        yield opened
        tell_of_store(out, opened)
