"""Frames to and from a supervisor, each within its time."""

from __future__ import annotations

import os
import selectors
import subprocess
import time
from collections.abc import Mapping, Sequence
from typing import Any

from lmstack.agents.sandbox.inside.wire import packed, unpacked

__all__ = ["EndedError", "Exchange"]

_PIECE = 1 << 20
_MOST = 1 << 31  # bytes of a frame or blob: a supervisor that sends more is none of ours


class EndedError(Exception):
    """The supervisor has ended, does not answer, or answers nonsense."""


class Exchange:
    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._write, self._read = process.stdin.fileno(), process.stdout.fileno()
        os.set_blocking(self._write, False)
        os.set_blocking(self._read, False)

    def ask(
        self, message: Mapping[str, Any], blobs: Sequence[bytes], seconds: float
    ) -> tuple[dict[str, Any], list[bytes]]:
        """The answer to ``message``, within ``seconds``."""
        deadline = time.monotonic() + seconds
        view = memoryview(packed(dict(message), blobs))
        try:
            while view:
                _wait(self._write, selectors.EVENT_WRITE, deadline)
                view = view[os.write(self._write, view) :]
        except OSError as error:
            raise EndedError from error
        return self.receive(seconds, deadline)

    def receive(
        self, seconds: float, deadline: float | None = None
    ) -> tuple[dict[str, Any], list[bytes]]:
        until = time.monotonic() + seconds if deadline is None else deadline
        try:
            return unpacked(lambda size: self._exactly(size, until))
        except (ValueError, OSError) as error:
            raise EndedError from error

    def _exactly(self, size: int, deadline: float) -> bytes:
        data = bytearray()
        while len(data) < min(size, _MOST):
            _wait(self._read, selectors.EVENT_READ, deadline)
            piece = os.read(self._read, min(size - len(data), _PIECE))
            if not piece:
                raise EndedError
            data += piece
        if size > _MOST:
            raise EndedError
        return bytes(data)


def _wait(fd: int, event: int, deadline: float) -> None:
    with selectors.DefaultSelector() as selector:
        selector.register(fd, event)
        if not selector.select(max(0.0, deadline - time.monotonic())):
            raise EndedError
