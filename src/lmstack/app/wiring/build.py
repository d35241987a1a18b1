"""What `lmstack up` serves: models and a folder behind guards, as one HTTP app.

    /v1 MODEL    the language model                                guarded, audited
    /v1 FOLDER   cited answers, as a chat model                    guarded, audited
    the page     cited answers                                     guarded, audited
    /v1 ADAPTER  the language model with an adapter                guarded, audited
    /v1 ...      what else was asked for; what writes is           guarded, audited

An answer from documents leaves two runs of records when it asks the language model: one for the
question, one for the prompt with the passages, under one request id; one that is quoted without
asking the model leaves the first. Does not cover the socket
(`server.serve`) or where models come from (`wiring`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from lmstack.app.formats import printable
from lmstack.app.page.agents.live import LiveRuns
from lmstack.app.page.routes import PUBLIC_PATHS, add_page
from lmstack.app.page.view import PageView
from lmstack.app.server.access import Access, KeyEntry, ScopedModel
from lmstack.app.server.command_server import COMMAND, CommandDoor, open_server
from lmstack.app.server.following import Follower
from lmstack.app.server.kept_index import FixedIndex
from lmstack.app.server.serve import Service
from lmstack.app.server.uploads import Uploads
from lmstack.app.server.workspace import Workspace, WorkspaceConfig
from lmstack.app.wiring.agents import run_store, runs_path
from lmstack.app.wiring.served import ServedModel
from lmstack.app.wiring.tasks import Adapters, Also
from lmstack.core import ChatModel, Embedder, Reranker
from lmstack.rag import UpdateResult
from lmstack.rag.answer.answer import usual_answers
from lmstack.release.traffic import Traffic
from lmstack.safety import AuditLog, GuardedModel, Limits, RateLimiter
from lmstack.serve import create_app
from lmstack.serve.http.state import AppState

__all__ = ["build_service", "served_name"]


def build_service(
    *,
    folder: Path,
    index_dir: Path,
    audit_path: Path,
    model: ChatModel,
    embedder: Embedder,
    embedder_of: Callable[[str, str], Embedder] | None = None,
    reranker: Reranker | None = None,
    api_keys: tuple[str, ...],
    key_entries: tuple[KeyEntry, ...] = (),
    allowed_hosts: tuple[str, ...],
    close_model: Callable[[], None],
    alias: str | None = None,
    also: Also | None = None,
    uploads: bool = False,
    adapters: Adapters | None = None,
    traffic: Callable[..., Traffic] | None = None,
    door: CommandDoor | None = None,
    follower: Follower | None = None,
    settled: Callable[[UpdateResult], None] = lambda _: None,
    fixed: FixedIndex | None = None,
) -> Service:
    """Everything loaded and wired; indexing starts in the background. ``uploads``: people may
    add files to ``folder``. ``alias``: another name of ``model``. ``adapters``: of ``model``.
    ``traffic``: makes a second version of it that writes to the ``audit`` log. ``door``: where
    commands of this user are answered. ``follower``: of ``alias`` and those in ``also``.
    ``settled`` is told what each round over the folder did. ``fixed``: is served instead of an
    index that follows ``folder``."""
    also = also or Also()
    audit, access = AuditLog(audit_path), Access(api_keys, key_entries, {COMMAND})
    limits = Limits()
    guarded = partial(GuardedModel, limits=limits, audit=audit)
    # A question is counted once, where it comes in; prompts to the language model by themselves.
    guard = partial(guarded, limiter=RateLimiter(limits))
    versions = None if traffic is None else traffic(audit=audit)
    served = ServedModel(model, alias, access, guarded, RateLimiter(limits), versions)
    workspace = Workspace(
        folder,
        index_dir,
        model=served.passages,
        embedder=embedder,
        reranker=reranker,
        config=WorkspaceConfig(answer=usual_answers(model.info)),
        guard=guard,
        access=access,
        uploads=_uploads(folder, access) if uploads else None,
        embedder_of=embedder_of,
        settled=settled,
        fixed=fixed,
    )
    name = served_name(folder, *served.names)
    served.answers_from(workspace, name, guard)
    writers = {each: guard(ScopedModel(w, access)) for each, w in also.writers.items()}
    app = create_app(
        models=served.models() | writers,
        from_documents=[name],
        tokenizers=_tokenizers(embedder, also) | served.tokenizers(),
        metrics=_figures(served, follower),
        allowed_hosts=allowed_hosts,
        public_paths=PUBLIC_PATHS,
        **_scorers(embedder, also),
        **_keys(api_keys, access),
    )
    state: AppState = app.state.shared
    if adapters:
        adapters.open(state, model, lambda each: guard(ScopedModel(each, access)))
    view = PageView(workspace)
    add_page(app, view=view, record=audit.append, agents=live_runs())
    workspace.start_indexing()
    commands = None if door is None else open_server(door, workspace)
    served.opened(state, commands, door)
    if follower is not None:
        take_writer = partial(_take_writer, state, also, writers, access)
        follower.start(audit.append, served.exchange, take_writer)

    close = partial(_close, follower, commands, view, versions, close_model=close_model)
    return Service(app, close=close, stopping=state.stopping.set)


def _close(*parts: Any, close_model: Callable[[], None]) -> None:
    """Those of ``parts`` that there are, and then the models."""
    for each in parts:
        if each is not None:
            each.close()
    close_model()


def _take_writer(
    state: AppState,
    also: Also,
    writers: dict[str, GuardedModel],
    access: Access,
    name: str,
    model: ChatModel,
) -> None:
    """Answer new requests for ``name``, one of ``also``, with ``model``."""
    writers[name] = writers[name].around(ScopedModel(model, access))
    also.writers[name] = model
    state.serve({name: writers[name]}, _tokenizers_of({name: model}))


def live_runs() -> LiveRuns | None:
    """This user's runs of agents, for the page, where there ever was one."""
    return LiveRuns(run_store(None)) if runs_path().exists() else None


