"""Verses of the Bible in two languages, aligned, from Debian's packages of SWORD modules.

Both texts, the King James Version and the Reina-Valera of 1909, number their verses alike and are
in the public domain. SWORD's zText format keeps, for each testament, an index of verses (``bzv``),
an index of blocks (``bzs``) and the blocks, zlib each (``bzz``).
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

from pinned import DebianPackage, debian_folder

__all__ = ["verse_pairs"]

ENGLISH = DebianPackage(
    "sword-text-kjv",
    "22.29-1",
    "abaed17486a0e3d2895a932c9cd7fff2a3a2bd5dc84d37518aa272b2afbfa433",
)
SPANISH = DebianPackage(
    "sword-text-sparv",
    "2.87-1",
    "c39b44396b6898a05b3753ac6c55c88f1a5a41f1fd6a0bc5dac7fe96aca5141b",
)


def verse_pairs() -> list[tuple[str, str]]:
    """(English, Spanish) of each verse that both have, in their order."""
    folders = ("engKJV2006eb", "spaRV1909eb")
    texts = [
        [_plain(text) for text in _verses(next(debian_folder(package).rglob(folder)))]
        for package, folder in zip((ENGLISH, SPANISH), folders, strict=True)
    ]
    return [(one, other) for one, other in zip(*texts, strict=True) if one and other]


def _verses(folder: Path) -> Iterator[str]:
    for part in ("ot", "nt"):
        data = (folder / f"{part}.bzz").read_bytes()
        index = struct.iter_unpack("<III", (folder / f"{part}.bzs").read_bytes())
        blocks = [zlib.decompress(data[start : start + size]) for start, size, _ in index]
        for block, start, size in struct.iter_unpack("<IIH", (folder / f"{part}.bzv").read_bytes()):
            yield blocks[block][start : start + size].decode() if size else ""


def _plain(text: str) -> str:
    """Without markup, notes and titles."""
    text = re.sub(r"<(note|title)\b[^>]*/>", "", text)
    text = re.sub(r"<(note|title)\b.*?</\1>", "", text, flags=re.S)
    return " ".join(re.sub(r"<[^>]+>", "", text).split())
