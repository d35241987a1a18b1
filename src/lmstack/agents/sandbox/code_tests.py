"""Whether code passes tests that it cannot reach.

Two sandboxes: in one the code runs, in the other the tests, which call the code's functions over a
pipe that carries plain data (`inside.wire`). The code never enters the process that judges, so
ending early, patching `check` or `builtins`, an object that equals everything, or reading the tests
gain it nothing. It has passed only where the tests have returned, have called it, and have written
a nonce after that.

The price: tests see values, not objects. Arguments and results are numbers, texts, bytes, lists,
tuples, sets, dicts and None; an argument that the code changes in place stays as it was for the
tests; instances, functions and iterators cannot cross. Tests that pass such are refused in words.
"""

from __future__ import annotations

import json
import os
import secrets
import select
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from typing import Any

from lmstack.agents.sandbox.sandbox import Sandbox
from lmstack.core import EngineError, InputError

__all__ = ["CodeTestVerdict", "CodeTests"]

_START_S = 60.0  # for an interpreter to start, on a machine that has much else to do
_PIECE = 1 << 12
_MAX_LINE = 1 << 16


@dataclass(frozen=True)
class CodeTestVerdict:
    """``reason``: of a failure, in the tests' words; empty where it passed."""

    passed: bool
    reason: str = ""


class CodeTests:
    """Judges code, on all cores. ``sandbox``: what each of the two processes is held to."""

    def __init__(self, sandbox: Sandbox | None = None) -> None:
        self.sandbox = Sandbox() if sandbox is None else sandbox

    def judge(self, jobs: Sequence[tuple[str, str, str | None]]) -> list[CodeTestVerdict]:
        """The verdict on each (code, tests, entry point). ``tests``: a module of Python that
        raises where the code is wrong; its functions ``test_...`` are called, and ``check`` with
        the function that the entry point names. `InputError` where the tests are at fault: no
        Python, in need of more than plain data, or without a call of the code."""
        self.sandbox.check()
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            return list(pool.map(lambda job: self._judged(*job), jobs))

    def _judged(self, code: str, tests: str, entry_point: str | None) -> CodeTestVerdict:
        nonce = secrets.token_hex(16)
        job = json.dumps({"nonce": nonce, "entry_point": entry_point}).encode()
        calls, values, told = os.pipe(), os.pipe(), os.pipe()
        with os.fdopen(told[0], "rb", 0) as verdict, ExitStack() as stack:
            # Each side's ends are closed here once it has them: an end that stays open would keep
            # the other side waiting for one that is no more.
            try:
                files = {"answer.py": _utf8(code)}
                stack.enter_context(self._started("answer", [calls[0], values[1]], files))
                files = {"tests.py": _utf8(tests), "job.json": job}
                ends = [values[0], calls[1], told[1]]
                stack.enter_context(self._started("judge", ends, files))
            finally:
                for fd in (*calls, *values, told[1]):
                    os.close(fd)
            return self._verdict(_Lines(verdict.fileno()), nonce)

    def _started(
        self, role: str, fds: Sequence[int], files: Mapping[str, bytes]
    ) -> AbstractContextManager[Any]:
        return self.sandbox.started(role, [str(fd) for fd in fds], files, fds=fds)

    def _verdict(self, lines: _Lines, nonce: str) -> CodeTestVerdict:
        if lines.next(_START_S) != {"started": True}:
            raise EngineError(
                f"a sandbox did not start in {_START_S:g} s",
                hint="the machine has too much to do, or too little memory",
            )
        told = lines.next(self.sandbox.config.wall_s)
        if told is None:
            return CodeTestVerdict(False, lines.end)
        if "unfit" in told:
            raise InputError(
                f"the tests cannot be used: {told['unfit']}",
                hint="tests call functions with plain data: numbers, texts, lists, dicts",
                param="tests",
            )
        if told.get("nonce") != nonce:
            return CodeTestVerdict(False, str(told.get("failed", "the tests did not return")))
        if not told.get("calls"):
            raise InputError(
                "the tests never call the code, so any code would pass",
                hint="assert what its functions return",
                param="tests",
            )
        return CodeTestVerdict(True)


class _Lines:
    """Objects of JSON, a line each, from the judge's process."""

    def __init__(self, fd: int) -> None:
        self._fd, self._text, self.end = fd, b"", ""

    def next(self, seconds: float) -> dict[str, Any] | None:
        """The next one within ``seconds``; None where none comes, and ``end`` says why."""
        deadline = time.monotonic() + seconds
        while b"\n" not in self._text:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([self._fd], [], [], left)[0]:
                self.end = f"over the time, {seconds:g} s"
                return None
            piece = os.read(self._fd, _PIECE)
            if not piece or len(self._text) > _MAX_LINE:
                self.end = "the tests ended before they returned"
                return None
            self._text += piece
        line, _, self._text = self._text.partition(b"\n")
        try:
            found = json.loads(line)
        except (ValueError, RecursionError):
            found = None
        if not isinstance(found, dict):
            self.end = "the tests ended before they returned"
            return None
        return found


def _utf8(text: str) -> bytes:
    """Python's source; half a surrogate pair, which a model can write, is then a syntax error."""
    return text.encode("utf-8", "surrogatepass")
