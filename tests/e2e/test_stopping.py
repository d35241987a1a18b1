"""Signals at awkward moments."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

# Native threads (torch, safetensors) abort the process when the interpreter is torn down under
# them; here whatever reaches the teardown aborts.
LOADING = """
import atexit, os, sys, time
atexit.register(os.abort)
from lmstack.app.server.serve import open_port, serve
from lmstack.app.server.stopping import Stopping
def load():
    print("loading", flush=True)
    time.sleep(60)
try:
    with Stopping() as stop:
        serve(open_port("127.0.0.1", 0, lambda *_: ""), load, lambda: None, stop)
except KeyboardInterrupt:
    print("stopped", flush=True)
    sys.exit(130)
"""


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["INT", "TERM"]
)
def test_stopping_while_models_load_is_no_abort(number: int, code: int) -> None:
    process = subprocess.Popen([sys.executable, "-c", LOADING], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "loading\n"
    process.send_signal(number)
    said, _ = process.communicate(timeout=60)
    assert process.returncode == code
    assert said == ("stopped\n" if number == signal.SIGINT else "")
