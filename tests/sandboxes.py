"""Sandboxes for tests, where the machine lets any be made.

A machine without bubblewrap, or whose kernel gives no namespaces, has none, and its tests are
skipped. Where bubblewrap itself runs, a sandbox of lmstack's that cannot be made is a failure.
"""

from __future__ import annotations

import shutil
import subprocess

import pytest

from lmstack.agents.sandbox import Sandbox, SandboxConfig

__all__ = ["made_or_skipped"]


def made_or_skipped(config: SandboxConfig | None = None) -> Sandbox:
    bwrap = shutil.which("bwrap")
    if bwrap is None:
        pytest.skip("bubblewrap is not installed")
    plain = [bwrap, "--unshare-all", "--ro-bind", "/", "/", "true"]
    done = subprocess.run(plain, capture_output=True, text=True, timeout=60)
    if done.returncode:
        pytest.skip(f"no namespaces here: {done.stderr.strip()}")
    found = Sandbox(config)
    found.check()
    return found
