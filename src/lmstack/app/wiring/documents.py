"""Which class plays which part where a command works on documents: an index, and answers from it.

Like `wiring`, imports what it wires when it is called. Does not cover what `lmstack up` serves.
"""

from __future__ import annotations

import shlex
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lmstack.app import wiring
from lmstack.app.server.command_socket import RunningServer, find_server
from lmstack.core import (
    ChatModel,
    Delta,
    Embedder,
    ModelInfo,
    NotFoundError,
    Request,
    Reranker,
    close_model,
    shown,
)

if TYPE_CHECKING:
    from lmstack.rag import Answerer, Index, IndexView
    from lmstack.rag.catalogue.schema import VectorForm
    from lmstack.rag.ingest.update import RemoteExecutor

__all__ = [
    "RecordingModel",
    "answering",
    "machines",
    "open_index",
    "running_server",
]

# How long a command waits for another one that is writing to the same index.
LOCK_TIMEOUT_S = 5.0


@contextmanager
def open_index(
    folder: Path | str,
    embedder_name: str | None,
    *,
    create: bool,
    rebuild: bool = False,
    embeds: bool = True,
    chunking: Mapping[str, Any] | None = None,
    vectors: VectorForm | None = None,
    sources: Sequence[Path] = (),
    note: Callable[[str], None] = lambda _: None,
) -> Iterator[Index]:
    """An index; without ``embeds`` no embedding model is needed, and none is loaded.
    ``chunking``: what changes in how documents are cut (`ChunkConfig`);
    ``vectors``: how a new index keeps them. ``sources``: what goes into it, which chooses the
    model of a new one where none is named; ``note`` is told of that."""
    from lmstack.rag import Index, IndexConfig
    from lmstack.rag.opening import EmbedderChoice

    if isinstance(folder, Path) and not create and not folder.exists():
        raise NotFoundError(
            f"there is no index at {shown(str(folder))}",
            hint=f"lmstack index add --index {shlex.quote(str(folder))} DIR",
            param="index",
        )

    def choose(made_with: tuple[str, str] | None) -> Embedder:
        return wiring.embedder(wiring.embedder_name_for(made_with, embedder_name, sources, note))

    model = EmbedderChoice(choose) if embeds else None
    config = IndexConfig(vectors=vectors, lock_timeout_s=LOCK_TIMEOUT_S)
    with Index.open(folder, model, create, config=config, rebuild=rebuild) as index:
        if chunking:
            index.choose_chunking(**chunking)
        yield index


def machines(
    index: Index, embedder_name: str | None, address: str | None, copies: int
) -> RemoteExecutor | None:
    """What reads and embeds for ``index`` on the Ray cluster at ``address``; None without."""
    if address is None:
        return None
    from lmstack.rag.ingest.bulk import RayConfig, RayMachines

    config = RayConfig(address="" if address == "local" else address, copies=copies)
    status = index.status(check=False)
    made_with = status.embedder, status.embedder_digest
    name = wiring.embedder_name_for(made_with, embedder_name)
    return RayMachines(partial(wiring.embedder, name), status.embedder_digest, config)


def running_server(
    docs: Path,
    model: str | None,
    embedder_name: str | None,
    weights: str | None,
    reader: str | None = None,
) -> RunningServer | None:
    """The `lmstack up` that answers for a command with these options, if one is running: one of
    the same user, version, folder and models."""
    path = wiring.command_socket(docs)
    if path is None or not path.exists():
        return None
    wanted = wiring.command_identity(docs, model, embedder_name, weights, reader)
    if wanted is None:
        return None
    if embedder_name is None:  # then the one that the index was made with, whoever names it
        del wanted["embedder"]
    return find_server(path, wanted)


@contextmanager
def answering(
    index: IndexView,
    reranker: Reranker | None,
    model: str | None,
    num_passages: int | None,
    weights: str | None = None,
    wishes: Mapping[str, str] | None = None,
) -> Iterator[tuple[Answerer, list[Request]]]:
    """An answerer over ``index``, and the list of what it asks the model. ``num_passages``: None
    for as many as the defaults find; ``wishes``: fields of `AnswerWishes`."""
    from lmstack.rag import Answerer, AnswerWishes
    from lmstack.rag.answer.answer import usual_answers

    recording = RecordingModel(wiring.lazy_generator(model, weights, may_draw=True))
    config = usual_answers(recording.info).wished(AnswerWishes.from_mapping(wishes or {}))
    if num_passages is not None:
        passages = min(num_passages, config.passages)
        config = config.replace(retrieve=num_passages, passages=passages)
    try:
        yield Answerer(index, recording, config, reranker=reranker), recording.requests
    finally:
        close_model(recording.model)


class RecordingModel:
    """A model that keeps what it was asked, for `--explain`."""

    def __init__(self, model: ChatModel) -> None:
        self.model = model
        self.requests: list[Request] = []

    @property
    def info(self) -> ModelInfo:
        return self.model.info

    def stream(self, request: Request) -> AsyncIterator[Delta]:
        self.requests.append(request)
        return self.model.stream(request)
