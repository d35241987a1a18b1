"""What comes from a supervisor of the sandbox: in time, of bounded size, and read as text."""

from __future__ import annotations

import io
import json
import os
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from tests.errors import about

from lmstack.agents.sandbox import (
    CodeTests,
    CodeTestVerdict,
    Sandbox,
    SandboxConfig,
    code_tests,
    exchange,
    execution,
    session,
)
from lmstack.agents.sandbox.exchange import EndedError, Exchange
from lmstack.agents.sandbox.execution import CodeError, FolderFile, read_execution
from lmstack.agents.sandbox.inside.wire import packed, unpacked
from lmstack.agents.tools import Picture
from lmstack.core import EngineError, InputError


@pytest.fixture
def ends() -> Iterator[Any]:
    """An exchange, and the ends of the supervisor: ``asked`` to read, ``tells`` to write."""
    (asked, asks), (told, tells) = os.pipe(), os.pipe()
    process: Any = SimpleNamespace(
        stdin=SimpleNamespace(fileno=lambda: asks), stdout=SimpleNamespace(fileno=lambda: told)
    )
    yield SimpleNamespace(exchange=Exchange(process), asked=asked, tells=tells)
    for fd in (asked, asks, told, tells):
        try:
            os.close(fd)
        except OSError:
            continue


def test_a_message_is_sent_and_its_answer_read(ends: Any) -> None:
    os.write(ends.tells, packed({"a": 1}, [b"12", b""]))
    assert ends.exchange.ask({"do": "x"}, [b"blob"], 5) == ({"a": 1}, [b"12", b""])
    sent = io.BytesIO(os.read(ends.asked, 1000))
    assert unpacked(sent.read) == ({"do": "x"}, [b"blob"])
    os.write(ends.tells, packed({"a": 2}))
    assert ends.exchange.receive(5) == ({"a": 2}, [])


def test_no_answer_in_time_is_an_end(ends: Any) -> None:
    began = time.monotonic()
    for wait in (
        lambda: ends.exchange.receive(0.02),
        lambda: ends.exchange.receive(60, time.monotonic() + 0.02),
        lambda: ends.exchange.receive(60, 0.0),
        lambda: ends.exchange.ask({}, [bytes(1 << 20)], 0.02),
    ):
        with pytest.raises(EndedError):
            wait()
    assert time.monotonic() - began < 30


def test_what_is_no_answer_is_an_end(ends: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exchange, "_MOST", 30)
    os.write(ends.tells, packed({"a": 1}, [bytes(30)]))
    assert len(ends.exchange.receive(5)[1][0]) == 30
    os.write(ends.tells, packed({"a": 1}, [bytes(31)]))
    with pytest.raises(EndedError):
        ends.exchange.receive(5)
    os.write(ends.tells, b"\0\0\0\2{}")
    with pytest.raises((EndedError, KeyError)):
        ends.exchange.receive(5)
    os.write(ends.tells, b"\0\0\0\2{x")
    with pytest.raises(EndedError):
        ends.exchange.receive(5)
    os.close(ends.tells)
    with pytest.raises(EndedError):
        ends.exchange.receive(5)
    os.close(ends.asked)
    with pytest.raises(EndedError):
        ends.exchange.ask({}, [], 5)


MESSAGE: dict[str, Any] = {
    "ended": "ok", "value": "3", "error": None, "seconds": 1.5, "cpu_s": 0.5, "status": None,
    "files": [["a", 1]], "left_out": 2, "limits": {"cpu_s": 4, "wall_s": 9.0},
}  # fmt: skip
ERROR = {"type": "E", "message": "m\ud800", "traceback": None}
CONFIG = SandboxConfig(output_bytes=4096)


def test_an_execution_is_what_its_message_and_its_blobs_say() -> None:
    jpeg, png = b"\xff\xd8\xffJ", b"\x89PNG\r\n\x1a\nP"
    blobs = [b"out\xff", b"err", png, b"no picture", jpeg]
    done = read_execution(MESSAGE, blobs, CONFIG, is_restarted=True)
    assert (done.ended, done.value, done.error) == ("ok", "3", None)
    assert (done.stdout, done.stderr) == ("out\ufffd", "err")
    assert (done.seconds, done.cpu_s) == (1.5, 0.5)
    assert (done.is_restarted, done.lost_state, done.lost_files) == (True, False, False)
    assert (done.files, done.files_left_out) == ((FolderFile("a", 1),), 2)
    assert done.pictures == (Picture("image/png", png), Picture("image/jpeg", jpeg))


@pytest.mark.parametrize(
    ("change", "ended", "error"),
    [
        ({"error": ERROR}, "error", CodeError("E", "m\\ud800", "")),
        ({"error": {**ERROR, "type": "MemoryError"}}, "memory",
         CodeError("MemoryError", "m\\ud800", "")),
        ({"ended": "time"}, "time", CodeError("TimeLimit", "it took more than 9 s of time")),
        ({"ended": "time", "cpu_s": 4}, "time",
         CodeError("TimeLimit", "it took more than 4 s of processor time")),
        ({"ended": "output", "error": ERROR}, "output",
         CodeError("OutputLimit", "it wrote more than 4,096 bytes")),
        ({"ended": "memory"}, "memory",
         CodeError("MemoryError", "the process has no memory left")),
        ({"ended": "killed", "status": 9}, "killed",
         CodeError("Killed", "the process was ended by signal 9 (Killed)")),
        ({"ended": "killed", "status": 63}, "killed",
         CodeError("Killed", "the process was ended by signal 63 (Real-time signal 29)")),
        ({"ended": "killed", "status": 3 << 8}, "killed",
         CodeError("Killed", "the process ended itself with status 3")),
    ],
)  # fmt: skip
def test_an_end_has_its_reason_and_no_value(change: Any, ended: str, error: CodeError) -> None:
    done = read_execution({**MESSAGE, **change}, [b"", b""], CONFIG, is_restarted=False)
    assert (done.ended, done.error, done.value) == (ended, error, None)
    assert done.lost_state == ("status" in change)


