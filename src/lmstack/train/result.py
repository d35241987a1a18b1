"""What a run leaves, a model or an adapter, in the store or in a folder, with its lineage."""

from __future__ import annotations

import json
import math
import subprocess
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import lmstack
from lmstack.core.files import write_atomic
from lmstack.model import save_adapter
from lmstack.registry import LoadedModel, Store
from lmstack.registry.adapters import TRAINING
from lmstack.registry.describe import Origin
from lmstack.registry.lineage import Ancestor, DataFacts, Training
from lmstack.train.data.report import DataReport
from lmstack.train.recipe import Recipe

__all__ = ["keep", "training_of"]

_GIT_S = 5.0


def training_of(
    recipe: Recipe,
    base: LoadedModel,
    report: DataReport,
    fingerprint: str,
    *,
    metrics: Mapping[str, float],
    steps: int,
    tokens: int,
    trainable: int,
    seconds: float,
    models: Mapping[str, str],
) -> Training:
    """The lineage of what ``recipe`` made of ``base``; see `Training`."""
    files = tuple(
        DataFacts(name=Path(file["path"]).name, size=file["bytes"], sha256=file["sha256"])
        for file in report.files
    )
    return Training(
        objective=recipe.objective_name,
        base=_ancestor(recipe, base),
        recipe=recipe.to_json(),
        fingerprint=fingerprint,
        data=files,
        code=_code(),
        metrics={name: value for name, value in metrics.items() if math.isfinite(value)},
        steps=steps,
        tokens=tokens,
        trainable=trainable,
        finished=datetime.now(UTC).isoformat(timespec="seconds"),
        seconds=round(seconds, 3),
        models=models,
    )


def keep(
    recipe: Recipe, trained: LoadedModel, training: Training, fitted: Mapping[str, Any] = {}
) -> tuple[Path, str | None]:
    """Where the result is, and its digest, which an adapter outside the store has none of.
    ``fitted``: the settings of the objective with what it found in the data, such as classes: they
    say which head an adapter goes with."""
    base, store = training.base, Store()
    is_adapter = recipe.lora is not None

    def write(folder: Path) -> None:
        if not is_adapter:
            trained.save(folder)
            return
        save_adapter(trained.module, folder, base=_base_name(recipe))
        text = json.dumps({**training.to_json(), "fitted": fitted}, indent=2) + "\n"
        write_atomic(folder / TRAINING, text.encode())

    def fill(staged: Path) -> Origin:
        write(staged)
        return Origin(
            source=f"trained by lmstack {lmstack.__version__}",
            lineage=f"{recipe.objective_name} of {base.name if base else 'fresh weights'}",
            kind="adapter" if is_adapter else trained.kind,
            weights_licence=base.licence if base else "",
            training=training,
        )

    place = store.place(recipe.output)
    if is_adapter and place.parent != store.folder:  # written again in its place, as PEFT does
        write(place)
        return place, None
    kept = store.add(recipe.output, fill)
    return kept.path, kept.digest


def _base_name(recipe: Recipe) -> str | None:
    """What the adapter's folder calls its base: a name in the store, or where it lies; None of
    fresh weights, which no folder holds."""
    if recipe.base is None:
        return None
    folder = Store().resolve(recipe.base).path
    return folder.name if folder.parent == Store().folder else str(folder.resolve())


def _ancestor(recipe: Recipe, base: LoadedModel) -> Ancestor | None:
    if recipe.base is None:
        return None
    card = Store().resolve(recipe.base).card
    return Ancestor(
        name=card.name,
        digest=base.digest or card.digest,
        source=card.source,
        licence=card.licence,
        stated=card.lineage,
        training=card.training,
    )


def _code() -> str:
    """The version, and where the package lies in a git checkout its commit; with what was changed
    since, the commit alone says too little."""
    root = Path(lmstack.__file__).parents[2]
    version = f"lmstack {lmstack.__version__}"
    if not (root / ".git").exists():
        return version
    try:
        commit, changed = (
            subprocess.run(
                ["git", "-C", str(root), *command],
                capture_output=True,
                text=True,
                timeout=_GIT_S,
                check=True,
            ).stdout.strip()
            for command in (("rev-parse", "HEAD"), ("status", "--porcelain", "-uno"))
        )
    except (OSError, subprocess.SubprocessError):
        return version
    return f"{version}, git {commit[:12]}{', with changes' if changed else ''}"
