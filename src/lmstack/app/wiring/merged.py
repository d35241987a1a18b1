"""Adapters that do not write, as models: one is merged into its base with its head when it is first
used, and the result kept in the store, so that it starts as fast as any. Imports what it needs when
it is called.
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

__all__ = ["is_adapter", "merged", "model_named"]

# What the result is, by the objective that trained it.
_KINDS: Mapping[str, Kind] = {
    "sequence-classification": "classify",
    "token-classification": "token-classify",
    "contrastive": "embed",
    "reranking": "rerank",
    "reader": "rerank",
    "reward": "reward",
}


def is_adapter(name: str) -> bool:
    """Whether ``name`` is the folder of an adapter."""
    return (Path(name) / "adapter_config.json").is_file()


def model_named(name: str) -> str:
    """``name``, or of an adapter the name of the model that it is merged to."""
    return merged(Path(name)).name if is_adapter(name) else name


def merged(path: Path) -> ModelFolder:
    """The model that the adapter ``path``, which `lmstack train` made, gives with its base.
    `UnsupportedError` where it was trained to write."""
    from lmstack.model.lora.folder import adapter_digest
    from lmstack.registry import Store

    (facts, kind), store = _facts(path), Store()
    # All that the result follows from: scale and rank are in the adapter's config, and what scores
    # mean is in the facts.
    content = adapter_digest(path).encode() + json.dumps(facts, sort_keys=True).encode()
    digest = hashlib.sha256(content).hexdigest()
    # Of the folder's own name, so that people know it among the others.
    name = f"{path.resolve().name}-{digest[:8]}"
    try:
        return store.resolve(name)
    except NotFoundError:
        return store.add(name, lambda staged: _fill(staged, path, facts, kind))


def _facts(path: Path) -> tuple[Mapping[str, Any], Kind]:
    """What the run that made the adapter wrote beside it, and what the result is for."""
    try:
        facts = json.loads((path / "training.json").read_text(encoding="utf-8"))
        base, objective = facts["recipe"]["base"], _objective(facts)
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise FormatError(
            f"{path} does not say which model it adapts", hint="an adapter that lmstack trained"
        ) from error
    if not isinstance(base, str):
        raise FormatError(f"{path} adapts {shown(base)}", hint="train it on a base")
    if objective not in _KINDS:
        raise UnsupportedError(
            f"{path} was trained for {shown(objective)}: it writes, beside its base",
            hint=f"lmstack up --adapter NAME={path}",
            param="model",
        )
    return facts, _KINDS[objective]


def _fill(staged: Path, path: Path, facts: Mapping[str, Any], kind: Kind) -> Origin:
    from lmstack.model import load_adapter, merge_adapter
    from lmstack.registry import Store, load
    from lmstack.registry.describe import Origin
    from lmstack.train.heads import with_head_for
    from lmstack.train.objectives import objective_named

    name, given = facts["recipe"]["base"], facts["recipe"]["objective"]
    settings = {} if isinstance(given, str) else {k: v for k, v in given.items() if k != "name"}
    objective = objective_named(_objective(facts), facts.get("fitted", settings))
    folder = Store().resolve(name)
    base, _ = with_head_for(objective, load(folder))
    load_adapter(base.module, path)
    merge_adapter(base.module, keep=False)
    base.save(staged)
    return Origin(
        source=f"trained by {facts.get('code', 'lmstack')}",
        licence=folder.card.licence,
        lineage=f"{name} with the adapter {path.name}",
        kind=kind,
        evaluation=facts,
    )


def _objective(facts: Mapping[str, Any]) -> str:
    given = facts["recipe"]["objective"]
    return given if isinstance(given, str) else given["name"]
