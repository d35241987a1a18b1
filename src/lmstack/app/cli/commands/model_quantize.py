"""`lmstack model quantize`: a smaller and faster form of a model, and what it costs."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lmstack.app.cli.command import command
from lmstack.app.cli.commands._options import ModelOnDisk
from lmstack.app.cli.output import Output
from lmstack.app.formats import columns, printable, size
from lmstack.app.inspect import quality
from lmstack.core import LmstackError, UnsupportedError
from lmstack.model.quant.recipes import RECIPES, QuantizedForm

if TYPE_CHECKING:
    from lmstack.app.inspect.quality import Closeness, WeightsAgreement
    from lmstack.registry import LoadedModel, ModelFolder

__all__ = ["quantize", "run"]


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
    from lmstack.registry.describe import Origin
    from lmstack.registry.weight_cache import cached_file, stored_form

    store = Store()
    folder = store.resolve(reference)
    if (held := stored_form(folder)) is not None:
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
        made.save_quantized(staged)
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
            training=folder.card.training,
        )

    kept = cached_file(store.root, folder.digest, form)
    had = kept.exists()
    try:
        return store.add(place or f"{folder.name}-{form}", fill), measured
    finally:
        if not had:  # it would only be a second copy
            with contextlib.suppress(OSError):
                kept.unlink(missing_ok=True)


def _evaluation(
    folder: ModelFolder, made: LoadedModel, form: str, found: WeightsAgreement | Closeness
) -> dict[str, Any]:
    """What goes into the card."""
    from lmstack.app.inspect.processor import processor
    from lmstack.model.quant.matrix import held_weights

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


def _worse(reference: str, form: str, found: WeightsAgreement | Closeness) -> LmstackError:
    if isinstance(found, quality.WeightsAgreement):
        problem = (
            f"raises perplexity from {found.original_perplexity:.2f} to {found.perplexity:.2f}"
            f" ({found.change:+.1%}), past the limit of {quality.LIMITS[form]:+.0%}"
        )
    else:
        problem = (
            f"turns vectors as far as a cosine of {found.lowest_cosine:.4f}, past the limit of"
            f" {quality.LOWEST_COSINE}"
        )
    other = "--to int8, which is nearer, or " if form in ("q4", "nf4") else ""
    return UnsupportedError(
        f"{reference} as {form} {problem}; it was not kept",
        hint=f"{other}--force keeps it all the same",
        param="to",
    )


@command(
    "model quantize",
    f"""
    --to FORM: {" ".join((f"{form}: {recipe.help}." for form, recipe in RECIPES.items()))}
    --out, -o NAME: A name in the store, or a folder as ./NAME. [default: MODEL-FORM]
    --force: Keep it although it is past the limit.

    lmstack model quantize smollm2-135m-instruct --to int8
    lmstack model quantize ./my-model --to q4 --out ./my-model-q4
    """,
)
def run(
    out: Output,
    model: ModelOnDisk,
    to: QuantizedForm,
    place: str | None = None,
    force: bool = False,
) -> None:
    """Make a quantized form of a model, measure what it costs, and keep it.

    Measured against the model in float32 on a fixed text of 19,000 characters: perplexity,
    divergence of the next token's distribution, and how often the most likely token is the same;
    of an encoder, the cosines between vectors. The figures go into the model's card. Past the
    limit (perplexity +1 %, 4 bits +10 %; a cosine of 0.99) nothing is kept unless --force is given.

    What is made is for lmstack: transformers and llama.cpp cannot read it, `lmstack model convert`
    writes what they can.
    """
    from lmstack.registry import Store

    out.interrupted = ("nothing was kept", out.again())
    unit = quality.unit_of(Store().resolve(model).kind)
    with out.progress(f"Measuring {model} as {to}", unit) as bar:
        folder, found = quantize(model, to, place, bar.update, force=force)
    if out.as_json:
        result = {"name": folder.name, "path": str(folder.path), "digest": folder.digest}
        out.result({**result, "size": folder.card.size, **found})
        return
    out.lines(columns(_rows(folder.name, found)))
    if not found["within_limit"]:
        out.note("past the limit; kept because of --force")
    out.note(printable(f"kept as {folder.name} in {folder.path}", one_line=True))


def _rows(name: str, found: dict[str, Any]) -> list[tuple[str, str]]:
    held, before = size(found["weights_bytes"]), size(found["original_bytes"])
    rows = [
        (printable(name, one_line=True), ""),
        ("size", f"{held} of weights; the original's files have {before}"),
    ]
    if "perplexity" not in found:
        cosines = f"{found['mean_cosine']:.5f}, lowest {found['lowest_cosine']:.5f}"
        limit = f"(limit {quality.LOWEST_COSINE})"
        return [*rows, ("cosine", f"{cosines} {limit} over {found['passages']} passages")]
    change = f"{found['perplexity_change']:+.2%}"
    limit = f"limit {quality.LIMITS[found['form']]:+.0%}"
    return [
        *rows,
        (
            "perplexity",
            f"{found['perplexity']:.3f} for {found['original_perplexity']:.3f} ({change}, {limit})",
        ),
        ("KL divergence", f"{found['kl_divergence']:.5f} nats a token"),
        ("greedy agreement", f"{found['greedy_agreement']:.1%} of {found['tokens']:,} tokens"),
    ]
