"""Which characters of a rendered prompt came from messages, where it matters.

A control token such as ``<|im_end|>`` ends a turn. In a rendered prompt the template's own and
one that somebody typed look the same; this keeps them apart. Covers whole tokens in a message and
tokens that come about only together with what stands beside it. Does not cover templates that
assemble a control token out of a message letter by letter. A template that looks for a control
token inside a message does not find it: nobody can type one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache

__all__ = ["START", "STOP", "Untrusted"]

# Noncharacters: valid in a str, never assigned, so no template or filter cares about them.
_OPEN, _CLOSE = "\ufdd0", "\ufdd1"
# What marks a part of a rendering (`turns`); in a message they are as foreign as the other two.
START, STOP = "\ufdd2", "\ufdd3"
_OWN = (_OPEN, _CLOSE, START, STOP)
_MARK = re.compile(f"{_OPEN}([0-9]+){_CLOSE}")


class Untrusted:
    """One rendering. `hide` goes over every string of a message before the template runs: each
    piece that spells a control token, or that could be the part of one which its neighbours
    complete, becomes a mark (templates may trim, split or quote contents; they leave marks
    alone). `split` then puts the text back, and whatever control token touches it is known not
    to be the template's own.
    """

    def __init__(self, special_tokens: Iterable[str]) -> None:
        self._forms = _forms(tuple(special_tokens))
        self._hidden: list[str] = []

    def hide(self, text: str) -> str:
        """``text`` with marks in place of what may not count."""
        forms = self._forms
        if not forms.starts.isdisjoint(text):
            text = forms.whole.sub(lambda match: self._mark(match[0]), text)
        core = text.strip()
        if not core or not forms.longest:
            return text
        begin = text.index(core[0])
        lead, tail = text[:begin], text[begin + len(core) :]
        if len(core) < forms.longest and any(core in token for token in forms.tokens):
            return lead + self._mark(core) + tail
        reach = range(min(forms.longest - 1, len(core)), 0, -1)
        start = next((n for n in reach if core[:n] in forms.ends), 0)
        end = next((n for n in reach if core[-n:] in forms.beginnings), 0)
        end = min(end, len(core) - start)
        first = self._mark(core[:start]) if start else ""
        last = self._mark(core[len(core) - end :]) if end else ""
        return lead + first + core[start : len(core) - end] + last + tail

    def split(self, rendered: str) -> list[tuple[str, bool]]:
        """Pieces of the prompt with the hidden text back in place; True: control tokens count."""
        text, foreign = self._restore(rendered)
        pieces: list[tuple[str, bool]] = []
        start = 0
        for match in self._forms.occurrence.finditer(text) if foreign else ():
            low, high = match.span()
            if any(low < stop and begin < high for begin, stop in foreign):
                pieces += [(text[start:low], True), (text[low:high], False)]
                start = high
        return [piece for piece in [*pieces, (text[start:], True)] if piece[0]]

    def places(self, rendered: str, places: Sequence[int]) -> list[int]:
        """Where ``places`` of ``rendered``, in order, are once the hidden text is back."""
        found, moved, marks = [], 0, _MARK.finditer(rendered)
        mark = next(marks, None)
        for place in places:
            while mark is not None and mark.end() <= place:
                moved += len(self._hidden[int(mark[1])]) - len(mark[0])
                mark = next(marks, None)
            found.append(place + moved)
        return found

    def _mark(self, text: str) -> str:
        self._hidden.append(text)
        return f"{_OPEN}{len(self._hidden) - 1}{_CLOSE}"

    def _restore(self, rendered: str) -> tuple[str, list[tuple[int, int]]]:
        if not self._hidden:
            return rendered, []
        parts: list[str] = []
        foreign: list[tuple[int, int]] = []
        length = position = 0
        for match in _MARK.finditer(rendered):
            before, hidden = rendered[position : match.start()], self._hidden[int(match[1])]
            parts += [before, hidden]
            foreign.append((length + len(before), length + len(before) + len(hidden)))
            length += len(before) + len(hidden)
            position = match.end()
        return "".join([*parts, rendered[position:]]), foreign


class _Forms:
    """What is asked about a set of control tokens, worked out once."""

    def __init__(self, tokens: tuple[str, ...]) -> None:
        # Longest first, as the tokenizer matches them.
        self.tokens = sorted((token for token in tokens if token), key=len, reverse=True)
        self.longest = len(self.tokens[0]) if self.tokens else 0
        self.beginnings = {t[:n] for t in self.tokens for n in range(1, len(t))}
        self.ends = {t[n:] for t in self.tokens for n in range(1, len(t))}
        escaped = [re.escape(token) for token in self.tokens]
        self.occurrence = re.compile("|".join(escaped) or r"(?!)")
        # Whatever the case: a template may change it.
        self.whole = re.compile("|".join([*escaped, *_OWN]), re.IGNORECASE)
        first = {token[0] for token in self.tokens}
        self.starts = {*_OWN} | {c.lower() for c in first} | {c.upper() for c in first}


@lru_cache(maxsize=8)
def _forms(tokens: tuple[str, ...]) -> _Forms:
    return _Forms(tokens)
