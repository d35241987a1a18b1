"""A served form of a model, made and measured: what `lmstack quantize` does. Imports what it
uses when called."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lmstack.app.inspect import quality
from lmstack.core import LmstackError, UnsupportedError

if TYPE_CHECKING:
    from lmstack.app.inspect.quality import Agreement, Closeness
    from lmstack.registry import LoadedModel, ModelFolder

__all__ = ["quantize"]


def quantize(
    reference: str,
    form: str,
    place: str | None,
    progress: Callable[[int, int], None],
    *,
    force: bool,
) -> tuple[ModelFolder, dict[str, Any]]:
    """The model ``reference`` in ``form``, kept as ``place`` (a name in the store, or a folder),
    and what was measured. Past a limit nothing is kept unless ``force``."""
    from lmstack.registry import Store, load
    from lmstack.registry.origin import Origin
    from lmstack.registry.packed import own_form, packed_file

    store = Store()
    folder = store.resolve(reference)
    if (held := own_form(folder)) is not None:
        raise UnsupportedError(
            f"{reference} holds its weights as {held} already",
            hint="make the form from the original model",
            param="model",
        )
    measured: dict[str, Any] = {}

    def fill(staged: Path) -> Origin:
        made = load(folder, store, weights=form)
        found = quality.compare(load(folder, store), made, progress)
        measured.update(_evaluation(folder, made, form, found))
        if not found.within(form) and not force:
            raise _worse(reference, form, found)
        made.save_packed(staged)
        return Origin(
            source=folder.card.source,
            lineage=f"{form} of {folder.name}, {folder.digest}",
            kind=folder.kind,
            notes=(
                *folder.card.notes,
                "for lmstack alone: other programs cannot read its quantized matrices",
            ),
            weights_licence=folder.card.licence,
            evaluation=measured,
        )

    kept = packed_file(store.root, folder.digest, form)
    had = kept.exists()
    try:
        return store.add(place or f"{folder.name}-{form}", fill), measured
    finally:
        if not had:  # it would only be a second copy
            with contextlib.suppress(OSError):
                kept.unlink(missing_ok=True)


def _evaluation(
    folder: ModelFolder, made: LoadedModel, form: str, found: Agreement | Closeness
) -> dict[str, Any]:
    """What goes into the card."""
    from lmstack.app.inspect.processor import processor
    from lmstack.model.quantized import held_weights

    return {
        "form": form,
        "of": folder.digest,
        "text": "State of the Union 1941",
        **found.to_json(),
        "within_limit": found.within(form),
        "weights_bytes": sum(w.nbytes for w in held_weights(made.module).values()),
        "original_bytes": folder.card.size,
        "processor": processor().name,
    }


def _worse(reference: str, form: str, found: Agreement | Closeness) -> LmstackError:
    if isinstance(found, quality.Agreement):
        problem = (
            f"raises perplexity from {found.original_perplexity:.2f} to {found.perplexity:.2f}"
            f" ({found.change:+.1%}), past the limit of {quality.LIMITS[form]:+.0%}"
        )
    else:
        problem = (
            f"turns vectors as far as a cosine of {found.lowest_cosine:.4f}, past the limit of"
            f" {quality.LOWEST_COSINE}"
        )
    other = "--to int8, which is nearer, or " if form == "q4" else ""
    return UnsupportedError(
        f"{reference} as {form} {problem}; it was not kept",
        hint=f"{other}--force keeps it all the same",
        param="to",
    )
