"""A running server follows its aliases: what one is moved to takes the place of what serves.

    look      each second: whether the file of the alias, or a trusted key, has changed
    verify    the signed passing verdict and every byte, by `releases.released` as at the start
    check     that it was evaluated with the documents that are served (`wiring.served`)
    load      beside the release that serves, if there is memory for both, and write a few tokens
    record    in the audit log, before anything is answered by it
    take      new requests go to it; what has begun ends by the former release, which is then freed

Where a step fails, the former release goes on serving. That is said once, in the server's log, the
audit log and /metrics, and tried again after waits that double. What serves was verified when it
was loaded, so an alias whose file or verdict does not hold any more changes nothing but what is
said: whoever can damage a file could otherwise end the service. Not covered: what a server makes
from a model (`served`), and which release may be served (`releases`).
"""

from __future__ import annotations

import gc
import logging
import threading
import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from lmstack.app.formats import memory, printable
from lmstack.core import (
    ChatModel,
    EngineError,
    IntegrityError,
    LmstackError,
    ModelInfo,
    Request,
    SamplingParams,
    UnsupportedError,
    close_model,
    complete_sync,
)
from lmstack.release import releases

if TYPE_CHECKING:
    from lmstack.engine import EngineConfig
    from lmstack.registry import ModelFolder
    from lmstack.registry.aliases import AliasEvent
    from lmstack.registry.releases import Release

__all__ = ["Followed", "Follower", "loaded_beside", "not_beside"]

logger = logging.getLogger(__name__)

LOOK_EVERY_S = 1.0
# Waits before what failed is tried again.
FIRST_WAIT_S, LONGEST_WAIT_S = 30.0, 3600.0
# After how long a former release that answers nothing and is not free yet is looked for among
# objects that refer to each other, and how often at most: it holds up all threads.
IDLE_S, COLLECT_EVERY_S = 5.0, 60.0
WARM_UP = Request(prompt="Hello", sampling=SamplingParams(max_tokens=4, temperature=0))

Load = Callable[["Release"], ChatModel]
Take = Callable[[ChatModel], None]
Record = Callable[[Mapping[str, Any]], object]


@dataclass(eq=False)
class Followed:
    """``model``: what answers under ``alias`` now, or without one. ``check``: raises for a release
    that was evaluated with other documents than are served with it. ``load``: gives a verified
    release of it."""

    alias: str | None
    model: ChatModel
    load: Load | None = None
    check: Callable[[Release], None] = lambda _: None
    take: Take | None = None
    # The history as it was verified, the files as they were seen, what is wrong with them, and of
    # which history that was said.
    known: tuple[AliasEvent, ...] = ()
    seen: object = None
    problem: str = ""
    said_of: tuple[AliasEvent, ...] = ()
    retry_at: float = 0.0
    wait_s: float = 0.0


@dataclass(frozen=True)
class _Former:
    """A release whose place was taken. ``since``: `time.monotonic`."""

    model: weakref.ref[ChatModel]
    info: ModelInfo
    since: float


