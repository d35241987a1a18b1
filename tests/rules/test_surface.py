"""The public surface is the written one, and every name on it is there."""

from __future__ import annotations

import runpy
import subprocess
import sys
from pathlib import Path

FOLDER = Path(__file__).parent
WRITTEN = FOLDER / "public_surface.txt"

LOOKUP = """
import importlib, sys
for line in sys.stdin.read().split():
    package, _, name = line.rpartition(".")
    try:
        getattr(importlib.import_module(package), name)
    except (AttributeError, ImportError) as error:
        print(line, error)
"""


def test_the_public_surface_is_the_written_one() -> None:
    now = set(runpy.run_path(str(FOLDER / "write_surface.py"))["surface"]().split())
    written = set(WRITTEN.read_text().split())
    changed = [f"+ {n}" for n in sorted(now - written)] + [f"- {n}" for n in sorted(written - now)]
    assert not changed, "\n".join(
        [*changed, "if this is meant: python tests/rules/write_surface.py"]
    )


def test_every_public_name_can_be_imported() -> None:
    """Packages look names up when they are used, so a wrong entry would show only then."""
    run = subprocess.run(
        [sys.executable, "-c", LOOKUP],
        input=WRITTEN.read_text(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (run.returncode, run.stdout) == (0, ""), run.stdout + run.stderr
