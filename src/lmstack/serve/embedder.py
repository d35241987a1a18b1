"""Text to unit vectors with a local encoder, equal to sentence-transformers.

Texts are sorted by length and run end to end without padding, a few thousand tokens at a time.
Not covered: dense projections after pooling, which the registry refuses on loading.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from lmstack.core import InputError, ModelInfo, TextKind, UnsupportedError, shown
from lmstack.engine.executor import open_encoder
from lmstack.registry import LoadedModel, ModelFolder, Store, load
from lmstack.registry.packed import shaped_digest

__all__ = ["LocalEmbedder"]

# Names that models give to the prefix for each kind, as sentence-transformers looks for them.
_PROMPTS: dict[TextKind, tuple[str, ...]] = {
    "query": ("query",),
    "passage": ("document", "passage", "corpus"),
}
# Enough that products run at full speed, few enough that activations stay near the cache.
_PACK_TOKENS = 2048
# Texts tokenized at a time: bounds the memory that token lists take.
_SLICE = 2048


class LocalEmbedder:
    """An encoder as core's `Embedder`. Thread-safe: it holds no state between calls.

    Vectors always have length 1, also where the model's own recipe leaves them as they come. A
    text of no tokens at all (a tokenizer that adds none) is the zero vector.

    ``max_tokens``: read less of each text than the model can. ``dimensions``: keep only the
    first of each vector, at length 1 again, for models that were trained so (Matryoshka:
    Kusupati et al., 2022); others lose more by it. Above what the model has, both are refused.
    """

    def __init__(
        self,
        loaded: LoadedModel,
        *,
        max_tokens: int | None = None,
        dimensions: int | None = None,
    ) -> None:
        if loaded.pooling is None:
            raise UnsupportedError(
                f"{loaded.name} generates text and gives no sentence vectors",
                hint="use an embedding model, for example all-minilm-l6-v2",
                param="model",
            )
        self.loaded = loaded
        self.module, self.tokenizer = loaded.module.eval(), loaded.tokenizer
        self._encoder = open_encoder(self.module)
        self._pooling = loaded.pooling
        limit = self.module.config.max_positions
        limit = min(loaded.pooling.max_length or limit, limit)
        size = self.module.config.hidden_size
        # With the special tokens alone there would be nothing to read.
        _check_most("max_tokens", max_tokens, self.tokenizer.count([""])[0] + 1, limit, loaded.name)
        _check_most("dimensions", dimensions, 1, size, loaded.name)
        self._max_tokens = max_tokens or limit
        self._dimensions = dimensions or size
        digest = loaded.digest and shaped_digest(
            loaded.digest,
            None if self._max_tokens == limit else max_tokens,
            None if self._dimensions == size else dimensions,
        )
        self._info = ModelInfo(loaded.name, digest, self._max_tokens)

    @classmethod
    def load(
        cls,
        ref: str | os.PathLike[str] | ModelFolder,
        store: Store | None = None,
        *,
        weights: str | None = None,
        max_tokens: int | None = None,
        dimensions: int | None = None,
    ) -> Self:
        """The embedder that ``ref`` names (no network). ``weights``: the form in which they are
        held, float32 unless given or already quantized."""
        loaded = load(ref, store, weights=weights)
        return cls(loaded, max_tokens=max_tokens, dimensions=dimensions)

    def generate(self, *_: Any, **__: Any) -> str:
        """What a language model has; an encoder cannot."""
        return self.loaded.generate()

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write a folder that transformers loads: config, weights, tokenizer."""
        self.loaded.save(Path(folder))

    @property
    def info(self) -> ModelInfo:
        return self._info

    @property
    def dimensions(self) -> int:
        return self._dimensions

    @property
    def max_tokens(self) -> int:
        return self._max_tokens

    def embed(self, texts: Sequence[str], kind: TextKind = "passage") -> npt.NDArray[np.float32]:
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
        prompt = self._prompt("passage")
        return self.tokenizer.counts_by_word and (not prompt or prompt[-1].isspace())

    def _prefixed(self, texts: Sequence[str], kind: TextKind) -> list[str]:
        if isinstance(texts, str):
            raise InputError(
                "texts is one str, which would be embedded character by character",
                hint="pass a list: embed([text])",
                param="texts",
            )
        if kind not in _PROMPTS:
            raise InputError(f"kind is {shown(kind)}", hint="query or passage", param="kind")
        for index, text in enumerate(texts):
            if not isinstance(text, str):
                raise InputError(f"texts[{index}] is {shown(text)}, not a str", param="texts")
        prompt = self._prompt(kind)
        return [prompt + text for text in texts]

    def _prompt(self, kind: TextKind) -> str:
        prompts = self._pooling.prompts
        return next((prompts[name] for name in _PROMPTS[kind] if name in prompts), "")

    def _embed_slice(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        ids = self.tokenizer.encode_ids(texts, max_length=self._max_tokens)
        vectors = np.zeros((len(texts), self.dimensions), np.float32)
        for rows in _packs([len(tokens) for tokens in ids]):
            vectors[rows] = self._embed_pack([ids[row] for row in rows])
        return vectors

    @torch.inference_mode()
    def _embed_pack(self, ids: Sequence[Sequence[int]]) -> npt.NDArray[np.float32]:
        """``ids``: none empty, sorted by length."""
        lengths = [len(tokens) for tokens in ids]
        flat = np.fromiter(itertools.chain.from_iterable(ids), np.int32, sum(lengths))
        hidden = self._encoder.packed(flat, lengths)
        pooled = self._pool(hidden, torch.tensor(lengths))[:, : self._dimensions]
        vectors: npt.NDArray[np.float32] = torch.nn.functional.normalize(pooled, dim=-1).numpy()
        return vectors

    def _pool(self, hidden: Tensor, lengths: Tensor) -> Tensor:
        """(N, D) to (texts, D)."""
        ends = lengths.cumsum(0)
        mode = self._pooling.mode
        if mode == "cls":
            return hidden[ends - lengths]
        if mode == "last":
            return hidden[ends - 1]
        if mode == "max":
            return torch.segment_reduce(hidden, "max", lengths=lengths)
        total = torch.segment_reduce(hidden, "sum", lengths=lengths)
        divisor = lengths[:, None].to(total.dtype)
        return total / (divisor if mode == "mean" else divisor.sqrt())


def _check_most(name: str, value: int | None, low: int, high: int, model: str) -> None:
    if value is not None and not (isinstance(value, int) and low <= value <= high):
        raise InputError(
            f"{name} is {shown(value)}; {model} takes {low} to {high}",
            hint=f"leave {name} out for all of it",
            param=name,
        )


def _packs(lengths: Sequence[int]) -> Iterator[list[int]]:
    """Rows of texts that run together, each pack sorted by length; texts without tokens are
    left out."""
    pack: list[int] = []
    tokens = 0
    for row in sorted(range(len(lengths)), key=lengths.__getitem__):
        if pack and tokens + lengths[row] > _PACK_TOKENS:
            yield pack
            pack, tokens = [], 0
        if lengths[row]:
            pack.append(row)
            tokens += lengths[row]
    if pack:
        yield pack
