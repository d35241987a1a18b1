"""Protocols and metrics of all solvers and scorers are what they were: as for benchmarks
(`tests.evals.benchmarks.test_protocols`), ``python -m tests.evals.test_protocols`` writes anew."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from tests.evals.metrics.test_registry import NEEDED

from lmstack.core import Grammar, Price, SamplingParams, ScriptedModel
from lmstack.evals.conversation import Shots
from lmstack.evals.likelihood_solvers import MultipleChoice, TargetLikelihood
from lmstack.evals.metrics import SCORERS, make_scorer
from lmstack.evals.metrics.usage import UsageScorer
from lmstack.evals.metrics.windows import Windows
from lmstack.evals.solvers import Generate, SelfConsistency
from lmstack.evals.system_tasks import AskIndex, RunAgent
from lmstack.evals.task import Sample

FILE = Path(__file__).with_name("protocols.json")
SHOTS = Shots((Sample("a", "1 + 1", ("2",)), Sample("b", "1 + 2", ("3",))), 1)
DRAWN = SamplingParams(temperature=0.5, max_tokens=9, stop=("\n",))
JUDGE = ScriptedModel(name="judge")
SOLVERS = {
    "generate": Generate(),
    "generate in full": Generate(
        DRAWN, True, "Say.", SHOTS, "So:", 3, shots_as_turns=True, grammar=Grammar("regex", "[0-9]")
    ),
    "generate in a chat": Generate(raw=True, chat=True),
    "self-consistency": SelfConsistency(Generate(DRAWN), 3, "([0-9]+)"),
    "choice": MultipleChoice(),
    "choice in full": MultipleChoice("Choose.", SHOTS, " is ", True, "So:", shots_as_turns=True),
    "choice in a chat": MultipleChoice(chat=True),
    "target": TargetLikelihood(),
    "target in full": TargetLikelihood(" ", Windows("strided", max_length=9, stride=2)),
    "target in a chat": TargetLikelihood(chat=True),
    "index": AskIndex(),
    "index alone": AskIndex(faithfulness=False),
    "agent": RunAgent(),
    "shots": SHOTS,
}
JUDGED = {
    "rubric": make_scorer("rubric", judge=JUDGE),
    "pairwise": make_scorer({"name": "pairwise", "against": "x", "ties": False}, judge=JUDGE),
    "usage with a price": UsageScorer(Price(1.0, 2.0)),
}
PROGRAMS = ("sacrebleu", "signature", "rouge_score", "bert_score")  # with their versions


def facts() -> dict[str, Any]:
    scorers = {name: make_scorer({"name": name, **NEEDED.get(name, {})}) for name in SCORERS}
    found: dict[str, Any] = {
        f"solver {name}": {"protocol": dict(each.protocol)} for name, each in SOLVERS.items()
    }
    for name, scorer in (scorers | JUDGED).items():
        found[f"scorer {name}"] = {
            "protocol": {k: v for k, v in scorer.protocol.items() if k not in PROGRAMS},
            "metrics": [
                [m.name, list(m.columns), m.better, m.is_share, m.decimals] for m in scorer.metrics
            ],
        }
    return found


@pytest.fixture(scope="module")
def kept() -> Mapping[str, Any]:
    found: Mapping[str, Any] = json.loads(FILE.read_text(encoding="utf-8"))
    return found


def test_no_solver_and_no_scorer_is_gone(kept: Mapping[str, Any]) -> None:
    assert kept.keys() == facts().keys()


def test_solvers_and_scorers_are_what_they_were(kept: Mapping[str, Any]) -> None:
    for name, now in json.loads(json.dumps(facts())).items():
        assert now == kept[name], name


if __name__ == "__main__":
    lines = (f"{json.dumps(name)}: {json.dumps(each)}" for name, each in facts().items())
    FILE.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")
