"""Faults in code that is run by processes without mutmut, such as those of a sandbox.

Each is written into the copy in turn, and all of ``tests`` run on it: nothing tells which of them
reach it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from tests.mutants.faults import Fault, with_fault

__all__ = ["results_apart"]


def results_apart(place: Path, sample: Sequence[Fault], tests: Sequence[str]) -> dict[str, str]:
    """What became of each fault, by its name: killed, survived or timeout."""
    kept = place / "apart.json"
    found: dict[str, str] = json.loads(kept.read_text()) if kept.is_file() else {}
    left = [fault for fault in sample if fault.name not in found]
    if not left:
        return found
    began = time.monotonic()
    if code := _code_of(place, tests):
        raise SystemExit(f"the tests must pass before any fault, and ended with {code}")
    limit = 3 * (time.monotonic() - began) + 60
    for fault in left:
        path = place / fault.file
        plain = path.read_text(encoding="utf-8")
        path.write_text(with_fault(path, fault), encoding="utf-8")
        try:
            code = _code_of(place, tests, fault.name, limit)
            found[fault.name] = "killed" if code == 1 else "survived"
        except subprocess.TimeoutExpired:
            found[fault.name] = "timeout"
        finally:
            path.write_text(plain, encoding="utf-8")
        kept.write_text(json.dumps(found))
        print(f"{found[fault.name]:10}{fault.name}", flush=True)
    return found


def _code_of(
    place: Path, tests: Sequence[str], fault: str = "", limit_s: float | None = None
) -> int:
    """What pytest ends with; ``fault`` tells `ordered` which tests to run first."""
    plugins = ("-p", "no:cacheprovider", "-p", "no:randomly", "--hypothesis-seed=14")
    command = [sys.executable, "-m", "pytest", "-x", "-q", *plugins]
    command += ["-m", "not long and not weights and not browser", *tests]
    env = {**os.environ, "PYTHONPATH": str(place / "src"), "MUTANT_UNDER_TEST": fault}
    return subprocess.run(
        command, cwd=place, env=env, timeout=limit_s, stdout=subprocess.DEVNULL, check=False
    ).returncode
