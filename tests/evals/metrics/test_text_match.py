"""Matches of texts: against SQuAD's and GSM8K's definitions, and what a form costs."""

from __future__ import annotations

import re
import string
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.errors import about
from tests.evals.metrics.outputs import asked, wrote

from lmstack.core import InputError
from lmstack.evals.metrics.text_match import (
    ExactMatch,
    ExtractedMatch,
    Includes,
    NumericMatch,
    PrefixMatch,
    Squad,
    extracted,
    normalized,
    without,
    word_f1,
)

texts = st.text(st.sampled_from("aAn theTHE.,!?-'\n é1"), max_size=20)


def squads_normalization(text: str) -> str:
    """The four steps of SQuAD's evaluation script, as its paper's appendix lists them."""
    lowered = text.lower()
    unmarked = "".join(letter for letter in lowered if letter not in set(string.punctuation))
    plain = re.sub(r"\b(a|an|the)\b", " ", unmarked, flags=re.UNICODE)
    return " ".join(plain.split())


@given(texts, texts)
def test_f1_is_squads(one: str, other: str) -> None:
    assert normalized(one) == squads_normalization(one)
    ours, theirs = (squads_normalization(text).split() for text in (one, other))
    common = sum((Counter(ours) & Counter(theirs)).values())
    if not ours or not theirs:
        expected = float(ours == theirs)
    else:
        expected = 2 * common / (len(ours) + len(theirs))
    assert word_f1(one, other)[2] == pytest.approx(expected)
    scores = Squad().score(asked(other), wrote(one))
    assert scores["f1"] == pytest.approx(expected)
    assert scores["quasi_exact_match"] == float(ours == theirs)


def test_of_several_targets_the_best_counts() -> None:
    sample = asked("Denver Broncos", "the Broncos of Denver, Colorado")
    scores = Squad().score(sample, wrote("The Denver Broncos won"))
    assert scores["f1"] == pytest.approx(2 * 2 / 5)
    assert scores["word_recall"] == 1


def test_a_question_without_an_answer_wants_an_empty_text() -> None:
    assert Squad().score(asked(""), wrote(""))["f1"] == 1
    assert Squad().score(asked(""), wrote("Denver"))["f1"] == 0


def test_exact_match_ignores_only_what_it_is_told_to() -> None:
    def found(scorer: ExactMatch, text: str, target: str) -> float:
        return scorer.score(asked(target), wrote(text))["exact_match"]

    assert found(ExactMatch(), " Paris\n", "Paris") == 1
    assert found(ExactMatch(strip=False), " Paris", "Paris") == 0
    assert found(ExactMatch(), "paris.", "Paris") == 0
    assert found(ExactMatch(ignore_case=True, ignore_punctuation=True), "paris.", "Paris") == 1
    assert found(ExactMatch(ignore_numbers=True), "Paris 7", "Paris 12") == 1
    assert found(ExactMatch(regexes_to_ignore=(r"\(.*\)",)), "Paris (France)", "Paris") == 1


def test_a_prefix_is_enough_for_a_model_that_goes_on() -> None:
    scores = PrefixMatch().score(asked("the Nile"), wrote("The Nile. It is long."))
    assert scores == {"prefix_match": 0, "quasi_prefix_match": 1}
    assert PrefixMatch().score(asked("the"), wrote(""))["quasi_prefix_match"] == 0


def test_includes_looks_everywhere() -> None:
    assert Includes().score(asked("nile"), wrote("It is the NILE."))["includes"] == 1
    strict = Includes(ignore_case=False)
    assert strict.score(asked("nile"), wrote("It is the NILE."))["includes"] == 0


SOLUTION = "She sells 16 - 3 - 4 = 9 eggs, for 9 * 2 = $18.\n#### 1,018"


@pytest.mark.parametrize(
    ("text", "strict", "flexible"),
    [
        ("So it is 5 + 3.\n#### 1018", 1, 1),
        ("#### 1,018\nQuestion: 7", 1, 0),  # the first after the marks; the last number
        ("The answer is $1,018.", 0, 1),  # a dot at the end does not count, nor do dollars
        ("The answer is 1018 or 7", 0, 0),
        ("#### -1018", 0, 0),
        ("no number at all", 0, 0),
    ],
)
def test_numbers_are_those_of_gsm8k(text: str, strict: float, flexible: float) -> None:
    scores = NumericMatch().score(asked(SOLUTION), wrote(text))
    assert (scores["strict_match"], scores["flexible_match"]) == (strict, flexible)


