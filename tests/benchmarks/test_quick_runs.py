"""Every benchmark target of the Makefile still runs, on less work, and records nothing.

The first run builds the environments of the peers, in the benchmark cache.
"""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MAKEFILE = (ROOT / "Makefile").read_text()
TARGETS = sorted(
    name
    for line in re.findall(r"^\.PHONY: (bench.*)$", MAKEFILE, re.MULTILINE)
    for name in line.split()
)


def results() -> dict[str, bytes]:
    folder = ROOT / "benchmarks" / "results"
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_every_benchmark_target_passes_its_quick_option_on() -> None:
    assert len(TARGETS) > 10
    for target in TARGETS:
        recipe = _dry_run(target, "QUICK=1")
        scripts = re.findall(r"benchmarks/\w+\.py.*", recipe)
        assert scripts, target
        assert all("--quick" in script for script in scripts), (target, scripts)
        assert "--quick" not in _dry_run(target)


def _dry_run(target: str, *options: str) -> str:
    command = ["make", "--dry-run", "--old-file=.venv/.dev", target, *options]
    return subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout


@pytest.mark.long
@pytest.mark.parametrize("target", TARGETS)
def test_a_quick_run_ends_well_and_leaves_the_results_alone(target: str) -> None:
    before = results()
    done = subprocess.run(
        ["make", target, "QUICK=1"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=3600,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.strip()
    assert results() == before
