"""Tell that something changed under folders, soon after it did and once for a burst of changes.

What changed is not told: an update finds out, and is right whatever was missed. Events come from
the operating system (inotify and its like, by `watchfiles`), or from looking again and again where
there are none. A folder that goes away and comes back, or is put in the place of another, is
watched again. Changes in hidden and junk folders and in the index itself count for nothing.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress

import watchfiles

from lmstack.rag.catalogue.rules import IGNORE_FILE
from lmstack.rag.ingest.plan import is_under
from lmstack.rag.ingest.scan import JUNK

__all__ = ["Watcher"]

_QUIET_MS = 300
_BURST_MS = 2_000
_LOOK_MS = 1_000
_VISIBLE = frozenset({IGNORE_FILE, ".gitignore"})


class Watcher:
    """Calls ``changed`` from a thread of its own, from entering to leaving; once soon after
    entering too, for what changed before it was watching. ``paths`` need not exist. ``ignored``
    are folders whose changes count for nothing."""

    def __init__(
        self,
        paths: Sequence[str | os.PathLike[str]],
        changed: Callable[[], None],
        ignored: Sequence[str | os.PathLike[str]] = (),
        *,
        polling: bool = False,
    ) -> None:
        self._paths = [os.path.abspath(path) for path in paths]
        self._ignored = [os.path.abspath(path) for path in ignored]
        self._changed = changed
        self.polling = polling
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="lmstack-watching", daemon=True)

    def __enter__(self) -> Watcher:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.is_set():
            there = self._identities()
            try:
                self._follow([path for path in self._paths if path in there], there)
            except FileNotFoundError:  # gone as it was about to be watched
                self._stop.wait(_QUIET_MS / 1000)
            except (OSError, RuntimeError):
                # No more watches to be had, or a file system without events. Looking works
                # everywhere; where even that fails, an update is as good a look as any.
                if self.polling:
                    self._stop.wait(20)
                self.polling = True
                self._changed()

    def _follow(self, paths: Sequence[str], there: dict[str, tuple[int, int]]) -> None:
        """Report changes until other folders stand where ``paths`` are."""
        if not paths:
            while self._identities() == there and not self._stop.wait(_LOOK_MS / 1000):
                pass
            return
        begun = False
        for changes in watchfiles.watch(
            *paths,
            watch_filter=lambda _, path: self._counts(path),
            debounce=_BURST_MS,
            step=_QUIET_MS,
            rust_timeout=_LOOK_MS,
            yield_on_timeout=True,
            stop_event=self._stop,
            raise_interrupt=False,
            force_polling=self.polling or None,
            ignore_permission_denied=True,
        ):
            if changes or not begun:
                begun = True
                self._changed()
            if self._identities() != there:
                self._changed()
                return

    def _identities(self) -> dict[str, tuple[int, int]]:
        """Which folder or file each path is; those that are not there are left out."""
        found: dict[str, tuple[int, int]] = {}
        for path in self._paths:
            with suppress(OSError):
                status = os.stat(path)
                found[path] = (status.st_dev, status.st_ino)
        return found

    def _counts(self, path: str) -> bool:
        if is_under(path, self._ignored):
            return False
        if path in self._paths:  # a folder's own time; who stands there is told apart elsewhere
            return not os.path.isdir(path)
        root = next((root for root in self._paths if is_under(path, [root])), os.sep)
        parts = os.path.relpath(path, root).split(os.sep)
        return all(p in _VISIBLE or not (p.startswith(".") or p in JUNK) for p in parts)
