"""What a gate may be declared to be, and what is said of the rest."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from tests.errors import about

from lmstack.core import InputError
from lmstack.core.yaml_text import parse_yaml
from lmstack.evals.benchmarks import BENCHMARKS
from lmstack.evals.gate import GateConfig, GateRule

GATES = sorted((Path(__file__).parents[3] / "recipes/gates").glob("*.yaml"))
RULE: dict[str, Any] = {"task": "mmlu", "margin": 0.02}


@pytest.mark.parametrize("path", GATES, ids=lambda path: path.stem)
def test_a_gate_that_is_shipped_is_whole_and_its_data_come_from_packages(path: Path) -> None:
    config = GateConfig.from_mapping(parse_yaml(path.read_text(), str(path)))
    assert all(rule.margin or rule.threshold for rule in config.rules)
    assert GateConfig.from_mapping(config.to_json()) == config
    for rule in config.rules:
        needed = [need for need in BENCHMARKS[rule.task].files if not need.optional]
        assert needed
        assert all(need.packaged for need in needed)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"margn": 0.02}, "did you mean 'margin'"),
        ({"kind": "superier"}, "did you mean 'superior'"),
        ({"kind": "best"}, "known: non-inferior, superior, at_least"),
        ({"task": ""}, "names no task"),
        ({"margin": None}, "has no margin"),
        ({"margin": 0}, "margin is 0, outside"),
        ({"margin": -0.1}, "margin is -0.1, outside"),
        ({"margin": float("nan")}, "margin is nan, outside"),
        ({"margin": "2%"}, "margin is '2%', not a number"),
        ({"margin": True}, "margin is True, not a number"),
        ({"threshold": 0.5}, "is non-inferior and has a threshold"),
        ({"kind": "at_least"}, "is at_least and has a margin"),
        ({"kind": "at_least", "margin": None}, "has no threshold"),
        ({"alpha": 0}, "alpha is 0, outside"),
        ({"alpha": 0.5}, "alpha is 0.5, outside"),
        ({"power": 1}, "power is 1, outside"),
        ({"metric": 3}, "metric is 3, not text"),
    ],
)
def test_a_wrong_rule_is_refused(change: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError) as error:
        GateConfig.from_mapping({"rules": [{**RULE, **change}]})
    assert said in str(error.value)
    assert error.value.param in {*change, "threshold", "margin"}


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"rules": []}, "would let everything pass"),
        ({"rules": [RULE, RULE]}, "mmlu has two rules that are non-inferior"),
        ({"rules": RULE}, "not a list"),
        ({"rules": ["mmlu"]}, "not a mapping"),
        ({"rules": [RULE], "weights": {}}, "no setting 'weights'"),
        ({"rules": [RULE], "look": 2}, "did you mean 'looks'"),
        ({"rules": [RULE], "looks": 0}, "looks is 0"),
        ({"rules": [RULE], "looks": True}, "looks is True"),
        ({"rules": [RULE], "looks": "many"}, "looks is 'many'"),
        ({"rules": [RULE], "alpha": 2}, "alpha is 2, outside"),
        ({}, "lacks the setting 'rules'"),
    ],
)
def test_a_wrong_gate_is_refused(values: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError) as error:
        GateConfig.from_mapping(values)
    assert said in str(error.value)
    assert error.value.param in {*values, None if "mapping" in said else "rules"}


def test_a_rule_has_its_own_levels_and_otherwise_the_gates() -> None:
    strict = GateRule("gsm8k", margin=0.05, alpha=0.01, power=0.9)
    config = GateConfig((GateRule("mmlu", margin=0.02), strict), alpha=0.1, power=0.7)
    assert [config.alpha_of(rule) for rule in config.rules] == [0.1, 0.01]
    assert [config.power_of(rule) for rule in config.rules] == [0.7, 0.9]


def test_looks_share_alpha_and_bets_need_not() -> None:
    rule = GateRule("mmlu", margin=0.02)
    assert GateConfig((rule,), looks=4).alpha_of(rule) == pytest.approx(0.0125)
    assert GateConfig((rule,), looks="any").alpha_of(rule) == 0.05


def test_bounds_lie_where_the_kind_says() -> None:
    assert GateRule("t", margin=0.02).bound == -0.02
    assert GateRule("t", kind="superior").bound == 0
    assert GateRule("t", kind="superior", margin=0.02).bound == 0.02
    assert GateRule("t", kind="at_least", threshold=0.9).bound == 0.9


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"task": ""}, "task"),
        ({"task": 3}, "task"),
        ({"metric": 3}, "metric"),
        ({"kind": "best"}, "kind"),
        ({"threshold": 0.5}, "threshold"),
        ({"margin": None}, "margin"),
        ({"margin": 0}, "margin"),
        ({"margin": math.inf}, "margin"),
        ({"kind": "superior", "margin": -0.1}, "margin"),
        ({"kind": "superior", "threshold": 0.1}, "threshold"),
        ({"kind": "at_least"}, "margin"),
        ({"kind": "at_least", "margin": None}, "threshold"),
        ({"kind": "at_least", "margin": None, "threshold": math.inf}, "threshold"),
        ({"alpha": 0.5}, "alpha"),
        ({"power": 0.49}, "power"),
        ({"power": 1.0}, "power"),
    ],
)
def test_which_field_of_a_rule_is_wrong(change: dict[str, Any], param: str) -> None:
    with pytest.raises(InputError, check=about(param)):
        GateRule(**{**RULE, **change})


def test_rules_at_the_ends_of_what_is_allowed() -> None:
    GateRule("t", kind="superior", margin=0)
    GateRule("t", kind="at_least", threshold=-3.0)
    GateRule("t", margin=0.02, alpha=0.499, power=0.5)
    rule = GateRule("t", margin=0.02)
    for looks in (1, 20, "any"):
        GateConfig((rule,), looks=looks)
    for values, param in (
        ({"rules": "mmlu"}, "rules"),
        ({"rules": 3}, "rules"),
        ({"rules": ()}, "rules"),
        ({"rules": (rule, GateRule("t", margin=0.5))}, "rules"),
        ({"rules": (rule,), "looks": 1.0}, "looks"),
        ({"rules": (rule,), "looks": 21}, "looks"),
        ({"rules": (rule,), "alpha": 0.0}, "alpha"),
        ({"rules": (rule,), "power": 1.0}, "power"),
    ):
        with pytest.raises(InputError, check=about(param)):
            GateConfig(**values)
    named = GateRule("t", metric="m", margin=0.5)
    both = GateConfig((rule, named, GateRule("t", kind="superior")), alpha=0.01, power=0.9, looks=3)
    assert (rule.title, named.title) == ("t", "t m")
    assert both.to_json() == {
        "rules": [
            {"task": "t", "kind": "non-inferior", "margin": 0.02},
            {"task": "t", "kind": "non-inferior", "metric": "m", "margin": 0.5},
            {"task": "t", "kind": "superior"},
        ],
        **{"alpha": 0.01, "power": 0.9, "looks": 3},
    }
    with pytest.raises(InputError, match=r"^t m has two rules that are non-inferior"):
        GateConfig((named, named))
