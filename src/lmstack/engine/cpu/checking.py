"""What a lowered program would read and write, held against the memory that it has.

C checks nothing, so that no loop pays for it: whatever reaches it has passed here, once, when a
program is made. A module that was built from its config passes always (`lmstack.model.loading`
compares every shape); this holds for modules that were changed, and for a mistake of lowering.
Not covered: positions, ids and block tables, which each step brings (`program`, `structs`).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from lmstack.core import FormatError
from lmstack.engine.cpu.lowering import Lowered, Step
from lmstack.model.config import TransformerConfig
from lmstack.model.layers import LayerNorm
from lmstack.model.quant.matrix import QuantizedEmbedding

__all__ = ["check_widths"]

_ATTENTION = ("store", "attend", "cross")


class _Size(NamedTuple):
    """A number that a step has, and the one that it needs."""

    name: str
    found: int
    wanted: int


def check_widths(lowered: Lowered, config: TransformerConfig) -> None:
    """`FormatError` where a step reads or writes other columns than there are."""
    for number, step in enumerate(lowered.steps):
        for misfit in _misfits(step, config):
            raise FormatError(
                f"the weights do not fit together: in step {number} ({step.kind}), {misfit}",
                hint="give every matrix the shape that the model's config says",
            )


def _misfits(step: Step, config: TransformerConfig) -> Iterator[str]:
    needed = _columns(step, config)
    for name, place in step.places.items():
        end, has = place.at + needed[name], place.buffer.columns
        if place.at < 0 or end > has:
            yield f"{name!r} is columns {place.at} to {end} of a buffer with {has}"
    for size in _sizes(step, config):
        if size.found != size.wanted:
            yield f"{size.name} is {size.found}, not {size.wanted}"


def _columns(step: Step, config: TransformerConfig) -> dict[str, int]:
    """How many columns of each of its places a step reads or writes."""
    if step.kind in _ATTENTION:
        queries = config.num_heads * config.head_dim
        keys = config.num_kv_heads * config.head_dim
        if step.kind != "store":
            return {"in": queries, "out": queries}
        rotates = step.fields.get("rope") is not None
        # Queries are only rotated here; the keys of an encoder come without any.
        return {"in": queries if rotates else 0, "other": keys, "third": keys}
    if step.kind != "linear":
        return dict.fromkeys(step.places, step.cols)
    rows = step.matrix.rows // 2 if step.matrix.paired else step.matrix.rows
    return {"in": step.matrix.cols, "other": rows, "out": rows}


def _sizes(step: Step, config: TransformerConfig) -> Iterator[_Size]:
    """What else must agree in a step."""
    if step.kind == "linear":
        yield _Size("the input of its matrix", step.matrix.cols, step.cols)
        if step.matrix.bias is not None:
            yield _Size("the length of its bias", len(step.matrix.bias), step.matrix.rows)
    if step.norm is not None:
        yield _Size("the remainder of its parts", step.cols % step.parts, 0)
        yield from _norm_sizes(step.norm, step.cols // step.parts)
    if "values" in step.fields:
        yield _Size("the length of what it adds", len(step.fields["values"]), step.cols)
    if step.kind == "embed" and "table" in step.fields:
        yield from _table_sizes(step.fields["table"], step.cols)
    if step.kind in _ATTENTION:
        if step.kind != "store":
            yield _Size("the width of its queries", step.cols, config.num_heads * config.head_dim)
        layer = step.fields["layer"]
        yield _Size("its layer", min(max(layer, 0), config.num_layers - 1), layer)
    rope = step.fields.get("rope")
    if rope is not None:
        rotated = rope.rotary_dim(config.head_dim)
        yield _Size("what it rotates", min(rotated - rotated % 2, config.head_dim), rotated)


def _norm_sizes(norm: Any, width: int) -> Iterator[_Size]:
    yield _Size("the length of its norm", len(norm.weight), width)
    if isinstance(norm, LayerNorm) and norm.bias is not None:
        yield _Size("the length of its norm's bias", len(norm.bias), width)


def _table_sizes(table: Any, width: int) -> Iterator[_Size]:
    columns = table.cols if isinstance(table, QuantizedEmbedding) else table.weight.shape[1]
    yield _Size("the width of its table", columns, width)
    # Rows that alternate are for products; an embedding reads them one after the other.
    yield _Size("its table's pairing", int(getattr(table, "paired", False)), 0)
