"""Aliases where a model is named: the release that one stands for, verified, and how it is loaded.

    release = releases.released("prod")       None: there is no alias of that name
    model = releases.opened(release)          loaded; its digest is the release's

Whatever names an alias as a model asks the model of its release; the documents of one are served
by `lmstack up` alone (`released_documents`).

An alias comes before a model or a folder of the same name. ``prod@3f2a91c`` is an earlier release
of it. Everything fails closed: a release without a passing verdict, signed with a trusted key, is
refused, and so is one whose files, adapter or way of computing are not what was evaluated. Not
covered: what moves an alias forward (`promotion`).
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lmstack.core import (
    InputError,
    IntegrityError,
    LmstackError,
    ModelInfo,
    NotFoundError,
    shown,
)
from lmstack.train.merged import writing_adapter

if TYPE_CHECKING:
    import os

    from lmstack.engine import EngineConfig
    from lmstack.registry import ModelFolder
    from lmstack.registry.releases import Release
    from lmstack.serve import LocalModel

__all__ = [
    "REMOTE",
    "AliasState",
    "adapted",
    "alias_named",
    "alias_states",
    "check_files",
    "check_options",
    "folder_of",
    "generator_folder",
    "info_of",
    "is_remote",
    "opened",
    "read_prompt",
    "released",
    "rolled_back",
    "with_documents",
]

REMOTE = ("openai", "anthropic")


def alias_named(name: str | None) -> str | None:
    """The alias that ``name`` means; None where it means none. After ``@`` may stand what
    `Release.short` shows, which says more than a model's digest does: the form, an adapter."""
    from lmstack.registry.aliases import Aliases
    from lmstack.registry.refs import NameRef, parse_ref

    if name is None or not name.strip() or "\0" in name:
        return None
    alias, at, digest = name.partition("@")
    try:
        ref = parse_ref(alias + at + digest.partition("+")[0])
    except LmstackError:
        return None  # whoever resolves it as a model says what is wrong
    return ref.name if isinstance(ref, NameRef) and Aliases().has(ref.name) else None


def released(name: str | None) -> Release | None:
    """The release that the alias ``name`` stands for, or that ``name@DIGEST`` stood for, with its
    verdict and its files verified; None where there is no such alias. `IntegrityError` or
    `NotFoundError` with the reason where it must not be served."""
    from lmstack.registry.aliases import Aliases

    alias_name = alias_named(name)
    if name is None or alias_name is None:
        return None
    alias = Aliases().read(alias_name)
    digest = name.partition("@")[2]
    release = alias.named(digest) if digest else alias.release
    if release is None:
        last = alias.events[-1]
        raise IntegrityError(
            f"{alias_name} stands for nothing yet: the gate has {last.kind} {last.release.short}",
            hint=f"lmstack release promote MODEL --to {alias_name} --gate FILE",
            param="model",
        )
    try:
        alias.verdict_of(release)
        folder_of(release)
    except LmstackError as error:
        error.message = f"{alias_name} is not served: {error.message}"
        error.args = (error.message,)
        error.hint = _what_to_do(error.hint, alias_name)
        raise
    return release


def with_documents(name: str | None) -> Release | None:
    """As `released`, where the release answers from documents of its own."""
    release = None if name is None else released(name)
    return release if release is not None and release.docs else None


@dataclass(frozen=True)
class AliasState:
    """``release``: what the alias stands for, as far as its file says. ``since``: UTC, ISO 8601.
    ``problem``: why it must not be served, "" where it may."""

    alias: str
    release: Release | None
    since: str
    problem: str

    def to_json(self) -> dict[str, Any]:
        release = None if self.release is None else self.release.to_json()
        return {**vars(self), "release": release}


def alias_states() -> list[AliasState]:
    """Of all aliases, those that must not be served included."""
    from lmstack.registry.aliases import Aliases
    from lmstack.release.released_documents import check_kept

    aliases, found = Aliases(), []
    for name in aliases.names():
        release, since, problem = None, "", ""
        try:
            alias = aliases.read(name)
            release = alias.release
            since = next((e.date for e in reversed(alias.events) if e.moves), "")
            if released(name) is not None and release is not None:
                check_kept(release)
        except LmstackError as error:
            problem = error.message
        found.append(AliasState(name, release, since, problem))
    return found


def rolled_back(name: str, digest: str | None = None) -> tuple[Release, Release]:
    """Move the alias back; what it stood for, and what it stands for now. The files of the release
    and its documents are checked first: an alias that cannot be served is no way back."""
    from lmstack.registry.aliases import Aliases
    from lmstack.release.released_documents import check_kept

    def check(target: Release) -> None:
        folder_of(target)
        check_kept(target)

    aliases = Aliases()
    was = aliases.read(name).release
    now = aliases.roll_back(name, digest, check=check).release
    assert was is not None
    assert now is not None
    return was, now


def _what_to_do(hint: str | None, alias: str) -> str:
    other = f"lmstack release rollback {alias} goes to the release before"
    return f"{hint}; {other}" if hint else other


def folder_of(release: Release) -> ModelFolder:
    """The model's folder, every byte checked, and the adapter's. `IntegrityError` where they are
    not those of the release."""
    from lmstack.registry import Store

    store = Store()
    folder = store.resolve(_reference(release.model))
    check_files(folder)
    if folder.digest != release.content:
        raise IntegrityError(
            f"{release.model} is now {folder.digest[:19]}, and {release.content[:19]} was"
            " evaluated",
            hint=f"bring back the files of {release.content[:19]}",
        )
    folder.verify(store.hashes.sha256)
    if release.adapter:
        _check_adapter(release)
    if release.prompt:
        _check_prompt(release)
    return folder


