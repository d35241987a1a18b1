"""The paired tests that a reader is judged by, against scipy and by their definition."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from scipy import stats

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="module", autouse=True)
def _beside() -> Iterator[None]:
    sys.path.insert(0, str(BENCHMARKS))
    yield
    sys.path.remove(str(BENCHMARKS))


def test_mcnemar_is_the_binomial_test_of_what_changed() -> None:
    import reader

    for gained in range(0, 40, 3):
        for lost in range(0, 40, 4):
            count = gained + lost
            expected = stats.binomtest(gained, count).pvalue if count else 1.0
            assert reader.mcnemar(gained, lost) == pytest.approx(expected, abs=1e-12)
