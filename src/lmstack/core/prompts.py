"""Prompts as objects: trusted instructions and untrusted data kept apart until the last moment.

An untrusted span is fenced with a tag that carries a key which occurs in no untrusted span, in
whatever case or width it is written, so text inside cannot close its own fence. What a model
makes of a fence is up to the model: this keeps data apart, it does not make a model obey.
"""

from __future__ import annotations

import hashlib
import itertools
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

__all__ = ["Prompt", "Span"]


@dataclass(frozen=True, slots=True)
class Span:
    """``label`` names the source of an untrusted span (a path, ``user``); shown as an
    attribute of its fence."""

    text: str
    untrusted: bool = False
    label: str = ""


@dataclass(frozen=True)
class Prompt:
    """An immutable sequence of spans, versioned by its content."""

    spans: tuple[Span, ...]

    @classmethod
    def of(cls, *parts: str | Span) -> Prompt:
        return cls(tuple(Span(p) if isinstance(p, str) else p for p in parts))

    def __add__(self, other: Prompt | Span | str) -> Prompt:
        more = other.spans if isinstance(other, Prompt) else Prompt.of(other).spans
        return Prompt(self.spans + more)

    @cached_property
    def digest(self) -> str:
        """SHA-256 over the spans and their trust, lengths included."""
        return hashlib.sha256(_canonical(self.spans)).hexdigest()

    @cached_property
    def fence_key(self) -> str:
        """Eight hex digits that do not occur in any untrusted span, nor look as if they did."""
        folded = [
            unicodedata.normalize("NFKC", text).casefold()
            for span in self.spans
            if span.untrusted
            for text in (span.text, span.label)
        ]
        attempts = (f"{self.digest}{n}".encode() for n in itertools.count())
        hashes = (hashlib.sha256(attempt).hexdigest() for attempt in attempts)
        keys = (digest[:8] for digest in itertools.chain([self.digest], hashes))
        return next(key for key in keys if not any(key in text for text in folded))

    def render(self) -> str:
        """The text for the model."""
        return "".join(self.pieces())

    def pieces(self) -> list[str]:
        """`render`, a text for each span."""
        return [self._fenced(s) if s.untrusted else s.text for s in self.spans]

    def _fenced(self, span: Span) -> str:
        label = _plain(span.label)
        attribute = f' from="{label}"' if label else ""
        key = self.fence_key
        return f"<data-{key}{attribute}>\n{span.text}\n</data-{key}>"


def _plain(label: str) -> str:
    """``label`` without what could end its attribute, its tag or its line."""
    return "".join(c if c.isprintable() and c not in '"<>' else "?" for c in label)


def _canonical(spans: Iterable[Span]) -> bytes:
    out = bytearray()
    for span in spans:
        for field in (span.text, span.label):
            data = field.encode("utf-8", "surrogatepass")
            out += len(data).to_bytes(8, "big") + data
        out.append(span.untrusted)
    return bytes(out)
