"""A model's passes as native programs: the engine's fast way to compute.

`NativeExecutor` serves decoders and encoder-decoders over a cache of tiles, `NativeEncoder` whole
sequences of an encoder. Building one raises `UnsupportedError` where the model does something
that has no kernel, or where there are no kernels.

Legend: N tokens of a step, D width, V vocabulary.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from lmstack.core import UnsupportedError
from lmstack.engine.config import EngineConfig
from lmstack.engine.cpu.deltas import Adapted, Deltas
from lmstack.engine.cpu.expanding import Expanded
from lmstack.engine.cpu.image import ProgramParts
from lmstack.engine.cpu.library import native, tile_bytes
from lmstack.engine.cpu.lowering import lower
from lmstack.engine.cpu.program import Program
from lmstack.engine.cpu.structs import ALIGNMENT, KV_FORMS, TILE, Spans, varlen_spans
from lmstack.engine.cpu.trace import trace_cross, trace_hidden, trace_logits
from lmstack.engine.executor import SequenceSpan
from lmstack.engine.scratch import Scratch
from lmstack.model import Transformer, TransformerConfig
from lmstack.model.lora.terms import AdapterTerms
from lmstack.model.quant.matrix import has_quantized

__all__ = ["TILE", "NativeEncoder", "NativeExecutor", "native_bytes_per_token"]


def native_bytes_per_token(config: TransformerConfig, kv: str) -> int:
    """Bytes of keys and values that one token takes."""
    per_tile = tile_bytes(config.head_dim, KV_FORMS.index(kv))
    return config.num_layers * config.num_kv_heads * per_tile // TILE


class NativeExecutor:
    """``kv``: how keys and values are held, one of `KV_FORMS`."""

    device = torch.device("cpu")
    dtype = "int8"
    numerics: str

    def __init__(
        self, module: Transformer, num_blocks: int, block_size: int, kv: str = "bfloat16"
    ) -> None:
        _check_quantized(module)
        native()
        if block_size % TILE:
            raise UnsupportedError(
                f"a block_size of {block_size} has no native kernel",
                hint=f"use a multiple of {TILE}",
            )
        self._module, self._config, self._kv = module, module.config, kv
        self.numerics = "" if kv == "int8" else f"+kv-{kv}"
        config = module.config
        self._expanded = Expanded.of_module(module)
        self.reload()
        self._fine_group = _fine_group(module)
        self._tiles = block_size // TILE
        per_tile = tile_bytes(config.head_dim, KV_FORMS.index(kv))
        block_bytes = self._tiles * config.num_kv_heads * per_tile
        # Zeros that the system provides at the first write, so start-up does not wait.
        shape = config.num_layers, num_blocks, block_bytes
        memory = np.zeros(math.prod(shape) + ALIGNMENT, np.uint8)
        start = -memory.ctypes.data % ALIGNMENT
        self._cache = memory[start : start + math.prod(shape)].reshape(shape)
        self._where = (self._cache.ctypes.data, self._cache.strides[0])

    @classmethod
    def bytes_per_token(cls, module: Transformer, config: EngineConfig, /) -> int:
        return native_bytes_per_token(module.config, config.kv_of(module.config))

    @classmethod
    def open(cls, module: Transformer, num_blocks: int, config: EngineConfig) -> NativeExecutor:
        if torch.device(config.device).type != "cpu":
            raise UnsupportedError(f"the native kernels are for CPUs, not for {config.device}")
        return cls(module, num_blocks, config.block_size, config.kv_of(module.config))

    def hidden(
        self,
        ids: Sequence[int],
        positions: Sequence[int],
        spans: Sequence[SequenceSpan],
        length: int | None,
    ) -> Tensor:
        rows = Spans(len(spans))
        row = 0
        for index, span in enumerate(spans):
            cross: tuple[Sequence[int], int] = ((), 0)
            if span.cross is not None:
                cross = self._tiled(span.cross.table), span.cross.count
            table = self._tiled(span.table)
            rows.put(index, row, span.count, span.start, table, *cross, wanted=span.wanted)
            row += span.count
        out = self._hidden.run(
            len(ids),
            ids=np.array(ids, np.int32),
            positions=np.array(positions, np.int32),
            spans=rows,
            cache=self._where,
            length=length,
            adapted=_adapted(spans),
        )
        return out[:, : self._config.hidden_size]

    def prepared(self, terms: AdapterTerms) -> Deltas:
        matrices = terms.matrices.items()
        return self._hidden.deltas({self._module.get_submodule(p): each for p, each in matrices})

    def logits(self, hidden: Tensor, scratch: Scratch | None = None) -> Tensor:
        given = hidden
        if self._fine_group:
            given = torch.cat(_coarse_and_rest(hidden, self._fine_group))
        count = len(given)
        rows = None if scratch is None else scratch.rows(count, self._logits.width)
        out = self._logits.run(count, given=given.contiguous(), out=rows)
        if self._fine_group:
            out = out[: len(hidden)].add_(out[len(hidden) :])
        return out[:, : self._config.vocab_size]

    def encode(self, inputs: Sequence[tuple[Sequence[int], Sequence[int]]]) -> None:
        assert self._encoder is not None
        assert self._cross is not None
        lengths = [len(ids) for ids, _ in inputs]
        encoded = self._encoder.varlen_hidden([t for ids, _ in inputs for t in ids], lengths)
        spans = Spans(len(inputs))
        starts = itertools.accumulate((0, *lengths[:-1]))
        for index, ((ids, table), row) in enumerate(zip(inputs, starts, strict=True)):
            spans.put(index, row, len(ids), 0, self._tiled(table))
        self._cross.run(len(encoded), spans=spans, cache=self._where, given=encoded)

    def copy(self, blocks: Sequence[tuple[int, int]]) -> None:
        if blocks:
            sources, targets = (list(each) for each in zip(*blocks, strict=True))
            self._cache[:, targets] = self._cache[:, sources]

    def wipe(self, table: Iterable[int]) -> None:
        self._cache[:, list(table)] = 0

    def reload(self) -> None:
        """The programs again: they point to codes, and hold floats of their own."""
        module, config = self._module, self._config
        self._hidden = Program(lower([trace_hidden(module)]), config, self._kv, self._expanded)
        self._logits = Program(lower([trace_logits(module)]), config, expanded=self._expanded)
        self._encoder = self._cross = None
        if module.encoder is not None:
            self._encoder = NativeEncoder(module.encoder)
            self._cross = Program(lower(trace_cross(module)), config, self._kv, self._expanded)

    def _tiled(self, table: Sequence[int]) -> Sequence[int]:
        if self._tiles == 1:
            return table
        return [block * self._tiles + i for block in table for i in range(self._tiles)]


def _check_quantized(module: Transformer) -> None:
    if not has_quantized(module):
        raise UnsupportedError("the weights are floats, native kernels are for small integers")


def _adapted(spans: Sequence[SequenceSpan]) -> Adapted | None:
    """The adapters of the rows of ``spans``."""
    deltas = list({id(s.adapter): s.adapter for s in spans if s.adapter is not None}.values())
    if not deltas:
        return None
    places = {id(each): place for place, each in enumerate(deltas)}
    of = np.array([places.get(id(span.adapter), -1) for span in spans], np.int32)
    return Adapted(np.repeat(of, [span.count for span in spans]), deltas)


def _fine_group(module: Transformer) -> int:
    """The group in which states are split for a head that needs more of them than 8 bits, as
    those of encoder-decoders do: rounding them costs T5 eight times what all else does. 0: none.

    Not where logits are no plain product: the head of a sum is then not the sum of two.
    """
    config = module.config
    plain = module.transform is None and module.head_bias is None and config.logit_softcap is None
    group = getattr(module.table if module.head is None else module.head, "group", 0)
    split = config.encoder is not None and plain and group and config.hidden_size % group == 0
    return int(group) if split else 0


def _coarse_and_rest(hidden: Tensor, group: int) -> tuple[Tensor, Tensor]:
    """``hidden`` as a sum: what 8 bits hold exactly, and what they leave."""
    groups = hidden.reshape(len(hidden), -1, group)
    scales = (groups.abs().amax(-1, keepdim=True) / 127).clamp_(min=1e-30)
    coarse = groups.div(scales).round_().mul_(scales).flatten(1)
    return coarse, hidden - coarse


class NativeEncoder:
    """A varlen batch, as `Transformer.varlen_hidden`. Keys and values live for one layer, in tiles
    of their own."""

    def __init__(self, module: Transformer) -> None:
        _check_quantized(module)
        native()
        self._module, self._config = module, module.config
        self._expanded = Expanded.of_module(module)
        lowered = lower([trace_hidden(module)])
        self._hidden = Program(lowered, module.config, "bfloat16", self._expanded)
        self._tile_bytes = tile_bytes(module.config.head_dim, 0)

    def varlen_hidden(
        self,
        ids: Sequence[int] | npt.NDArray[np.int32],
        lengths: Sequence[int],
        types: Sequence[int] | npt.NDArray[np.int32] | None = None,
    ) -> Tensor:
        """(N, D) float32; ``lengths`` of the sequences, each at least 1, add up to N."""
        flat = np.ascontiguousarray(ids, np.int32)
        spans, tiles = varlen_spans(lengths)
        size = tiles * self._config.num_kv_heads * self._tile_bytes
        cache = np.empty(size + ALIGNMENT, np.uint8)
        at = cache.ctypes.data
        out = self._hidden.run(
            len(flat),
            ids=flat,
            positions=self._positions(flat, lengths),
            types=None if types is None else np.ascontiguousarray(types, np.int32),
            spans=spans,
            cache=(at + -at % ALIGNMENT, 0),
        )
        return out[:, : self._config.hidden_size]

    def parts(self, more: Mapping[str, npt.NDArray[np.float32]]) -> ProgramParts:
        """What an image of it holds, with ``more`` beside it; `UnsupportedError`: it has none."""
        return self._hidden.parts(more)

    def _positions(
        self, ids: npt.NDArray[np.int32], lengths: Sequence[int]
    ) -> npt.NDArray[np.int32]:
        pad = self._config.position_pad
        if pad is not None and bool((ids == pad).any()):
            rows = torch.from_numpy(ids).split_with_sizes(list(lengths))
            counted = [self._module.positions_of(row[None])[0] for row in rows]
            return torch.cat(counted).numpy().astype(np.int32)
        places = np.arange(max(lengths), dtype=np.int32)
        return np.concatenate([places[:n] for n in lengths])
