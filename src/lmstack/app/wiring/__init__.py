"""Which class plays which part: the one place where the command line touches other modules.

Every function imports what it wires when it is called, so commands can import this file at no
cost; tests replace these functions to run commands against scripted models.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import lmstack
from lmstack.app.inspect.checks import Check, machine_checks, network_checks, store_checks
from lmstack.app.server.command_socket import socket_path
from lmstack.app.wiring import retrieval, tasks
from lmstack.app.wiring.defaults import PURPOSES, SMALL_MODEL, all_here, default_model, needed
from lmstack.app.wiring.retrieval import (
    DEFAULT_EMBEDDER,
    embedder_for,
    embedder_named,
    is_remote_embedder,
    name_for_index,
    shaped_name,
)
from lmstack.app.wiring.tasks import Adapters
from lmstack.core import (
    ChatModel,
    Embedder,
    InputError,
    LmstackError,
    ModelInfo,
    NotFoundError,
    close_model,
    shown,
)
from lmstack.core.files import store_error
from lmstack.release import releases
from lmstack.release.releases import generator_folder, is_remote
from lmstack.train.merged import adapter_folder, writing_adapter

if TYPE_CHECKING:
    from lmstack.app.comparison.comparing import Opening
    from lmstack.app.inspect.inspection import Inspection
    from lmstack.app.server.access import KeyEntry
    from lmstack.app.server.command_server import CommandDoor
    from lmstack.app.server.serve import Service
    from lmstack.engine import EngineConfig
    from lmstack.rag import UpdateResult
    from lmstack.registry import Broken, LoadedModel, ModelFolder
    from lmstack.registry.releases import Release
    from lmstack.release.traffic import Traffic, TrafficCandidate
    from lmstack.safety import AuditReport

__all__ = [
    "DEFAULT_EMBEDDER",
    "PURPOSES",
    "SMALL_MODEL",
    "adapter_facts",
    "adapter_folder",
    "as_json",
    "audit_path",
    "broken_models",
    "checks",
    "command_identity",
    "command_socket",
    "default_model",
    "embedder",
    "embedder_for",
    "existing_folder",
    "generator",
    "generator_folder",
    "home",
    "index_of",
    "inspect",
    "is_remote",
    "lazy_generator",
    "loaded",
    "model_to_inspect",
    "models",
    "no_documents",
    "opening",
    "pull",
    "remote_address",
    "remove_model",
    "require_adapter",
    "require_candidate",
    "require_models",
    "service",
    "verify_audit",
]

PullProgress = Callable[[str, int, int | None], None]


def home() -> Path:
    """The folder of models, indexes, audit logs and crash reports."""
    from lmstack.registry.home import home as registry_home

    return registry_home()


def existing_folder(path: Path) -> Path:
    """``path``, absolute, if it is a folder (or a single document)."""
    if not os.path.exists(path):
        raise NotFoundError(
            f"there is no folder {shown(str(path))}",
            hint="give the folder that holds your documents",
            param="docs",
        )
    return Path(os.path.abspath(path))


def no_documents() -> Path:
    """An empty folder, for a server of models alone."""
    folder = home() / "no-documents"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise store_error(error, folder, "writing") from error
    return folder


def index_of(docs: Path) -> Path:
    """Where the index of a folder is kept: one for each absolute path, links resolved."""
    name = hashlib.sha256(os.fsencode(os.path.realpath(docs))).hexdigest()[:32]
    return home() / "indexes" / name


def audit_path() -> Path:
    """The log that `lmstack up` appends to."""
    return home() / "audit" / "audit.jsonl"


def checks(*, network: bool) -> list[Check]:
    """Everything `lmstack doctor` looks at."""
    found = machine_checks(home())
    if not any(check.name == "torch" and check.status == "fail" for check in found):
        from lmstack.registry import Store

        store = Store()
        found += store_checks(lambda: store.checked()[0], lambda: store.checked()[1], needed())
        if default_model() == SMALL_MODEL:
            writer = next(iter(PURPOSES))
            without = f"not in the store, so {SMALL_MODEL} answers, which quotes and does not write"
            found.append(Check(f"model {writer}", "warn", without, f"lmstack pull {writer}"))
    return [*found, *network_checks()] if network else found


def verify_audit(path: Path, expect_head: str | None) -> AuditReport:
    from lmstack.safety import verify

    return verify(path, expect_head=expect_head)


def models() -> list[ModelFolder]:
    from lmstack.registry import Store

    return Store().models()


def pull(reference: str, progress: PullProgress) -> ModelFolder:
    from lmstack.registry import Store

    return Store().pull(reference, progress=progress)


def remove_model(name: str) -> None:
    from lmstack.registry import Store

    Store().remove(name)


def inspect(reference: str) -> tuple[dict[str, Any], Inspection]:
    """The card of a model and what its config says, without its weights."""
    from lmstack.app.inspect.inspection import inspect_config, read_config
    from lmstack.registry import Store

    folder = Store().resolve(reference)
    card = folder.card.to_json()
    card.pop("files")
    return {**card, "path": str(folder.path), "size": folder.card.size}, inspect_config(
        read_config(folder)
    )


def adapter_facts(reference: str) -> dict[str, Any] | None:
    """What the folder of an adapter says of it; None where ``reference`` is no such folder."""
    from lmstack.app.inspect.ancestry import adapter_facts

    folder = adapter_folder(reference)
    return None if folder is None else adapter_facts(folder)


def model_to_inspect(reference: str) -> LoadedModel:
    """A local model with its weights in float32, without an engine."""
    from lmstack.registry import load

    return load(reference)


def broken_models() -> list[Broken]:
    from lmstack.registry import Store

    return Store().broken()


def embedder(name: str | None) -> Embedder:
    """The embedding model that ``name`` means (`embedders`), loaded when first used."""
    return embedder_named(name)


def embedder_of_index(
    place: Path | str,
    given: str | None = None,
    sources: Sequence[Path] = (),
    note: Callable[[str], None] = lambda _: None,
) -> str | None:
    """`embedder_name_for` of the index in ``place``, whether or not there is one."""
    from lmstack.rag import Index

    try:
        with Index.open(place, create=False) as index:
            status = index.status(check=False)
    except LmstackError:
        return embedder_name_for(None, given, sources, note)
    return embedder_name_for((status.embedder, status.embedder_digest), given)


def embedder_name_for(
    made_with: tuple[str, str] | None,
    given: str | None = None,
    sources: Sequence[Path] = (),
    note: Callable[[str], None] = lambda _: None,
) -> str | None:
    """The name of the model that an index was ``made_with``, its name and digest, where nobody
    gave one; else of the one that ``given`` means for it. Of an index that is new ``given``, or
    what suits the languages of ``sources``, the documents that are to be in it; ``note`` is told
    of that."""
    if made_with is None:
        return embedder_for(sources, note) if given is None and sources else given
    return shaped_name(*made_with) if given is None else name_for_index(given, made_with[1])


def generator(
    name: str | None,
    weights: str | None = None,
    draft: str | None = None,
    engine: EngineConfig | None = None,
    release: Release | None = None,
    adapter: str | None = None,
    *,
    may_draw: bool = False,
) -> ChatModel:
    """The language model: remote if its name says so, the release of an alias, an adapter beside
    the base that it names, else local and loaded, its weights in the form ``weights``. ``draft``: a
    smaller one that drafts for it; ``engine``: of a local one; ``release``: what the alias is known
    to stand for. ``adapter``: goes with it; without a name, with the base that it names.
    ``may_draw``: of a remote one, where no figure is made of its answers (`RemoteModel`)."""
    wanted = adapter if adapter is not None and name is None else name or default_model()
    if adapter is not None:
        require_adapter(name, adapter)
    if is_remote(wanted):
        provider, _, model = wanted.partition(":")
        return _remote(provider, model, may_draw=may_draw)
    smaller = None if draft is None else _draft_folder(draft)
    release = release or releases.released(wanted)
    if release is not None:
        releases.check_options(wanted, release, weights=weights)
        return releases.opened(release, draft=smaller, engine=engine)
    folder = generator_folder(wanted)
    from lmstack.serve import LocalModel

    beside = writing_adapter(adapter or wanted)
    loaded = LocalModel.load(folder, weights=weights, draft=smaller, engine=engine)
    return loaded if beside is None else releases.adapted(loaded, str(beside))


def opening() -> Opening:
    """How two models that are compared are opened, and rewards of their answers."""
    from lmstack.app.comparison.comparing import Opening
    from lmstack.app.wiring.training import reward_for

    return Opening(generator, reward_for)


def require_adapter(name: str | None, adapter: str) -> None:
    """``adapter`` is one, and can go with the model ``name``; without a name, with its base."""
    if writing_adapter(adapter) is None:
        raise NotFoundError(
            f"there is no adapter {shown(adapter)}",
            hint="give the folder of an adapter, or its name in the store",
            param="adapter",
        )
    if name is None:
        return
    release = None if is_remote(name) else releases.released(name)
    if release is not None:
        releases.check_options(name, release, adapter=adapter)
    if is_remote(name) or adapter_folder(name) is not None:
        what = "is not on this machine" if is_remote(name) else "is an adapter itself"
        raise InputError(
            f"--adapter is for a model on this machine, and {name} {what}",
            hint="leave one of the two out, or name the base: --model BASE --adapter DIR",
            param="adapter",
        )


def lazy_generator(
    name: str | None, weights: str | None = None, *, may_draw: bool = False
) -> ChatModel:
    """As `generator`, loaded when it is first asked."""
    wanted = name or default_model()
    if is_remote(wanted):
        return generator(name, weights, may_draw=may_draw)
    from lmstack.registry import Store
    from lmstack.registry.weight_cache import served_digest, stored_form
    from lmstack.serve.forms import usual_form
    from lmstack.serve.lazy import LazyModel

    release = releases.released(wanted)
    if release is not None:
        releases.check_options(wanted, release, weights=weights)
        return LazyModel(releases.info_of(release), partial(generator, name, weights))
    adapter = writing_adapter(wanted)
    folder = generator_folder(wanted)
    form = weights or usual_form(folder, Store().root)
    digest = served_digest(folder, form, stored_form(folder))
    info = ModelInfo(folder.name, digest, parameters=folder.card.parameters)
    if adapter is not None:
        beside = f"{digest}+{_adapter_part(wanted)}"
        info = dataclasses.replace(info, name=adapter.resolve().name, digest=beside)
    return LazyModel(info, partial(generator, name, weights))


def _draft_folder(name: str) -> ModelFolder:
    if releases.released(name) is None and adapter_folder(name) is not None:
        raise InputError(
            f"{name} is an adapter, and a draft is a whole model",
            hint=f"lmstack model merge {name} --output NAME makes one of it",
            param="draft",
        )
    return generator_folder(name)


def require_models(
    model: str | None,
    embedder_name: str | None,
    weights: str | None = None,
    draft: str | None = None,
    adapters: Adapters | None = None,
) -> None:
    """All models are here, before anything slow begins; `NotFoundError` names each that is not."""
    wanted = model or default_model()
    for option, value in (("weights", weights), ("draft", draft), ("adapter", adapters)):
        if value and is_remote(wanted):
            raise InputError(
                f"--{option} is for a model on this machine, and {wanted} is not",
                hint="leave it out",
                param=option,
            )
    release = None if is_remote(wanted) else releases.released(wanted)
    if release is not None:
        releases.check_options(wanted, release, weights=weights, adapter=adapters)
    elif adapters and not is_remote(wanted) and adapter_folder(wanted) is not None:
        raise InputError(
            f"--adapter is for a base, and {wanted} is an adapter itself",
            hint=f"name the base, and both: --model BASE --adapter {wanted}",
            param="adapter",
        )
    names = [] if is_remote(wanted) else [wanted]
    drafts = [draft] if draft and not is_remote(wanted) else []
    needed = [partial(generator_folder, name) for name in names]
    needed += [partial(_draft_folder, name) for name in drafts]
    all_here([*needed, partial(embedder, embedder_name)])


def require_candidate(candidate: TrafficCandidate) -> None:
    """The second version is here, before anything slow begins."""
    if not candidate.is_remote:
        generator_folder(candidate.model)


def _remote(provider: str, model: str, *, may_draw: bool) -> ChatModel:
    from lmstack.remote import AnthropicModel, OpenAIModel

    kind = OpenAIModel if provider == "openai" else AnthropicModel
    return kind(model, base_url=remote_address(provider), may_draw=may_draw)


def remote_address(provider: str) -> str | None:
    """Of another server with the provider's API, where the environment names one, as for the
    provider's own SDK."""
    return os.environ.get(f"{provider.upper()}_BASE_URL") or None


