"""That the split of `benchmarks/lookalikes.py` stays, and that what it asks can be answered."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def data() -> Iterator[ModuleType]:
    sys.path.insert(0, str(BENCHMARKS))
    import lookalikes_data

    yield lookalikes_data
    sys.path.remove(str(BENCHMARKS))


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


def test_a_named_page_says_the_value_and_its_key_names_no_other(data: ModuleType) -> None:
    for tuned_on in (True, False):
        asked = data.corpus(120, tuned_on=tuned_on, named=20, absent=5)
        texts = {page.path: page.text for page in asked.pages}
        assert len(texts) == len(asked.pages) == 132
        for question in asked.questions:
            if question.status == "named":
                assert question.value in texts[question.path]
            elif question.status == "absent":
                assert not question.path


def test_no_absent_key_is_that_of_a_page(data: ModuleType) -> None:
    for template in data.TEMPLATES:
        keys = data._keys(template)
        held = [next(keys) for _ in range(40)]
        absent = data._absent(held, 10, data.random.Random(0), lambda key: False)
        assert not set(absent) & set(held)
        assert len(set(absent)) == 10


def test_a_smaller_corpus_is_part_of_a_larger_one(data: ModuleType) -> None:
    small = data.corpus(60, tuned_on=True, named=1, absent=1)
    large = data.corpus(120, tuned_on=True, named=1, absent=1)
    assert set(map(repr, small.pages)) < set(map(repr, large.pages))
