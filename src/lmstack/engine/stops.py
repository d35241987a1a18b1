"""Stop strings over bytes: where the output ends, and how much of it is already certain."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["StopMatcher"]


class StopMatcher:
    """Feed the bytes of each token to `push`.

    ``safe_bytes``: bytes from the start of the output that no stop string can take back. Once
    ``stopped``, it is the length of the output: all before the earliest stop string.

    Bytes and not text, since a stop string may end within a token and a character may span
    two; UTF-8 lets a match begin only where a character does.
    """

    def __init__(self, stops: Sequence[bytes]) -> None:
        self._stops = stops
        self._keep = max((len(s) for s in stops), default=1) - 1
        self._tail = b""
        self._length = 0
        self.safe_bytes = 0
        self.stopped = False

    def push(self, data: bytes) -> bool:
        """Append ``data``; True once a stop string has been seen."""
        if self.stopped:
            return True
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