def service(
    docs: Path,
    *,
    model: str | None,
    embedder_name: str | None,
    weights: str | None = None,
    draft: str | None = None,
    also: Sequence[str] = (),
    reader: str | None = None,
    adapters: Adapters | None = None,
    candidate: TrafficCandidate | None = None,
    engine: Mapping[str, Any] | None = None,
    api_keys: tuple[str, ...],
    key_entries: tuple[KeyEntry, ...] = (),
    local: bool,
    uploads: bool = False,
    pinned: bool = False,
    note: Callable[[str], None] = lambda _: None,
    settled: Callable[[UpdateResult], None] = lambda _: None,
) -> Service:
    """Load the models and put everything that `lmstack up` serves together.

    ``engine``: settings of every engine that differ from what is usual. ``local``: only this
    machine can ask, so requests under other host names are refused. ``candidate``: a second
    version of the model. ``pinned``: aliases stay what they stand for now. ``note`` is told what is
    done without, ``settled`` what each round over the folder did. The release of an alias answers
    from its own documents, where it has some.
    """
    from lmstack.app.server.following import Followed
    from lmstack.app.wiring.build import build_service
    from lmstack.app.wiring.served import check_same, fixed_index, follower_of
    from lmstack.engine import EngineConfig
    from lmstack.serve.http.app import LOCAL_HOSTS

    config = EngineConfig.from_mapping(engine or {})
    release = releases.released(model)
    reranker = retrieval.answer_reranker(note, reader)
    fixed = None if release is None else fixed_index(model, release, docs, reranker, note)
    place = index_of(docs) if fixed is None else fixed.place
    # Nothing but this holds the model: another may take its place.
    chat = Followed(model, generator(model, weights, draft, config, release, may_draw=True))
    chat.check = partial(check_same, fixed, reranker)
    others = tasks.load_also(also, config)
    traffic = None if candidate is None else _beside(candidate, chat.model, config, docs, note)
    mode = None if candidate is None else candidate.mode
    # A canary would answer commands with a version that they did not ask for, and an index that is
    # fixed with documents that they do not have any more.
    is_other = fixed is not None or mode == "canary"
    door = None if is_other else _command_door(docs, model, embedder_name, weights, reader)
    if door is not None and release is not None:  # its alias may have been moved since
        door = door.with_model(chat.model.info.digest)
    smaller = None if draft is None else partial(_draft_folder, draft)
    follower = follower_of(chat, others, also, smaller, config, mode, note) if not pinned else None

    def close_all() -> None:
        close_model(chat.model)
        others.close()

    return build_service(
        folder=docs,
        index_dir=index_of(docs),
        audit_path=audit_path(),
        model=chat.model,
        alias=None if release is None else model,  # as typed: prod, or prod@3f2a91c
        embedder=loaded(embedder(embedder_of_index(place, embedder_name, [docs], note))),
        embedder_of=lambda name, digest: loaded(embedder(shaped_name(name, digest))),
        reranker=reranker,
        also=others,
        adapters=adapters,
        api_keys=api_keys,
        key_entries=key_entries,
        uploads=uploads,
        settled=settled,
        allowed_hosts=LOCAL_HOSTS if local else ("*",),
        close_model=close_all,
        traffic=traffic,
        door=door,
        follower=follower,
        fixed=fixed,
    )


