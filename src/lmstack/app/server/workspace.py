"""A folder of documents with its index, its models and its answers: what `lmstack up` serves.

The folder is indexed in a thread of its own, at the start and again every so often; answers and
the list of files use what is in the index at that moment. Everything here may be called from
any thread. Does not cover what the page shows of it (`page.view`).
"""

from __future__ import annotations

import asyncio
import dataclasses
import os
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from lmstack.app.server.access import Access
from lmstack.app.server.kept_index import FixedIndex, KeptIndex, Standing
from lmstack.app.server.not_read import not_read_text, nothing_to_read
from lmstack.app.server.uploads import Uploads
from lmstack.core import (
    ChatModel,
    Config,
    Delta,
    Embedder,
    InputError,
    ModelInfo,
    Request,
    Reranker,
    check_range,
)
from lmstack.rag import (
    AnswerConfig,
    AnswerDone,
    Answerer,
    AnswerEvent,
    AnswerWishes,
    Index,
    IndexConfig,
    IndexView,
    TextDelta,
    UpdateResult,
)
from lmstack.rag.filters import Filter
from lmstack.rag.retrieve.rewriting import Turn
from lmstack.safety import GuardedModel
from lmstack.serve.http.streams import close

__all__ = ["Asking", "FromFixedIndex", "Question", "Workspace", "WorkspaceConfig", "Writer"]


@dataclass(frozen=True, slots=True)
class Question(Request):
    """``prompt`` is the question. ``past`` is not for the guards to refuse: answers in it may
    quote whatever a document holds. ``where`` narrows what it is answered from."""

    past: tuple[Turn, ...] = ()
    where: Filter | None = None


@dataclass(frozen=True, slots=True)
class EventDelta(Delta):
    """A delta that carries the event it stands for."""

    event: AnswerEvent | None = None


@dataclass(frozen=True)
class Writer:
    """``model`` writes answers, or is asked on the way to them; ``config``: how they are made where
    nobody wishes otherwise."""

    model: ChatModel
    config: AnswerConfig


class PageModel:
    """Answers as a `ChatModel` that is asked with a `Question` and gives each `EventDelta`, so that
    the guards of any model stand before them, too: an answer that is quoted never asks the
    language model, and guarding that alone would leave it without a limit and an audit record.
    ``answerers`` gives each client, with a filter or without, the one that answers it by
    ``writer``."""

    def __init__(
        self,
        writer: Writer,
        answerers: Callable[[str, Filter | None, AnswerWishes, Writer], Answerer],
        name: str,
    ) -> None:
        self._writer, self._name = writer, name
        self._answerers = answerers

    @property
    def info(self) -> ModelInfo:
        inner = self._writer.model.info
        return ModelInfo(self._name, inner.digest, inner.context_length)

    async def stream(self, request: Request) -> AsyncIterator[Delta]:
        if not isinstance(request, Question) or not isinstance(request.prompt, str):
            raise InputError("the page's answers take a Question")
        wishes = AnswerWishes.from_mapping(request.wishes)
        answerer = self._answerers(request.client, request.where, wishes, self._writer)
        events = answerer.stream(
            request.prompt, request.past, client=request.client, request_id=request.request_id
        )
        async with aclosing(events):
            async for event in events:
                if isinstance(event, AnswerDone):
                    answer = event.answer
                    yield EventDelta(
                        finish_reason="stop",
                        usage=answer.usage,
                        digest=answer.model.digest,
                        event=event,
                    )
                elif isinstance(event, TextDelta):
                    yield EventDelta(event.text, digest=event.digest, event=event)
                else:
                    yield EventDelta(event=event)


class FromFixedIndex:
    """``inner``, which answers from a fixed index, by a digest that names that, too."""

    def __init__(self, inner: ChatModel, digest: str) -> None:
        self._inner, self._digest = inner, digest

    @property
    def info(self) -> ModelInfo:
        info = self._inner.info
        return dataclasses.replace(info, digest=f"{info.digest}+{self._digest}")

    async def stream(self, request: Request) -> AsyncIterator[Delta]:
        deltas = self._inner.stream(request)
        try:
            async for delta in deltas:
                if delta.digest is not None:
                    delta = dataclasses.replace(delta, digest=f"{delta.digest}+{self._digest}")
                yield delta
        finally:
            await close(deltas)


Asking = Callable[[Question], AsyncGenerator[AnswerEvent, None]]
# How often whoever waits for the index is told how far it is.
LOOK_S = 0.3
# Whoever asks where no client is named: this process.
OWNER = "local"


@dataclass(frozen=True)
class WorkspaceConfig(Config):
    """``rescan_s``: how often the folder is looked through for changes (rarer where looking
    takes long); 0 looks only when told to."""

    index: IndexConfig = field(default_factory=IndexConfig)
    answer: AnswerConfig = field(default_factory=AnswerConfig)
    rescan_s: float = 20.0

    def __post_init__(self) -> None:
        check_range("rescan_s", self.rescan_s, 0, 86_400)


NO_WISHES = AnswerWishes()


