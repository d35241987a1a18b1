"""Adapters as models: those that write, beside their base; the others, and any by request, merged.

    writing_adapter    the folder of an adapter that is served beside its base, by its name
    model_named        the model of a name; an adapter that scores, tags or embeds is merged when it
                       is first used, and the result kept in the store, so it starts as fast as any
    merge              an adapter and its base as a whole model (`lmstack model merge`)

Imports what it needs when it is called. Not covered: loading an adapter beside its base
(`lmstack.serve`).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lmstack.core import FormatError, NotFoundError, UnsupportedError, shown

if TYPE_CHECKING:
    from lmstack.registry import ModelFolder
    from lmstack.registry.card import Kind
    from lmstack.registry.describe import Origin

__all__ = ["adapter_folder", "makes", "merge", "merged", "model_named", "writing_adapter"]

# What the result is, by the objective that trained it; of all others, what the base is.
_KINDS: Mapping[str, Kind] = {
    "sequence-classification": "classify",
    "token-classification": "token-classify",
    "contrastive": "embed",
    "reranking": "rerank",
    "reader": "rerank",
    "reward": "reward",
}


def adapter_folder(name: str) -> Path | None:
    """The folder of the adapter that ``name`` is, in the store or on disk; None of all else."""
    from lmstack.registry import Store

    return Store().adapter(name) if name.strip() else None


def writing_adapter(name: str) -> Path | None:
    """The folder of the adapter ``name`` where it writes, beside its base; None of a model.
    `UnsupportedError` where it was trained for something else."""
    path = adapter_folder(name)
    kind = None if path is None else makes(path)
    if kind is not None:
        raise UnsupportedError(
            f"{name} was trained to be a model of the kind {kind} and does not write",
            hint=f"name it for what it does: lmstack run TASK --model {name}",
            param="model",
        )
    return path


def model_named(name: str) -> str:
    """``name``, or of an adapter the name of the model that it is merged to."""
    path = adapter_folder(name)
    return name if path is None else merged(path).name


def merged(path: Path) -> ModelFolder:
    """The model that the adapter ``path``, which `lmstack train` made, gives with its base.
    `UnsupportedError` where it was trained to write."""
    from lmstack.model.lora.folder import adapter_digest
    from lmstack.registry import Store
    from lmstack.registry.adapters import read_training

    facts, store = read_training(path), Store()
    if facts is None or not _objective(facts):
        raise FormatError(
            f"{path} does not say which model it adapts", hint="an adapter that lmstack trained"
        )
    if makes(path) is None:
        raise UnsupportedError(
            f"{path} was trained for {shown(_objective(facts))}: it writes, beside its base",
            hint=f"lmstack run chat --model {path}",
            param="model",
        )
    # All that the result follows from: scale and rank are in the adapter's config, and what scores
    # mean is in the facts.
    content = adapter_digest(path).encode() + json.dumps(facts, sort_keys=True).encode()
    digest = hashlib.sha256(content).hexdigest()
    # Of the folder's own name, so that people know it among the others.
    name = f"{path.resolve().name}-{digest[:8]}"
    try:
        return store.resolve(name)
    except NotFoundError:
        return merge(path, name)


def merge(
    path: Path, output: str, *, base: str | None = None, weights: str | None = None
) -> ModelFolder:
    """The adapter ``path`` and its base, or the model ``base``, as a whole model called ``output``:
    a name in the store, or a folder. ``weights``: the form of the base that the adapter is added
    to; unless given, the one that it was trained beside, so that the result computes what was
    trained. A quantized form is written as the floats that it stands for."""
    from lmstack.registry import Store
    from lmstack.registry.adapters import base_of, read_training

    store, facts = Store(), read_training(path) or {}
    folder = base_of(path, store) if base is None else store.resolve(base)
    form = weights or facts.get("recipe", {}).get("weights") or "float32"
    return store.add(output, lambda staged: _fill(staged, path, folder, form, facts))


def _fill(
    staged: Path, path: Path, folder: ModelFolder, form: str, facts: Mapping[str, Any]
) -> Origin:
    import lmstack
    from lmstack.model import load_adapter, merge_adapter
    from lmstack.model.lora.folder import adapter_digest
    from lmstack.registry import load
    from lmstack.registry.adapters import lineage_of
    from lmstack.registry.describe import Origin
    from lmstack.train.heads import with_head_for
    from lmstack.train.objectives import objective_named

    kind = makes(path)
    training = lineage_of(path) if kind is None else None
    base = load(folder, weights=form)
    if kind is not None:
        name, given = _objective(facts), facts["recipe"]["objective"]
        settings = {} if isinstance(given, str) else {k: v for k, v in given.items() if k != "name"}
        base, _ = with_head_for(objective_named(name, facts.get("fitted", settings)), base)
    load_adapter(base.module, path)
    merge_adapter(base.module, keep=False)
    base.save(staged)
    return Origin(
        source=f"merged by lmstack {lmstack.__version__}",
        lineage=f"{folder.name} with the adapter {path.resolve().name}",
        notes=(f"base {base.digest}", f"adapter {adapter_digest(path)}"),
        weights_licence=folder.card.licence,
        kind=kind or folder.kind,
        sampling=folder.card.sampling,
        # What scores of the former mean is read from the facts (`traits`).
        evaluation=facts if kind is not None else {},
        training=training,
    )


def makes(path: Path) -> Kind | None:
    """What kind of model the adapter ``path`` makes of its base; None where that stays one that
    writes."""
    from lmstack.registry.adapters import read_training

    facts = read_training(path)
    return None if facts is None else _KINDS.get(_objective(facts))


def _objective(facts: Mapping[str, Any]) -> str:
    given = facts["recipe"].get("objective")
    name = given.get("name") if isinstance(given, Mapping) else given
    return name if isinstance(name, str) else ""
