"""docs/sandbox.md: its program prints what the page says, and its limits are those of the code."""

from __future__ import annotations

import dataclasses
import os
import re
import subprocess
import sys
from pathlib import Path

from tests.agents.hostile_sessions import PROGRAMS
from tests.sandboxes import made_or_skipped

from lmstack.agents.sandbox import SandboxConfig
from lmstack.agents.sandbox.inside import session as supervisor
from lmstack.agents.sandbox.session import PICTURE_BYTES

PAGE = (Path(__file__).parents[2] / "docs/sandbox.md").read_text()


def test_the_program_prints_what_the_page_says() -> None:
    made_or_skipped()
    (program,) = re.findall(r"```python\n(.*?)```", PAGE, re.S)
    (shown,) = re.findall(r"```text\n(.*?)```", PAGE, re.S)
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env=dict(os.environ)
    )
    assert (done.stdout, done.stderr) == (shown, "")


def test_the_table_of_limits_is_the_one_of_the_code() -> None:
    told = {}
    for names, values in re.findall(r"^\| (`[^|]+`) \| ([^|`]+) \|", PAGE, re.M):
        named = re.findall(r"`(\w+)`", names)
        written = values.strip().split(", ") if len(named) > 1 else [values.strip()]
        told |= dict(zip(named, written, strict=True))
    defaults = {each.name: repr(each.default) for each in dataclasses.fields(SandboxConfig)}
    assert told == defaults


def test_the_figures_in_the_text_are_those_of_the_code() -> None:
    assert supervisor._MOST_PICTURES == 8
    assert PICTURE_BYTES == 4 << 20
    assert SandboxConfig().limits(1)["RLIMIT_NOFILE"] == 64
    assert len(PROGRAMS) > 150
