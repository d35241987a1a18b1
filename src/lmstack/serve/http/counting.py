"""How many names and values JSON holds, counted before anything is made of it.

Each value costs a hundred bytes and more once it is parsed, and parsing holds the interpreter's
lock all the while. Counting goes in steps of less than a millisecond, between which other threads
run, and ends where there are too many. What is counted is exact for JSON; other bytes are left to
the parser to refuse.
"""

from __future__ import annotations

from dataclasses import dataclass

from lmstack.serve.http.errors import HttpError

__all__ = ["MAX_NAMES", "MAX_VALUES", "Counts", "count_json"]

# A chat of 1,024 messages, each in several parts, has some 20,000 names.
MAX_NAMES = 50_000
# /detokenize takes 2^20 token ids.
MAX_VALUES = 2**20 + 2**16
_STEP = 64 * 1024


@dataclass(frozen=True, slots=True)
class Counts:
    """``names``: of objects' members, one that is given twice counts twice. ``values``: at least
    as many as there are."""

    names: int = 0
    values: int = 1


def count_json(data: bytes) -> Counts:
    """The counts of all ``data``, or status 413 as soon as there are too many."""
    counts, position, in_string = Counts(), 0, False
    while position < len(data):
        end = _end_of_step(data, position)
        # Without escapes every quotation mark begins or ends a string.
        plain = data[position:end].replace(rb"\\", b"").replace(rb"\"", b"")
        parts = plain.split(b'"')
        outside = b"".join(parts[in_string::2])
        in_string ^= len(parts) % 2 == 0
        counts = Counts(
            counts.names + outside.count(b":"),
            counts.values + sum(outside.count(mark) for mark in (b",", b"[", b"{")),
        )
        _check("names", counts.names, MAX_NAMES)
        _check("values", counts.values, MAX_VALUES)
        position = end
    return counts


def _end_of_step(data: bytes, start: int) -> int:
    """Never between a backslash and what it escapes."""
    step = data[start : start + _STEP]
    backslashes = len(step) - len(step.rstrip(b"\\"))
    return start + len(step) + backslashes % 2


def _check(what: str, found: int, most: int) -> None:
    if found > most:
        raise HttpError(
            413,
            "body_too_large",
            f"the body holds more than {most} {what}",
            hint="send less in one request",
        )
