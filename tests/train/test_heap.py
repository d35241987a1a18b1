"""Memory that a step frees, and how much a process took."""

import ctypes
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from tests.train import runs

from lmstack.train import heap

FAULTS = """
import resource, torch
from lmstack.train.heap import keep_freed_memory
def faults():
    for _ in range(12):  # it takes some to settle
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        held = [torch.empty(5_000_000).fill_(1.0) for _ in range(4)]  # 19,532 pages
        del held
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
print(faults())
keep_freed_memory()
print(faults())
"""
# A process of some hundred megabytes, by one that holds more.
PEAK = """
import subprocess, sys
held = b"1" * 1_100_000_000
code = "from lmstack.train.plan import _peak; print(_peak())"
print(subprocess.run([sys.executable, "-c", code], stdout=-1, text=True).stdout)
"""


def said_by(code: str) -> list[int]:
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return [int(word) for word in done.stdout.split()]


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallopt"), reason="another C library")
def test_freed_memory_is_not_cleared_again() -> None:
    as_it_is, kept = said_by(FAULTS)
    assert kept < 500 < as_it_is


def test_all_three_settings_are_made_the_threshold_first(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[tuple[int, int]] = []
    library = SimpleNamespace(mallopt=lambda name, value: made.append((name, value)))
    monkeypatch.setattr(ctypes, "CDLL", lambda _: library)
    heap.keep_freed_memory()
    assert made == [(-3, 32 << 20), (-1, (1 << 31) - 1), (-2, 64 << 20)]  # as malloc.h has them


@pytest.mark.skipif(sys.platform != "linux", reason="the system tells it otherwise")
def test_a_peak_is_that_of_the_process_and_not_of_its_parent() -> None:
    (peak,) = said_by(PEAK)
    assert 50e6 < peak < 1e9


def test_a_run_in_the_process_of_somebody_else_leaves_its_memory_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What malloc is told cannot be taken back: the command does it, in its own process."""

    load = ctypes.CDLL

    def watched(name: str | None) -> ctypes.CDLL:
        assert name is not None, "the C library of the process"
        return load(name)

    monkeypatch.setenv("LMSTACK_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(heap.ctypes, "CDLL", watched)
    runs.prepare_folder(tmp_path)
    assert runs.train(runs.recipe(tmp_path, steps=1)).steps == 1
