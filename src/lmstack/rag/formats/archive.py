"""Entries of a ZIP archive and elements of their XML, within limits.

Sizes are checked before anything is unpacked, and again while it is: what an archive declares
need not be true. A document type declaration is refused whatever it says, so that there are no
entities to expand and nothing outside to fetch. Does not know what the entries mean.
"""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Callable, Mapping
from xml.parsers import expat

from lmstack.rag.documents import ProblemError
from lmstack.rag.formats.limits import LoadConfig

__all__ = ["Archive", "parse_xml"]

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
