"""What a source says about the files it gave, and the card that is made of both.

Does not cover fetching, nor reading a card back (`card`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from lmstack.registry.card import CARD, Card, FileFacts, Kind, content_digest, file_hash
from lmstack.registry.describe import describe
from lmstack.registry.sampling_defaults import SamplingDefaults

__all__ = ["Origin", "make_card"]


@dataclass(frozen=True)
class Origin:
    """What a source says about the files it gave."""

    source: str
    licence: str = ""
    lineage: str = ""
    kind: Kind | None = None
    notes: tuple[str, ...] = ()
    weights_licence: str = ""
    evaluation: Mapping[str, Any] = field(default_factory=dict)
    sampling: SamplingDefaults = field(default_factory=SamplingDefaults)


def make_card(name: str, staged: Path, origin: Origin) -> Card:
    """The card of the files in ``staged``, which are read in full."""
    facts = describe(staged)
    files = {
        path.relative_to(staged).as_posix(): FileFacts(
            sha256=file_hash(path), size=path.stat().st_size
        )
        for path in sorted(staged.rglob("*"))
        if path.is_file() and path.name != CARD
    }
    return Card(
        name=name,
        kind=origin.kind or facts.kind,
        digest=content_digest(files),
        licence=origin.weights_licence or _licence(origin.licence, facts.licence),
        source=origin.source,
        files=files,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        lineage=origin.lineage,
        architecture=facts.architecture,
        parameters=facts.parameters,
        notes=origin.notes,
        evaluation=origin.evaluation,
        sampling=origin.sampling,
    )


def _licence(package: str, files: str) -> str:
    if package.lower() == files.lower():
        return f"{package} (stated by the package and by the model's files)" if package else ""
    stated = ((package, "package"), (files, "model's files"))
    return "; ".join(f"{text} (stated by the {where})" for text, where in stated if text)
