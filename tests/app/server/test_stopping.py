"""Ctrl-C and SIGTERM at any moment: from the first import to a server that answers."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from pydantic_core import SchemaValidator, core_schema

from lmstack.app.cli import program

# The command line over a service that never finishes loading. It signals itself at its N-th call
# of a Python function, counted from `main` on, which is a moment that every run finds again; with
# N = 0 it waits for `serve` and prints how many calls there were.
CHILD = """
import os, signal, sys, time
from lmstack.app import wiring
from lmstack.app.cli import main

at, number, calls = int(sys.argv[1]), int(sys.argv[2]), 0

def count(frame, event, arg):
    global calls
    if event != "call":
        return
    calls += 1
    if calls == at or (not at and frame.f_code.co_name == "on_tick"):
        sys.setprofile(None)
        if not at:
            print(calls, flush=True)
        os.kill(os.getpid(), number)

wiring.require_models = lambda *_: None
wiring.service = lambda *_, **__: time.sleep(60)
for name in [n for n in sys.modules if n.partition(".")[0] in ("lmstack", "typer")]:
    if name not in ("lmstack", "lmstack.app.wiring", "lmstack.app.cli"):
        del sys.modules[name]  # `main` imports it again, so that signals fall into imports too
sys.setprofile(count)
sys.exit(main(["up", "docs", "--port", "0"]))
"""
MOMENTS = 3


def _signalled(folder: Path, at: int, number: int = signal.SIGINT) -> tuple[int, str, str]:
    ran = subprocess.run(
        [sys.executable, "-c", CHILD, str(at), str(number)],
        cwd=folder,
        env={**os.environ, "LMSTACK_HOME": str(folder / "home")},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return ran.returncode, ran.stdout, ran.stderr


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("up")
    (folder / "docs").mkdir()
    return folder


def _at_many_moments(folder: Path, moments: int) -> None:
    code, out, _ = _signalled(folder, 0)
    calls = int(out)
    assert code == 130
    assert calls > 10_000
    step = calls // moments
    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(lambda at: (at, _signalled(folder, at)), range(2, calls, step)))
    assert not [(at, ran) for at, ran in found if ran[0] != 130 or "Traceback" in ran[2]]


def test_ctrl_c_is_heard_at_many_moments_of_starting(folder: Path) -> None:
    _at_many_moments(folder, MOMENTS)


@pytest.mark.long
def test_ctrl_c_is_heard_at_very_many_moments_of_starting(folder: Path) -> None:
    _at_many_moments(folder, 200)


def _run(code: str, *, ignored: bool = False) -> tuple[int, float, str]:
    """Exit code, seconds and stderr of ``code``, with Ctrl-C ignored by its parent or not."""
    handler = signal.SIG_IGN if ignored else signal.SIG_DFL
    start = time.monotonic()
    ran = subprocess.run(
        [sys.executable, "-c", f"import os, signal, sys, time\n{code}"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        preexec_fn=lambda: signal.signal(signal.SIGINT, handler),
    )
    return ran.returncode, time.monotonic() - start, ran.stderr


DROPPED = """
from lmstack.app.server.stopping import interrupts_heard

class Dropping:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGINT)
        for _ in range(100): pass

try:
    with interrupts_heard():
        Dropping()
        time.sleep(90)
except KeyboardInterrupt:
    sys.exit(130)
"""


def test_a_ctrl_c_that_python_drops_is_sent_again() -> None:
    code, took, err = _run(DROPPED)
    assert code == 130
    assert took < 30
    assert "ignored" not in err


def test_other_exceptions_that_python_drops_are_still_shown() -> None:
    raising = DROPPED.replace("os.kill(os.getpid(), signal.SIGINT)", "raise ValueError('seen')")
    code, _, err = _run(raising.replace("time.sleep(90)", "sys.exit(7)"))
    assert code == 7
    assert "seen" in err


SWALLOWED = """
from lmstack.app.server import stopping
stopping.LAST_RESORT_S = 0.2

with stopping.Stopping():
    try:
        os.kill(os.getpid(), signal.{name})
        time.sleep(90)
    except BaseException:
        time.sleep(90)
"""


@pytest.mark.parametrize(("name", "code"), [("SIGINT", 130), ("SIGTERM", 143)])
@pytest.mark.parametrize("ignored", [False, True], ids=["", "in_the_background"])
def test_code_that_swallows_the_interruption_does_not_keep_the_process(
    name: str, code: int, ignored: bool
) -> None:
    found, took, _ = _run(SWALLOWED.format(name=name), ignored=ignored)
    assert found == code
    assert took < 30


def test_leaving_gives_the_signals_back_and_calls_the_last_resort_off() -> None:
    code, _, _ = _run(
        """
from lmstack.app.server import stopping
stopping.LAST_RESORT_S = 0.2
before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
try:
    with stopping.Stopping():
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(90)
except SystemExit as stop:
    assert stop.code == 143
assert before == (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM))
time.sleep(0.5)
sys.exit(7)
"""
    )
    assert code == 7


def test_ctrl_c_that_pydantic_made_an_error_of_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    class Member:
        @property
        def value(self) -> str:
            raise KeyboardInterrupt

    def build(*_: object) -> int:
        SchemaValidator(core_schema.enum_schema(Member, [Member()]))
        return 0

    monkeypatch.setattr(program, "_invoke", build)
    assert program.run(["up"], time.monotonic()) == 130
