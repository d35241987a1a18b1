"""pass@k is the exact share of draws of k, for all n, c and k up to 200."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.errors import about
from tests.evals.metrics.outputs import asked, figure, rows, wrote

from lmstack.core import InputError
from lmstack.evals.metrics.passk import PassAtK, mean_pass_at_k, pass_at_k
from lmstack.evals.metrics.passk import _by_passed as by_passed
from lmstack.evals.statistics import bootstrap


def test_it_is_the_exact_share_of_draws_for_all_n_c_k_up_to_200() -> None:
    choose = [[math.comb(n, k) for k in range(n + 1)] for n in range(201)]
    worst = 0.0
    for n in range(1, 201):
        for k in range(1, n + 1):
            total = choose[n][k]
            exact = [1 - choose[n - c][k] / total for c in range(n - k + 1)]
            exact += [1.0] * k  # fewer than k fail
            worst = max(worst, float(np.abs(by_passed(n, k) - exact).max()))
            assert pass_at_k(n, n - k, k) == by_passed(n, k)[n - k]
    assert worst < 1e-12


@given(st.integers(1, 200), st.data())
def test_it_is_human_evals_estimate(n: int, data: st.DataObject) -> None:
    c, k = data.draw(st.integers(0, n)), data.draw(st.integers(1, n))
    product = float(np.prod(1.0 - k / np.arange(n - c + 1, n + 1)))
    assert pass_at_k(n, c, k) == pytest.approx(1.0 if n - c < k else 1.0 - product, abs=1e-12)


def test_a_figure_is_the_mean_over_tasks_and_has_an_interval() -> None:
    scorer = PassAtK((1, 5))
    outputs = [[True] * 3 + [False] * 7, [False] * 6, [True] * 5]
    scores = [scorer.score(asked(), wrote("", facts={"passed": each})) for each in outputs]
    one, five = scorer.metrics
    assert figure(one, scores) == pytest.approx((0.3 + 0 + 1) / 3)
    assert figure(five, scores) == pytest.approx((pass_at_k(10, 3, 5) + 0 + 1) / 3)
    many = np.tile(rows(five, scores), (10, 1))
    found = bootstrap(many, five.statistic)
    assert found.low < found.value < found.high


def test_k_is_reported_only_if_every_task_has_as_many_drafts() -> None:
    scorer = PassAtK((10, 1))
    scores = [scorer.score(asked(), wrote("", facts={"passed": [True] * n})) for n in (9, 10)]
    assert scorer.k == (1, 10)
    assert math.isnan(scores[0]["pass@10"])
    assert math.isnan(figure(scorer.metrics[1], scores))
    assert figure(scorer.metrics[0], scores) == 1


def test_all_resamples_at_once_are_each_by_itself() -> None:
    table = np.random.default_rng(0).integers(0, 20, (4, 6, 1)) + np.array([20, 0])
    found = mean_pass_at_k(table.astype(float), 3)
    assert found.shape == (4,)
    for row, value in zip(table, found, strict=True):
        assert value == pytest.approx(np.mean([pass_at_k(int(n), int(c), 3) for n, c in row]))


def test_what_is_not_defined_is_refused() -> None:
    for n, c, k in ((3, 4, 1), (3, 1, 4), (3, 1, 0), (3, -1, 1)):
        with pytest.raises(InputError, match="not defined", check=about("k")):
            pass_at_k(n, c, k)
    with pytest.raises(InputError, match="drafts that passed", check=about("passed")):
        PassAtK().score(asked(), wrote("x"))
    with pytest.raises(InputError, match="k is", check=about("k")):
        PassAtK((0,))
