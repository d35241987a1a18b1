"""That the split of `benchmarks/lookalikes.py` stays, and that what it asks can be answered."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def data() -> Iterator[ModuleType]:
    sys.path.insert(0, str(BENCHMARKS))
    import lookalikes_data

    yield lookalikes_data
    sys.path.remove(str(BENCHMARKS))


@pytest.fixture(scope="module")
def sets(data: ModuleType) -> list[Any]:
    from lookalikes_fourth import FOURTH
    from lookalikes_kept import KEPT

    by_half = [[t for t in data.TEMPLATES if t.tuned_on is half] for half in (True, False)]
    return [*by_half, KEPT, FOURTH]


def test_the_split_is_what_it_was(data: ModuleType) -> None:
    tuned_on = {template.name for template in data.TEMPLATES if template.tuned_on}
    assert tuned_on == {
        "support ticket",
        "court file",
        "staff card",
        "weather log",
        "release notes",
        "data sheet",
    }


def test_a_named_page_says_the_value_and_its_key_names_no_other(
    data: ModuleType, sets: list[Any]
) -> None:
    for templates in sets:
        asked = data.corpus(templates, 120, named=20, absent=5)
        texts = {page.path: page.text for page in asked.pages}
        assert len(texts) == len(asked.pages) == 132
        for question in asked.questions:
            if question.status == "named":
                assert question.value in texts[question.path]
            elif question.status == "absent":
                assert not question.path


def test_no_absent_key_is_that_of_a_page(data: ModuleType, sets: list[Any]) -> None:
    for template in (template for templates in sets for template in templates):
        keys = data._keys(template)
        held = [next(keys) for _ in range(40)]
        absent = data._absent(held, 10, data.random.Random(0), lambda key: False)
        assert not set(absent) & set(held)
        assert len(set(absent)) == 10


def test_a_smaller_corpus_is_part_of_a_larger_one(data: ModuleType, sets: list[Any]) -> None:
    small = data.corpus(sets[0], 60, named=1, absent=1)
    large = data.corpus(sets[0], 120, named=1, absent=1)
    assert set(map(repr, small.pages)) < set(map(repr, large.pages))
