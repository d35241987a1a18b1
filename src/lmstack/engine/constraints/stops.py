"""What ends a text by its bytes: where the output ends, and how much of it is already certain.

Covers stop strings, which are no part of the output, and expressions, which are: see `patterns`.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Self

from lmstack.engine.constraints.patterns import PatternMatcher

__all__ = ["StopMatcher"]


class StopMatcher:
    """Feed the bytes of each token to `push`.

    ``safe_bytes``: bytes from the start of the output that no stop string can take back. Once
    ``stopped``, it is the length of the output: all before the earliest stop string, or all up
    to the end of what ``pattern`` matched, whichever is less.

    Bytes and not text, since a stop string may end within a token and a character may span
    two; UTF-8 lets a match begin only where a character does.
    """

    def __init__(self, stops: Sequence[bytes], pattern: PatternMatcher | None = None) -> None:
        self._stops = stops
        self._pattern = pattern
        self._keep = max((len(s) for s in stops), default=1) - 1
        self._tail = b""
        self._length = 0
        self.safe_bytes = 0
        self.stopped = False

    def fork(self) -> Self:
        """A matcher of its own at the same place."""
        other = copy.copy(self)
        other._pattern = None if self._pattern is None else self._pattern.fork()
        return other

    def push(self, data: bytes) -> bool:
        """Append ``data``; True once a stop string or a match has been seen."""
        if self.stopped:
            return True
        matched = None if self._pattern is None else self._pattern.push(data)
        if matched is not None:
            end = self._length + matched
            # A stop string that ends within the match comes first.
            if not self._push(data[:matched]):
                self.stopped, self.safe_bytes = True, end
            return True
        return self._push(data)

    def _push(self, data: bytes) -> bool:
        window = self._tail + data
        start = self._length - len(self._tail)
        self._length += len(data)
        found = [i for i in (window.find(s) for s in self._stops) if i >= 0]
        if found:
            self.stopped = True
            self.safe_bytes = start + min(found)
            return True
        self.safe_bytes = self._length - self._held(window)
        self._tail = window[len(window) - min(self._keep, len(window)) :]
        return False

    def finish(self) -> None:
        """The output ends here: what was held back is part of it."""
        if not self.stopped:
            self.stopped = True
            self.safe_bytes = self._length

    def _held(self, window: bytes) -> int:
        """Length of the longest end of ``window`` that begins a stop string."""
        for length in range(min(self._keep, len(window)), 0, -1):
            end = window[-length:]
            if any(s.startswith(end) for s in self._stops):
                return length
        return 0
