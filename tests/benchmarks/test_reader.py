"""The paired tests that a reader is judged by, against scipy and by their definition."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from scipy import stats

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="module", autouse=True)
def _beside() -> Iterator[None]:
    sys.path.insert(0, str(BENCHMARKS))
    yield
    sys.path.remove(str(BENCHMARKS))


@pytest.fixture(scope="module")
def ranking() -> ModuleType:
    import ranking

    return ranking


def test_mcnemar_is_the_binomial_test_of_what_changed() -> None:
    import reader

    for gained in range(0, 40, 3):
        for lost in range(0, 40, 4):
            count = gained + lost
            expected = stats.binomtest(gained, count).pvalue if count else 1.0
            assert reader.mcnemar(gained, lost) == pytest.approx(expected, abs=1e-12)


def test_areas_of_the_same_items_are_compared_by_what_changed(ranking: ModuleType) -> None:
    chance = np.random.default_rng(5)
    above, below = chance.normal(1, 1, 80), chance.normal(0, 1, 60)
    better = (above + 0.8, below + chance.normal(0, 0.1, 60))
    difference, p = ranking.auc_difference((above, below), better)
    expected = ranking.auc(*better)[0] - ranking.auc(above, below)[0]
    assert difference == pytest.approx(expected)
    assert p < 1e-3
    back = ranking.auc_difference(better, (above, below))
    assert back == (pytest.approx(-difference), pytest.approx(p))
    assert ranking.auc_difference((above, below), (above * 3, below * 3)) == (0.0, 1.0)


def test_the_p_value_of_equal_areas_is_uniform(ranking: ModuleType) -> None:
    chance = np.random.default_rng(7)
    found = []
    for _ in range(300):
        shared = chance.normal(0, 1, 90) + np.repeat([1.0, 0.0], 45)
        one, other = (shared + chance.normal(0, 0.7, 90) for _ in range(2))
        found.append(ranking.auc_difference((one[:45], one[45:]), (other[:45], other[45:]))[1])
    assert stats.kstest(found, "uniform").pvalue > 0.001
