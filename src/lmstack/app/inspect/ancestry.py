"""The lineage of a model or an adapter as lines of text: what it was trained on, from what, with
what, and the same of its base."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lmstack.app.formats import printable, seconds, size
from lmstack.registry.adapters import lineage_of
from lmstack.registry.describe import ADAPTER_CONFIG
from lmstack.registry.lineage import Ancestor, Training
from lmstack.text.files import json_file

__all__ = ["adapter_facts", "ancestry"]

_SHOWN_FILES = 3
_DIGITS = 12


def ancestry(training: Training) -> list[str]:
    """The tree, the model's own training first."""
    return [printable(line, one_line=True) for line in _training(training)]


def adapter_facts(folder: Path) -> dict[str, Any] | None:
    """What an adapter's folder says of it, with its ``training`` where lmstack trained it; None
    where the folder holds no adapter."""
    if not (folder / ADAPTER_CONFIG).is_file():
        return None
    config = json_file(folder / ADAPTER_CONFIG)
    facts: dict[str, Any] = {
        "adapter": str(folder),
        "settings": {k: v for k, v in config.items() if v not in (None, {}, [], False)},
        "size": sum(file.stat().st_size for file in folder.iterdir() if file.is_file()),
    }
    training = lineage_of(folder)
    if training is not None:
        facts["training"] = training.to_json()
    return facts


def _training(training: Training) -> Iterator[str]:
    yield f"trained     {training.finished}, {training.objective}, in {seconds(training.seconds)}"
    reached = (f"{name} {value:.4g}" for name, value in training.metrics.items())
    yield f"reached     {', '.join(reached) or 'nothing that was measured'}"
    yield f"steps       {training.steps:,}, {training.tokens:,} tokens"
    names = [f"{file['name']} ({size(file['size'])})" for file in training.data[:_SHOWN_FILES]]
    more = len(training.data) - _SHOWN_FILES
    names += [f"{more} more"] if more > 0 else []
    yield f"data        {', '.join(names)}; sha256 {training.fingerprint[:_DIGITS]}"
    yield f"recipe      sha256 {training.recipe_sha256[:_DIGITS]}"
    for what, digest in training.models.items():
        yield f"{what:<11} sha256 {digest.removeprefix('sha256:')[:_DIGITS]}"
    yield f"code        {training.code}"
    if training.base is None:
        yield "└─ fresh weights"
        return
    for place, line in enumerate(_ancestor(training.base)):
        yield f"{'└─ ' if not place else '   '}{line}"


def _ancestor(base: Ancestor) -> Iterator[str]:
    digest = base.digest.removeprefix("sha256:")[:_DIGITS]
    yield f"{base.name}, sha256 {digest}" if digest else base.name
    if base.training is not None:
        yield from _training(base.training)
        return
    known = {"source": base.source, "stated": base.stated, "licence": base.licence}
    for name, value in known.items():
        if value:
            yield f"{name:<11} {value}"
