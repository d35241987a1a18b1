"""The models that lmstack answers with by default, and which of those that are needed are gone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from lmstack.app.wiring import retrieval
from lmstack.app.wiring.retrieval import DEFAULT_EMBEDDER, is_here
from lmstack.core import NotFoundError

__all__ = [
    "GENERATORS",
    "PURPOSES",
    "SMALL_MODEL",
    "all_here",
    "available",
    "default_model",
    "needed",
    "to_pull",
]

# The first that is here answers. The second, a tenth of the first's size, cannot write: with it
# answers are quotations.
SMALL_MODEL = "smollm2-135m-instruct"
GENERATORS = ("qwen2.5-coder-1.5b-instruct", SMALL_MODEL)
PURPOSES = {
    GENERATORS[0]: "is the default for answers",
    DEFAULT_EMBEDDER: "is the default for finding passages",
    retrieval.DEFAULT_RERANKER: "is the default for choosing what answers",
}
_PULL = "lmstack pull "


def default_model() -> str:
    """The first of `GENERATORS` that is in the store, or the first of all."""
    return next(filter(retrieval.is_here, GENERATORS), GENERATORS[0])


def needed() -> dict[str, str]:
    """What each model that has to be here is for: `PURPOSES` with the model that answers here."""
    writer, *others = PURPOSES
    return {default_model(): PURPOSES[writer]} | {name: PURPOSES[name] for name in others}


def all_here(needed: Sequence[Callable[[], object]]) -> None:
    """Of several that can be pulled, and of the reranker that the defaults have besides."""
    errors: list[NotFoundError] = []
    for find in needed:
        try:
            find()
        except NotFoundError as error:
            if not (error.hint or "").startswith(_PULL):
                raise
            errors.append(error)
    if not errors:
        return
    names = list(dict.fromkeys((error.hint or "").removeprefix(_PULL) for error in errors))
    if not retrieval.is_here(retrieval.DEFAULT_RERANKER):
        names.append(retrieval.DEFAULT_RERANKER)
    if len(names) == 1:
        raise errors[0]
    hint = "lmstack pull" if set(names) == set(PURPOSES) else _PULL + " ".join(names)
    raise NotFoundError(f"{len(names)} models are not in the store: {', '.join(names)}", hint=hint)


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
    from lmstack.serve.forms import too_large

    found: list[dict[str, Any]] = []
    packages, here = set(), {model.name for model in Store().models()}
    for name in dict.fromkeys(references):
        pin = KNOWN.get(name)
        if pin is not None and name not in here:
            size = 0 if pin.sha256 in packages else pin.download
            packages.add(pin.sha256)
            found.append({"name": name, "bytes": size, "warning": too_large(name)})
    return found
