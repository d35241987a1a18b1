"""Protobuf's wire format, read strictly: fields of a message, without a schema.

Every length is checked against what is left before it is used, and the number of fields is
bounded. Groups are refused. Does not cover what fields mean (`onnx`).
"""

from __future__ import annotations

import mmap
from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from lmstack.core import FormatError

__all__ = ["BYTES", "FIXED32", "FIXED64", "VARINT", "Wire", "packed_varints", "signed"]

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
# Bounds the Python objects that a file turns into; a graph of a large model has 10^5.
_MAX_OBJECTS = 1 << 21


class Wire:
    """Reads ``buffer``; ``fail`` makes the error for a problem."""

    def __init__(self, buffer: mmap.mmap, fail: Callable[[str], FormatError]) -> None:
        self.buffer, self.fail = buffer, fail
        self.objects = 0

    def count(self) -> None:
        self.objects += 1
        if self.objects > _MAX_OBJECTS:
            raise self.fail(f"it has more than {_MAX_OBJECTS} parts")

    def varint(self, at: int, end: int) -> tuple[int, int]:
        """(value, place after it)"""
        value = 0
        for shift in range(0, 70, 7):
            if at >= end:
                raise self.fail(f"a number is cut at byte {at}")
            octet = self.buffer[at]
            at += 1
            value |= (octet & 0x7F) << shift
            if octet < 0x80:
                if value >> 64:
                    break
                return value, at
        raise self.fail(f"a number is too long at byte {at}")

    def fields(self, start: int, end: int) -> Iterator[tuple[int, int, int, int]]:
        """(field, wire type, a, b): for bytes their range ``[a, b)``, for a varint its value
        ``a``, for fixed numbers where they start and end."""
        at = start
        while at < end:
            self.count()
            key, at = self.varint(at, end)
            number, wire = key >> 3, key & 7
            if number == 0 or number >= 1 << 29:
                raise self.fail(f"field {number} before byte {at}")
            if wire == VARINT:
                value, at = self.varint(at, end)
                yield number, wire, value, 0
                continue
            if wire == BYTES:
                size, at = self.varint(at, end)
            elif wire in (FIXED32, FIXED64):
                size = 4 if wire == FIXED32 else 8
            else:
                raise self.fail(f"wire type {wire} before byte {at}")
            if size > end - at:
                raise self.fail(f"{size} bytes are claimed and {end - at} left at byte {at}")
            yield number, wire, at, at + size
            at += size

    def need(self, wire: int, expected: int, what: str) -> None:
        if wire != expected:
            raise self.fail(f"{what} is written with wire type {wire}")

    def text(self, wire: int, start: int, end: int, what: str) -> str:
        self.need(wire, BYTES, what)
        try:
            return self.buffer[start:end].decode("utf-8")
        except UnicodeDecodeError:
            raise self.fail(f"{what} at byte {start} is not UTF-8") from None

    def integers(self, wire: int, a: int, b: int, what: str) -> list[int]:
        """Signed 64-bit numbers of a repeated field, packed or not."""
        if wire == VARINT:
            return [signed(a)]
        self.need(wire, BYTES, what)
        found = []
        while a < b:
            self.count()
            value, a = self.varint(a, b)
            found.append(signed(value))
        return found


def packed_varints(data: bytes) -> NDArray[np.uint64] | None:
    """All numbers of a packed field; None where one is cut or too long."""
    octets = np.frombuffer(data, np.uint8)
    ends = np.flatnonzero(octets < 0x80)
    if octets.size == 0:
        return np.empty(0, np.uint64)
    if ends.size == 0 or ends[-1] != octets.size - 1:
        return None
    starts = np.concatenate(([0], ends[:-1] + 1))
    lengths = ends - starts + 1
    if lengths.max() > 10:
        return None
    values = np.zeros(ends.size, np.uint64)
    for k in range(int(lengths.max())):
        rows = np.flatnonzero(lengths > k)
        part = (octets[starts[rows] + k] & 0x7F).astype(np.uint64)
        values[rows] |= part << np.uint64(7 * k)
    return values


def signed(value: int) -> int:
    """The two's complement number in 64 bits."""
    return value - (1 << 64) if value >> 63 else value
