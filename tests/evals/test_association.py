"""Partial correlation within cells, against least squares, and its test under no effect."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats

from lmstack.evals.association import association, cells_of

PROMPTS, EACH = 20, 4


def cells(each: int = EACH, prompts: int = PROMPTS):  # type: ignore[no-untyped-def]
    numbers = np.repeat(np.arange(prompts), each)
    return cells_of(numbers.tolist(), numbers.tolist())


def test_it_is_the_correlation_of_residuals_with_a_mean_for_each_cell() -> None:
    rng = np.random.default_rng(0)
    where = cells()
    hard = rng.normal(0, 5, PROMPTS)[where.cell]
    z = rng.normal(size=(len(hard), 2))
    x = z[:, 0] + rng.normal(size=len(hard)) + hard
    y = 0.9 * x + z[:, 1] + rng.normal(size=len(hard)) - 3 * hard
    design = np.concatenate([np.eye(PROMPTS)[where.cell], z], axis=1)
    rest = [v - design @ np.linalg.lstsq(design, v, rcond=None)[0] for v in (x, y)]
    found = association(x, y, z, where)
    assert found.value == pytest.approx(scipy.stats.pearsonr(*rest).statistic)
    assert found.low < found.value < found.high
    assert found.p == pytest.approx(1 / 5000)


def test_hard_prompts_and_what_is_held_make_no_correlation() -> None:
    rng = np.random.default_rng(1)
    where = cells()
    hard = rng.normal(0, 5, PROMPTS)[where.cell]
    noise = rng.normal(size=(3, len(hard)))
    assert (association(hard + noise[0], hard + noise[1], [], where).p or 0) > 0.01
    cause = noise[2]
    x, y = cause + 0.3 * noise[0], cause + 0.3 * noise[1]
    assert association(x, y, [], where).value > 0.8
    assert (association(x, y, cause[:, None], where).p or 0) > 0.01


def test_without_a_spread_there_is_none() -> None:
    where = cells()
    for x, y in ((np.ones(80), np.arange(80.0)), (np.arange(80.0), where.prompt * 1.0)):
        found = association(x, y, [], where)
        assert (found.value, found.p) == (0.0, 1.0)


def test_the_test_is_right_as_often_as_it_says() -> None:
    """Of rewards without an effect, as skewed as rewards are, 5 % are below 0.05."""
    where = cells(3, 12)
    moves = where.permutations(499)
    low = 0
    for seed in range(300):
        rng = np.random.default_rng(seed)
        x, z, y = rng.exponential(size=36), rng.normal(size=(36, 2)), rng.random(36) < 0.2
        low += (association(x, y, z, where, moves, seed=seed).p or 0) < 0.05
    assert low <= 300 * 0.05 + 3 * np.sqrt(300 * 0.05 * 0.95)
