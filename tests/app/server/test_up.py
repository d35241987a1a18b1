"""`lmstack up`: the port, the keys, loading, and an end on Ctrl-C, with a scripted model."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import textwrap
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from lmstack.app import wiring
from lmstack.app.cli.commands.up import api_keys
from lmstack.app.server import serve
from lmstack.core import InputError

if TYPE_CHECKING:
    from tests.app.conftest import Run

# What the child process runs: the real command line over a scripted service.
CHILD = """
import os, sys, time
from lmstack.app import wiring
from lmstack.app.cli import main
from lmstack.app.server.serve import Service
from lmstack.core import NotFoundError, ScriptedModel

def service(docs, **_):
    while {loading} and not os.path.exists("loaded"):
        time.sleep(0.01)
    if {native}:
        import threading, torch
        a = torch.ones(900, 900)
        def work(number):
            while not os.path.exists("loaded"):
                time.sleep(0.01)
            open(f"works{{number}}", "x").close()
            while True:
                torch.mm(a, a)
        for number in range(3):
            threading.Thread(target=work, args=(number,), daemon=True).start()
    if {fails}:
        raise NotFoundError("the model 'm' is not in the store", hint="lmstack pull m")
    from lmstack.serve import create_app
    model = ScriptedModel(["word " * 500], delay_s=0.05)
    app = create_app(models={{"m": model}})
    app.add_api_route("/clients", lambda: [r.client for r in model.requests])
    stop = app.state.shared.stopping.set
    return Service(app, close=lambda: print("closed", flush=True), stopping=stop)

wiring.require_models = lambda *_: None
wiring.service = service
sys.exit(main(["up", "docs", "--port", "0", *sys.argv[1:]]))
"""


class Up:
    """A running `lmstack up`."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        assert process.stderr is not None
        # "loading; http://127.0.0.1:PORT/healthz says when it is ready"
        self.first_note = process.stderr.readline()
        self.url = self.first_note.split()[1].removesuffix("/healthz")

    def get(self, path: str) -> tuple[int, Any]:
        try:
            with urllib.request.urlopen(self.url + path, timeout=60) as response:
                return response.status, json.load(response)
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)

    def wait_until_ready(self) -> None:
        deadline = time.monotonic() + 60
        while self.get("/healthz")[0] != 200:
            assert time.monotonic() < deadline
            time.sleep(0.02)

    def stop(self, number: int) -> tuple[int, float, str, str]:
        start = time.monotonic()
        self.process.send_signal(number)
        out, err = self.process.communicate(timeout=60)
        return self.process.returncode, time.monotonic() - start, out, err


@contextmanager
def up(
    tmp_path: Path,
    *arguments: str,
    loading: bool = False,
    fails: bool = False,
    native: bool = False,
    in_background: bool = False,
) -> Iterator[Up]:
    """``loading``: until there is a file "loaded". ``native``: with three threads that are in
    native code all the time from then on, as one that embeds is. ``in_background``: as a shell
    starts what ends in ``&``, with Ctrl-C ignored."""
    handler = signal.SIG_IGN if in_background else signal.SIG_DFL
    (tmp_path / "docs").mkdir()
    script = textwrap.dedent(CHILD).format(loading=loading, fails=fails, native=native)
    process = subprocess.Popen(
        [sys.executable, "-c", script, *arguments],
        cwd=tmp_path,
        env={**os.environ, "LMSTACK_HOME": str(tmp_path / "home")},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, handler),
    )
    try:
        yield Up(process)
    finally:
        process.kill()
        process.communicate()


def test_healthz_says_loading_and_then_ok_and_sigterm_closes_the_models(tmp_path: Path) -> None:
    with up(tmp_path, loading=True) as running:
        assert running.get("/healthz") == (503, {"status": "loading"})
        code, body = running.get("/v1/models")
        assert (code, body["error"]["code"]) == (503, "loading")
        (tmp_path / "loaded").touch()
        running.wait_until_ready()
        assert running.get("/v1/models")[1]["data"][0]["id"] == "m"
        code, took, out, err = running.stop(signal.SIGTERM)
    assert code == 143
    assert took < 5
    assert out.endswith("closed\n")
    assert "Traceback" not in err


def test_ctrl_c_ends_an_open_stream_and_the_process_within_five_seconds(tmp_path: Path) -> None:
    with up(tmp_path) as running:
        running.wait_until_ready()
        body = {"model": "m", "stream": True, "messages": [{"role": "user", "content": "hi"}]}
        request = urllib.request.Request(
            running.url + "/v1/chat/completions",
            json.dumps(body).encode(),
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=60) as response:
            response.readline()
            code, took, out, err = running.stop(signal.SIGINT)
            rest = response.read().decode()
    assert code == 130
    assert took < 5
    assert "server_stopping" in rest
    assert out.endswith("closed\n")
    assert "stopped: the index and the audit log are kept" in err
    assert "go on:   lmstack up docs" in err
    assert "Traceback" not in err


def test_a_forged_forwarding_header_does_not_change_who_is_counted(tmp_path: Path) -> None:
    """And the address is printed once it can answer."""
    body = {"model": "m", "max_tokens": 1, "messages": [{"role": "user", "content": "hi"}]}
    headers = {"Content-Type": "application/json"}
    with up(tmp_path) as running:
        assert running.process.stdout is not None
        line = running.process.stdout.readline()
        assert line.startswith(f"lmstack serves docs at {running.url}")
        assert running.get("/healthz")[0] == 200
        for forged in ({}, {"X-Forwarded-For": "10.9.9.9"}):
            request = urllib.request.Request(
                running.url + "/v1/chat/completions", json.dumps(body).encode(), headers | forged
            )
            urllib.request.urlopen(request, timeout=60).close()
        first, second = running.get("/clients")[1]
    assert first == second


