"""The process of the tests and that of the answer, each with stand-ins for the other."""

from __future__ import annotations

import contextlib
import io
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lmstack.agents.sandbox.inside import answer, judge, wire


@pytest.fixture(autouse=True)
def process(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What these would leave to the end of their process."""
    before = {name: sys.modules.get(name) for name in ("tests", "answer")}
    streams: list[Any] = []
    opened = os.fdopen

    def fdopen(*given: Any, **named: Any) -> Any:
        streams.append(opened(*given, **named))
        return streams[-1]

    monkeypatch.setattr(os, "fdopen", fdopen)
    yield
    for stream in streams:
        with contextlib.suppress(OSError):
            stream.close()
    for name, module in before.items():
        if module is None:
            sys.modules.pop(name, None)
        else:
            sys.modules[name] = module


def frames(*messages: Any) -> io.BytesIO:
    stream = io.BytesIO()
    for message in messages:
        wire.send(stream, message)
    stream.seek(0)
    return stream


def judged(box: Path, tests: str, *heard: Any, entry_point: str | None = None) -> list[Any]:
    """What the judge tells, where the answer sends ``heard``."""
    (box / "tests.py").write_text(tests)
    job = {"nonce": "n", "entry_point": entry_point}
    (box / "job.json").write_text(json.dumps(job))
    (reads, hears), (asked, asks), (told, verdict) = (os.pipe() for _ in range(3))
    os.write(hears, frames(*heard).getvalue())
    os.close(hears)
    judge.judge(str(box), reads, asks, verdict)
    os.close(verdict)
    with os.fdopen(told) as file:
        lines = [json.loads(line) for line in file]
    os.close(asked)
    return lines


NAMES = {"functions": ["f", "print"], "values": {"x": ["int", "7"], "len": ["int", "8"]}}
ENDED = "the answer's process ended, or sent what is no value"


@pytest.mark.parametrize(
    ("tests", "heard", "entry_point", "told"),
    [
        ("assert f(1) == x", [NAMES, {"value": ["int", "7"]}], None, {"nonce": "n", "calls": 1}),
        ("assert len('ab') == 2\nf()", [NAMES, {"value": None}], None, {"nonce": "n", "calls": 1}),
        ("assert f.__name__ == 'f'", [NAMES], None, {"nonce": "n", "calls": 0}),
        ("assert f(1) == 8", [NAMES, {"value": ["int", "7"]}], None, {"failed": "AssertionError"}),
        ("assert 0, 'why'", [NAMES], None, {"failed": "AssertionError: why"}),
        ("assert 0, 400 * 'y'", [NAMES], None, {"failed": "AssertionError: " + 300 * "y"}),
        ("def check(g): assert g() is None", [NAMES, {"value": None}], "f",
         {"nonce": "n", "calls": 1}),
        ("def check(g): pass", [NAMES], "g", {"failed": "NameError: the code defines no g"}),
        ("check = print", [NAMES], "f", {"nonce": "n", "calls": 0}),
        ("def test_a(): f()\ntest_b = print\ndef tests(): 1/0", [NAMES, {"value": None}], None,
         {"nonce": "n", "calls": 1}),
        ("def test_a(): 1/0", [NAMES], None, {"failed": "ZeroDivisionError: division by zero"}),
        ("f(print)", [NAMES], None,
         {"unfit": "the tests pass a builtin_function_or_method"}),
        ("try: f(k=print)\nexcept Exception: pass", [NAMES], None,
         {"unfit": "the tests pass a builtin_function_or_method"}),
        ("f(", [NAMES], None, {"unfit": "SyntaxError: '(' was never closed (tests.py, line 1)"}),
        ("exec('f(')", [NAMES], None,
         {"failed": "SyntaxError: '(' was never closed (<string>, line 1)"}),
        ("f()", [NAMES], None, {"failed": ENDED}),
        ("f()", [NAMES, 3], None, {"failed": ENDED}),
        ("f()", [NAMES, {"value": 3}], None, {"failed": ENDED}),
        ("f()", [{"functions": ["f"]}], None, {"failed": ENDED}),
        ("f()", [], None, {"failed": ENDED}),
        ("f()", [{"raised": ["ValueError", "so"]}], None, {"failed": "ValueError: so"}),
        ("try: f()\nexcept KeyError as e: assert e.args == ('k',)",
         [NAMES, {"raised": ["KeyError", "k"]}], None, {"nonce": "n", "calls": 1}),
    ],
)  # fmt: skip
def test_a_verdict_is_what_the_tests_came_to(
    tmp_path: Path, tests: str, heard: list[Any], entry_point: str | None, told: Any
) -> None:
    assert judged(tmp_path, tests, "started", *heard, entry_point=entry_point) == [
        {"started": True},
        told,
    ]


def test_an_answer_that_does_not_start_is_not_judged(tmp_path: Path) -> None:
    assert judged(tmp_path, "", "other") == []


def test_a_call_is_its_name_and_its_arguments() -> None:
    asks = io.BytesIO()
    found = judge._Answer(asks, frames({**NAMES}, {"value": [*("tuple", [["int", "1"]])]}))
    names = found.names()
    assert set(names) == {"f", "x"}, "no name of Python's own"
    assert names["x"] == 7
    assert names["f"](1, b"x", k=2.0) == (1,)
    asks.seek(0)
    assert wire.receive(asks) == {
        "name": "f",
        "args": [["int", "1"], ["bytes", "78"]],
        "kwargs": {"k": wire.encoded(2.0)},
    }
    assert found.calls == 1
    with pytest.raises(judge._Gone):
        names["f"]()
    assert found.calls == 2


@pytest.mark.parametrize(
    ("raised", "kind", "said"),
    [
        (["KeyError", "k"], KeyError, "'k'"),
        (["KeyError", "x", "k"], KeyError, "'k'"),
        (["StopIteration", "k"], judge.AnswerError, "StopIteration: k"),
        (["StopAsyncIteration", "k"], judge.AnswerError, "StopAsyncIteration: k"),
        (["SystemExit", "k"], judge.AnswerError, "SystemExit: k"),
        (["Own", "k"], judge.AnswerError, "Own: k"),
        (["print", "k"], judge.AnswerError, "print: k"),
        (["UnicodeDecodeError", "k"], judge.AnswerError, "UnicodeDecodeError: k"),
        ("KeyError", judge.AnswerError, ": "),
    ],
)
def test_an_exception_of_python_crosses_and_no_other(raised: Any, kind: type, said: str) -> None:
    found = judge._exception(raised)
    assert (type(found), str(found)) == (kind, said)


# The process of the answer.


def answered(box: Path, code: str, *calls: Any) -> list[Any]:
    (box / "answer.py").write_text(code)
    (asked, asks), (told, tells) = os.pipe(), os.pipe()
    os.write(asks, frames(*calls).getvalue())
    os.close(asks)
    answer.serve(str(box), asked, tells)
    messages = []
    os.set_blocking(told, False)
    with os.fdopen(told, "rb") as stream:
        data = io.BytesIO(stream.read() or b"")
    while data.tell() < len(data.getvalue()):
        messages.append(wire.receive(data))
    return messages


def call(name: str, *args: Any, **kwargs: Any) -> dict[str, Any]:
    return {
        "name": name,
        "args": [wire.encoded(value) for value in args],
        "kwargs": {key: wire.encoded(value) for key, value in kwargs.items()},
    }


CODE = """
import math
__hidden__ = 1
x = (1, "a")
def f(a, b=2): return a * b
class C: pass
def fail(*a): raise ValueError(*a)
def leave(): raise SystemExit(3)
def made(): return C()
def miss(): raise KeyError("k")
def name(): return __name__
"""


def test_an_answer_says_what_it_defines_and_what_its_calls_come_to(tmp_path: Path) -> None:
    told = answered(
        tmp_path, CODE, call("f", 3), call("f", 3, b=5), call("fail", "so"), call("fail", 1, 2),
        call("fail", "y" * 1001), call("leave"), call("made"), call("none"), 3,
        {"name": "f", "args": [3], "kwargs": {}}, call("miss"), call("name"),
    )  # fmt: skip
    assert told[0] == "started"
    assert told[1] == {
        "functions": ["f", "C", "fail", "leave", "made", "miss", "name"],
        "values": {"x": wire.encoded((1, "a"))},
    }
    assert told[2:8] == [
        {"value": ["int", "6"]},
        {"value": ["int", "f"]},
        {"raised": ["ValueError", "so"]},
        {"raised": ["ValueError", "(1, 2)"]},
        {"raised": ["ValueError", "y" * 1000]},
        {"raised": ["SystemExit", "3"]},
    ]
    assert told[-2:] == [{"raised": ["KeyError", "k"]}, {"value": "answer"}]
    assert [each["raised"][0] for each in told[8:-2]] == [
        *("NotPlainError", "KeyError", "TypeError", "WireError"),
    ]


def test_an_answer_that_cannot_be_run_says_why_and_takes_no_call(tmp_path: Path) -> None:
    told = answered(tmp_path, "raise SystemExit('so')", call("f"))
    assert told == ["started", {"raised": ["SystemExit", "so"]}]
