"""Grammars that are not simple, each in a process of its own as long as it is used.

llguidance has no bound on what intersected expressions may cost: 24 short patterns of one string
are minutes and gigabytes, in compiling or at any later token. In a process of its own a grammar
has a limit of time for compiling and for each step, and one of memory; past them the kernel ends
the process, and the request fails. A process is forked in milliseconds from one that has the
vocabulary already, which is started when the first is needed.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import socket
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable
from collections.abc import Sequence as Seq
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from lmstack.core import EngineError, Grammar, InputError, OverloadedError, UnsupportedError
from lmstack.engine.constraints.automaton import param_of
from lmstack.engine.constraints.vocabulary import GrammarVocabulary

__all__ = ["IsolatedGrammars", "IsolatedMatcher"]

# Of processor time, so that a busy machine does not refuse a good grammar.
MAX_COMPILE_S = 2.0
# Every stream waits for the mask of each: of one at the beginning, of several one after the other,
# and what each later one adds to what is left of these.
MAX_MASK_S = 0.1
MAX_STEPS_S = 0.2
REFILL_S = 0.002
MAX_MEMORY_BYTES = 128 << 20
# By the clock, for a machine that is busy or a process that is stopped.
MAX_WAIT_S = 60.0
MAX_STEP_WAIT_S = 10.0
# Processes at once.
MAX_OF_SCOPE, MAX_OF_ALL = 8, 32
_POLL_S = 0.05
# The package by its path alone: its __init__ would load torch. -P: a module that lies in the
# current folder is never run.
_START = (
    "import sys, types; "
    "package = types.ModuleType('lmstack.engine'); package.__path__ = [sys.argv.pop()]; "
    "sys.modules['lmstack.engine'] = package; "
    "from lmstack.engine.constraints.grammar_process import main; main()"
)


class _GoneError(Exception):
    """The process has ended, or is taken to have."""


class _Process:
    """The connection to one. Thread-safe."""

    def __init__(self, connection: Connection, scope: str) -> None:
        self.scope, self.alive = scope, True
        self._connection = connection
        self._lock = threading.Lock()
        self.matchers: weakref.WeakSet[IsolatedMatcher] = weakref.WeakSet()
        self.dropped: list[int] = []  # of these, those that nobody has any more

    def ask(
        self, asked: dict[str, Any], wait_s: float, is_over: Callable[[], bool] | None = None
    ) -> tuple[dict[str, Any], bytes]:
        """Its answer; `_GoneError` where there is none, or ``is_over`` before there is one."""
        with self._lock:
            if not self.alive:
                raise _GoneError
            try:
                dropped = [self.dropped.pop() for _ in range(len(self.dropped))]
                self._connection.send_bytes(json.dumps({**asked, "drop": dropped}).encode())
                end = time.monotonic() + wait_s
                while not self._connection.poll(_POLL_S):
                    over = not self.alive or (is_over is not None and is_over())
                    if over or time.monotonic() > end:
                        raise EOFError
                head, _, rest = self._connection.recv_bytes().partition(b"\n")
            except (EOFError, OSError):
                self.alive = False
                self._connection.close()
                raise _GoneError from None
        return json.loads(head), rest

    def close(self) -> None:
        """End it, whatever it is doing."""
        self.alive = False
        with self._lock:  # whoever asks gives up
            self._connection.close()


class IsolatedMatcher:
    """As much of `llguidance.LLMatcher` as `GrammarMatcher` uses. One whose process has ended is
    in error."""

    def __init__(self, process: _Process, state: dict[str, Any]) -> None:
        self._process, self._number = process, int(state["of"])
        self._stopped, self._error = bool(state["stopped"]), str(state["error"])
        process.matchers.add(self)

    def __del__(self) -> None:
        self._process.dropped.append(self._number)

    def has_ended(self) -> bool:
        """Whether its process has, so that it is of no use any more."""
        return not self._process.alive

    def is_alone(self) -> bool:
        """Whether its process ends with it."""
        return len(self._process.matchers) == 1

    def deep_copy(self) -> IsolatedMatcher:
        state, _ = self._ask("copy")
        return IsolatedMatcher(self._process, {"of": 0, **state})

    def is_stopped(self) -> bool:
        return self._stopped

    def is_error(self) -> bool:
        return bool(self._error)

    def get_error(self) -> str:
        return self._error

    def validate_tokens(self, tokens: list[int]) -> int:
        return int(self._ask("admits", tokens)[0]["found"] or 0)

    def compute_ff_tokens(self) -> list[int]:
        return list(self._ask("forced")[0]["found"] or ())

    def consume_token(self, token: int) -> bool:
        return bool(self._ask("consume", token)[0]["found"])

    def fill(self, mask: npt.NDArray[np.int32], row: int) -> None:
        """Write what may come next into ``mask[row]``."""
        words = np.frombuffer(self._ask("mask")[1], np.int32)
        mask[row, : len(words)] = words[: mask.shape[1]]

    def _ask(self, what: str, value: int | Seq[int] | None = None) -> tuple[dict[str, Any], bytes]:
        asked = {"do": what, "of": self._number, "with": value}
        try:
            state, rest = self._process.ask(asked, MAX_STEP_WAIT_S)
        except _GoneError:
            over = f"a step takes more than {MAX_STEPS_S:g} s or {MAX_MEMORY_BYTES >> 20} MiB"
            state, rest = {"stopped": True, "error": over, "found": None}, b""
        if what != "copy":
            self._stopped, self._error = bool(state["stopped"]), str(state["error"])
        return state, rest


class IsolatedGrammars:
    """Makes the processes, for one vocabulary. Thread-safe."""

    def __init__(self, vocabulary: GrammarVocabulary) -> None:
        self._vocabulary = vocabulary
        self._lock = threading.Lock()
        self._channel: socket.socket | None = None
        self._closed = False
        self._live: weakref.WeakSet[_Process] = weakref.WeakSet()
        self._finalizer: weakref.finalize[..., Any] | None = None

    def compile(
        self, grammar: Grammar, scope: str, abandoned: threading.Event | None = None
    ) -> IsolatedMatcher:
        """A matcher at the beginning of ``grammar``; `InputError` where it cannot be enforced or
        is too complex, `EngineError` once ``abandoned`` or closed: its process ends then."""
        asked = {
            "kind": grammar.kind,
            "source": grammar.source,
            "limits": {
                "compile_s": MAX_COMPILE_S,
                "mask_s": MAX_MASK_S,
                "step_s": MAX_STEPS_S,
                "refill_s": REFILL_S,
                "memory_bytes": MAX_MEMORY_BYTES,
            },
        }
        process = self._forked(scope)

        def is_over() -> bool:
            return self._closed or (abandoned is not None and abandoned.is_set())

        try:
            state, _ = process.ask(asked, MAX_WAIT_S, is_over)
        except _GoneError:
            if is_over():
                raise EngineError("nobody waits for this grammar any more") from None
            raise _too_complex(grammar) from None
        if "refused" in state:
            process.close()
            message, hint, param, unsupported = state["refused"]
            error = UnsupportedError if unsupported else InputError
            raise error(message, hint=hint, param=param)
        return IsolatedMatcher(process, state)

    def has_room(self, scope: str) -> bool:
        """Whether another may be compiled for ``scope``."""
        live = [process.scope for process in list(self._live) if process.alive]
        return len(live) < MAX_OF_ALL and live.count(scope) < MAX_OF_SCOPE

    def close(self) -> None:
        """End all processes; what is being compiled is given up."""
        self._closed = True
        for process in list(self._live):
            process.close()
        with self._lock:
            if self._finalizer is not None:
                self._finalizer()

    def _forked(self, scope: str) -> _Process:
        if not self.has_room(scope):
            raise OverloadedError(
                f"{MAX_OF_SCOPE} complex grammars of yours, or {MAX_OF_ALL} of all, are in use",
                hint="wait for an answer, send the same grammar again, or simpler ones",
                retry_after_s=1,
            )
        with self._lock:
            if self._closed:
                raise EngineError("the engine is closed")
            ours, theirs = socket.socketpair()
            with theirs:
                try:
                    channel = self._channel or self._started()
                    socket.send_fds(channel, [b"f"], [theirs.fileno()])
                except OSError as error:
                    ours.close()
                    if self._finalizer is not None:
                        self._finalizer()  # the next one is started anew
                    self._channel = None
                    raise EngineError("the process that compiles grammars has ended") from error
            process = _Process(Connection(ours.detach()), scope)
            self._live.add(process)
            return process

    def _started(self) -> socket.socket:
        """The process that forks, ready."""
        ours, theirs = socket.socketpair()
        with theirs:
            child = subprocess.Popen(
                [sys.executable, "-P", "-c", _START, str(Path(__file__).parents[1])],
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                # Threads for vectors, which compiling has none of, are address space, and so are
                # arenas of threads.
                env={**os.environ, "OPENBLAS_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "1"},
                start_new_session=True,  # Ctrl-C is for the process that serves
            )
        self._channel = ours
        self._finalizer = weakref.finalize(self, _end, ours, child)
        vocabulary = {
            "tokens": [base64.b64encode(token).decode() for token in self._vocabulary.token_bytes],
            "eos_ids": sorted(self._vocabulary.eos_ids),
            "special_ids": sorted(self._vocabulary.special_ids),
        }
        sending = Connection(os.dup(ours.fileno()))
        with contextlib.closing(sending):
            sending.send_bytes(json.dumps(vocabulary).encode())
        ours.settimeout(MAX_WAIT_S)
        if ours.recv(1) != b"r":
            raise OSError("it ended before it was ready")
        return ours


def _end(channel: socket.socket, child: subprocess.Popen[bytes]) -> None:
    channel.close()
    try:
        child.wait(5)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()


def _too_complex(grammar: Grammar) -> InputError:
    return InputError(
        f"the {grammar.kind} grammar of {len(grammar.source)} characters is too complex: it takes "
        f"more than {MAX_COMPILE_S:g} s or {MAX_MEMORY_BYTES >> 20} MiB to compile, or more "
        "definitions within definitions than the compiler can follow",
        hint="use fewer patterns, properties and definitions",
        param=param_of(grammar),
    )
