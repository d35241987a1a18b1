"""A folder as a costly command leaves it, for all tests of a module: each goes on from there."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

__all__ = ["made_once", "new_home"]


def new_home(place: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The home of a test in ``place / "work"``, which is made anew: the same path for each, as much
    of what is kept names others by theirs."""
    work = place / "work"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir()
    monkeypatch.setenv("LMSTACK_HOME", str(work / "home"))
    monkeypatch.chdir(work)
    return work / "home"


def made_once(folder: Path, kept: Path, make: Callable[[], None]) -> None:
    """``folder``, the current one, as ``make`` leaves it: the first time it is called, and what it
    left is copied to ``kept``; later ``folder`` is replaced by a copy of that."""
    if kept.exists():
        shutil.rmtree(folder)
        shutil.copytree(kept, folder)
        os.chdir(folder)
    else:
        make()
        shutil.copytree(folder, kept)
