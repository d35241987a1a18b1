"""Protocols, data and metrics of all benchmarks are what they were.

Results of one protocol are compared, and those of two are not. So what a benchmark asks, shows and
counts changes on purpose alone: ``python -m tests.evals.benchmarks.test_protocols`` writes what is
now, and its difference is looked at.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from tests.evals.benchmarks.test_catalog import made

from lmstack.evals.benchmarks import BENCHMARKS

FILE = Path(__file__).with_name("golden") / "protocols.json"


def facts(name: str) -> Mapping[str, Any]:
    task = made(name)
    return {
        "dataset": [task.dataset.name, task.dataset.source, task.dataset.digest],
        "metrics": [[m.name, list(m.columns), m.better, m.is_share] for m in task.metrics],
        "protocol": task.protocol,
    }


@pytest.fixture(scope="module")
def kept() -> Mapping[str, Any]:
    found: Mapping[str, Any] = json.loads(FILE.read_text(encoding="utf-8"))
    return found


@pytest.mark.parametrize("name", BENCHMARKS)
def test_a_benchmark_is_what_it_was(name: str, kept: Mapping[str, Any]) -> None:
    assert facts(name) == kept[name]


def test_no_benchmark_is_gone(kept: Mapping[str, Any]) -> None:
    assert kept.keys() == BENCHMARKS.keys()


if __name__ == "__main__":
    every = {name: facts(name) for name in BENCHMARKS}
    FILE.write_text(json.dumps(every, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
