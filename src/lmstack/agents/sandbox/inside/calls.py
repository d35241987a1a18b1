"""One call of a session's worker, from its request to its reply, under limits.

Everything that the worker writes is bounded while it is read. Whatever it writes in the place of
its reply is plain data of bounded size, or it is ended.
"""

from __future__ import annotations

import fcntl
import json
import math
import os
import select
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from .confinement import Worker
from .quotas import FileQuota, answer

__all__ = ["OUT_OF_MEMORY", "AskerGoneError", "Call", "Pipes", "ProcessLimits"]

OUT_OF_MEMORY = 124  # the status of a worker that could not even tell
_PIECE = 1 << 16
_MOST_REPLY = 2 << 20


class AskerGoneError(Exception):
    """Whoever asked for the call is no more."""


@dataclass(frozen=True)
class ProcessLimits:
    """Of one call; ``output_bytes`` of each stream."""

    cpu_s: float
    wall_s: float
    output_bytes: int


@dataclass(frozen=True)
class Pipes:
    """The supervisor's ends of a worker's pipes, none of which blocks."""

    request: int
    reply: int
    stdout: int
    stderr: int

    def __post_init__(self) -> None:
        for fd in vars(self).values():
            fcntl.fcntl(fd, fcntl.F_SETFL, fcntl.fcntl(fd, fcntl.F_GETFL) | os.O_NONBLOCK)

    def close(self) -> None:
        for fd in vars(self).values():
            os.close(fd)


@dataclass
class Call:
    """``watched``: file descriptors one of which is closed at its other end when nobody waits for
    the call any more."""

    worker: Worker
    pipes: Pipes
    quota: FileQuota
    limits: ProcessLimits
    watched: Sequence[int]
    texts: dict[int, bytearray] = field(default_factory=dict)
    _reply: bytearray = field(default_factory=bytearray)
    _outbox: memoryview = field(default_factory=lambda: memoryview(b""))
    _ended: str = ""

    def run(self, code: str) -> dict[str, Any]:
        """How it ended (``ok``, ``time``, ``output``, ``memory``, ``killed``), the worker's answer,
        seconds; the worker is stopped then, or it has ended. `AskerGoneError` where the other end
        closes."""
        pipes, token = self.pipes, os.urandom(8).hex()
        frame = json.dumps({"id": token, "code": code}).encode()
        self._outbox = memoryview(len(frame).to_bytes(4, "big") + frame)
        self.texts = {pipes.stdout: bytearray(), pipes.stderr: bytearray()}
        began, cpu = time.monotonic(), self.worker.cpu_s()
        self.worker.signal(signal.SIGCONT)
        self._follow(began, cpu)
        seconds = time.monotonic() - began
        answered = self._answer(token)
        if answered is None or not self.worker.stop():
            self._ended = self._ended or "killed"
            self.worker.kill()
        self._drain()
        if self._ended and self.worker.status is None:  # there was more output in the pipes
            self.worker.kill()
        used = self.worker.cpu_s() - cpu
        if self._ended == "killed" and used >= self.limits.cpu_s:
            self._ended = "time"
        if self._ended == "killed" and self.worker.status == OUT_OF_MEMORY << 8:
            self._ended = "memory"
        return {
            "ended": self._ended or "ok",
            "status": self.worker.status,
            "value": _text(answered, "value"),
            "error": _error(answered),
            "seconds": seconds,
            "cpu_s": used,
        }

    def _follow(self, began: float, cpu: float) -> None:
        """Until there is a reply, the worker has ended, or a limit is reached."""
        pipes = self.pipes
        poll = select.poll()
        for fd in (pipes.reply, pipes.stdout, pipes.stderr, self.worker.listener):
            poll.register(fd, select.POLLIN)
        poll.register(self.worker.ended, select.POLLIN)
        poll.register(pipes.request, select.POLLOUT)
        for fd in self.watched:
            poll.register(fd, 0)  # only that it is closed
        while not self._ended and not self._has_reply():
            left = min(
                began + self.limits.wall_s - time.monotonic(),
                cpu + self.limits.cpu_s - self.worker.cpu_s(),
            )
            if left <= 0:
                self._ended = "time"
                return
            for fd, event in poll.poll(math.ceil(left * 1000)):
                if not self._served(fd, event):
                    poll.unregister(fd)

    def _served(self, fd: int, event: int) -> bool:
        """Whether more is to be expected from there."""
        if fd in self.watched:
            raise AskerGoneError
        if fd == self.worker.ended:
            self._ended = "killed"
            return False
        if fd == self.worker.listener:
            if event & select.POLLIN:
                answer(fd, self.quota)
            return not event & select.POLLHUP
        if fd == self.pipes.request:
            return self._sent()
        return self._read(fd)

    def _sent(self) -> bool:
        try:
            self._outbox = self._outbox[os.write(self.pipes.request, self._outbox) :]
        except BlockingIOError:
            return True
        except OSError:
            return False  # it has closed it, and will give no reply
        return len(self._outbox) > 0

    def _read(self, fd: int) -> bool:
        try:
            piece = os.read(fd, _PIECE)
        except BlockingIOError:
            return True
        text = self._reply if fd == self.pipes.reply else self.texts[fd]
        text += piece
        if fd == self.pipes.reply:
            if len(text) > _MOST_REPLY:
                self._ended = "killed"
        elif len(text) > self.limits.output_bytes:
            self._ended = "output"
            del text[self.limits.output_bytes :]
        return bool(piece) and not self._ended

    def _has_reply(self) -> bool:
        size = int.from_bytes(self._reply[:4], "big")
        return len(self._reply) >= 4 + size and len(self._reply) >= 4

    def _answer(self, token: str) -> dict[str, Any] | None:
        """The worker's, or None where it has sent anything else."""
        if not self._has_reply() or self._ended:
            return None
        size = int.from_bytes(self._reply[:4], "big")
        try:
            found = json.loads(self._reply[4 : 4 + size])
        except (ValueError, RecursionError):
            return None
        fits = isinstance(found, dict) and found.get("id") == token
        return found if fits and len(self._reply) == 4 + size else None

    def _drain(self) -> None:
        """What has been written by now."""
        for fd, text in self.texts.items():
            while len(text) <= self.limits.output_bytes:
                try:
                    piece = os.read(fd, _PIECE)
                except BlockingIOError:
                    break
                if not piece:
                    break
                text += piece
            if len(text) > self.limits.output_bytes:
                del text[self.limits.output_bytes :]
                self._ended = self._ended or "output"


def _text(found: Any, name: str) -> str | None:
    """A field of what the worker sent, in the place of which anything may stand."""
    value = found.get(name) if isinstance(found, dict) else None
    return value if isinstance(value, str) else None


def _error(found: dict[str, Any] | None) -> dict[str, str | None] | None:
    error = None if found is None else found.get("error")
    if error is None:
        return None
    return {name: _text(error, name) for name in ("type", "message", "traceback")}
