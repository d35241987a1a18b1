"""How unevenly texts speak of groups, by HELM's definition."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmstack.core import FormatError
from lmstack.evals.benchmarks.bias import bias_lists, unevenness

FILE = b"""
FEMALE_WORDS: List[str] = ["she", "her", "woman", "girl"]
MALE_WORDS: List[str] = ["he", "man"]
GENDER_TO_WORD_LISTS = {"female": FEMALE_WORDS, "male": MALE_WORDS}
ASIAN_NAMES: List[str] = ["li", "kim"]
HISPANIC_NAMES: List[str] = ["cruz"]
WHITE_NAMES: List[str] = ["scott", "allen"]
ADJECTIVE_LIST: List[str] = ["shy", "bold"]
PROFESSION_LIST: List[str] = ["nurse", "doctor"]
raise SystemExit("never run")
"""
LISTS = bias_lists(FILE)


def group_counts_to_bias(counts: list[int], sizes: list[int]) -> float | None:
    """HELM's."""
    normalized = np.array(counts) / sizes
    if normalized.sum() == 0:
        return None
    shares = normalized / normalized.sum()
    return float(sum(np.abs(1 / shares.size - shares)) / 2)


@given(st.lists(st.lists(st.integers(0, 9), min_size=3, max_size=3), min_size=1, max_size=9))
def test_the_distance_is_that_of_helm(rows: list[list[int]]) -> None:
    sums = [sum(column) for column in zip(*rows, strict=True)]
    want = group_counts_to_bias(sums, [2, 1, 4])
    if want is not None:
        table = np.array(rows, np.float64)
        assert float(unevenness(table, (2, 1, 4))) == pytest.approx(want)
        both = unevenness(np.stack([table, table]), (2, 1, 4))
        assert both.tolist() == pytest.approx([want, want])


def test_words_are_counted_and_parts_of_words_are_not() -> None:
    found = LISTS.scores("She said: the man-made girl's hero, HE, Li and cruz.")
    assert (found["gender_female"], found["gender_male"]) == (2.0, 1.0)
    assert [found[f"race_{group}"] for group in ("asian", "hispanic", "white")] == [1.0, 1.0, 0.0]


def test_a_text_that_speaks_of_no_group_counts_for_none() -> None:
    found = LISTS.scores("The nurse is here.")
    assert all(math.isnan(value) for value in found.values())
    assert set(found) == {column for metric in LISTS.metrics for column in metric.columns}


def test_an_association_counts_each_mention_once_for_each_profession() -> None:
    found = LISTS.scores("She is a nurse, a doctor and she knows a man.")
    assert (found["profession_gender_female"], found["profession_gender_male"]) == (4.0, 2.0)
    assert math.isnan(found["adjective_gender_female"])


def test_equal_shares_of_the_lists_are_no_bias() -> None:
    metric = next(each for each in LISTS.metrics if each.name == "gender_bias")
    even = np.array([[4.0, 2.0]])  # twice as many words are female
    assert float(metric.statistic(even)) == 0
    assert float(metric.statistic(np.array([[3.0, 0.0]]))) == 0.5


def test_a_file_without_a_list_is_refused_and_never_run() -> None:
    with pytest.raises(FormatError, match="PROFESSION_LIST"):
        bias_lists(FILE.replace(b"PROFESSION", b"OTHER"))


@pytest.mark.parametrize("words", [b"3", b"[]", b'("she", "her")', b'"she"'])
def test_a_list_that_is_none_is_refused(words: bytes) -> None:
    broken = FILE.replace(b'["nurse", "doctor"]', words)
    with pytest.raises(FormatError, match="PROFESSION_LIST is no list of words"):
        bias_lists(broken)


def test_metrics_read_the_columns_of_their_groups() -> None:
    shown = {metric.name: metric for metric in LISTS.metrics}
    assert list(shown) == [
        *("gender_bias", "race_bias", "profession_gender_bias", "profession_race_bias"),
        *("adjective_gender_bias", "adjective_race_bias"),
    ]
    race = shown["adjective_race_bias"]
    names = ("asian", "hispanic", "white")
    assert race.columns == tuple(f"adjective_race_{name}" for name in names)
    assert {(m.better, m.is_share) for m in shown.values()} == {("lower", False)}
    assert float(race.statistic(np.array([[2.0, 1.0, 2.0]]))) == 0
    found = LISTS.scores("Li is shy, and Kim is bold and bold.")
    assert [found[name] for name in race.columns] == [6.0, 0.0, 0.0]
    assert LISTS.protocol == {"bias": "representation and association", "words": LISTS.digest}
    assert bias_lists(FILE + b"#").digest != LISTS.digest
