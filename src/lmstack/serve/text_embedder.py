"""Texts to unit vectors, whatever runs the encoder: prompts, varlen batches, pooling. No torch.

Texts are sorted by length and run end to end without padding, a few thousand tokens at a time.
Not covered: dense projections after pooling, which the registry refuses on loading.

Legend: N tokens of a batch, D width.
"""

from __future__ import annotations

import itertools
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from lmstack.core import InputError, ModelInfo, TextKind, shown
from lmstack.registry.defaults import PROMPT_NAMES, Pooling
from lmstack.registry.weight_cache import shaped_digest
from lmstack.text.tokenizer import Tokenizer

__all__ = ["TextEmbedder", "varlen_batches"]

Floats = npt.NDArray[np.float32]
# Enough that products run at full speed, few enough that activations stay near the cache.
BATCH_TOKENS = 2048
# Texts tokenized at a time: bounds the memory that token lists take.
_SLICE = 2048
# Vectors shorter than this are not brought to length 1, as in torch's normalize.
_SHORTEST = 1e-12


class TextEmbedder(ABC):
    """core's `Embedder` over `_hidden`. ``window`` and ``width``: what the model has, of which
    ``max_tokens`` and ``dimensions`` take less, see `LocalEmbedder`."""

    def __init__(
        self,
        info: ModelInfo,
        tokenizer: Tokenizer,
        pooling: Pooling,
        *,
        window: int,
        width: int,
        max_tokens: int | None = None,
        dimensions: int | None = None,
    ) -> None:
        self.tokenizer, self._pooling = tokenizer, pooling
        limit = min(pooling.max_length or window, window)
        # With the special tokens alone there would be nothing to read.
        _check_most("max_tokens", max_tokens, tokenizer.count([""])[0] + 1, limit, info.name)
        _check_most("dimensions", dimensions, 1, width, info.name)
        self.max_tokens = max_tokens or limit
        self.dimensions = dimensions or width
        digest = info.digest and shaped_digest(
            info.digest,
            None if self.max_tokens == limit else max_tokens,
            None if self.dimensions == width else dimensions,
        )
        self.info = replace(info, digest=digest, context_length=self.max_tokens)

    @abstractmethod
    def _hidden(self, ids: npt.NDArray[np.int32], lengths: Sequence[int]) -> Floats:
        """Whole sequences end to end to their last hidden states, (N, D)."""

    def embed(self, texts: Sequence[str], kind: TextKind = "passage") -> Floats:
        prefixed = self._prefixed(texts, kind)
        vectors = np.zeros((len(prefixed), self.dimensions), np.float32)
        for start in range(0, len(prefixed), _SLICE):
            part = slice(start, start + _SLICE)
            vectors[part] = self._embed_slice(prefixed[part])
        return vectors

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """As in core's `Embedder`; the prefix of the model for passages counts."""
        return self.tokenizer.count(self._prefixed(texts, "passage"))

    @property
    def counts_by_word(self) -> bool:
        """Whether `count_tokens` of a text is the sum of that of its words, special tokens
        counted once: cutting documents is several times as fast then."""
        prompt = self._pooling.prompt("passage")
        return self.tokenizer.counts_by_word and (not prompt or prompt[-1].isspace())

    def _prefixed(self, texts: Sequence[str], kind: TextKind) -> list[str]:
        if isinstance(texts, str):
            raise InputError(
                "texts is one str, which would be embedded character by character",
                hint="pass a list: embed([text])",
                param="texts",
            )
        if kind not in PROMPT_NAMES:
            raise InputError(f"kind is {shown(kind)}", hint="query or passage", param="kind")
        for index, text in enumerate(texts):
            if not isinstance(text, str):
                raise InputError(f"texts[{index}] is {shown(text)}, not a str", param="texts")
        prompt = self._pooling.prompt(kind)
        return [prompt + text for text in texts]

    def _embed_slice(self, texts: Sequence[str]) -> Floats:
        ids = self.tokenizer.encode_ids(texts, max_length=self.max_tokens)
        vectors = np.zeros((len(texts), self.dimensions), np.float32)
        for rows in varlen_batches([len(tokens) for tokens in ids]):
            vectors[rows] = self._embed_batch([ids[row] for row in rows])
        return vectors

    def _embed_batch(self, ids: Sequence[Sequence[int]]) -> Floats:
        """``ids``: none empty, sorted by length."""
        lengths = [len(tokens) for tokens in ids]
        flat = np.fromiter(itertools.chain.from_iterable(ids), np.int32, sum(lengths))
        hidden = self._hidden(flat, lengths)
        pooled = self._pool(hidden, np.array(lengths))[:, : self.dimensions]
        norms = np.linalg.norm(pooled, axis=1, keepdims=True)
        vectors: Floats = pooled / np.maximum(norms, _SHORTEST)
        return vectors

    def _pool(self, hidden: Floats, lengths: npt.NDArray[np.int64]) -> Floats:
        """(N, D) to (texts, D)."""
        ends = lengths.cumsum()
        starts = ends - lengths
        counts = lengths[:, None].astype(np.float32)
        pooled: Floats
        match self._pooling.mode:
            case "cls":
                pooled = hidden[starts]
            case "last":
                pooled = hidden[ends - 1]
            case "max":
                pooled = np.maximum.reduceat(hidden, starts)
            case mode:  # several times as fast as `np.add.reduceat`
                sums = [hidden[i:j].sum(axis=0) for i, j in zip(starts, ends, strict=True)]
                pooled = np.stack(sums) / (counts if mode == "mean" else np.sqrt(counts))
        return pooled


def _check_most(name: str, value: int | None, low: int, high: int, model: str) -> None:
    if value is not None and not (isinstance(value, int) and low <= value <= high):
        raise InputError(
            f"{name} is {shown(value)}; {model} takes {low} to {high}",
            hint=f"leave {name} out for all of it",
            param=name,
        )


def varlen_batches(lengths: Sequence[int]) -> Iterator[list[int]]:
    """Rows of texts that run end to end, each batch sorted by length; texts without tokens are
    left out."""
    batch: list[int] = []
    tokens = 0
    for row in sorted(range(len(lengths)), key=lengths.__getitem__):
        if batch and tokens + lengths[row] > BATCH_TOKENS:
            yield batch
            batch, tokens = [], 0
        if lengths[row]:
            batch.append(row)
            tokens += lengths[row]
    if batch:
        yield batch
