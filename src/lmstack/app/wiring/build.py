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

import dataclasses
from collections.abc import AsyncIterator, Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from lmstack.app.formats import printable
from lmstack.app.page.agents.live import LiveRuns
from lmstack.app.page.routes import PUBLIC_PATHS, add_page
from lmstack.app.page.view import PageView
from lmstack.app.server.access import Access, KeyEntry, ScopedModel
from lmstack.app.server.command_server import COMMAND, CommandDoor, open_server
from lmstack.app.server.kept_index import FixedIndex
from lmstack.app.server.serve import Service
from lmstack.app.server.uploads import Uploads
from lmstack.app.server.workspace import Workspace, WorkspaceConfig
from lmstack.app.wiring.adapters import Adapters
from lmstack.app.wiring.agents import run_store, runs_path
from lmstack.app.wiring.tasks import Also
from lmstack.app.wiring.traffic import Traffic
from lmstack.app.wiring.usual_answers import usual_answers
from lmstack.core import ChatModel, Delta, Embedder, ModelInfo, Request, Reranker
from lmstack.rag import AnswerTokenizer, AnswerWishes, GroundedModel, UpdateResult
from lmstack.safety import AuditLog, GuardedModel, Limits, RateLimiter
from lmstack.serve import create_app
from lmstack.serve.http.streams import close as close_stream

__all__ = ["build_service", "served_name"]

# Passages may hold anything that a file can; what no person can see is still refused.
PASSAGE_GUARDS = ("hidden_text", "invalid_unicode")


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
    settled: Callable[[UpdateResult], None] = lambda _: None,
    fixed: FixedIndex | None = None,
) -> Service:
    """Everything loaded and wired; indexing starts in the background. ``uploads``: people may
    add files to ``folder``. ``alias``: another name of ``model``. ``adapters``: of ``model``.
    ``traffic``: makes a second version of it that writes to the ``audit`` log.
    ``door``: where commands of this user are answered. ``settled`` is told what each round over the
    folder did. ``fixed``: is served instead of an index that follows ``folder``."""
    also = also or Also()
    audit, access = AuditLog(audit_path), Access(api_keys, key_entries, {COMMAND})
    limits = Limits()
    guarded = partial(GuardedModel, limits=limits, audit=audit)
    # A question is counted once, where it comes in; prompts to the language model by themselves.
    guard, prompts = partial(guarded, limiter=RateLimiter(limits)), RateLimiter(limits)
    from_documents = _naming(guard, fixed)
    versions = None if traffic is None else traffic(audit=audit)

    def asked(per_request: bool = False, **how: Any) -> ChatModel:
        return guarded(_scoped(model, versions, access, per_request), limiter=prompts, **how)

    workspace = Workspace(
        folder,
        index_dir,
        model=asked(guards=PASSAGE_GUARDS, per_request=True),
        embedder=embedder,
        reranker=reranker,
        config=WorkspaceConfig(answer=usual_answers(model.info)),
        guard=from_documents,
        access=access,
        uploads=_uploads(folder, access) if uploads else None,
        embedder_of=embedder_of,
        settled=settled,
        fixed=fixed,
    )
    named = [each for each in (model.info.name, alias) if each]
    name = served_name(folder, *named)
    grounded = DocumentsModel(workspace, name, getattr(model, "tokenizer", None))
    models = {name: from_documents(grounded), **dict.fromkeys(named, asked())}
    models |= {each: guard(ScopedModel(w, access)) for each, w in also.writers.items()}
    app = create_app(
        models=models,
        from_documents=[name],
        tokenizers=_tokenizers(model, embedder, *also.writers.values(), alias=alias),
        metrics=_engine_metrics(model, versions),
        allowed_hosts=allowed_hosts,
        public_paths=PUBLIC_PATHS,
        **_scorers(embedder, also),
        **_keys(api_keys, access),
    )
    if adapters:
        adapters.open(app.state.shared, model, lambda each: guard(ScopedModel(each, access)))
    view = PageView(workspace)
    add_page(app, view=view, record=audit.append, agents=live_runs())
    workspace.start_indexing()
    commands = None if door is None else open_server(door, workspace)

    close = partial(_close, commands, view, versions, close_model=close_model)
    return Service(app, close=close, stopping=app.state.shared.stopping.set)


def _close(*parts: Any, close_model: Callable[[], None]) -> None:
    """Those of ``parts`` that there are, and then the models."""
    for each in parts:
        if each is not None:
            each.close()
    close_model()


def _naming(
    guard: Callable[[ChatModel], ChatModel], fixed: FixedIndex | None
) -> Callable[[ChatModel], ChatModel]:
    """``guard``, for what answers from ``fixed`` and names it where there is one."""
    if fixed is None:
        return guard
    return lambda model: guard(FromFixedIndex(model, fixed.digest))


def _scoped(
    model: ChatModel, versions: Traffic | None, access: Access, per_request: bool
) -> ChatModel:
    """``model``, or both versions of it, without prompts that keys share. ``per_request``: all that
    is asked in one request goes to one version."""
    scoped = ScopedModel(model, access)
    if versions is None:
        return scoped
    other = ScopedModel(versions.candidate, access)
    return versions.split(scoped, other, per_request=per_request)


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


class DocumentsModel:
    """Cited answers as a chat model, to each client from the documents that it may see."""

    def __init__(
        self, workspace: Workspace, name: str, tokenizer: AnswerTokenizer | None = None
    ) -> None:
        self._workspace, self._name = workspace, name
        self._tokenizer = tokenizer

    @property
    def info(self) -> ModelInfo:
        inner = self._workspace.model.info
        return ModelInfo(self._name, inner.digest, inner.context_length)

    def stream(self, request: Request) -> AsyncIterator[Delta]:
        answerer = self._workspace.answerer_of(
            request.client, wishes=AnswerWishes.from_mapping(request.wishes)
        )
        grounded = GroundedModel(answerer, self._name, tokenizer=self._tokenizer)
        return grounded.stream(request)


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
            await close_stream(deltas)


def served_name(folder: Path, *taken: str) -> str:
    """A model name that people recognize: the folder's, unless it has none to give."""
    name = printable(folder.name, one_line=True).strip()
    if not name or name in taken:
        return f"{name}-documents" if name else "documents"
    return name


def _tokenizers(*parts: ChatModel | Embedder, alias: str | None = None) -> dict[str, Any]:
    """Local models bring a tokenizer, remote ones do not. ``alias``: of the first."""
    found = {part.info.name: getattr(part, "tokenizer", None) for part in parts}
    if alias is not None:
        found[alias] = getattr(parts[0], "tokenizer", None)
    return {name: tokenizer for name, tokenizer in found.items() if tokenizer is not None}


def _engine_metrics(
    model: ChatModel, versions: Traffic | None
) -> Callable[[], Mapping[str, float]] | None:
    """Figures of the engine for /metrics, where the model has one, and of two versions."""
    stats = getattr(model, "stats", None)
    if stats is None and versions is None:
        return None

    def figures() -> Mapping[str, float]:
        values = {} if stats is None else dataclasses.asdict(stats())
        found = {k: float(v) for k, v in values.items() if isinstance(v, int | float)}
        return found if versions is None else {**found, **versions.figures()}

    return figures
