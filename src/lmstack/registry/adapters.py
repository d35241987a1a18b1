"""Adapters and the models that they adapt: which base a folder of PEFT's names, and where it is.

    read_training    what the run that made an adapter wrote beside it, as JSON
    lineage_of       the same, checked
    base_of          the base, found by the name in adapter_config.json, else in training.json

A base is found as any model is, and by the repository that it was pulled from, which is how PEFT
names it. Not covered: where an adapter itself is (`Store.adapter`), and its tensors.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lmstack.core import FormatError, InputError, IntegrityError, LmstackError, NotFoundError, shown
from lmstack.registry.card import ModelFolder
from lmstack.registry.describe import ADAPTER_CONFIG
from lmstack.registry.lineage import Training
from lmstack.registry.store import Store
from lmstack.text.files import json_file

__all__ = ["TRAINING", "base_name", "base_of", "lineage_of", "read_training"]

TRAINING = "training.json"


def read_training(folder: Path) -> Mapping[str, Any] | None:
    """What `lmstack train` says of the adapter; None for one that was made elsewhere.
    `FormatError` where it is damaged."""
    path = folder / TRAINING
    if not path.is_file():
        return None
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(facts["recipe"], Mapping):
            return dict(facts)
        raise TypeError("recipe is no mapping")
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise _damaged(path, error) from error


def lineage_of(folder: Path) -> Training | None:
    """How the adapter came to be; None for one that was made elsewhere. `FormatError` where that is
    damaged."""
    facts = read_training(folder)
    try:
        return None if facts is None else Training.from_json(facts)
    except (ValueError, LookupError, TypeError) as error:
        raise _damaged(folder / TRAINING, error) from error


def _damaged(path: Path, error: Exception) -> FormatError:
    return FormatError(
        f"{path} is no lineage that lmstack wrote: {error}",
        hint=f"restore it, or delete it: the adapter works without {TRAINING}",
    )


def base_name(folder: Path) -> str:
    """What the adapter in ``folder`` calls its base. `InputError` where it does not say."""
    stated = json_file(folder / ADAPTER_CONFIG).get("base_model_name_or_path")
    if not stated:
        facts = read_training(folder)
        stated = None if facts is None else facts["recipe"].get("base")
    if not isinstance(stated, str) or not stated:
        raise InputError(
            f"{folder} does not say which model it adapts",
            hint=f"name its base as well: --model BASE --adapter {folder}",
            param="model",
        )
    return stated


def base_of(folder: Path, store: Store | None = None) -> ModelFolder:
    """The model that the adapter in ``folder`` was trained beside. `NotFoundError` where it is not
    on this machine, `IntegrityError` where another model has its name."""
    store = store or Store()
    name = base_name(folder)
    found = _found(name, folder, store)
    facts = read_training(folder) or {}
    trained = (facts.get("base") or {}).get("digest", "").partition("+")[0]
    if trained and trained != found.digest:
        raise IntegrityError(
            f"{folder} was trained beside {trained[:19]}, and {name} is {found.digest[:19]} here",
            hint=f"bring that one back, or say that it is meant: --model BASE --adapter {folder}",
        )
    return found


def _found(name: str, folder: Path, store: Store) -> ModelFolder:
    try:
        return store.resolve(name)
    except LmstackError as error:
        pulled = [m for m in store.models() if m.card.source.startswith(f"hf:{name}@")]
        if len(pulled) == 1:
            return pulled[0]
        raise NotFoundError(
            f"{folder} adapts {shown(name)}, which is not on this machine ({error.message})",
            hint=f"pull it, or name the base: --model BASE --adapter {folder}",
            param="model",
        ) from error
