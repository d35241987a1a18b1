"""The gate: may a candidate take the place of what is in production? Rules declared beforehand,
per-sample scores of both on the same samples, and a verdict with its reasons."""

from lmstack.evals.gate.config import GateConfig, GateRule
from lmstack.evals.gate.decision import GateDecision, RuleResult, decide
from lmstack.evals.gate.scores import GateComparison, TaskScores

__all__ = [
    "GateComparison",
    "GateConfig",
    "GateDecision",
    "GateRule",
    "RuleResult",
    "TaskScores",
    "decide",
]
