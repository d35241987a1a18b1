"""A language model by its name: a release, an adapter's base, or a model. Nothing is loaded."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lmstack.core import InputError
from lmstack.release import releases
from lmstack.train.merged import writing_adapter

if TYPE_CHECKING:
    from lmstack.registry import ModelFolder

__all__ = ["REMOTE", "generator_folder", "is_remote"]

REMOTE = ("openai", "anthropic")


def is_remote(name: str) -> bool:
    """``openai:NAME`` or ``anthropic:NAME``: requests leave this machine."""
    provider, _, model = name.partition(":")
    return provider in REMOTE and bool(model)


def generator_folder(name: str) -> ModelFolder:
    """The folder of a local language model, without loading it; of an adapter, that of its base; of
    an alias, that of its release, which may have an adapter besides."""
    from lmstack.registry import Store
    from lmstack.registry.adapters import base_of

    release = releases.released(name)
    adapter = None if release is not None else writing_adapter(name)
    if adapter is not None:
        folder = base_of(adapter)
    else:
        folder = Store().resolve(name) if release is None else releases.folder_of(release)
    if folder.kind != "generate":
        raise InputError(
            f"{folder.name} is a model of the kind {folder.kind} and cannot answer",
            hint="lmstack model list shows those that write",
            param="model",
        )
    return folder
