"""Texts to one rectangle of token ids: padding on either side, attention mask, offsets.

Covers what a model's ``forward`` takes: int64 arrays of shape (B, T) that torch can share without
copying. All texts are encoded in one call, which the ``tokenizers`` library spreads over every
core. Nothing is cut unless a policy says which end. Does not cover bucketing by length or sliding
windows over long documents: those belong to whoever runs the model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from lmstack.core import InputError, check_whole, shown
from lmstack.text.tokenizer import Encoding, Tokenizer

__all__ = ["BatchEncoding", "make_batch", "pad_batch"]

Side = Literal["right", "left"]
Truncation = Literal["error", "right", "left"]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class BatchEncoding:
    """``input_ids`` and ``attention_mask`` (B, T), 1 at real tokens; ``offsets`` (B, T, 2): the
    characters ``[start, end)`` of each token's text, ``(0, 0)`` at padding and added tokens."""

    input_ids: Ints
    attention_mask: Ints
    offsets: Ints

    @property
    def lengths(self) -> list[int]:
        """Real tokens of each row."""
        return [int(count) for count in self.attention_mask.sum(axis=1)]

    def rows(self) -> list[list[int]]:
        """The ids of each text again, without padding."""
        return [
            [int(index) for index in ids[mask == 1]]
            for ids, mask in zip(self.input_ids, self.attention_mask, strict=True)
        ]


def make_batch(
    tokenizer: Tokenizer,
    texts: Sequence[str],
    *,
    padding: Side = "right",
    multiple_of: int = 1,
    max_length: int | None = None,
    truncation: Truncation = "error",
    add_special_tokens: bool = True,
) -> BatchEncoding:
    """Encode ``texts`` and pad them to the longest, rounded up to ``multiple_of``.

    A text of more than ``max_length`` tokens (added ones count) is an `InputError`, unless
    ``truncation`` names the end that is dropped.
    """
    if isinstance(texts, str):
        raise InputError(f"texts is one text, {shown(texts)}", hint="pass a list", param="texts")
    if truncation not in ("error", "right", "left"):
        raise InputError(
            f"truncation is {shown(truncation)}",
            hint="one of 'error', 'right', 'left'",
            param="truncation",
        )
    encodings = tokenizer.encode_batch(
        texts,
        add_special_tokens=add_special_tokens,
        max_length=max_length,
        truncation=truncation,
    )
    pad_id = tokenizer.pad_id if tokenizer.pad_id is not None else 0
    return pad_batch(encodings, pad_id, padding=padding, multiple_of=multiple_of)


def pad_batch(
    encodings: Sequence[Encoding],
    pad_id: int = 0,
    *,
    padding: Side = "right",
    multiple_of: int = 1,
) -> BatchEncoding:
    """Encodings of different lengths as one rectangle. The mask is what counts: ``pad_id`` may
    also be a token that texts hold (many models pad with their end-of-text token)."""
    if padding not in ("right", "left"):
        raise InputError(f"padding is {shown(padding)}", hint="'right' or 'left'", param="padding")
    check_whole("multiple_of", multiple_of, 1, 1 << 20)
    longest = max((len(encoding.ids) for encoding in encodings), default=0)
    width = -(-longest // multiple_of) * multiple_of
    input_ids = np.full((len(encodings), width), pad_id, np.int64)
    attention_mask = np.zeros((len(encodings), width), np.int64)
    offsets = np.zeros((len(encodings), width, 2), np.int64)
    for row, encoding in enumerate(encodings):
        count = len(encoding.ids)
        if not count:
            continue
        place: Any = slice(0, count) if padding == "right" else slice(width - count, width)
        input_ids[row, place] = encoding.ids
        attention_mask[row, place] = 1
        offsets[row, place] = encoding.offsets
    return BatchEncoding(input_ids, attention_mask, offsets)
