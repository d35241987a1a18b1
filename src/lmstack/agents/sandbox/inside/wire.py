"""Plain data between two processes, one of which is hostile: frames of JSON, of bounded size.

What is decoded is made of None, bool, int, float, complex, str, bytes, list, tuple, set, frozenset
and dict and of nothing else, so it cannot carry code: no class of its own, no ``__eq__``.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from typing import Any, BinaryIO

__all__ = [
    "MAX_FRAME",
    "NotPlainError",
    "WireError",
    "decoded",
    "encoded",
    "packed",
    "receive",
    "receive_message",
    "send",
    "send_message",
    "unpacked",
]

MAX_FRAME = 4 << 20
_SEQUENCES = {"list": list, "tuple": tuple, "set": set, "frozenset": frozenset}


class WireError(Exception):
    """The other side ended, or sent what is no frame."""


class NotPlainError(Exception):
    """A value that is not plain data."""


def send(stream: BinaryIO, message: Any) -> None:
    frame = json.dumps(message).encode()
    if len(frame) > MAX_FRAME:
        raise WireError(f"{len(frame):,} bytes, more than {MAX_FRAME:,}")
    try:
        stream.write(len(frame).to_bytes(4, "big") + frame)
        stream.flush()
    except OSError as error:
        raise WireError("it ended") from error


def receive(stream: BinaryIO) -> Any:
    size = int.from_bytes(_exactly(stream, 4), "big")
    if size > MAX_FRAME:
        raise WireError(f"{size:,} bytes, more than {MAX_FRAME:,}")
    try:
        return json.loads(_exactly(stream, size))
    except (ValueError, RecursionError) as error:
        raise WireError(f"no JSON: {error}") from error


def _exactly(stream: BinaryIO, size: int) -> bytes:
    data = stream.read(size)
    if len(data) < size:
        raise WireError("it ended")
    return data


def packed(message: dict[str, Any], blobs: Sequence[bytes] = ()) -> bytes:
    """A frame of a message, with ``blobs`` of bytes behind it."""
    frame = json.dumps({**message, "blobs": [len(blob) for blob in blobs]}).encode()
    return b"".join([len(frame).to_bytes(4, "big"), frame, *blobs])


def unpacked(exactly: Callable[[int], bytes]) -> tuple[dict[str, Any], list[bytes]]:
    """What `packed` made. ``exactly``: reads as many bytes as it is told, or raises."""
    message = json.loads(exactly(int.from_bytes(exactly(4), "big")))
    return message, [exactly(size) for size in message.pop("blobs")]


def send_message(fd: int, message: dict[str, Any], blobs: Sequence[bytes] = ()) -> None:
    view = memoryview(packed(message, blobs))
    while view:
        view = view[os.write(fd, view) :]


def receive_message(fd: int) -> tuple[dict[str, Any], list[bytes]]:
    def exactly(size: int) -> bytes:
        data = bytearray()
        while len(data) < size:
            piece = os.read(fd, min(size - len(data), 1 << 20))
            if not piece:
                raise WireError("it ended")
            data += piece
        return bytes(data)

    return unpacked(exactly)


def encoded(value: Any) -> Any:
    """``value`` as JSON: [type, text or items]."""
    kind = type(value).__name__
    if value is None or type(value) in (bool, str):
        return value
    if type(value) is int:
        return [kind, format(value, "x")]
    if type(value) is float:
        return [kind, value.hex()]
    if type(value) is complex:
        return [kind, [value.real.hex(), value.imag.hex()]]
    if type(value) is bytes:
        return [kind, value.hex()]
    if type(value) in (list, tuple, set, frozenset):
        return [kind, [encoded(item) for item in value]]
    if type(value) is dict:
        return [kind, [[encoded(key), encoded(item)] for key, item in value.items()]]
    raise NotPlainError(f"a {kind}")


def decoded(value: Any) -> Any:
    """The value; `WireError` where ``value`` is not what `encoded` gives."""
    try:
        return _decoded(value)
    except (TypeError, ValueError, AttributeError, RecursionError) as error:
        raise WireError(f"no value: {error}") from error


def _decoded(value: Any) -> Any:
    if value is None or type(value) in (bool, str):
        return value
    kind, content = value
    if kind == "int":
        return int(content, 16)
    if kind == "float":
        return float.fromhex(content)
    if kind == "complex":
        return complex(*map(float.fromhex, content))
    if kind == "bytes":
        return bytes.fromhex(content)
    if kind == "dict":
        return {_decoded(key): _decoded(item) for key, item in content}
    if kind in _SEQUENCES:
        return _SEQUENCES[kind](map(_decoded, content))
    raise ValueError(f"{kind!r} is no type of plain data")
