"""What computes hidden states, logits and cached keys of one model: the seam for a new device.

An `Executor` says what a token costs it (`bytes_per_token`), runs a module or refuses it (`open`),
and owns the KV cache. `executors` has those that there are and takes the first that can; nobody
else knows which one runs. An `Encoder` is the same for whole texts at once, without a cache.

Legend: N tokens of a step, D width, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Sequence as Seq
from dataclasses import dataclass
from typing import Any, Protocol, Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from lmstack.engine.config import EngineConfig
from lmstack.engine.scratch import Scratch
from lmstack.model import Transformer
from lmstack.model.lora.terms import AdapterTerms

__all__ = ["CrossSpan", "Encoder", "Executor", "Int32s", "SequenceSpan"]

Int32s = npt.NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class CrossSpan:
    """What an encoder made of ``count`` tokens, in the blocks of ``table``."""

    table: Seq[int]
    count: int


@dataclass(frozen=True, slots=True)
class SequenceSpan:
    """Tokens ``start`` to ``end`` of a sequence with the given block ``table``. ``wanted``: of how
    many of the last ones the hidden states are of use, all unless given; the others may come out
    as anything. ``adapter``: what `Executor.prepared` gave for theirs, None for the base alone."""

    table: Seq[int]
    start: int
    end: int
    cross: CrossSpan | None = None
    wanted: int | None = None
    adapter: Any = None

    @property
    def count(self) -> int:
        return self.end - self.start


class Executor(Protocol):
    """Owns the KV cache. Used by one thread. ``device``: where it takes hidden states and leaves
    its results; sampler and masks work there. ``dtype``: of what products multiply.
    ``numerics``: what a digest has to say beside the weights, because logits depend on it; empty
    for what is usual: keys and values as bytes beside quantized weights, as floats beside floats.
    """

    device: torch.device
    dtype: str
    numerics: str

    @classmethod
    def bytes_per_token(cls, module: Transformer, config: EngineConfig, /) -> int:
        """Bytes of keys and values of one token."""
        ...

    @classmethod
    def open(cls, module: Transformer, num_blocks: int, config: EngineConfig) -> Self:
        """One that runs ``module``, which it may move to its device, over ``num_blocks``.
        `UnsupportedError`, or `EngineError` where something is not installed: it cannot, with the
        reason."""
        ...

    def hidden(
        self, ids: Seq[int], positions: Seq[int], spans: Seq[SequenceSpan], length: int | None
    ) -> Tensor:
        """Hidden states (N, D) of tokens that lie end to end, those of one-token spans first.
        ``length``: what rotations that depend on one use for that of the text."""
        ...

    def prepared(self, terms: AdapterTerms) -> Any:
        """An adapter as `SequenceSpan.adapter` takes it; ``nbytes`` of memory. From any thread."""
        ...

    def logits(self, hidden: Tensor, scratch: Scratch | None = None) -> Tensor:
        """(S, D) to float32 (S, V), which may be changed in place. In ``scratch``, where one is
        given: valid until the next call with it."""
        ...

    def encode(self, inputs: Seq[tuple[Seq[int], Seq[int]]]) -> None:
        """Read each (token ids, block table) with the encoder, into its blocks."""
        ...

    def copy(self, blocks: Seq[tuple[int, int]]) -> None:
        """Copy whole blocks, each (from, to); none if ``blocks`` is empty."""
        ...

    def wipe(self, table: Iterable[int]) -> None:
        """Zero the blocks of a failed sequence, which may hold NaN."""
        ...

    def reload(self) -> None:
        """The module's weights have changed: make again what was made of the old ones."""
        ...


class Encoder(Protocol):
    """Thread-safe."""

    def __init__(self, module: Transformer) -> None:
        """`UnsupportedError` as of `Executor.open`."""

    def varlen_hidden(
        self, ids: Seq[int] | Int32s, lengths: Seq[int], types: Seq[int] | Int32s | None = None
    ) -> Tensor:
        """A varlen batch, sequences end to end, to its last hidden states (N, D) in float32.
        ``lengths``, each at least 1, add up to N; fastest when sorted. ``types``: segment ids."""
        ...
