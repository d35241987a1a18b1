"""Several judges: what they say together, and how far they agree."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from tests.errors import about

from lmstack.core import InputError, Message
from lmstack.evals.agreement import krippendorff_alpha
from lmstack.evals.judging import Item, Judgement, JudgeRules, RubricRating, Verdict, jury_of

PAIR, RUBRIC = JudgeRules("pair", "Which?"), JudgeRules("rubric")
WAYS = {"1": Verdict(1, 1), "2": Verdict(-1, -1), "=": Verdict(1, -1), "?": Verdict(None, 1)}


def pairs(votes: list[str], **given: Any) -> tuple[list[Item], list[Judgement]]:
    """``votes``: of each item, a character for each judge."""
    items = [Item((Message("user", f"q{n}"),), ("a", "b"), **given) for n in range(len(votes))]
    said = [
        Judgement(item.key, f"j{n}", verdict=WAYS[vote], problem="unread" if vote == "?" else "")
        for item, ways in zip(items, votes, strict=True)
        for n, vote in enumerate(ways)
    ]
    return items, said


@pytest.mark.parametrize(
    ("votes", "decision"),
    [
        ("111", "first"),
        ("112", "first"),
        ("221", "second"),
        ("12=", "tie"),
        ("1==", "tie"),
        ("12", "tie"),
        ("1=", "tie"),
        ("1?", "first"),
        ("1=1=2", "tie"),
        ("??", None),
    ],
)
def test_an_answer_wins_with_more_than_half_of_the_votes(votes: str, decision: str | None) -> None:
    items, said = pairs([votes])
    assert jury_of(items, said, PAIR).decisions == {items[0].key: decision}


@pytest.mark.parametrize(("aggregate", "overall"), [("mean", 3.0), ("median", 4.0)])
def test_ratings_are_averaged_over_the_judges_that_gave_one(aggregate: Any, overall: float) -> None:
    each = Item((Message("user", "q"),), ("a",))
    said = [
        Judgement(each.key, f"j{n}", rating=RubricRating({"clarity": score}, {"clarity": "r"}))
        for n, score in enumerate((1, 4, 4))
    ]
    said.append(Judgement(each.key, "j3", rating=RubricRating(problem="x"), problem="x"))
    assert jury_of([each], said, RUBRIC, aggregate=aggregate).decisions == {each.key: overall}


def test_alpha_is_over_all_judges_with_what_is_missing_left_out() -> None:
    items, said = pairs(["11", "22", "12", "1?", "=="])
    table = [[1, -1, 1, 1, 0], [1, -1, -1, math.nan, 0]]
    expected = krippendorff_alpha(np.array(table, np.float64))
    assert jury_of(items, said, PAIR).alpha.value == pytest.approx(expected.value)


def test_judges_that_err_together_are_worth_one() -> None:
    items, said = pairs(["11", "22", "11", "22"], label="first")
    found = jury_of(items, said, PAIR)
    assert (found.error_correlation, found.effective) == (pytest.approx(1), pytest.approx(1))
    items, said = pairs(["11", "12", "21", "22"], label="first")
    found = jury_of(items, said, PAIR)
    assert (found.error_correlation, found.effective) == (pytest.approx(0), pytest.approx(2))
    items, said = pairs(["11", "12"])
    assert jury_of(items, said, PAIR).effective is None


def test_one_judge_is_no_jury() -> None:
    with pytest.raises(InputError, match="two judges", check=about("judge")):
        jury_of(*pairs(["1"]), PAIR)


def test_repeats_of_a_judge_are_no_further_votes() -> None:
    items, said = pairs(["11", "12", "21", "22", "1="], label="first")
    again = [replace(each, verdict=WAYS["2"], repeat=n) for n in (1, 2) for each in said[::2]]
    assert jury_of(items, said + again, PAIR) == jury_of(items, said, PAIR)


def test_an_item_that_a_judge_left_undecided_says_nothing_of_errors() -> None:
    items, said = pairs(["11", "12", "21", "22", "11"], label="first")
    more, undecided = pairs(["11"] * 5 + ["2?"], label="first")
    both = jury_of(items + more[5:], said + undecided[10:], PAIR)
    assert both.error_correlation == jury_of(items, said, PAIR).error_correlation


def test_of_two_labels_no_majority_decides_nothing() -> None:
    rules = JudgeRules("label", "Which?", ("refuses", "complies"))
    items, said = pairs(["12", "11", "221"])
    found = jury_of(items, said, rules)
    assert list(found.decisions.values()) == [None, "first", "second"]


def test_an_item_that_nobody_judged_has_no_decision_and_a_rating_is_a_row_of_alpha() -> None:
    items = [Item((Message("user", f"q{n}"),), ("a",), label=float(n)) for n in range(5)]
    table = [(1, 3, 5, 2), (2, 3, 3, 2)]
    said = [
        Judgement(item.key, f"j{n}", rating=RubricRating({"clarity": score}, {}))
        for n, row in enumerate(table)
        for item, score in zip(items[:4], row, strict=True)
    ]
    found = jury_of(items, said, RUBRIC)
    assert list(found.decisions) == [item.key for item in items[:4]]
    missing = [[*row, math.nan] for row in table]
    expected = krippendorff_alpha(np.array(missing, np.float64), level="interval")
    assert found.alpha.value == expected.value
    errors = [[1, 2, 3, 1], [2, 2, 1, 1]]  # of labels 0, 1, 2, 3
    correlation = np.corrcoef(errors)[0, 1]
    assert (found.error_correlation, found.effective) == (pytest.approx(correlation), 2)
    assert found.to_json() == {
        "judges": ["j0", "j1"],
        "alpha": found.alpha.to_json(),
        "error_correlation": found.error_correlation,
        "effective_judges": found.effective,
    }
    with pytest.raises(InputError, match="'most'", check=about("aggregate")):
        jury_of(items, said, RUBRIC, aggregate="most")  # type: ignore[arg-type]


def test_three_judges_are_worth_fewer_by_the_mean_of_their_correlations() -> None:
    """Judges that err against each other are worth no more than they are; three items are
    enough, and a judge that never errs correlates with none."""
    items, said = pairs(["111", "121", "212", "221", "111"], label="first")
    errors = np.array([[0, 0, 1, 1, 0], [0, 1, 0, 1, 0], [0, 0, 1, 0, 0]])
    mean = np.corrcoef(errors)[np.triu_indices(3, 1)].mean()
    found = jury_of(items, said, PAIR)
    assert found.error_correlation == pytest.approx(mean)
    assert found.effective == pytest.approx(3 / (1 + 2 * mean))
    against = jury_of(*pairs(["12", "21", "12"], label="first"), PAIR)
    assert (against.error_correlation, against.effective) == (pytest.approx(-1), 2)
    few = jury_of(*pairs(["12", "21"], label="first"), PAIR)
    assert (few.error_correlation, few.effective) == (None, None)
    for votes in (["11", "12", "11"], ["11", "21", "11"]):
        assert jury_of(*pairs(votes, label="first"), PAIR).error_correlation is None