def _scorers(embedder: Embedder, also: Also) -> dict[str, Any]:
    """What is served that does not write."""
    return {
        "embedders": {embedder.info.name: embedder},
        "rerankers": also.rerankers,
        "classifiers": also.classifiers,
        "task_models": also.scorers,
    }


def _keys(api_keys: tuple[str, ...], access: Access) -> dict[str, Any]:
    """Who may ask, and who of those operates the server."""
    return {
        "api_keys": api_keys,
        "key_digests": access.digests,
        "operator_digests": access.owner_digests,
    }


def _uploads(folder: Path, access: Access) -> Uploads:
    """A folder that cannot be written to ends the start, not the indexing."""
    uploads = Uploads(folder, access)
    uploads.prepare()
    return uploads


def served_name(folder: Path, *taken: str) -> str:
    """A model name that people recognize: the folder's, unless it has none to give."""
    name = printable(folder.name, one_line=True).strip()
    if not name or name in taken:
        return f"{name}-documents" if name else "documents"
    return name


def _tokenizers(embedder: Embedder, also: Also) -> dict[str, Any]:
    """Those of what is served beside the language model."""
    return _tokenizers_of({embedder.info.name: embedder, **also.writers})


def _tokenizers_of(parts: Mapping[str, ChatModel | Embedder]) -> dict[str, Any]:
    """Local models bring a tokenizer, remote ones do not."""
    found = {name: getattr(part, "tokenizer", None) for name, part in parts.items()}
    return {name: tokenizer for name, tokenizer in found.items() if tokenizer is not None}


def _figures(
    served: ServedModel, follower: Follower | None
) -> Callable[[], Mapping[str, float]] | None:
    """Figures of the engine for /metrics, where the model has one, of two versions, and of releases
    that are followed."""
    if getattr(served.model, "stats", None) is None and not (served.versions or follower):
        return None
    if follower is None:
        return served.figures
    return lambda: {**served.figures(), **follower.figures()}
