"""A module's passes as native programs, and one call to run a step of them.

`Program` turns what `lowering` gives into the structs of ``program.h`` and keeps alive all that
they point to. Not covered: which tokens a step has and where their keys lie (the runner's).

Legend: N tokens of a step, D width.
"""

from __future__ import annotations

import ctypes
from collections.abc import Mapping, Sequence
from ctypes import c_void_p
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from lmstack.core import ContextLengthError, EngineError, InputError, UnsupportedError
from lmstack.engine.cpu.checking import check_widths
from lmstack.engine.cpu.deltas import Adapted, Deltas
from lmstack.engine.cpu.expanding import Expanded
from lmstack.engine.cpu.image import ImageFacts, ProgramParts
from lmstack.engine.cpu.lowering import Buffer, Lowered, Step
from lmstack.engine.cpu.mirrors import (
    AttentionStruct,
    BufferStruct,
    MatrixStruct,
    OpStruct,
    ProgramStruct,
    StepStruct,
)
from lmstack.engine.cpu.structs import KV_FORMS, Spans, address_of, run_step
from lmstack.model import RopeSpec
from lmstack.model.biases import AlibiBias, BucketBias, ScoreBias
from lmstack.model.config import LayerSpec, TransformerConfig
from lmstack.model.layers import LayerNorm
from lmstack.model.lora.terms import Term
from lmstack.model.positions import sinusoids
from lmstack.model.quant.matrix import QuantizedEmbedding, QuantizedMatrix

__all__ = ["Program", "RotaryCache"]

# Order and numbers of program.h.
_KINDS = (
    "embed", "norm", "linear", "add", "shift", "scale", "clamp", "softcap", "act", "concat",
    "store", "attend", "cross",
)  # fmt: skip
_STREAMS = ("ids", "positions", "types")
_ACTS = ("silu", "gelu", "gelu_tanh", "relu", "tanh", "quick_gelu")
WIDEST_HEAD = 256  # what attention has room for
MOST_LENGTHS = 16  # for which rotary tables are kept, where they depend on the length
MOST_FLOATS = 1 << 26  # of a table that is computed for every position that the config allows


@dataclass(frozen=True)
class _Tables:
    """Those of ``count`` positions, an address for each rope; ``kept`` keeps them alive."""

    count: int
    cosines: Any
    sines: Any
    kept: list[Tensor]


class RotaryCache:
    """Cosines and sines of every position so far, for each rope of a model; longer by doubling."""

    def __init__(self, ropes: Sequence[RopeSpec], head_dim: int, most: int) -> None:
        self._ropes, self._head_dim, self._most = ropes, head_dim, most
        self._by_length = any(rope.depends_on_length for rope in ropes)
        self._have: dict[int | None, _Tables] = {}
        self.widths = np.array([r.rotary_dim(head_dim) for r in ropes] or [0], np.int32)

    def tables(self, positions: int, length: int | None) -> _Tables:
        """Of each rope, for at least ``positions`` places: to be kept while they are read, since
        another thread may ask for longer ones. ``length`` None: as many as ``positions``."""
        length = (length or positions) if self._by_length else None
        have = self._have.get(length)
        if have is None or have.count < positions:
            wanted = max(positions, 512, 2 * have.count if have else 0)
            have = self._made(min(wanted, max(self._most, positions)), length)
            if len(self._have) >= MOST_LENGTHS:
                self._have = {}
            self._have[length] = have
        return have

    def _made(self, count: int, length: int | None) -> _Tables:
        kept: list[Tensor] = []
        for rope in self._ropes:
            tables = rope.tables(torch.arange(count), self._head_dim, torch.float32, length)
            kept += [table.squeeze(-2).contiguous() for table in tables]
        cosines, sines = (
            (c_void_p * max(1, len(part)))(*(t.data_ptr() for t in part))
            for part in (kept[::2], kept[1::2])
        )
        return _Tables(count, cosines, sines, kept)