def _reference(model: str) -> str | os.PathLike[str]:
    return Path(model) if Path(model).is_absolute() else model


def info_of(release: Release) -> ModelInfo:
    """As the loaded model says it, but for the length of its context."""
    folder = folder_of(release)
    name = Path(release.adapter).name if release.adapter else folder.name
    return ModelInfo(name, release.model_digest, parameters=folder.card.parameters)


def check_files(folder: ModelFolder) -> None:
    """`IntegrityError` where a folder with a card holds files that its digest does not cover: some
    of them change answers (a chat template, say) when a model is loaded."""
    from lmstack.registry.card import CARD

    if not folder.path.is_dir() or not (folder.path / CARD).is_file():
        return
    found = {
        path.relative_to(folder.path).as_posix()
        for path in folder.path.rglob("*")
        if path.is_file() and path.name != CARD
    }
    extra = sorted(each for each in found - set(folder.card.files) if not each.startswith("."))
    if extra:
        raise IntegrityError(
            f"{folder.path} holds {shown(extra[0])}, which is not of the model that was made there",
            hint=f"move it away: {shlex.join(['rm', str(folder.path / extra[0])])}",
        )


def _check_adapter(release: Release) -> None:
    from lmstack.model.lora.folder import adapter_digest

    folder = Path(release.adapter)
    if not folder.is_dir():
        raise NotFoundError(
            f"the adapter {folder} is not there", hint="bring its folder back to where it was"
        )
    found = adapter_digest(folder)
    if found not in release.parts:
        raise IntegrityError(
            f"the adapter {folder} is now {found[:19]}, and another was evaluated",
            hint="bring back its files",
        )


def _check_prompt(release: Release) -> None:
    from lmstack.serve.prompted import prompt_part

    if prompt_part(read_prompt(Path(release.prompt))) not in release.parts:
        raise IntegrityError(
            f"the prompt {release.prompt} is not the one that was evaluated",
            hint="bring back its text",
        )


def read_prompt(path: Path) -> str:
    """The text of a system prompt."""
    try:
        return path.read_text(encoding="utf-8").strip()
    except UnicodeDecodeError as error:
        raise InputError(
            f"{path} is not UTF-8 text (byte {error.start})", param="prompt"
        ) from error
    except OSError as error:
        raise NotFoundError(
            f"the prompt {path} cannot be read: {error.strerror}",
            hint="bring its file back to where it was",
            param="prompt",
        ) from error


def check_options(name: str | None, release: Release, **options: object) -> None:
    """`InputError` where an option would make another system of the one that was evaluated."""
    weights = options.pop("weights", None)
    if weights not in (None, release.weights):
        raise InputError(
            f"{name} was evaluated with the weights in {release.weights}, not in {weights}",
            hint=f"leave --weights out, or promote the model in {weights}",
            param="weights",
        )
    for option, value in options.items():
        if value:
            raise InputError(
                f"{name} was evaluated without --{option}",
                hint="leave it out, or name the model itself",
                param=option,
            )


def adapted(model: LocalModel, adapter: str, prompt: str = "") -> LocalModel:
    """``model`` with the adapter in the folder ``adapter`` and the system prompt in the file
    ``prompt``, if there is to be one; closing what comes back frees all."""
    from lmstack.serve.prompted import PromptedModel

    try:
        if adapter:
            model = model.with_adapter(adapter, owns_base=True)
        return PromptedModel(model, read_prompt(Path(prompt))) if prompt else model
    except BaseException:
        model.close()
        raise


def opened(
    release: Release,
    *,
    draft: ModelFolder | None = None,
    engine: EngineConfig | None = None,
) -> LocalModel:
    """The release, loaded in its form and with its adapter; closing it frees all of it. Call it
    with what `released` gave. `IntegrityError` where this machine or ``engine`` would compute
    something else than what was evaluated."""
    from lmstack.serve import LocalModel

    folder = folder_of(release)
    model = LocalModel.load(folder, weights=release.weights, draft=draft, engine=engine)
    model = adapted(model, release.adapter, release.prompt)
    found = model.info.digest
    if found != release.model_digest:
        model.close()
        raise IntegrityError(
            f"{release.model} computes as {found} here, and {release.model_digest} was evaluated",
            hint="use a machine, device and settings as those of the evaluation, or promote it for"
            " these under another alias",
        )
    return model


def is_remote(name: str) -> bool:
    """``openai:NAME`` or ``anthropic:NAME``: requests leave this machine."""
    provider, _, model = name.partition(":")
    return provider in REMOTE and bool(model)


def generator_folder(name: str) -> ModelFolder:
    """The folder of a local language model, without loading it; of an adapter, that of its base; of
    an alias, that of its release, which may have an adapter besides."""
    from lmstack.registry import Store
    from lmstack.registry.adapters import base_of

    release = released(name)
    adapter = None if release is not None else writing_adapter(name)
    if adapter is not None:
        folder = base_of(adapter)
    else:
        folder = Store().resolve(name) if release is None else folder_of(release)
    if folder.kind != "generate":
        raise InputError(
            f"{folder.name} is a model of the kind {folder.kind} and cannot answer",
            hint="lmstack model list shows those that write",
            param="model",
        )
    return folder
