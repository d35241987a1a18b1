"""The suite in the background of a script, where the shell has Ctrl-C ignored."""

from __future__ import annotations

import subprocess
import sys


def test_ctrl_c_reaches_tests_in_the_background() -> None:
    """Those that wait for it would otherwise wait forever."""
    ours = "engine.scratch registry registry.signing train"  # they load torch
    unused = ("torch", *(f"lmstack.{name}" for name in ours.split()))
    ask = (
        "import signal, sys; from unittest.mock import Mock;"
        f"sys.modules.update(dict.fromkeys({unused}, Mock())); import tests.conftest;"
        "print(signal.getsignal(signal.SIGINT))"
    )
    words = ["sh", "-c", "trap '' INT; exec \"$@\"", "sh", sys.executable, "-c", ask]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    assert "default_int_handler" in done.stdout
