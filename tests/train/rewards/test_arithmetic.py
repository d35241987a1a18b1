"""The final number of an answer: which it is, what it equals, and what hedging gains."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.errors import about
from tests.train.rewards.drawn import drawn

from lmstack.core import InputError
from lmstack.train.rewards.arithmetic import Arithmetic, final_number, number_of


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("15", 15),
        ("7 + 8 = 15.", 15),
        ("It costs $1,234.50 in all", "1234.5"),
        ("3 - 5 = -2", -2),
        ("3-5", 5),
        ("= \u22122", -2),
        ("(4)-3", 3),
        ("half, or 1/2", 0.5),
        (".5", "1/2"),
        ("1,23", 23),
        ("#### 42\nnot 7", 42),
        ("first #### 1 then #### 2", 2),
        ("so \\boxed{12}, and 7 is not it", 12),
        ("\\boxed{1} \\boxed{x = 2}", 2),
        ("007", 7),
        ("7" * 100, int("7" * 100)),
    ],
)
def test_the_final_number_is_read_as_the_page_says(text: str, answer: Any) -> None:
    assert Arithmetic().score([drawn(text, answer=answer)]) == [1.0]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "fifteen",
        "15 or 16",
        "15, I mean 14",
        "\\boxed{14} 15",
        "\\boxed{} 15",
        "#### none\n",
        "15/0",
        "1.5/1",
        "\u0661\u0665",
        "15e0",
        "15" + "0" * 200,
        "9" * 100_000,
        "NaN",
    ],
)
def test_no_other_answer_is_right(text: str) -> None:
    assert Arithmetic().score([drawn(text, answer=15)]) == [0.0]


def test_listing_every_number_gains_nothing_but_its_last() -> None:
    listed = " ".join(map(str, range(100)))
    scores = Arithmetic().score([drawn(listed, answer=n) for n in range(100)])
    assert sum(scores) == 1


def test_marked_takes_only_a_marked_number() -> None:
    texts = ["15", "#### 15", "\\boxed{15}"]
    assert Arithmetic(marked=True).score([drawn(t, answer=15) for t in texts]) == [0, 1, 1]


@given(st.fractions(), st.sampled_from(["{}", "It is {}.", "#### {}", "\\boxed{{{}}}"]))
def test_a_number_is_found_in_every_form(number: Fraction, form: str) -> None:
    if len(str(number)) < 100:
        assert final_number(form.format(number)) == number == number_of(str(number))


@given(st.integers(-(10**12), 10**12))
def test_thousands_are_read(number: int) -> None:
    assert final_number(f"{number:,}") == number


@given(st.text() | st.text(alphabet="0123456789.,/-#\\boxed{} "))
def test_no_answer_is_an_error(text: str) -> None:
    for marked in (False, True):
        assert Arithmetic(marked=marked).score([drawn(text, answer=1)])[0] in (0, 1)


@pytest.mark.parametrize("answer", ["x", "", None, True, float("nan"), 1e300, [1], "1 2"])
def test_a_row_without_a_number_is_refused(answer: Any) -> None:
    with pytest.raises(InputError, match="answer", check=about("answer")):
        Arithmetic().check_row({"prompt": "1+1", "answer": answer})
