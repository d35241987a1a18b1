"""SentencePiece models as files: written by hand, or trained by the original library."""

from __future__ import annotations

import io
import struct
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

__all__ = ["model_bytes", "trained_model"]


def _varint(value: int) -> bytes:
    value &= (1 << 64) - 1
    data = bytearray()
    while value > 0x7F:
        data.append(value & 0x7F | 0x80)
        value >>= 7
    data.append(value)
    return bytes(data)


def _field(number: int, value: Any) -> bytes:
    if isinstance(value, bool | int):
        return _varint(number << 3) + _varint(int(value))
    if isinstance(value, float):
        return _varint(number << 3 | 5) + struct.pack("<f", value)
    data = value.encode() if isinstance(value, str) else value
    return _varint(number << 3 | 2) + _varint(len(data)) + data


def _message(fields: Mapping[int, Any]) -> bytes:
    return b"".join(_field(number, value) for number, value in fields.items())


def model_bytes(
    pieces: Sequence[tuple[str, float, int]],
    trainer: Mapping[int, Any] | None = None,
    normalizer: Mapping[int, Any] | None = None,
) -> bytes:
    """A ``.model`` file; keys are the numbers of the protobuf's fields."""
    listed = b"".join(_field(1, _message(dict(enumerate(piece, 1)))) for piece in pieces)
    name = {1: "custom", **(normalizer or {})}
    return listed + _field(2, _message(trainer or {})) + _field(3, _message(name))


def trained_model(texts: Iterable[str], **options: Any) -> bytes:
    """A model trained by the ``sentencepiece`` library."""
    import sentencepiece

    target = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(texts),
        model_writer=target,
        hard_vocab_limit=False,
        minloglevel=2,
        num_threads=1,
        **options,
    )
    return target.getvalue()
