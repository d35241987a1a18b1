"""The threads that share a step, and a program on them, in a program of C alone: under the thread
sanitizer, which Python could not be run with, and under those of addresses and undefined
behaviour."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from lmstack.engine.cpu import build

DRIVER = Path(__file__).with_name("team_driver.c")
RACE = """
#include "team.h"
#include <stdlib.h>
static int count;
static void work(lm_team *team, int thread, void *argument)
{
    (void)team, (void)thread, (void)argument;
    for (int i = 0; i < 1000; i++) count++;
}
int main(void)
{
    lm_team *team = lm_team_new(2);
    if (!lm_team_enter(team, 1)) return 1;
    for (int i = 0; i < 100; i++) lm_team_run(team, work, NULL);
    lm_team_leave(team);
    lm_team_free(team);
    return 0;
}
"""


def run(folder: Path, source: Path, *flags: str) -> subprocess.CompletedProcess[str]:
    if not shutil.which("gcc"):
        pytest.skip("no gcc")
    program = folder / "program"
    build.build(
        program,
        folder / "objects",
        compiler=["gcc"],
        extra=("-O1", "-g", *flags),
        extra_sources=[source],
        shared=False,
    )
    return subprocess.run(
        [str(program)],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
        # gcc aligns its stand-ins for stack frames too little for vectors of 64 bytes (its bug
        # 110027), so those are left out.
        env=os.environ
        | {"TSAN_OPTIONS": "halt_on_error=1", "ASAN_OPTIONS": "detect_stack_use_after_return=0"},
    )


@pytest.mark.long
@pytest.mark.parametrize("checks", ["thread", "address,undefined"])
def test_callers_who_share_a_team_get_one_threads_bits_without_a_race(
    tmp_path: Path, checks: str
) -> None:
    done = run(tmp_path, DRIVER, f"-fsanitize={checks}", "-fno-sanitize-recover=all")
    assert (done.returncode, done.stdout) == (0, ""), done.stdout + done.stderr


@pytest.mark.long
def test_the_thread_sanitizer_would_see_a_race(tmp_path: Path) -> None:
    """That the test above can fail."""
    (tmp_path / "race.c").write_text(RACE)
    done = run(tmp_path, tmp_path / "race.c", "-fsanitize=thread")
    assert done.returncode != 0
    assert "data race" in done.stderr
