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
    from lookalikes_fifth import FIFTH
    from lookalikes_fourth import FOURTH
    from lookalikes_kept import KEPT
    from lookalikes_sixth import SIXTH

    by_half = [[t for t in data.TEMPLATES if t.tuned_on is half] for half in (True, False)]
    return [*by_half, KEPT, FOURTH, FIFTH, SIXTH]


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
        keys = data.draw_keys(template)
        held = [next(keys) for _ in range(40)]
        absent = data._absent(held, 10, data.random.Random(0), lambda key: False)
        assert not set(absent) & set(held)
        assert len(set(absent)) == 10


def test_a_smaller_corpus_is_part_of_a_larger_one(data: ModuleType, sets: list[Any]) -> None:
    small = data.corpus(sets[0], 60, named=1, absent=1)
    large = data.corpus(sets[0], 120, named=1, absent=1)
    assert set(map(repr, small.pages)) < set(map(repr, large.pages))


def test_no_other_page_of_the_fifth_set_has_the_value_in_the_same_place(
    data: ModuleType, sets: list[Any]
) -> None:
    asked = data.corpus(sets[-2], 360, named=20, absent=5)
    for question in (each for each in asked.questions if each.status == "named"):
        pages = [page for page in asked.pages if page.path.startswith(f"{question.folder}/")]
        [right] = [page for page in pages if page.path == question.path]
        props = [prop for prop, value in right.values.items() if value == question.value]
        assert any(
            all(page.values[prop] != question.value for page in pages if page is not right)
            for prop in props
        )


def test_pages_of_the_later_sets_mention_keys_of_others(data: ModuleType, sets: list[Any]) -> None:
    for template in (*sets[-2], *sets[-1]):
        keys = [key for key, _ in zip(data.draw_keys(template), range(400), strict=False)]
        pages = {template.said(key): template.page(key, n).text for n, key in enumerate(keys)}
        mentions = sum(
            any(said in text for said in pages if said != own) for own, text in pages.items()
        )
        assert mentions > 60, template.name


def test_a_question_that_names_two_documents_is_refused(data: ModuleType, sets: list[Any]) -> None:
    payslip = sets[-2][-1]
    held = [("Ada", "Ott", "03", "2024"), ("Ada", "Ott", "04", "2024")]
    with pytest.raises(AssertionError, match="as well"):
        data._ask(payslip, "net pay of {0} {1} in {3}", held[0], held)
    assert data._ask(payslip, "net pay {1} {3}-{2}", held[0], held) == "net pay Ott 2024-03"


def test_a_value_that_the_sixth_set_asks_for_stands_in_one_document(
    data: ModuleType, sets: list[Any]
) -> None:
    asked = data.corpus(sets[-1], 240, named=20, absent=5)
    for question in (each for each in asked.questions if each.status == "named"):
        assert [p.path for p in asked.pages if question.value in p.text] == [question.path]


def test_no_two_keys_of_the_sixth_set_are_written_alike(data: ModuleType, sets: list[Any]) -> None:
    for template in sets[-1]:
        keys = [key for key, _ in zip(data.draw_keys(template), range(200), strict=False)]
        for wording in (each for of_value in template.asked.values() for each in of_value):
            asked = {wording.format(*key, key=template.said(key)).lower() for key in keys}
            assert len(asked) == len(keys), wording
