"""Entries of a ZIP archive and elements of their XML, within limits.

Sizes are checked before anything is unpacked, and again while it is: what an archive declares
need not be true. A document type declaration is refused whatever it says, so that there are no
entities to expand and nothing outside to fetch. Does not know what the entries mean.

Numbering gives the labels that Word writes before numbered paragraphs (``2.1``, ``b)``, ``iv.``,
bullets), for the number formats of Western lists; others are counted in digits.
"""

from __future__ import annotations

import io
import re
import zipfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from xml.parsers import expat

from lmstack.rag.documents import LoadConfig, ProblemError

__all__ = ["Archive", "Level", "Numbering", "parse_xml"]

_PLACE = re.compile(r"%([1-9])")
_ROMAN = (
    (1000, "m"), (900, "cm"), (500, "d"), (400, "cd"), (100, "c"), (90, "xc"),
    (50, "l"), (40, "xl"), (10, "x"), (9, "ix"), (5, "v"), (4, "iv"), (1, "i"),
)  # fmt: skip


@dataclass(slots=True)
class Level:
    format: str = "decimal"
    text: str = ""
    start: int = 1


@dataclass(slots=True)
class Numbering:
    """``lists``: number of a list to its levels; ``counters`` stand where the last label was."""

    lists: Mapping[str, Mapping[int, Level]]
    counters: dict[str, dict[int, int]] = field(default_factory=dict)

    def label(self, number: str, depth: int) -> str:
        """The label of the next paragraph of list ``number`` at ``depth``; counts it."""
        levels = self.lists.get(number)
        if levels is None or depth not in levels:
            return "-"
        level = levels[depth]
        if level.format in ("bullet", "none"):
            return "-" if level.format == "bullet" else ""
        counts = self.counters.setdefault(number, {})
        counts[depth] = counts.get(depth, level.start - 1) + 1
        for deeper in [d for d in counts if d > depth]:
            del counts[deeper]

        def place(match: re.Match[str]) -> str:
            at = int(match.group(1)) - 1
            shown = levels.get(at, Level())
            return _shown(counts.get(at, shown.start), shown.format)

        return _PLACE.sub(place, level.text).strip()


def _shown(value: int, style: str) -> str:
    make: dict[str, Callable[[int], str]] = {
        "lowerLetter": _letters,
        "upperLetter": lambda n: _letters(n).upper(),
        "lowerRoman": _roman,
        "upperRoman": lambda n: _roman(n).upper(),
    }
    return make.get(style, str)(value)


def _letters(value: int) -> str:
    """1 is a, 27 is aa, 28 is bb, as Word counts."""
    turns, letter = divmod(max(value, 1) - 1, 26)
    return chr(ord("a") + letter) * min(turns + 1, 10)


def _roman(value: int) -> str:
    if not 0 < value < 4000:
        return str(value)
    result = ""
    for size, sign in _ROMAN:
        count, value = divmod(value, size)
        result += sign * count
    return result


MAX_ENTRIES = 10_000
# Text compresses to a tenth; a thousandth is a bomb. Small entries may do what they like.
MAX_RATIO, FREE_BYTES = 200, 10_000_000
MAX_XML_DEPTH = 1_000
_OLE = bytes.fromhex("d0cf11e0a1b11ae1")


class Archive:
    """The entries of ``data``; reading counts against ``config.max_unpacked_bytes``."""

    def __init__(self, data: bytes, config: LoadConfig) -> None:
        if data.startswith(_OLE):
            raise _compound(data)
        try:
            self._zip = zipfile.ZipFile(io.BytesIO(data))
        except (zipfile.BadZipFile, ValueError, OverflowError, NotImplementedError):
            raise _broken("it is no archive of parts") from None
        entries = self._zip.infolist()
        if len(entries) > MAX_ENTRIES:
            raise ProblemError(
                "size",
                f"holds {len(entries):,} parts, more than the limit of {MAX_ENTRIES:,}",
                "save it again, or leave it out",
            )
        self._entries = {entry.filename: entry for entry in entries}
        self._room = config.max_unpacked_bytes

    def __contains__(self, name: str) -> bool:
        return name in self._entries

    def read(self, name: str) -> bytes:
        """The bytes of an entry, empty if there is none."""
        entry = self._entries.get(name)
        if entry is None:
            return b""
        if entry.flag_bits & 1:
            raise ProblemError("encrypted", "is encrypted", "save a copy without a password")
        size = entry.file_size
        if size > self._room:
            raise _bomb(name, size)
        if size > FREE_BYTES and size > MAX_RATIO * max(entry.compress_size, 1):
            raise _bomb(name, size)
        try:
            with self._zip.open(entry) as part:
                data = part.read(size + 1)
        except (zipfile.BadZipFile, zlib.error, EOFError, OSError, NotImplementedError) as error:
            raise _broken(f"its part {name} cannot be unpacked: {error}") from None
        except (ValueError, RuntimeError) as error:
            raise _broken(f"its part {name} cannot be unpacked: {error}") from None
        if len(data) > size:
            raise _bomb(name, len(data))
        self._room -= len(data)
        return data


def _broken(what: str) -> ProblemError:
    return ProblemError("failed", f"is broken: {what}", "open and save it again")


def _bomb(name: str, size: int) -> ProblemError:
    return ProblemError(
        "size",
        f"would unfold into too much: its part {name} alone has {size / 1e6:.0f} MB",
        "leave it out, or raise max_unpacked_bytes if it is sound",
    )


def _compound(data: bytes) -> ProblemError:
    if "EncryptedPackage".encode("utf-16-le") in data:
        return ProblemError(
            "encrypted", "is encrypted and needs a password", "save a copy without a password"
        )
    return ProblemError(
        "format", "is in the format of Word 97 to 2003", "save it as .docx in Word or LibreOffice"
    )


def parse_xml(
    data: bytes,
    start: Callable[[str, Mapping[str, str]], None],
    end: Callable[[str], None],
    text: Callable[[str], None],
) -> None:
    """Call back for each element of ``data``, named ``namespace}local``."""
    parser = expat.ParserCreate(namespace_separator="}")
    parser.buffer_text = True
    depth = 0

    def refuse(*_: object) -> None:
        raise ProblemError(
            "format",
            "declares a document type in its XML, which no word processor writes",
            "leave it out; it may have been made to harm",
        )

    def begin(name: str, attributes: dict[str, str]) -> None:
        nonlocal depth
        depth += 1
        if depth > MAX_XML_DEPTH:
            raise ProblemError(
                "format",
                f"nests its XML more than {MAX_XML_DEPTH} deep",
                "leave it out, or save it again",
            )
        start(name, attributes)

    def finish(name: str) -> None:
        nonlocal depth
        depth -= 1
        end(name)

    parser.StartDoctypeDeclHandler = refuse
    parser.StartElementHandler = begin
    parser.EndElementHandler = finish
    parser.CharacterDataHandler = text
    try:
        parser.Parse(data, True)
    except expat.ExpatError as error:
        raise _broken(f"its XML is not well formed: {error}") from None