def test_strict_and_lenient_stand_side_by_side() -> None:
    scorer = ExtractedMatch(
        strict=r"(?<=the answer is )(.*)(?=.)",
        lenient=r"(?i)answer is:? *\(?([A-D])\)?",
        regexes_to_ignore=(r"[()]",),
    )
    kept = scorer.score(asked("(B)"), wrote("So the answer is (B)."))
    assert (kept["strict_match"], kept["flexible_match"]) == (1, 1)
    loose = scorer.score(asked("(B)"), wrote("The Answer is: B"))
    assert (loose["strict_match"], loose["flexible_match"]) == (0, 1)
    assert (loose["strict_found"], loose["flexible_found"]) == (0, 1)


def test_the_first_or_the_last_match_and_the_first_group_that_is_not_empty() -> None:
    pattern = r"(\d+)|([a-z]+)"
    assert extracted("one 2 three", pattern) == "one"
    assert extracted("one 2 three 4", pattern, "last") == "4"
    assert extracted("!", pattern) is None
    assert extracted("!", "(x?)") == ""
    assert extracted("!", "(x?)(y?)") is None


def test_what_is_wrong_with_a_scorer_is_said_before_it_runs() -> None:
    with pytest.raises(InputError, match="no regular expression", check=about("strict")):
        ExtractedMatch(strict="(", lenient="x")
    with pytest.raises(InputError, match="no pattern lenient", check=about("lenient")):
        ExtractedMatch(strict="x")
    with pytest.raises(InputError, match="not first, last", check=about("strict_pick")):
        ExtractedMatch.from_mapping({"strict": "x", "lenient": "x", "strict_pick": "middle"})
    with pytest.raises(InputError, match="sample one has no target", check=about("targets")):
        ExactMatch().score(asked(), wrote("x"))


def test_scorers_of_texts_name_their_figures() -> None:
    names = {
        type(scorer).__name__: [(m.name, m.is_share, m.better) for m in scorer.metrics]
        for scorer in (ExactMatch(), Squad(), PrefixMatch(), Includes(), NumericMatch())
    }
    assert names == {
        "ExactMatch": [("exact_match", True, "higher")],
        "Squad": [("f1", False, "higher"), ("quasi_exact_match", True, "higher")],
        "PrefixMatch": [("quasi_prefix_match", True, "higher"), ("prefix_match", True, "higher")],
        "Includes": [("includes", True, "higher")],
        "NumericMatch": [
            (name, True, "higher")
            for name in ("strict_match", "flexible_match", "strict_found", "flexible_found")
        ],
    }


def test_what_is_taken_out_first_and_what_stays() -> None:
    assert without("A-1", ("-",)) == "A1"
    assert without("A-1b", case=True) == "a-1b"
    assert without("A-1", punctuation=True) == "A1"
    assert without("A-1", numbers=True) == "A-"
    assert without("Ab", ("a",), case=True) == "ab"
    sample = asked("x", "the target")
    scores = Squad().score(sample, wrote("target one"))
    assert (scores["word_precision"], scores["word_recall"]) == (0.5, 1.0)
    prefix = PrefixMatch().score(asked("b", "a "), wrote(" a b"))
    assert prefix == {"prefix_match": 1.0, "quasi_prefix_match": 1.0}
    assert extracted(" 5 ", r" \d ") == "5"
    picks = ExtractedMatch(strict=r"\d", lenient=r"\d").score(asked("1"), wrote("1 2"))
    assert (picks["strict_match"], picks["flexible_match"]) == (1.0, 0.0)
    turned = ExtractedMatch(strict=r"\d", lenient=r"\d", strict_pick="last", lenient_pick="first")
    assert turned.score(asked("1"), wrote("1 2"))["flexible_match"] == 1.0
    missing = ExtractedMatch(strict=r"\d", lenient=r"\d").score(asked("[invalid]"), wrote("x"))
    assert (missing["strict_match"], missing["strict_found"]) == (1.0, 0.0)
    for name in ("strict", "lenient", "regexes_to_ignore"):
        given = {"strict": "x", "lenient": "x", name: ("(",) if name[0] == "r" else "("}
        with pytest.raises(InputError, match="no regular expression", check=about(name)):
            ExtractedMatch(**given)
