"""Seconds, tokens and cost of answers."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from tests.errors import about
from tests.evals.metrics.outputs import asked, figure, rows, wrote

from lmstack.core import InputError
from lmstack.evals.metrics.registry import make_scorer
from lmstack.evals.metrics.usage import UsageScorer
from lmstack.evals.statistics import bootstrap

SECONDS = np.random.default_rng(0).gamma(2, size=101)


def test_latency_is_summed_up_by_median_and_95th_percentile_with_intervals() -> None:
    scorer = UsageScorer()
    scores = [scorer.score(asked(), wrote("", seconds=float(each))) for each in SECONDS]
    median, p95 = scorer.metrics[:2]
    assert figure(median, scores) == sorted(SECONDS)[50]
    assert figure(p95, scores) == pytest.approx(np.percentile(SECONDS, 95))
    found = bootstrap(rows(p95, scores), p95.statistic)
    assert found.low < found.value < found.high


def test_cost_is_by_a_million_tokens_and_only_where_prices_are_known() -> None:
    output = wrote("", prompt_tokens=2000, completion_tokens=100, finish_reason="length")
    priced = make_scorer({"name": "usage", "price": {"input": 0.5, "output": 2}})
    assert priced.score(asked(), output)["cost"] == pytest.approx(0.0012)
    assert priced.score(asked(), output)["cut_off"] == 1
    assert math.isnan(UsageScorer().score(asked(), output)["cost"])
    assert "cost" not in {metric.name for metric in UsageScorer().metrics}
    assert "cost" in {metric.name for metric in priced.metrics}
    assert json.loads(json.dumps(priced.protocol))["price"]["output"] == 2
    with pytest.raises(InputError, match="input is -1", check=about("input")):
        make_scorer({"name": "usage", "price": {"input": -1}})
    with pytest.raises(InputError, match=r"cached=0\.1", check=about("price")):
        make_scorer({"name": "usage", "price": {"input": 1, "cached": 0.1}})
    with pytest.raises(InputError, match="not a mapping"):
        make_scorer({"name": "usage", "price": 0.5})


def test_figures_of_usage_by_hand() -> None:
    priced = make_scorer({"name": "usage", "price": {"input": 1, "output": 2}})
    shown = [(m.name, m.columns, m.better, m.is_share, m.decimals) for m in priced.metrics]
    assert shown == [
        ("median_seconds", ("seconds",), "lower", False, 3),
        ("p95_seconds", ("seconds",), "lower", False, 3),
        ("prompt_tokens", ("prompt_tokens",), "lower", False, 3),
        ("completion_tokens", ("completion_tokens",), "lower", False, 3),
        ("cost", ("cost",), "lower", False, 6),
        ("cut_off", ("cut_off",), "lower", True, 3),
    ]
    output = wrote("", prompt_tokens=3, completion_tokens=5, seconds=0.5, finish_reason="stop")
    assert priced.score(asked(), output) == {
        **{"seconds": 0.5, "prompt_tokens": 3.0, "completion_tokens": 5.0},
        **{"cost": pytest.approx(13e-6), "cut_off": 0.0},
    }
    assert UsageScorer().protocol["price"] is None
    table = np.arange(12.0).reshape(2, 3, 2)
    assert UsageScorer().metrics[0].statistic(table).tolist() == [2.0, 8.0]
