"""The public surface is the written one, and every name on it is there."""

from __future__ import annotations

import importlib
import runpy
from pathlib import Path

FOLDER = Path(__file__).parent
WRITTEN = FOLDER / "public_surface.txt"


def test_the_public_surface_is_the_written_one() -> None:
    now = set(runpy.run_path(str(FOLDER / "write_surface.py"))["surface"]().split())
    written = set(WRITTEN.read_text().split())
    changed = [f"+ {n}" for n in sorted(now - written)] + [f"- {n}" for n in sorted(written - now)]
    assert not changed, "\n".join(
        [*changed, "if this is meant: python tests/rules/write_surface.py"]
    )


def test_every_public_name_can_be_imported() -> None:
    """Packages look names up when they are used, so a wrong entry would show only then."""
    for line in WRITTEN.read_text().split():
        package, _, name = line.rpartition(".")
        getattr(importlib.import_module(package), name)
