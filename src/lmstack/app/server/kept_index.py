"""The index of a folder, kept up to date in the background while others search it; or one that is
served as it is.

Covers when files are looked at and how far that is. What callers see of it is `Workspace`'s.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from lmstack.app.server.uploads import Uploads
from lmstack.core import Embedder, LmstackError
from lmstack.rag import Index, IndexConfig, IngestPlan, Problem, UpdateProgress, UpdateResult
from lmstack.rag.ingest.watch import Watcher

__all__ = ["FixedIndex", "KeptIndex", "Standing", "State", "UpdateRound"]

CLOSE_S = 2.0
State = Literal["starting", "indexing", "ready", "problem"]


class _ClosedError(Exception):
    """Ends an update from within: the index is being closed."""


@dataclass
class UpdateRound:
    """How far one run over the folder is. ``waiting`` holds files not yet in the index."""

    plan: IngestPlan = field(default_factory=IngestPlan)
    waiting: set[str] = field(default_factory=set)
    problems: tuple[Problem, ...] = ()
    remaining_s: float | None = None


@dataclass(frozen=True)
class Standing:
    """What is known at one moment: the round, with copies of what changes in it; how many
    documents are in; ``revision`` grows whenever anything of this changes."""

    round: UpdateRound
    state: State
    failure: LmstackError | None
    indexed: int
    revision: int


@dataclass(frozen=True)
class FixedIndex:
    """An index that stays as it is. ``place``: its folder. ``digest``: what that of an answer from
    it says of it, after the model's."""

    place: Path
    digest: str


class KeptIndex:
    """Owns the index of ``folder`` (`close` closes it), not the embedder. ``rescan_s``: how often
    the folder is looked through for changes, 0 only when told to. ``uploads``: whose folders and
    labels are made before anything is indexed. ``embedder_of`` loads the model, by name and
    digest, that the index was changed to while it was open; ``reopened`` is called when it was;
    ``settled`` is told what each round over the folder did, in the thread that went round.
    ``follows``: False leaves the index as it is, whatever happens in the folder."""

    def __init__(
        self,
        folder: Path,
        place: Path,
        embedder: Embedder,
        config: IndexConfig,
        rescan_s: float,
        *,
        uploads: Uploads | None = None,
        embedder_of: Callable[[str, str], Embedder] | None = None,
        reopened: Callable[[], None] = lambda: None,
        settled: Callable[[UpdateResult], None] = lambda _: None,
        follows: bool = True,
    ) -> None:
        self.folder, self.embedder, self._follows = folder, embedder, follows
        self.index = Index.open(place, embedder, create=follows, config=config)
        self._config, self._rescan_s, self._uploads = config, rescan_s, uploads
        self._embedder_of, self._reopened = embedder_of, reopened
        self._settled = settled
        self._reopening = threading.Lock()
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._looked = threading.Condition()
        self._begun = self._ended = 0  # rounds
        self._closing = False
        self._thread: threading.Thread | None = None
        self._state: State = "starting"
        self._failure: LmstackError | None = None
        self._round = UpdateRound()
        self._indexed = len(self.index.documents())
        self._revision = 0

    def start(self) -> None:
        """Look for changes now, in the background."""
        with self._lock:
            if self._closing:
                return
            self._wake.set()
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._keep, name="lmstack-indexing", daemon=True
                )
                self._thread.start()

    def look(self) -> int:
        """As `start`; the number of the round that sees all changes up to now."""
        with self._looked:
            number = self._begun + 1
        self.start()
        return number

    def has_looked(self, number: int, timeout: float) -> bool:
        """Whether that round ends within ``timeout`` s; also if none ends any more."""
        with self._looked:
            return self._looked.wait_for(lambda: self._ended >= number or self._closing, timeout)

    def close(self) -> None:
        """Stop indexing (what is in stays in) and close the index."""
        with self._lock:
            self._closing = True
            thread = self._thread
        self._wake.set()
        with self._looked:
            self._looked.notify_all()
        if thread is not None:
            thread.join(CLOSE_S)
        if thread is None or not thread.is_alive():
            self.index.close()

    def standing(self) -> Standing:
        with self._lock:
            now = self._round
            copied = UpdateRound(now.plan, set(now.waiting), now.problems, now.remaining_s)
            return Standing(copied, self._state, self._failure, self._indexed, self._revision)

    def _keep(self) -> None:
        """Rounds over the folder until closed, as soon as something changes in it and every so
        often all the same. The thread waits between them."""
        if not self._rescan_s or not self._follows:
            self._go_round()
            return
        ignored = [self.index.folder] if self.index.folder else []
        with Watcher([self.folder], self._wake.set, ignored):
            self._go_round()

    def _go_round(self) -> None:
        pause: float | None = None
        while not self._closing:
            if self._wake.wait(pause) and self._closing:
                return
            self._wake.clear()
            started = time.monotonic()
            with self._looked:
                self._begun += 1
            self._run_once()
            with self._looked:
                self._ended = self._begun
                self._looked.notify_all()
            if self._rescan_s and self._follows:
                pause = max(self._rescan_s, 20 * (time.monotonic() - started))

    def _run_once(self) -> None:
        if not self._follows:
            self._settle("ready", UpdateRound())
            return
        try:
            index = self.current()
            self._prepare_uploads(index)
            plan = index.scan([self.folder])
            self._begin(plan)
            result = index.update([self.folder], self._progressed)
            self._settle("ready", UpdateRound(result.plan, set(), result.problems))
            self._settled(result)
        except _ClosedError:
            pass
        except LmstackError as error:
            self._settle("problem", self._round, error)
        except Exception as error:
            failure = LmstackError(
                f"indexing failed: {type(error).__name__}: {error}",
                hint="report it; answers go on with what is in",
            )
            self._settle("problem", self._round, failure)

    def _prepare_uploads(self, index: Index) -> None:
        """The labels of a folder hold before the first file is in it."""
        if self._uploads is not None and not self._uploads.is_ready:
            for place, labels in self._uploads.prepare().items():
                index.add([place], self._progressed, labels=labels)
            self._uploads.ready()

    def _begin(self, plan: IngestPlan) -> None:
        with self._lock:
            changed = not plan.up_to_date or self._state == "starting"
            self._round = UpdateRound(plan, {*plan.add, *plan.change}, plan.problems)
            if changed:
                self._state = "indexing"
                self._revision += 1

    def _progressed(self, progress: UpdateProgress) -> None:
        if self._closing:
            raise _ClosedError
        with self._lock:
            self._round.waiting.discard(progress.path)
            self._round.remaining_s = progress.remaining_s
            self._revision += 1

    def _settle(
        self, state: State, ended: UpdateRound, failure: LmstackError | None = None
    ) -> None:
        try:
            documents = len(self.current().documents())
        except LmstackError as error:
            documents, state, failure = self._indexed, "problem", failure or error
        with self._lock:
            before = (self._state, self._indexed, self._round.problems, str(self._failure))
            self._state, self._indexed, self._failure = state, documents, failure
            self._round = ended
            if before != (state, documents, ended.problems, str(failure)):
                self._revision += 1

    def current(self) -> Index:
        """The index, opened again if it was changed to another embedder."""
        if self._embedder_of is None or self.index.is_current():
            return self.index
        with self._reopening:
            if not self.index.is_current():
                with Index.open(self.index.place, create=False) as changed:
                    now = changed.status(check=False)
                self.embedder = self._embedder_of(now.embedder, now.embedder_digest)
                before = self.index
                self.index = Index.open(before.place, self.embedder, config=self._config)
                self._reopened()
                before.close()
            return self.index
