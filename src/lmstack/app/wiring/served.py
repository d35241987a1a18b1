"""The language model of a server, with all that is asked through it.

    prompts     as clients ask it                        guarded, audited
    passages    as answers from documents ask it         guarded, audited
    documents   cited answers, as a chat model           guarded, audited

`ServedModel.exchange` puts another model in its place: new requests go to that, and a request that
has begun holds what it began with, all of it, so that no answer is by two. Nobody is told of an
exchange and nothing is counted: once no request holds the former model, nothing does, and it is
freed (`LocalModel`). What a model computed (its prefix cache) goes with it.

A server keeps the documents that it began with: another model takes over only where it was
evaluated with the same documents, answered from in the same way. Not covered: when another model
takes over (`server.following`), and where the copy of an index is and what makes it the evaluated
one (`released_documents`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lmstack.app.server.access import Access, ScopedModel
from lmstack.app.server.command_server import CommandDoor, CommandServer, command_events
from lmstack.app.server.following import Followed, Follower, loaded_beside, not_beside
from lmstack.app.server.kept_index import FixedIndex
from lmstack.app.server.workspace import Workspace, Writer
from lmstack.app.wiring.tasks import Also, name_and_form
from lmstack.core import ChatModel, Delta, ModelInfo, Request, Reranker, UnsupportedError
from lmstack.rag import AnswerTokenizer, AnswerWishes, GroundedModel
from lmstack.rag.answer.answer import usual_answers
from lmstack.release import released_documents, releases
from lmstack.release.traffic import Traffic
from lmstack.safety import GuardedModel, RateLimiter
from lmstack.serve.http.state import AppState

if TYPE_CHECKING:
    from lmstack.engine import EngineConfig
    from lmstack.registry import ModelFolder
    from lmstack.registry.releases import Release

__all__ = ["DocumentsModel", "ServedModel", "check_same", "fixed_index", "follower_of"]

# Passages may hold anything that a file can; what no person can see is still refused.
PASSAGE_GUARDS = ("hidden_text", "invalid_unicode")


class DocumentsModel:
    """Cited answers as a chat model, to each client from the documents that it may see.
    ``writer``: who writes them. ``tokenizer``: that of the writer."""

    def __init__(
        self,
        workspace: Workspace,
        name: str,
        writer: Writer,
        tokenizer: AnswerTokenizer | None = None,
    ) -> None:
        self._workspace, self._name = workspace, name
        self._writer, self._tokenizer = writer, tokenizer

    @property
    def info(self) -> ModelInfo:
        inner = self._writer.model.info
        return ModelInfo(self._name, inner.digest, inner.context_length)

    def stream(self, request: Request) -> AsyncIterator[Delta]:
        wishes = AnswerWishes.from_mapping(request.wishes)
        answerer = self._workspace.answerer_of(request.client, None, wishes, self._writer)
        grounded = GroundedModel(
            answerer, self._name, tokenizer=self._tokenizer, notes_system=wishes.system == "note"
        )
        return grounded.stream(request)


class ServedModel:
    """``model`` under its own name and, where it stands for one, under ``alias``. ``guarded`` puts
    guards before a model; ``limiter``: of prompts. ``versions``: a second one of it."""

    def __init__(
        self,
        model: ChatModel,
        alias: str | None,
        access: Access,
        guarded: Callable[..., GuardedModel],
        limiter: RateLimiter,
        versions: Traffic | None = None,
    ) -> None:
        self.model, self.versions = model, versions
        self.alias, self._access = alias, access
        self.names = tuple(dict.fromkeys(each for each in (model.info.name, alias) if each))
        self._prompts = guarded(self._scoped(), limiter=limiter)
        self.passages = guarded(
            self._scoped(per_request=True), limiter=limiter, guards=PASSAGE_GUARDS
        )
        self._workspace: Workspace | None = None
        self._documents: GuardedModel | None = None
        self._documents_name = ""
        self._state: AppState | None = None
        self._commands: CommandServer | None = None
        self._door: CommandDoor | None = None

    def _scoped(self, *, per_request: bool = False) -> ChatModel:
        """The model, or both versions of it, without prompts that keys share. ``per_request``: all
        that is asked in one request goes to one version."""
        scoped = ScopedModel(self.model, self._access)
        if self.versions is None:
            return scoped
        other = ScopedModel(self.versions.candidate, self._access)
        return self.versions.split(scoped, other, per_request=per_request)

    @property
    def tokenizer(self) -> Any:
        """A local model brings one, a remote one does not."""
        return getattr(self.model, "tokenizer", None)

    def answers_from(
        self, workspace: Workspace, name: str, guard: Callable[[ChatModel], GuardedModel]
    ) -> None:
        """Serve answers from ``workspace``, too, as ``name``."""
        self._workspace, self._documents_name = workspace, name
        self._documents = guard(self._answers(workspace))

    def _answers(self, workspace: Workspace) -> ChatModel:
        name = self._documents_name
        answers = DocumentsModel(workspace, name, workspace.writer, self.tokenizer)
        return workspace.naming(answers)

    def models(self) -> dict[str, ChatModel]:
        """What is served, by name."""
        found: dict[str, ChatModel] = dict.fromkeys(self.names, self._prompts)
        return found | ({self._documents_name: self._documents} if self._documents else {})

    def tokenizers(self) -> dict[str, Any]:
        return {} if self.tokenizer is None else dict.fromkeys(self.names, self.tokenizer)

    def opened(
        self, state: AppState, commands: CommandServer | None, door: CommandDoor | None
    ) -> None:
        """It is served by the app of ``state``, and ``commands`` come in by ``door``."""
        self._state, self._commands, self._door = state, commands, door

    def exchange(self, model: ChatModel) -> None:
        """Answer new requests with ``model``, and those of commands as well. Its own name is
        served in place of that of the former model, unless something else has it."""
        assert self._state is not None
        before, self.model = self.names, model
        taken = self._state.infos().keys() - set(before)
        own = (model.info.name,) if model.info.name not in taken else ()
        self.names = tuple(dict.fromkeys((*own, *([self.alias] if self.alias else []))))
        self._prompts = self._prompts.around(self._scoped())
        self.passages = self.passages.around(self._scoped(per_request=True))
        if self._workspace is not None and self._documents is not None:
            self._workspace.use(self.passages, usual_answers(model.info))
            self._documents = self._documents.around(self._answers(self._workspace))
        self._state.serve(self.models(), self.tokenizers(), without=before)
        if self._workspace is not None and self._commands is not None and self._door is not None:
            identity = self._door.with_model(model.info.digest).identity
            self._commands.serve(identity, command_events(self._workspace))

    def figures(self) -> Mapping[str, float]:
        """Of the engine, where the model has one, and of two versions, for /metrics."""
        stats = getattr(self.model, "stats", None)
        values = {} if stats is None else dataclasses.asdict(stats())
        found = {k: float(v) for k, v in values.items() if isinstance(v, int | float)}
        return found if self.versions is None else {**found, **self.versions.figures()}


def fixed_index(
    alias: str | None,
    release: Release,
    docs: Path,
    reranker: Reranker | None,
    note: Callable[[str], None],
) -> FixedIndex | None:
    """That of ``docs`` which belongs to ``release``, which ``alias`` stands for, if it and how it
    is answered from are what was evaluated; None for a model alone."""
    if not release.docs:
        return None
    released_documents.check_options(alias, release, docs=str(docs) != release.docs)
    released_documents.check_served(release, releases.info_of(release), reranker, note)
    return FixedIndex(released_documents.place_of(release), release.documents_digest)


def check_same(fixed: FixedIndex | None, reranker: Reranker | None, release: Release) -> None:
    """`UnsupportedError` unless ``release`` was evaluated with the documents in ``fixed``, or
    without any where that is None; as `check_served` where it was."""
    served = "" if fixed is None else fixed.digest
    if release.documents_digest == served:
        if fixed is not None:
            released_documents.check_served(release, releases.info_of(release), reranker)
        return
    found = "without documents, and some are served"
    if release.docs:
        found = "with documents, and without any it is not served"
        if served:
            found = "with other documents, or other ways to answer from them, than are served"
    raise UnsupportedError(
        f"{release.title} was evaluated {found}",
        hint="start the server again to serve what was evaluated",
    )


def follower_of(
    main: Followed,
    also: Also,
    given: Sequence[str],
    draft: Callable[[], ModelFolder] | None,
    engine: EngineConfig,
    compared: str | None,
    note: Callable[[str], None],
) -> Follower | None:
    """What follows the alias of ``main``, if it has one, and those of ``given``, the names of
    ``also``. An alias that is named with a digest stays with that release. ``draft``: the model
    that drafts for ``main``. ``compared``: with ``main``, as a canary or a shadow."""

    def followed(model: Followed, draft: Callable[[], ModelFolder] | None = None) -> Followed:
        load = partial(loaded_beside, engine=engine, draft=draft)
        model.load = load if compared is None else partial(not_beside, compared)
        return model

    names = dict.fromkeys(name for name, _ in map(name_and_form, given) if is_followed(name))
    others = [followed(Followed(name, also.writers[name])) for name in names]
    if is_followed(main.alias):
        names = {str(main.alias): None, **names}
    if not names:
        return None
    if compared is not None:
        note(
            f"beside a {compared} no release is exchanged: when {' or '.join(names)} is moved,"
            " start the server again"
        )
    return Follower(followed(main, draft) if main.alias in names else None, others, note)


def is_followed(name: str | None) -> bool:
    """Whether ``name`` is an alias that may come to stand for something else."""
    return bool(name) and "@" not in str(name) and releases.alias_named(name) is not None
