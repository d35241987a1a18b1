"""The interpreter of a session, run here: what it says of code, and what it keeps."""

from __future__ import annotations

import io
import os
import sys
import types
from collections.abc import Iterator
from typing import Any

import pytest

from lmstack.agents.sandbox.inside import interpreter as inside
from lmstack.agents.sandbox.inside import wire


@pytest.fixture(autouse=True)
def process(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What an interpreter changes of its process is put back."""
    for name in ("stdin", "stdout", "stderr"):
        for each in (name, f"__{name}__"):
            monkeypatch.setattr(sys, each, getattr(sys, each))
    monkeypatch.setattr(sys, "displayhook", sys.displayhook)
    monkeypatch.setitem(sys.modules, "__main__", sys.modules["__main__"])
    argv, path = list(sys.argv), list(sys.path)
    yield
    sys.argv[:], sys.path[:] = argv, path


@pytest.fixture
def interpreter() -> Any:
    return inside._Interpreter(types.ModuleType("__main__"))


def error_of(interpreter: Any, code: str) -> Any:
    found = interpreter.answer(code)
    assert found["value"] is None
    return found["error"]


def test_the_value_is_the_last_expressions_alone(interpreter: Any) -> None:
    for code, value in (
        ("1\n2", "2"), ("x = 1", None), ("x", "1"), ("1; x", "1"), ("5\nx = 2", None),
        ("None", None), ("", None), ("for y in (1,): y", None), ("'ä'", "'ä'"),
    ):  # fmt: skip
        assert interpreter.answer(code) == {"value": value, "error": None}
    assert interpreter.answer("import sys; sys.displayhook(7); 8")["value"] == "8"
    assert interpreter.answer("7\n1 / 0")["value"] is None
    assert interpreter.answer("x")["value"] == "2"


def test_a_text_is_cut_where_it_is_too_long(interpreter: Any) -> None:
    assert interpreter.answer("'x' * 19_998")["value"] == repr("x" * 19_998)
    long = interpreter.answer("'x' * 19_999")["value"]
    assert long == "'" + "x" * 19_999 + "... (1 more characters)"
    assert interpreter.answer("'x' * 30_998")["value"].endswith("... (11,000 more characters)")
    assert inside._cut("") == ""


def test_an_error_has_its_type_its_message_and_its_own_lines(interpreter: Any) -> None:
    interpreter.answer("def f(n):\n    return 1 / n")
    assert error_of(interpreter, "\nf(0)") == {
        "type": "ZeroDivisionError",
        "message": "division by zero",
        "traceback": '  File "<call 2>", line 2, in <module>\n    f(0)\n'
        '  File "<call 1>", line 2, in f\n    return 1 / n\n'
        "ZeroDivisionError: division by zero",
    }
    assert error_of(interpreter, "raise KeyError('k') from None")["message"] == "'k'"


@pytest.mark.parametrize(("depth", "more"), [(9, ""), (10, "  [1 more]"), (1210, "  [1,201 more]")])
def test_of_a_long_traceback_the_first_and_the_last_lines_are_shown(
    interpreter: Any, depth: int, more: str
) -> None:
    interpreter.answer("import sys\nsys.setrecursionlimit(5000)")
    chain = [f"def f{n}(): f{n - 1}()" for n in range(1, depth)]
    interpreter.answer("\n".join(["def f0(): raise ValueError(0)", *chain]))
    try:
        said = error_of(interpreter, f"f{depth - 1}()")["traceback"].splitlines()
    finally:
        sys.setrecursionlimit(1000)
    files = [line for line in said if line.startswith("  File")]
    assert len(files) == min(depth + 1, 10)
    shown = [line for line in said if " more]" in line]
    assert shown == ([more] if more else [])
    if more:
        before = said[: said.index(more)]
        assert len([line for line in before if line.startswith("  File")]) == 3
        assert before[0] == '  File "<call 3>", line 1, in <module>'
    assert said[-1] == "ValueError: 0"


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("x = (", "SyntaxError"),
        ("x\0", "SyntaxError|ValueError"),
        ("(" * 300 + ")" * 300, "SyntaxError|MemoryError|RecursionError"),
        ("'\ud800'", "UnicodeEncodeError"),
        ("return 1", "SyntaxError"),
    ],
)
def test_a_text_that_is_no_code_is_an_error_and_nothing_of_it_runs(
    interpreter: Any, code: str, kind: str
) -> None:
    assert error_of(interpreter, "y = 1\n" + code)["type"] in kind.split("|")
    assert error_of(interpreter, "y")["type"] == "NameError"


def test_to_leave_and_to_be_interrupted_are_errors_too(interpreter: Any) -> None:
    assert error_of(interpreter, "raise SystemExit(3)")["message"] == "3"
    assert error_of(interpreter, "raise KeyboardInterrupt")["type"] == "KeyboardInterrupt"
    assert interpreter.answer("1") == {"value": "1", "error": None}


def test_what_cannot_be_shown_of_an_error_is_said(interpreter: Any) -> None:
    code = "class E(Exception):\n    def __str__(self): raise OSError('no')\nraise E"
    assert error_of(interpreter, code)["message"] == "<OSError while the error was read>"
    long = error_of(interpreter, "raise ValueError('y' * 20_001)")
    assert long["message"] == "y" * 20_000 + "... (1 more characters)"
    code = "class R:\n    def __repr__(self): 1 / 0\nR()"
    assert error_of(interpreter, code)["type"] == "ZeroDivisionError"


def test_an_error_in_which_the_code_has_no_part_ends_the_process(
    interpreter: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(part: Any) -> None:
        interpreter._raised = MemoryError("nothing is left")

    monkeypatch.setattr(interpreter, "runcode", fails)
    with pytest.raises(MemoryError, match="nothing is left"):
        interpreter.answer("1")


def test_streams_that_the_code_closed_or_replaced_are_there_again(interpreter: Any) -> None:
    interpreter.answer("import sys\nsys.stdout.close()\nsys.stderr = sys.stdin = None")
    assert interpreter.answer("print('x', file=sys.stderr), sys.stdin.fileno()")["error"] is None
    assert [stream.fileno() for stream in interpreter._streams] == [0, 1, 2]
    assert [sys.stdin, sys.stdout, sys.stderr] == interpreter._streams
    assert [sys.__stdin__, sys.__stdout__, sys.__stderr__] == interpreter._streams
    assert [stream.mode for stream in interpreter._streams] == ["r", "w", "w"]
    for stream in interpreter._streams:
        assert (stream.encoding, stream.errors) == ("utf-8", "backslashreplace")
        assert stream.line_buffering == (stream.fileno() != 0 or stream.line_buffering)
    interpreter._streams[1].close()
    os.fstat(1)  # closed as a stream alone
    interpreter.answer("1")  # who runs the tests may write to sys.__stdout__ before it is put back
    assert not sys.__stdout__.closed


def test_what_was_written_is_flushed_at_the_end_of_a_call(
    interpreter: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    flushed: list[str] = []

    class Own(io.StringIO):
        def flush(self) -> None:
            flushed.append("own")

    interpreter.answer("import sys")
    interpreter._of_test = Own()
    vars(sys)["own_stream"] = interpreter._of_test
    try:
        interpreter.answer("sys.stdout = sys.own_stream")
    finally:
        del vars(sys)["own_stream"]
    assert flushed == ["own"]
    broken = "class F:\n    def flush(self): raise OSError\nsys.stdout = F()"
    assert interpreter.answer(broken)["error"] is None


def test_memory_is_held_back_while_code_runs_and_given_back_where_it_fails(
    interpreter: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []
    main = interpreter.locals
    main["held"] = lambda: len(interpreter._reserve)
    assert interpreter.answer("held()")["value"] == str(1 << 22)
    assert len(interpreter._reserve) == 0
    interpreter._reserve = bytearray(9)
    interpreter.showtraceback()
    assert len(interpreter._reserve) == 0

    def scarce(size: int = 0) -> Any:
        sizes.append(size)
        if size > 1 << 20:
            raise MemoryError
        return bytearray(size)

    monkeypatch.setattr(inside, "bytearray", scarce, raising=False)
    assert interpreter.answer("held()")["value"] == str(1 << 20)
    assert sizes == [1 << 22, 1 << 21, 1 << 20, 0]


def test_lines_of_each_call_are_found_by_its_name(interpreter: Any) -> None:
    import linecache

    interpreter.answer("1\r\n2")
    assert linecache.cache["<call 1>"] == (4, None, ["1\r\n", "2"], "<call 1>")
    interpreter.answer("3")
    assert linecache.getline("<call 2>", 1) == "3"


def test_what_holds_for_the_whole_session_is_kept(interpreter: Any) -> None:
    interpreter.answer("from __future__ import annotations")
    interpreter.answer("def f(x: Missing): pass")
    assert interpreter.answer("f.__annotations__")["value"] == "{'x': 'Missing'}"
    assert interpreter.answer("__name__")["value"] == "'__main__'"


def test_calls_are_answered_until_nobody_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    (asked, asks), (told, tells) = os.pipe(), os.pipe()
    with os.fdopen(asks, "wb") as stream:
        for number, code in enumerate(
            ("x = 2", "x * 3", "import sys, __main__; __main__.x, sys.argv, sys.path[-2:]")
        ):
            wire.send(stream, {"id": f"n{number}", "code": code})
    streams: list[Any] = []
    opened = os.fdopen
    monkeypatch.setattr(
        os, "fdopen", lambda *g, **n: streams.append(opened(*g, **n)) or streams[-1]
    )
    inside.serve(asked, tells, ["/packages"])
    for stream in streams[:2]:
        stream.close()
    with opened(told, "rb") as stream:
        answers = [wire.receive(stream) for _ in range(3)]
    assert [each["id"] for each in answers] == ["n0", "n1", "n2"]
    assert [each["value"] for each in answers[:2]] == [None, "6"]
    assert answers[2]["value"] == f"(2, [''], ['/packages', {os.getcwd()!r}])"
