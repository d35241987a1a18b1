"""What can be pulled by a short name, what of it is missing, and how large that is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lmstack.app.wiring.defaults import PURPOSES
from lmstack.app.wiring.retrieval import is_here

__all__ = ["available", "to_pull"]


def available() -> list[dict[str, Any]]:
    """What can be pulled by a short name: ``bytes`` to download, and whether it is ``here``."""
    from lmstack.registry import KNOWN

    return [
        {
            "name": name,
            "kind": known.kind,
            "about": known.about,
            "default": PURPOSES.get(name),
            "bytes": known.download,
            "licence": known.licence,
            "source": known.source,
            "sources": list(known.sources),
            "here": is_here(name),
        }
        for name, known in KNOWN.items()
    ]


def to_pull(references: Sequence[str]) -> list[dict[str, Any]]:
    """Of these models those with a short name that are not here: ``name``, ``bytes`` to download
    (a package of several models counts once), and ``warning``, of one that does not fit into the
    memory of this machine."""
    from lmstack.registry import KNOWN, Store
    from lmstack.serve.memory import too_large

    found: list[dict[str, Any]] = []
    packages, here = set(), {model.name for model in Store().models()}
    for name in dict.fromkeys(references):
        pin = KNOWN.get(name)
        if pin is not None and name not in here:
            size = 0 if pin.sha256 in packages else pin.download
            packages.add(pin.sha256)
            found.append({"name": name, "bytes": size, "warning": too_large(name)})
    return found