class Workspace:
    """Owns the index (`close` closes it), not the models. ``folder`` may also be one file.
    ``guard`` is put before every question, whether or not it reaches the language model.
    ``access`` says what each client may see; all it is shown is within that. ``uploads`` takes
    files, where they are taken. ``embedder_of`` and ``settled``: as of `KeptIndex`.
    ``fixed``: an index of the folder that is served as it is, instead of the one in ``index_dir``,
    which follows the folder."""

    def __init__(
        self,
        folder: Path,
        index_dir: Path,
        *,
        model: ChatModel,
        embedder: Embedder,
        reranker: Reranker | None = None,
        config: WorkspaceConfig | None = None,
        guard: Callable[[ChatModel], ChatModel] = lambda model: model,
        access: Access | None = None,
        uploads: Uploads | None = None,
        embedder_of: Callable[[str, str], Embedder] | None = None,
        settled: Callable[[UpdateResult], None] = lambda _: None,
        fixed: FixedIndex | None = None,
    ) -> None:
        self.config = config or WorkspaceConfig()
        self.folder = Path(os.path.abspath(folder))
        self.writer = Writer(model, self.config.answer)
        self.reranker = reranker
        self._kept = KeptIndex(
            self.folder,
            index_dir if fixed is None else fixed.place,
            embedder,
            self.config.index,
            self.config.rescan_s,
            uploads=uploads,
            embedder_of=embedder_of,
            reopened=self._forget,
            settled=settled,
            follows=fixed is None,
        )
        self._access = access or Access()
        self.uploads = uploads
        self.index_dir = Path(index_dir)
        self._answerers: dict[tuple[frozenset[str] | None, AnswerWishes], Answerer] = {}
        self._named = self.folder.name or model.info.name
        self._fixed = fixed
        self._asked = guard(self._page(self.writer))
        self._guard = guard
        self._lock = threading.Lock()

    def __enter__(self) -> Workspace:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def start_indexing(self) -> None:
        """Look for changes now, in the background."""
        self._kept.start()

    async def brought_up_to_date(self) -> AsyncIterator[Standing]:
        """How far the index is, now and then, until it holds what the folder holds at the moment
        of the call; the last says how that ended."""
        number = self._kept.look()
        while not await asyncio.to_thread(self._kept.has_looked, number, LOOK_S):
            yield self._kept.standing()
        yield self._kept.standing()

    def close(self) -> None:
        """Stop indexing (what is in stays in) and close the index."""
        self._forget()
        self._kept.close()

    def _forget(self) -> None:
        """What was made for an index that is no longer the one in use."""
        with self._lock:
            self._answerers.clear()

    def use(self, model: ChatModel, answer: AnswerConfig) -> None:
        """Answer by another model from the next question on, and so; an answer that has begun ends
        by the one that it began with."""
        writer = Writer(model, answer)
        before, page = self._asked, self._page(writer)
        asked = before.around(page) if isinstance(before, GuardedModel) else self._guard(page)
        with self._lock:
            self.writer, self._asked = writer, asked
            self._answerers.clear()

    def _page(self, writer: Writer) -> ChatModel:
        return self.naming(PageModel(writer, self.answerer_of, self._named))

    def naming(self, model: ChatModel) -> ChatModel:
        """``model``, which answers from here, by a digest that names the index if it is fixed."""
        return model if self._fixed is None else FromFixedIndex(model, self._fixed.digest)

    @property
    def model(self) -> ChatModel:
        return self.writer.model

    @property
    def index(self) -> Index:
        return self._kept.current()

    @property
    def embedder(self) -> Embedder:
        return self._kept.embedder

    def standing(self) -> Standing:
        """How far the index is at this moment."""
        return self._kept.standing()

    def labels_of(self, client: str) -> frozenset[str] | None:
        """What ``client`` may see; None for everything."""
        return self._access.labels_of(client)

    def view_of(self, client: str) -> IndexView:
        """The index as ``client`` may see it."""
        return self.index.seen_by(self.labels_of(client))

    def answerer_of(
        self,
        client: str,
        where: Filter | None = None,
        wishes: AnswerWishes = NO_WISHES,
        writer: Writer | None = None,
    ) -> Answerer:
        """What answers ``client`` as it ``wishes``: from documents that it may see and that match
        ``where``. ``writer``: what there was when the answer began; else what there is now.
        `NotFoundError` for a folder in which no document is."""
        self._need_documents()
        labels, index, writer = self.labels_of(client), self.index, writer or self.writer

        def made(view: IndexView) -> Answerer:
            config = writer.config.wished(wishes)
            return Answerer(view, writer.model, config, reranker=self.reranker)

        if where is not None:
            return made(index.seen_by(labels).matching(where))
        with self._lock:
            if writer is not self.writer:  # another took its place meanwhile
                return made(index.seen_by(labels))
            key = (labels, wishes)
            if key not in self._answerers:
                self._answerers[key] = made(index.seen_by(labels))
            return self._answerers[key]

    def _need_documents(self) -> None:
        standing = self.standing()
        if standing.state == "ready" and not standing.indexed:
            now = standing.round
            raise nothing_to_read(self._named, not_read_text(now.plan.not_read, now.problems))

    def events(self, asked: Question) -> AsyncGenerator[AnswerEvent, None]:
        """The events of an answer, guarded."""
        return self.asking()(asked)

    def asking(self) -> Asking:
        """`events` by the writer that there is now, whatever takes its place meanwhile."""
        return partial(self._events, self._asked)

    async def _events(self, page: ChatModel, asked: Question) -> AsyncGenerator[AnswerEvent, None]:
        deltas = page.stream(asked)
        try:
            async for delta in deltas:
                if isinstance(delta, EventDelta) and delta.event is not None:
                    yield delta.event
        finally:
            await close(deltas)
