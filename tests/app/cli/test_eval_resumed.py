"""`lmstack eval run` loses nothing: killed at any item, given twice at once, or changed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.app.cli.eval_killed import ITEMS, STAGES

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("killed")
    command = [sys.executable, "-m", "tests.app.cli.eval_killed", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    result: dict[str, Any] = json.loads(done.stdout)
    return result


@pytest.mark.parametrize("place", range(len(STAGES)), ids=[f"{s}-{n}" for s, n in STAGES])
def test_a_killed_command_given_again_says_the_same(found: dict[str, Any], place: int) -> None:
    each = found["killed"][place]
    assert each["codes"] == [-9, 0]
    assert each["digest"] == found["whole"]
    kept = each["item"] + (each["stage"] == "kept")
    if each["stage"] == "asking":
        # Two are asked at a time, of which the other may be there or not.
        assert len(each["after"]) in (ITEMS - kept, ITEMS - kept + 1)
    else:
        assert len(each["after"]) == ITEMS - kept
    assert {*each["before"], *each["after"]} == {f"What is {n} + 1?" for n in range(ITEMS)}


def test_two_commands_at_once_lose_nothing_and_say_the_same(found: dict[str, Any]) -> None:
    both = found["at_once"]
    assert both["codes"] == [0, 0, 0]
    assert set(both["digests"]) == {found["whole"]}
    assert ITEMS <= both["asked"] <= 2 * ITEMS  # and the third command asked for none


@pytest.mark.parametrize(
    ("change", "asked", "protocol", "data"),
    [
        ("nothing", 0, False, False),
        ("the prompt", ITEMS, False, True),
        ("the sampling", ITEMS, True, False),
        ("the version", ITEMS, True, False),
        ("the scorer", 0, True, False),
        ("a row", 1, False, True),
    ],
)
def test_what_changed_is_asked_anew_and_told_apart(
    found: dict[str, Any], change: str, asked: int, protocol: bool, data: bool
) -> None:
    """Outputs stay where only their scores are others."""
    assert found["changed"][change] == {
        "code": 0,
        "asked": asked,
        "protocol": protocol,
        "data": data,
    }