def test_a_text_is_cut_where_a_worker_did_not() -> None:
    for size in (25_000, 25_001):
        done = read_execution(
            {**MESSAGE, "value": "x" * size}, [b"", b""], CONFIG, is_restarted=False
        )
        assert done.value == "x" * 25_000
    assert execution._text(None) is None


def test_what_a_sandbox_said_at_last_is_kept() -> None:
    for said, last in (
        (b"", "it said nothing"), (b" \n", "it said nothing"), (b" a\xff \n", "a\ufffd"),
        (b"x" + b"y" * 300, "y" * 300),
    ):  # fmt: skip
        errors = io.BytesIO(said)
        errors.seek(0, io.SEEK_END)
        assert session._last(errors) == last


@pytest.mark.parametrize(("size", "fits"), [(256 * 1024, True), (256 * 1024 + 1, False)])
def test_code_is_text_of_bounded_size(size: int, fits: bool) -> None:
    if fits:
        session._check_code("x" * size)
    else:
        with pytest.raises(InputError, match="the code has 262,145 bytes", check=about("code")):
            session._check_code("x" * size)
    with pytest.raises(InputError, match="the code is 3, not text", check=about("code")):
        session._check_code(3)  # type: ignore[arg-type]
    session._check_code("\ud800")


# Lines of a judge.


@pytest.fixture
def lines() -> Iterator[Any]:
    read, write = os.pipe()
    yield SimpleNamespace(lines=code_tests._Lines(read), write=write)
    os.close(read)
    try:
        os.close(write)
    except OSError:
        return


def test_lines_of_a_judge_are_objects(lines: Any) -> None:
    os.write(lines.write, b'{"a": 1}\n{"b"')
    assert lines.lines.next(5) == {"a": 1}
    os.write(lines.write, b": 2}\n\n")
    assert lines.lines.next(5) == {"b": 2}
    assert lines.lines.next(5) is None
    assert lines.lines.end == "the tests ended before they returned"


@pytest.mark.parametrize("data", [b"3\n", b"{\n", b"\xff\n", b"[" * 60_000 + b"\n"])
def test_a_line_that_is_no_object_is_an_end(lines: Any, data: bytes) -> None:
    os.write(lines.write, data)
    assert lines.lines.next(5) is None
    assert lines.lines.end == "the tests ended before they returned"


def test_a_judge_that_says_nothing_or_too_much_has_ended(
    lines: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert lines.lines.next(0.01) is None
    assert lines.lines.end == "over the time, 0.01 s"
    assert lines.lines.next(0) is None
    monkeypatch.setattr(code_tests, "_MAX_LINE", 8)
    monkeypatch.setattr(code_tests, "_PIECE", 4)
    os.write(lines.write, b'{"a":12}\n')
    assert lines.lines.next(5) == {"a": 12}
    os.write(lines.write, b'{"a":1234567}\n')
    assert lines.lines.next(5) is None
    assert lines.lines.end == "the tests ended before they returned"
    os.close(lines.write)
    lines.lines._text, lines.lines.end = b"", ""
    assert lines.lines.next(5) is None
    assert lines.lines.end == "the tests ended before they returned"


@pytest.mark.parametrize(
    ("told", "verdict"),
    [
        ({"nonce": "n", "calls": 1}, CodeTestVerdict(True)),
        ({"nonce": "m", "calls": 1}, CodeTestVerdict(False, "the tests did not return")),
        ({"failed": "so"}, CodeTestVerdict(False, "so")),
        ({"failed": 3, "nonce": "m"}, CodeTestVerdict(False, "3")),
        (None, CodeTestVerdict(False, "it ended")),
    ],
)
def test_a_verdict_is_of_the_nonce(told: Any, verdict: CodeTestVerdict) -> None:
    asked: list[float] = []
    answers = [{"started": True}, told]

    def following(seconds: float) -> Any:
        asked.append(seconds)
        return answers.pop(0)

    judge = CodeTests(Sandbox(SandboxConfig(wall_s=7)))
    lines: Any = SimpleNamespace(next=following, end="it ended")
    assert judge._verdict(lines, "n") == verdict
    assert asked == [60.0, 7]


@pytest.mark.parametrize(
    ("told", "error", "said"),
    [
        ([None], EngineError, "did not start in 60 s"),
        ([{"started": False}], EngineError, "did not start in 60 s"),
        ([{"started": True}, {"unfit": "so"}], InputError, "the tests cannot be used: so"),
        ([{"started": True}, {"nonce": "n", "calls": 0}], InputError, "never call the code"),
        ([{"started": True}, {"nonce": "n"}], InputError, "never call the code"),
    ],
)
def test_tests_that_are_none_have_no_verdict(told: list[Any], error: Any, said: str) -> None:
    lines: Any = SimpleNamespace(next=lambda _: told.pop(0), end="")
    with pytest.raises(error, match=said) as caught:
        CodeTests(Sandbox())._verdict(lines, "n")
    assert caught.value.param == ("tests" if error is InputError else None)


def test_code_of_half_a_character_is_a_text_that_python_refuses() -> None:
    assert code_tests._utf8("ä\ud800") == b"\xc3\xa4\xed\xa0\x80"
    assert json.loads('"x"') == "x"
