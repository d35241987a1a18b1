"""`lmstack model`: what is made of models."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lmstack.app.cli.command import command
from lmstack.app.cli.output import Output
from lmstack.app.formats import printable, size
from lmstack.core import NotFoundError, shown

if TYPE_CHECKING:
    from lmstack.registry import ModelFolder

__all__ = ["merge"]


@command(
    "model merge",
    """
    ADAPTER: A LoRA adapter: its folder, or name in the store.
    --base MODEL: The base. [default: the one that the adapter names]
    --weights FORM: The form of the base that the adapter is added to: float32, bfloat16, nf4 and so
        on. [default: the one that it was trained beside]
    --output, -o NAME: What the result is called: a name in the store, or the path of a new folder.

    lmstack model merge my-adapter --output my-merged
    lmstack model merge ./my-adapter --base smollm2-135m-instruct --output ./my-own-merged
    """,
)
def merge(
    out: Output, adapter: str, base: str | None = None, weights: str | None = None, *, output: str
) -> None:
    """Merge a LoRA adapter into its base, and keep the result as a whole model.

    The result computes what base and adapter compute together, up to rounding, and is a Hugging
    Face folder with a digest of its own; its card names the base and the adapter by theirs. An
    adapter that was trained beside quantized weights (QLoRA) is added to what those stand for, and
    the sum is written as floats: `lmstack model quantize` makes it small again."""
    from lmstack.train import merged

    path = merged.adapter_folder(adapter)
    if path is None:
        raise NotFoundError(
            f"there is no adapter {shown(adapter)}",
            hint="give the folder of an adapter, or its name in the store",
            param="adapter",
        )
    found = merged.merge(path, output, base=base, weights=weights)
    if out.as_json:
        out.result(_described(found))
        return
    out.line(f"{found.name}   {size(found.card.size)}   {found.digest[:19]}")
    for line in (found.card.lineage, *found.card.notes):
        out.line(printable(line, one_line=True))
    out.line(printable(str(found.path), one_line=True))


def _described(folder: ModelFolder) -> dict[str, Any]:
    card = folder.card
    return {
        "name": folder.name,
        "kind": folder.kind,
        "size": card.size,
        "digest": folder.digest,
        "lineage": card.lineage,
        "notes": list(card.notes),
        "path": str(folder.path),
    }
