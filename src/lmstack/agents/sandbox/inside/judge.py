"""The process of the tests, which the answer's code never enters: it calls it over a wire.

So nothing that the answer does can make a test pass but the values that its functions return. The
verdict carries a nonce that is written once the tests have returned: a process that ends before,
with whatever status, has not passed.
"""

from __future__ import annotations

import builtins
import inspect
import json
import os
from collections.abc import Callable
from typing import Any, BinaryIO

from . import wire
from .modules import load

__all__ = ["judge"]


class AnswerError(Exception):
    """The answer's code raised something that is no built-in exception."""


class _Unfit(BaseException):
    """The tests need more than plain data. No `Exception`, so that no test catches it."""


class _Gone(BaseException):
    """The answer's process ended or sent nonsense."""


class _Answer:
    """The names that the answer's code defines, to be called from here."""

    def __init__(self, asks: BinaryIO, hears: BinaryIO) -> None:
        self.asks, self.hears, self.calls = asks, hears, 0

    def names(self) -> dict[str, Any]:
        told = self._heard()
        try:
            values = {str(k): wire.decoded(v) for k, v in told["values"].items()}
            functions = {str(name): self._function(str(name)) for name in told["functions"]}
        except (KeyError, TypeError, AttributeError, wire.WireError) as error:
            raise _Gone from error
        found = {**values, **functions}
        return {name: value for name, value in found.items() if not hasattr(builtins, name)}

    def _function(self, name: str) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            self.calls += 1
            message = {"name": name, "args": _sent(args), "kwargs": dict(_named(kwargs))}
            try:
                wire.send(self.asks, message)
            except wire.WireError as error:
                raise _Gone from error
            told = self._heard()
            try:
                return wire.decoded(told["value"])
            except (KeyError, TypeError, wire.WireError) as error:
                raise _Gone from error

        call.__name__ = name
        return call

    def _heard(self) -> Any:
        try:
            told = wire.receive(self.hears)
        except wire.WireError as error:
            raise _Gone from error
        if isinstance(told, dict) and "raised" in told:
            raise _exception(told["raised"])
        return told


def _sent(args: tuple[Any, ...]) -> list[Any]:
    try:
        return [wire.encoded(value) for value in args]
    except wire.NotPlainError as error:
        raise _Unfit(f"the tests pass {error}") from error


def _named(kwargs: dict[str, Any]) -> Any:
    return zip(kwargs, _sent(tuple(kwargs.values())), strict=True)


def _exception(raised: Any) -> Exception:
    """A built-in exception as the answer's code raised it, so that tests can expect it."""
    name, text = (str(raised[0]), str(raised[-1])) if isinstance(raised, list) else ("", "")
    kind = getattr(builtins, name, None)
    # A StopIteration would end the loop of a test that goes over calls, as if all had returned.
    ends = (StopIteration, StopAsyncIteration)
    if isinstance(kind, type) and issubclass(kind, Exception) and not issubclass(kind, ends):
        try:
            return kind(text)
        except TypeError:
            pass  # one of the few that are made from more than a text
    return AnswerError(f"{name}: {text}")


def judge(box: str, read: int, write: int, verdict: int) -> None:
    """Run the tests in the folder ``box`` against the answer behind ``read`` and ``write``, and
    tell ``verdict`` in lines of JSON."""
    with open(f"{box}/job.json", encoding="utf-8") as file:
        job = json.load(file)
    answer = _Answer(os.fdopen(write, "wb"), os.fdopen(read, "rb"))
    if wire.receive(answer.hears) != "started":
        return
    _tell(verdict, {"started": True})
    try:
        _run(box, answer, job["entry_point"])
    except _Unfit as error:
        _tell(verdict, {"unfit": str(error)})
    except SyntaxError as error:
        own = error.filename == f"{box}/tests.py"
        _tell(verdict, {"unfit" if own else "failed": _said(error)})
    except BaseException as error:  # of the tests: an AssertionError, or anything else
        _tell(verdict, {"failed": _said(error)})
    else:
        _tell(verdict, {"nonce": job["nonce"], "calls": answer.calls})


def _run(box: str, answer: _Answer, entry_point: str | None) -> None:
    names = answer.names()
    tests = load(f"{box}/tests.py", "tests", names)
    if entry_point is not None:
        if entry_point not in names:
            raise NameError(f"the code defines no {entry_point}")
        if _is_own(tests.get("check")):
            tests["check"](names[entry_point])
    for name, value in list(tests.items()):
        if name.startswith("test_") and _is_own(value):
            value()


def _is_own(value: Any) -> bool:
    """Whether the tests define that function."""
    return inspect.isfunction(value) and value.__module__ == "tests"


def _tell(verdict: int, message: Any) -> None:
    os.write(verdict, json.dumps(message).encode() + b"\n")


def _said(error: BaseException) -> str:
    if isinstance(error, _Gone):
        return "the answer's process ended, or sent what is no value"
    return f"{type(error).__name__}: {str(error)[:300]}".rstrip(": ")
