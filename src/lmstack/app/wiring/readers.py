"""The model that reads what was found: one of the store, or an adapter that was trained for it.

An adapter is merged into its base when it is first used, and the result kept in the store: then it
starts as fast as any. Imports what it needs when it is called.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lmstack.core import FormatError, NotFoundError, UnsupportedError, shown

if TYPE_CHECKING:
    from lmstack.registry import ModelFolder, Store
    from lmstack.registry.describe import Origin

__all__ = ["reader_folder"]


def reader_folder(name: str) -> ModelFolder:
    """``name``: a cross-encoder of the store, the folder of one, or of an adapter that `lmstack
    train` made. `UnsupportedError` where it gives no score for a question and a text."""
    from lmstack.registry import Store

    store, path = Store(), Path(name)
    is_adapter = (path / "adapter_config.json").is_file()
    folder = _merged(path, store) if is_adapter else store.resolve(name)
    if folder.kind != "rerank":
        raise UnsupportedError(
            f"{folder.name} is a model to {folder.kind}, not a reader",
            hint="lmstack train recipes/reader.yaml",
            param="reader",
        )
    return folder


def _merged(path: Path, store: Store) -> ModelFolder:
    facts = _facts(path)
    weights = path / "adapter_model.safetensors"
    digest = hashlib.sha256(weights.read_bytes()).hexdigest()
    # Of the folder's own name, so that people know it among the others.
    name = f"{path.resolve().name}-{digest[:8]}"
    try:
        return store.resolve(name)
    except NotFoundError:
        return store.add(name, lambda staged: _fill(staged, path, facts))


def _facts(path: Path) -> Mapping[str, Any]:
    """What the run that made the adapter wrote beside it."""
    try:
        facts = json.loads((path / "training.json").read_text(encoding="utf-8"))
        if isinstance(facts["recipe"]["base"], str):
            return dict(facts)
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise FormatError(
            f"{path} does not say which model it adapts", hint="an adapter that lmstack trained"
        ) from error
    raise FormatError(f"{path} adapts {shown(facts['recipe']['base'])}", hint="train it on a base")


def _fill(staged: Path, path: Path, facts: Mapping[str, Any]) -> Origin:
    from lmstack.model import load_adapter, merge_adapter
    from lmstack.registry import Store, load
    from lmstack.registry.describe import Origin

    name = facts["recipe"]["base"]
    folder = Store().resolve(name)
    base = load(folder)
    load_adapter(base.module, path)
    merge_adapter(base.module, keep=False)
    base.save(staged)
    return Origin(
        source=f"trained by lmstack {facts.get('lmstack', '')}".rstrip(),
        licence=folder.card.licence,
        lineage=f"{name} with the adapter {path.name}",
        kind="rerank",
        evaluation=facts,
    )
