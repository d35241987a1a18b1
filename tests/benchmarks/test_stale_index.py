"""The gate catches an index that was not brought up to date, and passes one that was."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pytest
from tests.app.conftest import HashEmbedder

from lmstack.evals.task import Sample

FOLDER = Path(__file__).parents[2] / "benchmarks"
COUNT = 60
PASSAGES = [f"The harbour of town{n} was opened in {1800 + n} by mayor{n}." for n in range(COUNT)]


@pytest.fixture
def stale(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(FOLDER)
    import stale_index

    return stale_index


def asked(numbers: range) -> list[Sample]:
    return [Sample(str(n), f"Who opened the harbour of town{n}?", (f"{n}.txt",)) for n in numbers]


def test_a_stale_index_is_rejected(stale: ModuleType) -> None:
    found = stale.gated(PASSAGES, asked(range(COUNT)), HashEmbedder())
    assert found.verdict == "REJECT", found.reasons
    assert found.results[0].value == pytest.approx(-0.2, abs=0.05)


def test_where_no_question_is_about_what_is_new_both_are_as_good(stale: ModuleType) -> None:
    found = stale.gated(PASSAGES, asked(range(COUNT // 2)), HashEmbedder())
    assert found.verdict == "PROMOTE", found.reasons
