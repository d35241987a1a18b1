"""The process that holds grammars which are not simple, and its children: one for each.

The first process has the vocabulary and does nothing but fork (`isolated.IsolatedGrammars` asks
it to). A child compiles one grammar and answers for its matchers. The kernel ends it where it
takes too much time or memory, and it ends itself when whoever asks has gone, in the middle of a
step too; all that these mean for others is that its connection closes.
"""

from __future__ import annotations

import base64
import contextlib
import gc
import json
import os
import resource
import signal
import socket
import threading
import time
from multiprocessing.connection import Connection
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import numpy as np
from llguidance.numpy import fill_next_token_bitmask

from lmstack.core import Grammar, InputError, LmstackError, UnsupportedError
from lmstack.engine.constraints.automaton import AutomatonBuilder, param_of
from lmstack.engine.constraints.vocabulary import GrammarVocabulary

__all__ = ["main"]

# Of forced text; a draft has no room for more.
MAX_FORCED = 64


def main() -> None:
    """Speaks on stdin, which is a socket: a vocabulary, then a connection for each child."""
    channel = socket.socket(fileno=os.dup(0))
    asked = json.loads(Connection(os.dup(0)).recv_bytes())
    vocabulary = GrammarVocabulary(
        [base64.b64decode(token) for token in asked["tokens"]],
        frozenset(asked["eos_ids"]),
        frozenset(asked["special_ids"]),
    )
    builder = AutomatonBuilder(vocabulary)
    if vocabulary.eos_ids:
        builder.warm_up()
    gc.freeze()  # children share these pages
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    channel.sendall(b"r")
    while True:
        received, handles, _, _ = socket.recv_fds(channel, 1, 1)
        if not received:
            return
        with contextlib.suppress(OSError):  # no process can be made: the connection just closes
            if os.fork() == 0:
                channel.close()
                os.close(0)
                _Child(Connection(handles[0]), builder, len(vocabulary)).run()
        os.close(handles[0])


class _Child:
    """Answers what `isolated.IsolatedMatcher` asks, about matchers by their numbers."""

    def __init__(self, connection: Connection, builder: AutomatonBuilder, num_tokens: int) -> None:
        self._connection, self._builder = connection, builder
        self._mask = np.zeros((1, -(-num_tokens // 32)), np.int32)
        self._asked: SimpleQueue[bytes] = SimpleQueue()
        self._matchers: dict[int, Any] = {}
        self._last = 0

    def run(self) -> None:
        threading.Thread(target=self._listen, daemon=True).start()
        try:
            limits = self._compile(json.loads(self._asked.get()))
            left = limits["step_s"]
            while True:
                asked = json.loads(self._asked.get())
                start = time.process_time()
                signal.setitimer(signal.ITIMER_PROF, left)
                found = self._answer(asked)
                signal.setitimer(signal.ITIMER_PROF, 0)
                left -= time.process_time() - start
                if left <= 0:  # the kernel looks less often
                    break
                self._connection.send_bytes(found)
                left = min(left + limits["refill_s"], limits["step_s"])
        finally:
            os._exit(1)

    def _listen(self) -> None:
        try:
            while True:
                self._asked.put(self._connection.recv_bytes())
        finally:
            os._exit(0)

    def _compile(self, asked: dict[str, Any]) -> dict[str, float]:
        limits: dict[str, float] = asked["limits"]
        grammar = Grammar(asked["kind"], asked["source"])
        _limit_memory(int(limits["memory_bytes"]))
        # Nobody handles this signal: the kernel ends the process, whatever it is doing.
        signal.setitimer(signal.ITIMER_PROF, limits["compile_s"])
        try:
            matcher = self._builder.build(grammar)
            self._try(matcher, grammar, limits["mask_s"])
        except LmstackError as error:
            unsupported = isinstance(error, UnsupportedError)
            refused = [error.message, error.hint, error.param, unsupported]
            self._connection.send_bytes(json.dumps({"refused": refused}).encode())
            os._exit(0)
        signal.setitimer(signal.ITIMER_PROF, 0)
        self._connection.send_bytes(self._of(0, matcher))
        return limits

    def _try(self, matcher: Any, grammar: Grammar, mask_s: float) -> None:
        """Look at the first tokens of a text: some grammars are too large for any."""
        ahead = matcher.deep_copy()
        for _ in range(3):
            start = time.process_time()
            fill_next_token_bitmask(ahead, self._mask, 0)
            if time.process_time() - start > mask_s:
                raise InputError(
                    f"the grammar allows so much at its beginning that a token takes more than "
                    f"{mask_s:g} s to choose",
                    hint="use fewer patterns and properties",
                    param=param_of(grammar),
                )
            words = np.flatnonzero(self._mask[0])
            if ahead.is_error() or not len(words):
                break
            bits = int(self._mask[0, words[0]]) & 0xFFFFFFFF
            ahead.consume_token(32 * int(words[0]) + (bits & -bits).bit_length() - 1)
        if ahead.is_error():
            raise InputError(
                f"the grammar is too complex: {ahead.get_error()}".partition("\n")[0][:300],
                hint="use fewer optional properties, alternatives and patterns",
                param=param_of(grammar),
            )

    def _answer(self, asked: dict[str, Any]) -> bytes:
        for number in asked["drop"]:
            self._matchers.pop(number, None)
        number, value = asked["of"], asked["with"]
        matcher = self._matchers[number]
        if asked["do"] == "copy":
            return self._of(0, matcher.deep_copy())
        if asked["do"] == "mask":
            fill_next_token_bitmask(matcher, self._mask, 0)
            return self._of(number, matcher) + b"\n" + self._mask.tobytes()
        found: Any = None
        if asked["do"] == "consume":
            found = matcher.consume_token(value)
        elif asked["do"] == "admits":
            found = matcher.validate_tokens(value)
        else:
            found = matcher.compute_ff_tokens()[:MAX_FORCED]
        return self._of(number, matcher, found)

    def _of(self, number: int, matcher: Any, found: Any = None) -> bytes:
        """What is known of a matcher; 0 for one that is new."""
        if not number:
            self._last = number = self._last + 1
            self._matchers[number] = matcher
        error = matcher.get_error()[:1000] if matcher.is_error() else ""
        state = {"of": number, "stopped": matcher.is_stopped(), "error": error, "found": found}
        return json.dumps(state).encode()


def _limit_memory(beyond: int) -> None:
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        most = pages * resource.getpagesize() + beyond
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
    except (OSError, ValueError):  # not Linux, or a lower limit holds already
        return
