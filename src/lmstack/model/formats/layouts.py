"""How a tensor of ours lies in files: the one mechanism that reads and writes them all.

A table maps the path of a module of ours to where its tensors are in a file. Both `assembly`
(reading) and `hf` (writing) go through `pieces`, so a table that reads also writes.

- ``"final_norm": "model.norm"``: the same tensors under another name; ``.weight`` and ``.bias``
  follow by themselves. ``{i}`` is the number of the block.
- ``"blocks.{i}.mlp.up": ("...gate_proj", "...up_proj")``: ours is their concatenation by rows
  (of each expert, where there are experts).
- ``TensorPart("...c_attn", TRANSPOSED)``: a name with a `Layout`, which says how the numbers lie.
- ``"head_bias.bias": Part("final_logits_bias", ROW_VECTOR)``: a key that names the parameter
  itself gives whole names of theirs, to which nothing is added.
- ``"blocks.3.mlp.up": ...``: the names of one block, before those of all.
- ``{e}`` in a name: one tensor for each expert.
- ``TensorPart(..., default=0.0)``: the file may leave the tensor out.
- ``TensorPart(..., copies=("cls.predictions.bias",))``: written under these names as well, because
  the other library wants them, and passed over when read.

An alternative spelling of the same module goes into a table of ``alternatives`` (see
`assembly.planned`), a mere change of names into the ``renames`` of the family.
Not covered: one tensor of theirs that holds several modules of ours.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

__all__ = [
    "PAIRED",
    "PLUS_ONE",
    "QKV_BY_HEAD",
    "ROWS",
    "ROW_VECTOR",
    "TRANSPOSED",
    "Entry",
    "HeadCounts",
    "Layout",
    "Table",
    "TensorPart",
    "TensorPiece",
    "head_starts",
    "pieces",
    "stored_names",
]

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Layout:
    """``read(stored, head_dim)`` gives ours, ``write(ours, head_dim)`` theirs, each the inverse
    of the other; ``shape`` maps the shape of ours to that of theirs."""

    read: Callable[[Tensor, int], Tensor]
    write: Callable[[Tensor, int], Tensor]
    shape: Callable[[Shape], Shape] = lambda shape: shape


def _same(tensor: Tensor, _: int) -> Tensor:
    return tensor


def _transpose(tensor: Tensor, _: int) -> Tensor:
    return tensor.t() if tensor.dim() == 2 else tensor


def _swap(tensor: Tensor, shape: Shape) -> Tensor:
    """Axes 1 and 2 of the rows, seen as (groups, *shape), change places."""
    rows = tensor.reshape(-1, *shape, *tensor.shape[1:])
    return rows.transpose(1, 2).reshape(tensor.shape)


def _by_kind(tensor: Tensor, head_dim: int) -> Tensor:
    return _swap(tensor, (len(tensor) // (3 * head_dim), 3, head_dim))


def _by_head(tensor: Tensor, head_dim: int) -> Tensor:
    return _swap(tensor, (3, len(tensor) // (3 * head_dim), head_dim))


ROWS = Layout(_same, _same)
# Conv1D of GPT-2: weights (in, out).
TRANSPOSED = Layout(_transpose, _transpose, lambda shape: shape[::-1])
# Rows of each head together, as (heads, q/k/v, head_dim): GPT-NeoX and BLOOM.
QKV_BY_HEAD = Layout(_by_kind, _by_head)
# The order of the original RoPE, where channels 2j and 2j + 1 of a head rotate together; here j
# and j + head_dim / 2 do. Queries and keys of GGUF files of the llama architecture.
PAIRED = Layout(
    lambda stored, head_dim: _swap(stored, (head_dim // 2, 2)),
    lambda ours, head_dim: _swap(ours, (2, head_dim // 2)),
)
# Norm weights that the file holds with the 1 of (1 + w) added.
PLUS_ONE = Layout(lambda stored, _: stored - 1, lambda ours, _: ours + 1)
# A vector kept as a matrix of one row.
ROW_VECTOR = Layout(
    lambda stored, _: stored[0], lambda ours, _: ours[None], lambda shape: (1, *shape)
)


@dataclass(frozen=True)
class TensorPart:
    """A stored tensor. ``default`` fills ours where the file has none; ``copies``: whole names of
    further copies in the file."""

    name: str
    layout: Layout = ROWS
    default: float | None = None
    copies: tuple[str, ...] = ()


Entry = str | TensorPart | tuple[str | TensorPart, ...]
Table = Mapping[str, Entry]


@dataclass(frozen=True)
class HeadCounts:
    """What the split of a fused projection depends on. ``encoder``: that of keys ``encoder.*``."""

    num_heads: int
    num_kv_heads: int
    head_dim: int
    encoder: HeadCounts | None = None

    def of(self, key: str) -> HeadCounts:
        """Those of the stack that our parameter ``key`` belongs to."""
        return self.encoder if self.encoder and key.startswith("encoder.") else self


@dataclass(frozen=True)
class TensorPiece:
    """``view`` of a tensor of ours, and what a file holds there."""

    name: str
    part: TensorPart
    view: Tensor
    head_dim: int

    @property
    def shape(self) -> Shape:
        """Of the stored tensor."""
        return self.part.layout.shape(tuple(self.view.shape))

    def read(self, stored: Tensor) -> None:
        """Fill our view from the stored tensor."""
        self.view.copy_(self.part.layout.read(stored, self.head_dim))

    def written(self) -> Tensor:
        """What the file holds for our view."""
        return self.part.layout.write(self.view, self.head_dim).contiguous()


def pieces(key: str, tensor: Tensor, table: Table, heads: HeadCounts) -> list[TensorPiece]:
    """The stored tensors that make up ``tensor``, our parameter ``key``. Raises `KeyError`."""
    return list(_pieces(key, tensor, table, heads))


def head_starts(table: Table, prefix: str) -> tuple[str, ...]:
    """What the names of ``table`` start with that stand without ``prefix``."""
    entries = [entry if isinstance(entry, tuple) else (entry,) for entry in table.values()]
    parts = [TensorPart(p) if isinstance(p, str) else p for entry in entries for p in entry]
    names = [name for part in parts for name in (part.name, *part.copies)]
    return tuple(name for name in names if not name.startswith(prefix))


def stored_names(key: str, table: Table) -> tuple[str, ...]:
    """The names of `pieces`, ``{e}`` left as it is. Raises `KeyError`."""
    return tuple(name for name, _ in _named(key, table))


def _pieces(key: str, tensor: Tensor, table: Table, heads: HeadCounts) -> Iterator[TensorPiece]:
    named, heads = _named(key, table), heads.of(key)
    axis = max(tensor.dim() - 2, 0)
    rows = _rows(key, tensor.shape[axis], len(named), heads)
    if "{e}" in named[0][0]:
        for expert, matrix in enumerate(tensor):
            views = matrix.split_with_sizes(rows)
            for (name, part), view in zip(named, views, strict=True):
                yield TensorPiece(name.replace("{e}", str(expert)), part, view, heads.head_dim)
        return
    for (name, part), view in zip(named, tensor.split_with_sizes(rows, dim=axis), strict=True):
        yield TensorPiece(name, part, view, heads.head_dim)


def _named(key: str, table: Table) -> list[tuple[str, TensorPart]]:
    layer = re.search(r"\.(\d+)\.", key)
    number = "" if layer is None else layer.group(1)
    template = key if layer is None else key.replace(layer.group(), ".{i}.", 1)
    # A block may have names of its own, and a parameter other names than its module.
    entry, suffix = table.get(key) or table.get(template), ""
    if entry is None:
        template, _, kind = template.rpartition(".")
        entry, suffix = table.get(key.rpartition(".")[0]) or table[template], f".{kind}"
    parts = entry if isinstance(entry, tuple) else (entry,)
    return [_fill(TensorPart(p) if isinstance(p, str) else p, number, suffix) for p in parts]


def _fill(part: TensorPart, layer: str, suffix: str) -> tuple[str, TensorPart]:
    return part.name.replace("{i}", layer) + suffix, part


def _rows(key: str, rows: int, parts: int, heads: HeadCounts) -> Sequence[int]:
    """Rows of each part of our parameter ``key`` that is a concatenation of ``parts``."""
    if parts == 3 and ".qkv." in key:
        kv = heads.num_kv_heads * heads.head_dim
        return [heads.num_heads * heads.head_dim, kv, kv]
    return [rows // parts] * parts