def _beside(
    candidate: TrafficCandidate,
    stable: ChatModel,
    engine: EngineConfig,
    docs: Path,
    note: Callable[[str], None],
) -> Callable[..., Traffic]:
    from lmstack.release.traffic import beside

    second = generator(candidate.model, candidate.weights, None, engine, may_draw=True)
    return beside(candidate, second, stable.info, home(), index_of(docs), note)


def command_identity(
    docs: Path,
    model: str | None,
    embedder_name: str | None,
    weights: str | None,
    reader: str | None = None,
) -> dict[str, Any] | None:
    """What has to be equal for two processes to find the same answers in ``docs``; None where
    models are elsewhere: the environment of each process says where."""
    wanted = model or default_model()
    if is_remote(wanted) or is_remote_embedder(embedder_name):
        return None
    return {
        "version": lmstack.__version__,
        "folder": os.path.realpath(docs),
        "model": (releases.released(wanted) or generator_folder(wanted)).digest,
        "adapter": _adapter_part(wanted),
        "weights": weights,
        "embedder": embedder_name,
        "reader": None if reader is None else retrieval.reader_folder(reader).digest,
    }


def _adapter_part(name: str) -> str | None:
    """Of the digest of an adapter that is named as a model."""
    adapter = None if releases.released(name) is not None else writing_adapter(name)
    if adapter is None:
        return None
    from lmstack.model.lora.folder import adapter_digest  # it loads torch

    return adapter_digest(adapter)


def command_socket(docs: Path) -> Path | None:
    """Where a server of ``docs`` answers commands; None where none can."""
    return socket_path(home(), index_of(docs))


def _command_door(
    docs: Path,
    model: str | None,
    embedder_name: str | None,
    weights: str | None,
    reader: str | None,
) -> CommandDoor | None:
    from lmstack.app.server.command_server import CommandDoor

    identity = command_identity(docs, model, embedder_name, weights, reader)
    path = command_socket(docs)
    return None if identity is None or path is None else CommandDoor(path, identity)


def loaded(model: Embedder) -> Embedder:
    """``model`` with its weights in memory, if it was lazy."""
    load = getattr(model, "load", None)
    return load() if load is not None else model


def as_json(value: Any) -> Any:
    """A dataclass of results as what JSON can hold."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: as_json(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {str(key): as_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [as_json(item) for item in value]
    return str(value) if isinstance(value, Path) else value
