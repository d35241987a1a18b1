"""The structure of a document as JSON, as the index keeps it beside the text."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import astuple

from lmstack.rag.documents import Block, Page, Section

__all__ = [
    "dump_blocks",
    "dump_pages",
    "dump_sections",
    "load_blocks",
    "load_pages",
    "load_sections",
]


def dump_sections(sections: Iterable[Section]) -> str:
    return json.dumps(
        [[s.title, s.level, s.start, s.end, s.path] for s in sections], ensure_ascii=False
    )


def load_sections(data: str) -> tuple[Section, ...]:
    return tuple(
        Section(title, level, start, end, tuple(above))
        for title, level, start, end, above in json.loads(data)
    )


def dump_blocks(blocks: Iterable[Block]) -> str:
    return json.dumps([astuple(block) for block in blocks], separators=(",", ":"))


def load_blocks(data: str | None) -> tuple[Block, ...]:
    """None where an older format did not keep them."""
    return tuple(
        Block(kind, start, end, (header[0], header[1]) if header else None)
        for kind, start, end, header in json.loads(data or "[]")
    )


def dump_pages(pages: tuple[Page, ...]) -> str:
    return json.dumps([[p.number, p.start, p.end] for p in pages], separators=(",", ":"))


def load_pages(data: str) -> tuple[Page, ...]:
    return tuple(Page(*page) for page in json.loads(data))