@pytest.mark.parametrize("in_background", [False, True], ids=["", "in_the_background"])
def test_ctrl_c_while_loading_does_not_wait_for_the_models_and_the_command_that_goes_on_is_whole(
    tmp_path: Path, in_background: bool
) -> None:
    options = ("--weights", "int8", "--target-step=0.05", "--embedder", "a model")
    with up(tmp_path, *options, loading=True, in_background=in_background) as running:
        code, took, _, err = running.stop(signal.SIGINT)
    assert code == 130
    assert took < 5
    assert "Traceback" not in err
    again = err.splitlines()[-1].removeprefix("go on:   ")
    assert again == (
        "lmstack up docs --port 0 --weights int8 --target-step=0.05 --embedder 'a model'"
    )


def test_ctrl_c_does_not_abort_under_threads_in_native_code(tmp_path: Path) -> None:
    with up(tmp_path, native=True) as running:
        running.wait_until_ready()
        (tmp_path / "loaded").touch()
        while len(list(tmp_path.glob("works*"))) < 3:
            assert running.process.poll() is None
            time.sleep(0.01)
        code, _, out, err = running.stop(signal.SIGINT)
    assert code == 130
    assert out.endswith("closed\n")
    assert "terminate called" not in err


def test_models_that_cannot_be_loaded_end_the_server_with_the_error(tmp_path: Path) -> None:
    with up(tmp_path, fails=True) as running:
        _, err = running.process.communicate(timeout=60)
    assert running.process.returncode == 1
    assert err.splitlines()[-2:] == [
        "error: the model 'm' is not in the store",
        "try:   lmstack pull m",
    ]


@pytest.fixture
def models(monkeypatch: pytest.MonkeyPatch) -> None:
    """Models are there; serving is not reached."""
    monkeypatch.setattr(wiring, "require_models", lambda *_: None)
    monkeypatch.delenv("LMSTACK_API_KEYS", raising=False)


def test_a_used_port_is_an_error_that_names_a_free_one(run: Run, docs: Path, models: None) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ran = run("up", "docs", "--port", str(port), "--weights", "int8")
    assert ran.code == 1
    error, hint = ran.err.splitlines()
    assert error == f"error: port {port} is in use by another program"
    offered = int(hint.removeprefix("try:   lmstack up docs --weights int8 --port "))
    with socket.create_server(("127.0.0.1", offered)):
        pass


def test_a_machine_without_ipv4_is_pointed_to_ipv6(
    run: Run, docs: Path, models: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def bind(host: str, port: int) -> socket.socket:
        raise InputError(f"cannot listen on {host}:{port}: no such address", param="host")

    monkeypatch.setattr(serve, "bind", bind)
    assert run("up", "docs").err.splitlines()[1] == "try:   lmstack up docs --host ::1"


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.7", "example.org"])
def test_other_machines_may_not_ask_without_a_key(
    run: Run, docs: Path, models: None, host: str
) -> None:
    ran = run("up", "docs", "--host", host)
    assert ran.code == 2
    assert "API keys" in ran.err
    assert "LMSTACK_API_KEYS=" in ran.err.splitlines()[1]


@pytest.mark.parametrize("given", ["", " ", ",", " , ,"])
def test_blank_keys_are_no_keys(
    run: Run, docs: Path, models: None, monkeypatch: pytest.MonkeyPatch, given: str
) -> None:
    monkeypatch.setenv("LMSTACK_API_KEYS", given)
    assert api_keys() == ()
    assert run("up", "docs", "--host", "0.0.0.0").code == 2


@pytest.mark.parametrize("key", ["schlüssel", "two words", "a\x07b"])
def test_a_key_that_no_header_can_carry_is_refused_before_loading(
    run: Run, docs: Path, models: None, monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    monkeypatch.setenv("LMSTACK_API_KEYS", f"good,{key}")
    ran = run("up", "docs")
    assert ran.code == 2
    assert key not in ran.err


def test_a_port_that_cannot_be_is_an_error(run: Run, docs: Path, models: None) -> None:
    ran = run("up", "docs", "--port", "70000")
    assert ran.code in (1, 2)
    assert "70000" in ran.err


def test_the_folder_may_be_given_as_for_ask(run: Run, docs: Path) -> None:
    ran = run("up", "--docs", "nowhere")
    assert (ran.code, "nowhere" in ran.err) == (1, True)
    assert run("up", "docs", "--docs", "docs").code == 2
    neither = "lmstack up DIR, or lmstack up --model NAME for a model without documents"
    assert run("up").err.splitlines()[1] == f"try:   {neither}"
    uploads = run("up", "--model", "small", "--uploads")
    assert (uploads.code, "--uploads needs a folder, and none is given" in uploads.err) == (2, True)


def test_a_missing_folder_is_found_before_anything_is_loaded(run: Run, docs: Path) -> None:
    ran = run("up", "nowhere")
    assert ran.code == 1
    assert "nowhere" in ran.err


def test_a_missing_model_names_the_command_that_brings_it(run: Run, docs: Path) -> None:
    ran = run("up", "docs")
    assert ran.code == 1
    assert "qwen2.5-coder-1.5b-instruct" in ran.err.splitlines()[0]
    assert ran.err.splitlines()[1] == "try:   lmstack pull"
