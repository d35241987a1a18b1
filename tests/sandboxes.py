"""Sandboxes for tests, where the machine lets any be made.

A machine without bubblewrap, or whose kernel gives no namespaces, has none of that isolation, and
its tests are skipped; the same for Landlock. Where bubblewrap or Landlock itself works, a sandbox
of lmstack's that cannot be made is a failure.
"""

from __future__ import annotations

import functools
import shutil
import subprocess

import pytest

from lmstack.agents.sandbox import Sandbox, SandboxConfig
from lmstack.agents.sandbox.inside.landlock import version
from lmstack.agents.sandbox.sandbox import IsolationName

__all__ = ["ISOLATIONS", "made_or_skipped"]

ISOLATIONS: tuple[IsolationName, ...] = ("bubblewrap", "landlock")


def made_or_skipped(
    config: SandboxConfig | None = None, isolation: IsolationName = "auto"
) -> Sandbox:
    missing = {name: why for name in ISOLATIONS if (why := _missing(name))}
    if isolation in missing:
        pytest.skip(missing[isolation])
    if len(missing) == len(ISOLATIONS):
        pytest.skip("; ".join(missing.values()))
    found = Sandbox(config, isolation=isolation)
    found.check()
    return found


@functools.cache
def _missing(isolation: IsolationName) -> str:
    """Why it cannot be had here; empty where it can."""
    if isolation == "landlock":
        return "" if version() else "no Landlock here"
    bwrap = shutil.which("bwrap")
    if bwrap is None:
        return "bubblewrap is not installed"
    plain = [bwrap, "--unshare-all", "--ro-bind", "/", "/", "true"]
    done = subprocess.run(plain, capture_output=True, text=True, timeout=60)
    return f"no namespaces here: {done.stderr.strip()}" if done.returncode else ""
