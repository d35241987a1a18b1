"""How figures and foreign text look: sizes, durations, rates, columns, control characters; and
sizes as people write them.

Covers strings only; `output` decides where they go. `printable` is what keeps text from documents
and models from moving the cursor or repainting the terminal.
"""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Sequence
from typing import IO

from lmstack.core import InputError, shown

__all__ = [
    "columns",
    "count",
    "figures",
    "is_colourful",
    "memory",
    "p_value",
    "parse_memory",
    "parse_quantity",
    "printable",
    "quantity",
    "seconds",
    "short_digest",
    "size",
]

# Characters that reorder the text around them: a file name or a quote could read as another one.
BIDI_CONTROLS = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")

_UNITS = {"": 1, "b": 1} | {
    f"{letter}{ending}": base**power
    for power, letter in enumerate("kmgt", start=1)
    for ending, base in (("b", 1000), ("ib", 1024))
}
# B for billions and G for operations mean the same; P is of operations.
_THOUSANDS = {"": 1.0, "k": 1e3, "m": 1e6, "b": 1e9, "g": 1e9, "t": 1e12, "p": 1e15}


def printable(text: str, *, one_line: bool = False) -> str:
    """``text`` without control characters: each becomes its escape (``\\x1b``). Newlines and
    tabs stay unless ``one_line``."""
    if text.isprintable():
        return text
    kept = "" if one_line else "\n\t"
    return "".join(
        c
        if c in kept or not (unicodedata.category(c) in ("Cc", "Cs") or c in BIDI_CONTROLS)
        else c.encode("unicode_escape").decode("ascii")
        for c in text
    )


def p_value(p: float | None) -> str:
    """An en dash for none."""
    if p is None:
        return "–"
    return "<0.001" if p < 0.001 else f"{p:.3f}"


def is_colourful(stream: IO[str]) -> bool:
    """Whether ``stream`` is a terminal on which colour is wanted (https://no-color.org)."""
    if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return False
    return stream.isatty()


def size(num_bytes: float) -> str:
    """Bytes in decimal units, as disks and downloads are sold: ``98.4 MB``."""
    for unit in ("B", "kB", "MB", "GB"):
        if abs(num_bytes) < 999.5:
            return f"{num_bytes:.0f} B" if unit == "B" else f"{num_bytes:.1f} {unit}"
        num_bytes /= 1000
    return f"{num_bytes:.1f} TB"


def memory(num_bytes: float) -> str:
    """Bytes in binary units, as memory is sold: ``128 KiB``, ``22.5 MiB``, ``16 GiB``."""
    unit = "B"
    for larger in ("KiB", "MiB", "GiB", "TiB"):
        if abs(num_bytes) < 1023.5:
            break
        num_bytes, unit = num_bytes / 1024, larger
    text = f"{num_bytes:.0f}" if abs(num_bytes) >= 99.95 else f"{num_bytes:.1f}".removesuffix(".0")
    return f"{text} {unit}"


def parse_memory(text: str) -> int:
    """Bytes of ``16GiB``, ``16 GB`` or ``17179869184``."""
    match = re.fullmatch(r"(\d{1,18}(?:\.\d{1,9})?) ?([A-Za-z]*)", text.strip(), re.ASCII)
    factor = _UNITS.get(match[2].lower()) if match else None
    if match is None or factor is None:
        raise InputError(
            f"{shown(text)} is no size of memory", hint="write 16GiB, 16GB or a number of bytes"
        )
    return int(float(match[1]) * factor) if "." in match[1] else int(match[1]) * factor


def quantity(value: float) -> str:
    """Parameters and tokens, to three figures: ``950``, ``135M``, ``1.4T``."""
    letters = iter(("", "k", "M", "B"))
    letter = next(letters)
    while abs(value) >= 999.5 and letter != "T":
        value, letter = value / 1000, next(letters, "T")
    return f"{value:.3g}{letter}" if value < 999.5 else f"{value:,.0f}{letter}"


def parse_quantity(text: str, name: str) -> float:
    """The reverse, for an option ``name``; also ``5.8e23``."""
    number, unit = r"\d{1,18}(?:\.\d{1,9})?(?:[eE]\+?\d{1,2})?", r"[kKmMbBgGtTpP]?"
    match = re.fullmatch(f"({number}) ?({unit})", text.strip(), re.ASCII)
    if match is None:
        raise InputError(
            f"--{name} is {shown(text)}, not a quantity",
            hint=f"--{name} 135M, 70B or 5.8e23",
            param=name,
        )
    return float(match[1]) * _THOUSANDS[match[2].lower()]


def seconds(value: float) -> str:
    """A duration: ``0.4 s``, ``2 min 05 s``, ``1 h 02 min``, ``12 days``, ``3.5 years``."""
    if value < 60:
        return f"{value:.1f} s"
    minutes, rest = divmod(round(value), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    if minutes < 48 * 60:
        return f"{minutes // 60} h {minutes % 60:02d} min"
    days = minutes / (24 * 60)
    return f"{days:.0f} days" if days < 1000 else f"{days / 365.25:,.3g} years"


def short_digest(digest: str) -> str:
    """``sha256:69372f36aca1+int8`` of a model's whole digest: with the form, which tells it from
    others of the same files."""
    shortened = "+".join(part[:19] for part in digest.split("+"))
    return printable(shortened, one_line=True)


def columns(rows: Sequence[Sequence[str]], *, indent: int = 0, gap: int = 3) -> list[str]:
    """Rows as aligned lines; the last column is not padded."""
    if not rows:
        return []
    widths = [max(_width(row[i]) for row in rows) for i in range(len(rows[0]))]
    return [
        " " * indent
        + (" " * gap)
        .join(cell + " " * (width - _width(cell)) for cell, width in zip(row, widths, strict=True))
        .rstrip()
        for row in rows
    ]


def _width(text: str) -> int:
    return sum(
        0 if unicodedata.combining(c) else 1 + (unicodedata.east_asian_width(c) in "WF")
        for c in text
    )


def figures(done: int, total: int | None, unit: str, elapsed_s: float, before: int = 0) -> str:
    """``5 of 14 files, 3 files/s, 2.8 s left``; rate and end once there is something to go by.
    ``before``: what was done when the clock started, as of a download that goes on."""
    counted = count(done, unit)
    if total is not None:
        counted = f"{done if unit != 'bytes' else size(done)} of {count(total, unit)}"
    if done <= before or elapsed_s < 0.5:
        return counted
    rate = (done - before) / elapsed_s
    speed = f"{size(rate)}/s" if unit == "bytes" else f"{rate:.1f} {unit}/s"
    left = f", {seconds((total - done) / rate)} left" if total is not None else ""
    return f"{counted}, {speed}{left}"


def count(number: int, unit: str) -> str:
    """``3 files``; bytes as `size`."""
    return size(number) if unit == "bytes" else f"{number} {unit}"
