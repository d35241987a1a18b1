"""The conditions of `benchmarks/fresh.py --under` hold, and its commands end."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

FOLDER = Path(__file__).parents[2] / "benchmarks"
NAMES = (
    *("c", "auckland", "umask", "home", "no-compiler", "spaces", "narrow", "ipv6"),
    *("background", "one-core"),
)


@pytest.fixture
def fresh(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(FOLDER)
    import fresh_conditions

    return fresh_conditions


@pytest.fixture
def scratch(tmp_path: Path) -> Iterator[Path]:
    if os.uname().sysname != "Linux":
        pytest.skip("the conditions are those of Linux")
    yield tmp_path
    shutil.rmtree(tmp_path, ignore_errors=True)


@pytest.mark.parametrize("name", NAMES)
def test_a_condition_holds_where_it_is_set(name: str, fresh: ModuleType, scratch: Path) -> None:
    if name == "spaces" and sys.getfilesystemencoding() != "utf-8":
        pytest.skip("its umlauts are made for a locale in UTF-8, and this one is not")
    setting = fresh.combine([name], scratch, fresh.environment(scratch))
    (scratch / setting.clone).mkdir(parents=True)
    log = scratch / "log"
    held = fresh.check([name], lambda command: fresh.run(setting, command, log, 300))
    if b"unshare failed" in log.read_bytes():
        pytest.skip("this machine allows no mount namespaces")
    assert held == [], log.read_text()


def test_every_condition_is_in_a_run_of_all_of_them(fresh: ModuleType) -> None:
    together = [name for run in fresh.TOGETHER for name in run.split("+")]
    assert sorted(together) == sorted(fresh.CONDITIONS)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["c", "german"], "more than one locale"),
        (["c", "spaces"], "needs a locale in UTF-8"),
        (["nothing"], "no condition is called 'nothing'"),
    ],
)
def test_conditions_that_cannot_be_are_refused(
    names: list[str], message: str, fresh: ModuleType, scratch: Path
) -> None:
    with pytest.raises(SystemExit, match=message):
        fresh.combine(names, scratch, {})


def test_a_command_out_of_time_ends_with_all_that_it_started(
    fresh: ModuleType, scratch: Path
) -> None:
    setting = fresh.combine([], scratch, fresh.environment(scratch))
    (scratch / setting.clone).mkdir()
    command = ["sh", "-c", "sleep 600 & echo $! > child; wait"]
    started = time.monotonic()
    assert fresh.run(setting, command, scratch / "log", 0.5) == 124
    assert time.monotonic() - started < 30
    child = (scratch / setting.clone / "child").read_text().strip()
    state = ["ps", "-o", "stat=", child]
    # On a busy machine a killed process waits for its turn to end.
    while subprocess.run(state, capture_output=True, text=True).stdout.strip()[:1] not in "Z":
        assert time.monotonic() - started < 30
        time.sleep(0.05)