class Program:
    """One pass. ``kv``: how a cache holds keys and values, one of `KV_FORMS`. ``expanded``: the
    owner of what is held beside matrices, which outlives the program."""

    def __init__(
        self,
        lowered: Lowered,
        config: TransformerConfig,
        kv: str = "bfloat16",
        expanded: Expanded | None = None,
    ) -> None:
        check_widths(lowered, config)
        self._config, self._kv = config, KV_FORMS.index(kv)
        self._kept: list[Any] = [lowered]
        self._expanded = expanded or Expanded(0)
        self._buffers = {id(b): i for i, b in enumerate(lowered.buffers)}
        self._matrices: list[MatrixStruct] = []
        self._held: list[QuantizedMatrix] = []  # what they were made from
        self._numbers: dict[int, int] = {}
        self._first, self._positions = -(1 << 31), 1 << 31  # those of its tables, from first on
        self._rows: dict[str, int] = {}  # of the tables that ids and types look into
        ropes = (s.fields.get("rope") for s in lowered.steps)
        self.ropes: list[RopeSpec] = list(dict.fromkeys(r for r in ropes if r is not None))
        if self.ropes:
            self._first = 0
        ops = (OpStruct * len(lowered.steps))(*(self._op(step) for step in lowered.steps))
        buffers = (BufferStruct * len(lowered.buffers))(
            *(BufferStruct(b.width, b.local, b.at) for b in lowered.buffers)
        )
        matrices = (MatrixStruct * max(1, len(self._matrices)))(*self._matrices)
        layers = self._layers(lowered.steps)
        self._structs: dict[str, Sequence[ctypes.Structure]] = {
            "ops": list(ops),
            "buffers": list(buffers),
            "matrices": self._matrices,
            "layers": layers,
        }
        self._program = ProgramStruct(
            len(lowered.steps),
            len(lowered.buffers),
            len(self._matrices),
            len(layers) // 2,
            lowered.row_floats,
            lowered.local_floats,
            self._index(lowered.input),
            self._index(lowered.output),
            ops,
            buffers,
            matrices,
            (AttentionStruct * max(1, len(layers)))(*layers),
        )
        self.width = 0 if lowered.output is None else lowered.output.width
        self._given_width = 0 if lowered.input is None else lowered.input.columns
        self._rotary = RotaryCache(self.ropes, config.head_dim, config.max_positions)

    def run(
        self,
        rows: int,
        *,
        ids: npt.NDArray[np.int32] | None = None,
        positions: npt.NDArray[np.int32] | None = None,
        types: npt.NDArray[np.int32] | None = None,
        spans: Spans | None = None,
        cache: tuple[int, int] = (0, 0),
        length: int | None = None,
        given: Tensor | None = None,
        out: Tensor | None = None,
        adapted: Adapted | None = None,
    ) -> Tensor:
        """The result, (N, `width`) float32, its last columns padding. ``cache``: the address of
        the first layer's, and the bytes from one layer's to the next. ``length``: what ropes that
        depend on one use. ``given``: (N, D) float32 that the pass starts from. ``out``:
        where the result goes. ``adapted``: None where no row has an adapter."""
        if out is None:
            out = torch.empty(rows, self.width)
        for name, given_ids in (("ids", ids), ("types", types)):
            self._check(name, given_ids)
        if given is not None and given.shape[1] != self._given_width:
            raise EngineError(f"{given.shape[1]} columns are given, not {self._given_width}")
        rotary = self._rotary.tables(self._furthest(positions) + 1, length)
        adapters, low = (None, 0) if adapted is None else adapted.checked(rows, len(self._held))
        step = StepStruct(
            rows,
            0 if spans is None else len(spans.rows),
            address_of(ids),
            address_of(positions),
            address_of(types),
            None if spans is None else address_of(spans.rows),
            cache[0],
            cache[1],
            ctypes.addressof(rotary.cosines),
            ctypes.addressof(rotary.sines),
            address_of(self._rotary.widths),
            None if given is None else given.data_ptr(),
            out.data_ptr() if self.width else None,
            0 if given is None else given.stride(0),
            self.width,
            None if adapted is None else address_of(adapted.of),
            None if adapters is None else ctypes.addressof(adapters),
            low,
        )
        run_step(self._program, step, torch.get_num_threads())
        return out

    def deltas(self, terms: Mapping[nn.Module, Sequence[Term]]) -> Deltas:
        """An adapter for this pass: what it adds to each of the matrices that ``terms`` names."""
        unknown = [module for module in terms if id(module) not in self._numbers]
        if unknown:
            raise UnsupportedError(f"terms on {unknown[0]}, which this pass does not compute")
        by_number = {self._numbers[id(module)]: each for module, each in terms.items()}
        return Deltas(self._held, by_number)

    def parts(self, more: Mapping[str, npt.NDArray[np.float32]]) -> ProgramParts:
        """What an image of this program holds, with ``more`` beside it (`image`)."""
        config, program = self._config, self._program
        if self.ropes or config.position_pad is not None:
            raise UnsupportedError("a model with rotary or padded positions has no image")
        facts = ImageFacts(
            hidden_size=config.hidden_size,
            head_dim=config.head_dim,
            num_kv_heads=config.num_kv_heads,
            max_positions=config.max_positions,
            token_types=config.token_types,
            width=self.width,
            positions=self._positions,
            rows=self._rows,
            row_floats=program.row_floats,
            local_floats=program.local_floats,
            in_buffer=program.in_buffer,
            out_buffer=program.out_buffer,
        )
        kept: list[npt.NDArray[Any]] = []
        for each in self._kept[1:]:  # behind what it was lowered from
            tensors = [each] if isinstance(each, Tensor) else each.buffers().values()
            kept += [tensor.numpy() for tensor in tensors]
        return ProgramParts(facts, self._structs, kept, more)

    def _furthest(self, positions: npt.NDArray[np.int32] | None) -> int:
        """The highest of ``positions``, all of which the tables have."""
        if positions is None:
            return 0
        low, high = int(positions.min()), int(positions.max())
        if high >= self._positions:
            raise ContextLengthError(
                f"position {high}, but the model has {self._positions}",
                hint="cut or split the text",
            )
        if low < self._first:
            raise InputError(f"position {low} is below the first of the model, {self._first}")
        return high

    def _check(self, name: str, ids: npt.NDArray[np.int32] | None) -> None:
        """C would read beyond the table."""
        rows = self._rows.get(name)
        if ids is None or rows is None:
            return
        low, high = int(ids.min()), int(ids.max())
        if low < 0 or high >= rows:
            raise InputError(f"{name} run from {low} to {high}, outside [0, {rows})", param=name)

    # -- structs -------------------------------------------------------------------------------

    def _index(self, buffer: Buffer | None) -> int:
        return -1 if buffer is None else self._buffers[id(buffer)]

    def _op(self, step: Step) -> OpStruct:
        op = OpStruct(kind=_KINDS.index("concat" if step.kind == "copy" else step.kind))
        for name in ("in", "other", "third", "out"):
            place = step.places.get(name)
            field = "in_" if name == "in" else name
            setattr(op, field, -1 if place is None else self._index(place.buffer))
            setattr(op, f"{name}_at", 0 if place is None else place.at)
        op.act = -1 if step.act is None else _ACTS.index(step.act)
        op.inner, op.cols, op.matrix, op.rope = step.parts, step.cols, -1, -1
        fields = step.fields
        op.layer, op.offset = fields.get("layer", 0), fields.get("offset", 0)
        op.a, op.b = fields.get("a", 0.0), fields.get("b", 0.0)
        if fields.get("rope") is not None:
            op.rope = self.ropes.index(fields["rope"])
        if "values" in fields:
            op.bias = self._floats(fields["values"])
        if step.norm is not None:
            self._set_norm(op, step)
        if step.matrix is not None:
            op.matrix, op.bias = self._multiplied(step.matrix), self._floats(step.matrix.bias)
        if step.kind == "embed":
            self._set_table(op, step)
        return op

    def _set_norm(self, op: OpStruct, step: Step) -> None:
        norm = step.norm
        assert norm is not None
        if isinstance(norm, LayerNorm):
            op.norm, op.norm_bias = 3, self._floats(norm.bias)
        else:
            op.norm = 2 if norm.from_one else 1
        op.norm_weight, op.eps = self._floats(norm.weight), norm.eps

    def _set_table(self, op: OpStruct, step: Step) -> None:
        stream = step.fields["stream"]
        op.stream = _STREAMS.index(stream)
        table: Any = step.fields.get("table")
        if isinstance(table, QuantizedEmbedding):
            op.matrix, rows = self._matrix(table), table.rows
        else:
            weight = self._sinusoids(op, step) if table is None else table.weight
            op.table, op.table_cols = self._floats(weight), weight.shape[1]
            rows = len(weight)
        if stream == "positions":
            self._first = max(self._first, -op.offset)
            self._positions = min(self._positions, rows - op.offset)
        else:
            self._rows[stream] = rows - op.offset

    def _sinusoids(self, op: OpStruct, step: Step) -> Tensor:
        rows = self._config.max_positions + op.offset
        _refuse_large(rows, step.cols)
        return sinusoids(torch.arange(rows), step.cols, halves=step.fields["sinusoids"])

    def _floats(self, values: Tensor | None) -> int | None:
        if values is None:
            return None
        held = values.detach().float().contiguous()
        self._kept.append(held)
        return held.data_ptr()

    def _matrix(self, module: Any) -> int:
        if id(module) not in self._numbers:
            m = module.matrix.in_bytes()
            self._kept.append(m)
            self._numbers[id(module)] = len(self._matrices)
            self._held.append(m)
            self._matrices.append(MatrixStruct.of(m))
        return self._numbers[id(module)]

    def _multiplied(self, module: Any) -> int:
        """`_matrix` of what is multiplied and not looked up."""
        number = self._matrix(module)
        codes = self._expanded.of(self._held[number])
        if codes is not None:
            self._kept.append(codes)
            self._matrices[number].expanded = codes.data_ptr()
        return number

    def _layers(self, steps: Sequence[Step]) -> list[AttentionStruct]:
        """Of each layer, then of its cross-attention."""
        if not any(s.kind in ("store", "attend") for s in steps):
            return []
        biases = {s.fields["layer"]: s.fields["bias"] for s in steps if s.kind == "attend"}
        tables: dict[int, tuple[int | None, int]] = {}
        own, across = [], []
        for layer, spec in enumerate(self._config.layers):
            bias = biases.get(layer)
            if id(bias) not in tables:
                tables[id(bias)] = self._bias_table(bias)
            own.append(self._attention(spec, *tables[id(bias)]))
            across.append(self._attention(spec.across, None, 0))
        return own + across

    def _attention(self, spec: LayerSpec, bias: int | None, reach: int) -> AttentionStruct:
        config = self._config
        if config.head_dim > WIDEST_HEAD:
            raise UnsupportedError(
                f"a head of {config.head_dim} channels has no native kernel",
                hint="this model runs on the reference ops",
            )
        return AttentionStruct(
            config.num_heads, config.num_kv_heads, config.head_dim,
            spec.causal, spec.window or 0, self._kv,
            spec.scale, spec.softcap or 0.0, bias, reach,
        )  # fmt: skip

    def _bias_table(self, bias: ScoreBias | None) -> tuple[int | None, int]:
        """What is added for each head and distance, up to where it no longer changes."""
        if bias is None:
            return None, 0
        assert isinstance(bias, AlibiBias | BucketBias)
        if isinstance(bias, BucketBias):
            reach = bias.max_distance
        else:
            self._positions = min(self._positions, self._config.max_positions)
            reach = self._config.max_positions - 1
        heads = self._config.num_heads
        _refuse_large(2 * reach + 1, heads)
        q = torch.zeros(1, 1, heads, 1)
        keys = torch.arange(2 * reach + 1)
        table = bias(q, q, torch.tensor([reach]), keys).expand(1, heads, 1, -1)
        return self._floats(table[0, :, 0]), reach


def _refuse_large(rows: int, columns: int) -> None:
    """A config may claim any number of positions; the reference ops compute those of a text."""
    if rows * columns > MOST_FLOATS:
        raise UnsupportedError(
            f"a table of {rows} positions by {columns} has no native kernel",
            hint="this model runs on the reference ops",
        )
