"""Processes of the supervisor: started, followed within bounds, and ended with all of theirs."""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import IO, Literal

from lmstack.agents.sandbox.isolation import IsolatedCommand

__all__ = ["Ran", "Running", "followed"]

End = Literal["exit", "signal", "time", "output"]
Stream = int | IO[bytes]
_PIECE = 1 << 16
_TO_END_S = 5.0


@dataclass(frozen=True)
class Ran:
    """``end``: it ended by itself (``exit``, with ``status``) or by a signal (``status``: its
    number); it was killed over its ``time`` or over its ``output``, of which the first bytes that
    are allowed are here."""

    end: End
    status: int
    stdout: bytes
    stderr: bytes


class Running:
    """A process, ended with all that it started where the context ends. ``is_of_thread``: the
    calling thread lives until then; otherwise a thread that lives as long as this process starts
    it, because bubblewrap ends with the thread that did."""

    def __init__(
        self,
        prepared: IsolatedCommand,
        fds: Sequence[int] = (),
        *,
        stdin: Stream,
        stdout: Stream,
        stderr: Stream,
        is_of_thread: bool = True,
    ) -> None:
        def start() -> subprocess.Popen[bytes]:
            return subprocess.Popen(
                prepared.command,
                pass_fds=[*prepared.fds, *fds],
                start_new_session=True,
                env={},
                stdin=stdin,
                stdout=stdout,
                stderr=stderr,
            )

        self._life = prepared.life
        self._ending = threading.Lock()
        self.process = start() if is_of_thread else _lasting_thread().submit(start).result()

    def __enter__(self) -> subprocess.Popen[bytes]:
        return self.process

    def __exit__(self, *error: object) -> None:
        if self.process.stdin is not None:
            self.process.stdin.close()
        self.stop()
        if self._life is not None:
            with suppress(subprocess.TimeoutExpired):  # then the supervisor is at fault
                self.process.wait(_TO_END_S)
        with self._ending:
            if self.process.poll() is None:
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        for stream in (self.process.stdout, self.process.stderr):
            if stream is not None:
                stream.close()

    def stop(self) -> None:
        """Have it end, from any thread."""
        with self._ending:
            if self._life is not None:
                self._life.close()
            elif self.process.poll() is None:
                os.killpg(self.process.pid, signal.SIGKILL)


_threads: dict[int, ThreadPoolExecutor] = {}


def _lasting_thread() -> ThreadPoolExecutor:
    """One of this process; a forked one has none of its parent's threads."""
    return _threads.setdefault(os.getpid(), ThreadPoolExecutor(1, "lmstack-sandbox"))


def followed(process: subprocess.Popen[bytes], limit: int, deadline: float) -> Ran:
    """What the process writes, until it ends, has written more than ``limit`` bytes to either
    stream, or ``deadline`` has come."""
    assert process.stdout is not None
    assert process.stderr is not None
    texts = {process.stdout: bytearray(), process.stderr: bytearray()}
    end: End = "exit"
    with selectors.DefaultSelector() as selector:
        for stream in texts:
            selector.register(stream, selectors.EVENT_READ)
        while selector.get_map() and end == "exit":
            ready = selector.select(max(0.0, deadline - time.monotonic()))
            if not ready:
                end = "time"
            for key, _ in ready:
                stream = key.fileobj  # type: ignore[assignment]
                piece = os.read(key.fd, _PIECE)
                texts[stream] += piece
                if not piece:
                    selector.unregister(stream)
                elif len(texts[stream]) > limit:
                    end = "output"
    status = _status(process, deadline) if end == "exit" else None
    kept = [bytes(text[:limit]) for text in texts.values()]
    if status is None:
        return Ran("time" if end == "exit" else end, signal.SIGKILL, *kept)
    # The supervisor ends with 128 and the number of the signal that ended the program.
    return Ran("signal", status - 128, *kept) if status > 128 else Ran("exit", status, *kept)


def _status(process: subprocess.Popen[bytes], deadline: float) -> int | None:
    """The exit status; None where it has closed its output and goes on over its time."""
    try:
        return process.wait(max(0.0, deadline - time.monotonic()))
    except subprocess.TimeoutExpired:
        return None
