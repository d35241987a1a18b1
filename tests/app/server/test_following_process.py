"""`lmstack up prod` as a process whose alias is moved, that is stopped, and that is killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.app.tiny_releases import TinyRelease, move_to, tiny_releases

from lmstack.registry.aliases import Aliases

ROOT = Path(__file__).parents[3]
# `lmstack up prod` with embeddings that need no weights. While there is a file "slow", a release
# takes for ever to load.
CHILD = """
import pathlib, sys, time
from lmstack.app import wiring
from lmstack.app.cli import main
from lmstack.app.wiring import releases, retrieval
from tests.app.conftest import HashEmbedder

opened = releases.opened
def slow(release, **how):
    while pathlib.Path("slow").exists():
        pathlib.Path("loading").touch()
        time.sleep(0.01)
    return opened(release, **how)

releases.opened = slow
wiring.embedder = lambda name: HashEmbedder()
retrieval.answer_reranker = lambda note, reader=None: None
sys.exit(main(["up", "prod", "--port", "0"]))
"""


@pytest.fixture
def tiny(tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> list[TinyRelease]:
    monkeypatch.chdir(tmp_path)
    return tiny_releases(tmp_path / "made", "ab", {})


@contextmanager
def up() -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A server that is ready, and its address."""
    process = subprocess.Popen(
        [sys.executable, "-c", CHILD],
        env={**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'src'}"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert "lmstack serves" in line, process.communicate()
        yield process, line.partition(" at ")[2].split()[0]
    finally:
        process.kill()
        process.communicate()


def served(url: str) -> str:
    with urllib.request.urlopen(f"{url}/v1/models/prod", timeout=60) as answer:
        return str(json.load(answer)["digest"])


def until(told: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 120
    while not told():
        if time.monotonic() > deadline:
            process.kill()
            raise AssertionError(process.communicate())
        time.sleep(0.02)


def stop(process: subprocess.Popen[str]) -> str:
    """What it has said."""
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=120) == 143
    assert process.stderr is not None
    return process.stderr.read()


def test_a_server_says_what_takes_over_and_ends_while_the_next_one_loads(
    tiny: list[TinyRelease],
) -> None:
    a, b = tiny
    move_to(a)
    with up() as (process, url):
        assert served(url) == a.digest
        move_to(b)
        until(lambda: served(url) == b.digest, process)
        Path("slow").touch()
        Aliases().roll_back("prod")
        until(Path("loading").exists, process)
        assert served(url) == b.digest
        assert "prod: " in stop(process)


@pytest.mark.long
def test_a_server_that_is_killed_while_it_loads_serves_what_the_alias_says_when_it_starts(
    tiny: list[TinyRelease],
) -> None:
    a, b = tiny
    move_to(a)
    with up() as (process, url):
        assert served(url) == a.digest
        Path("slow").touch()
        move_to(b)
        until(Path("loading").exists, process)
        assert served(url) == a.digest
        process.kill()
    Path("slow").unlink()
    with up() as (process, url):
        assert served(url) == b.digest
        stop(process)