@dataclass(eq=False)
class Follower:
    """``main`` is the language model of a server, ``others`` are served beside it. ``note`` is told
    of what takes over."""

    main: Followed | None
    others: Sequence[Followed] = ()
    note: Callable[[str], None] = lambda _: None
    num_exchanges: int = field(default=0, init=False)
    num_failures: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        self._followed = [*([self.main] if self.main else []), *self.others]
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._former: list[_Former] = []
        self._collect_at = 0.0
        self._record: Record = lambda _: None

    def start(
        self, record: Record, take: Take, take_other: Callable[[str, ChatModel], None]
    ) -> None:
        """Begin to look. ``record``: into the audit log. ``take``: answers new requests for the
        language model with another, ``take_other`` those for what is named."""
        self._record = record
        for each in self._followed:
            each.take = take if each is self.main else partial(take_other, str(each.alias))
        self._thread = threading.Thread(target=self._run, name="lmstack-releases", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Look no more; a release that is being loaded serves nobody, and is closed."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(timeout=1.0)
        for each in self._former:
            former = each.model()
            if former is not None:
                close_model(former)

    def figures(self) -> Mapping[str, float]:
        """For /metrics."""
        return {
            "release_exchanges_total": self.num_exchanges,
            "release_exchange_failures_total": self.num_failures,
            "releases_behind": sum(bool(each.problem) for each in self._followed),
            "releases_retiring": len(self._former),
        }

    def _run(self) -> None:
        while not self._stop.wait(LOOK_EVERY_S):
            for each in self._followed:
                self._look(each)
            self._look_at_former()

    def _look(self, each: Followed) -> None:
        from lmstack.registry.aliases import Aliases

        assert each.alias is not None
        files = Aliases().files_of(each.alias)
        if files == each.seen and not (each.problem and time.monotonic() >= each.retry_at):
            return
        each.seen = files
        try:
            self._follow(each)
        except Exception as error:
            self._failed(each, error)

    def _follow(self, each: Followed) -> None:
        release = _verified(each)
        each.check(release)
        if release.model_digest == each.model.info.digest:
            if each.problem:
                self.note(f"{each.alias} stands for what is served under it: {release.short}")
            each.problem = ""
            return
        assert each.load is not None
        model = each.load(release)
        try:
            complete_sync(model, WARM_UP)
            if self._stop.is_set() or _verified(each) != release:  # moved while it was loaded
                close_model(model)
                each.seen = None
                return
            former = each.model.info
            names = {"model": _named(model.info), "former": _named(former)}
            self._record({"event": "release_exchanged", "alias": each.alias, **names})
        except BaseException:
            close_model(model)
            raise
        self._exchange(each, model)
        self.note(
            printable(
                f"{each.alias}: {release.title} answers from now on   {release.short}",
                one_line=True,
            )
        )

    def _exchange(self, each: Followed, model: ChatModel) -> None:
        assert each.take is not None
        former = _Former(weakref.ref(each.model), each.model.info, time.monotonic())
        each.problem = ""  # before anybody sees the new one
        each.take(model)
        each.model = model
        self._former.append(former)
        self.num_exchanges += 1

    def _failed(self, each: Followed, error: Exception) -> None:
        """Say it, unless it was said of the same history: files may change without it."""
        if self._stop.is_set():
            return
        reason = f"{type(error).__name__}: {error}"
        if isinstance(error, LmstackError):
            reason = f"{error.message}; {error.hint}" if error.hint else error.message
        is_new = reason != each.problem or each.known != each.said_of
        each.wait_s = FIRST_WAIT_S if is_new else min(2 * each.wait_s, LONGEST_WAIT_S)
        each.retry_at = time.monotonic() + each.wait_s
        each.problem, each.said_of = reason, each.known
        if not is_new:
            return
        self.num_failures += 1
        serving = each.model.info
        text = f"{serving.digest} goes on answering as {each.alias}: {reason}"
        logger.warning("%s", printable(text, one_line=True))
        record = {"event": "release_exchange_failed", "alias": each.alias, "reason": reason}
        try:
            self._record({**record, "model": _named(serving)})
        except Exception as broken:
            logger.error("no audit record of %s: %s", record["event"], broken)

    def _look_at_former(self) -> None:
        """Forget those that are free; help those that nothing but a circle of objects holds."""
        now, is_held = time.monotonic(), False
        for each in list(self._former):
            model = each.model()
            if model is None:
                self._former.remove(each)
                logger.info("%s has answered its last request, and is freed", each.info.digest)
            elif now - each.since >= IDLE_S and _is_idle(model):
                is_held = True
            del model
        if is_held and now >= self._collect_at:
            self._collect_at = now + COLLECT_EVERY_S
            gc.collect()


def _verified(each: Followed) -> Release:
    """What the alias stands for, if it may be served, and if its history is the one that was
    verified before, with or without more. A shorter one is found by a server that runs, alone."""
    from lmstack.registry.aliases import Aliases

    assert each.alias is not None
    while True:
        alias, release = Aliases().read(each.alias), releases.released(each.alias)
        if release is not None and release == alias.release:  # else it was moved in between
            break
    if alias.events[: len(each.known)] != each.known:
        raise IntegrityError(
            f"the history of {each.alias} does not hold what this server read in it before",
            hint="bring the file back; if it was made anew on purpose, start the server again",
        )
    each.known = alias.events
    return release


def _is_idle(model: ChatModel) -> bool:
    stats = getattr(model, "stats", None)
    if stats is None:
        return True
    found = stats()
    return bool(found.num_running + found.num_waiting == 0)


def _named(info: ModelInfo) -> dict[str, Any]:
    return {"name": info.name, "digest": info.digest}


def loaded_beside(
    release: Release,
    *,
    engine: EngineConfig,
    draft: Callable[[], ModelFolder] | None = None,
) -> ChatModel:
    """The release, by `releases.opened`. `EngineError` where there is too little memory for it
    beside what serves."""
    from lmstack.app.server.deployment import find_model
    from lmstack.engine.memory import free_memory

    free = free_memory()[0]
    if engine.device == "cpu" and free is not None:
        needs = find_model(release.model).weights(release.weights).total
        if needs > free:
            raise EngineError(
                f"{release.title} needs {memory(needs)} of memory beside what serves, and"
                f" {memory(free)} is free",
                hint="free some, or start the server again: then it is loaded alone",
            )
    return releases.opened(release, draft=draft and draft(), engine=engine)


def not_beside(mode: str, release: Release) -> ChatModel:
    """Of a server that compares two versions."""
    raise UnsupportedError(
        f"{release.title} cannot take over while a {mode} is compared with what serves",
        hint="start the server again to serve it",
    )
