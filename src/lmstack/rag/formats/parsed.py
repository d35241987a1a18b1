"""What a format's parser gives back; `load` makes a `Document` of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from lmstack.rag.documents import Block, Page, Section
from lmstack.rag.filters import Value

__all__ = ["Parsed"]


@dataclass(frozen=True, slots=True)
class Parsed:
    """The parts of a `Document` that only its format knows. ``title`` may be empty."""

    text: str
    title: str = ""
    sections: Sequence[Section] = ()
    blocks: Sequence[Block] = ()
    pages: Sequence[Page] = ()
    fields: Mapping[str, Value] = field(default_factory=dict)
