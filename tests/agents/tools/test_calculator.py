"""Arithmetic of the calculator: exact, bounded, and in words where it cannot be done."""

from __future__ import annotations

import math
import re
import time
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmstack.agents.tools import ToolContext, calculator
from lmstack.agents.tools.arithmetic import MAX_DIGITS, evaluate
from lmstack.core import InputError


async def answer(expression: str) -> str:
    result = await calculator().call({"expression": expression}, ToolContext())
    assert not result.is_error, result.text
    return result.text


@pytest.mark.parametrize(
    ("expression", "text"),
    [
        ("2+3*4", "14"),
        ("(2 + 3) * 4", "20"),
        ("2 - 3 - 4", "-5"),
        ("2 ** 3 ** 2", "512"),
        ("2 ^ 10", "1024"),
        ("-2 ** 2", "-4"),
        ("(-2) ** 2", "4"),
        ("2 ** -1", "0.5"),
        ("2 * -3", "-6"),
        ("3!", "6"),
        ("2 ** 3!", "64"),
        ("-3!", "-6"),
        ("0.1 + 0.2", "0.3"),
        ("1.10 - 1", "0.1"),
        ("1e3 + 1E-3", "1000.001"),
        ("10 / 4", "2.5"),
        ("-7 // 2", "-4"),
        ("-7 % 3", "2"),
        ("7.5 % 2", "1.5"),
        ("1 / 3", "≈ 0.333333333333333"),
        ("-2 / 3", "≈ -0.666666666666667"),
        ("1 / 7e12", "≈ 1.42857142857143e-13"),
        ("123456789012345678901234567890 * 10", "1234567890123456789012345678900"),
        ("sqrt(16)", "4"),
        ("sqrt(0.25)", "0.5"),
        ("4 ** 0.5", "2"),
        ("sqrt(2)", "≈ 1.4142135623731"),
        ("round(2.5)", "3"),
        ("round(-2.675, 2)", "-2.68"),
        ("round(1234, -2)", "1200"),
        ("min(3, 1, 2) + max(4, 5)", "6"),
        ("abs(-3.5)", "3.5"),
        ("floor(-0.5) + ceil(0.5)", "0"),
        ("log(1000)", "≈ 3"),
        ("log10(10 ** 3000)", "≈ 3000"),
        ("log(8, 2)", "≈ 3"),
        ("ln(e)", "≈ 1"),
        ("sin(pi / 6)", "≈ 0.5"),
        ("degrees(pi)", "≈ 180"),
        ("comb(52, 5)", "2598960"),
        ("gcd(12, 18) + lcm(4, 6)", "18"),
        ("factorial(20)", "2432902008176640000"),
        ("3 × 4 ÷ 2 − 1", "5"),
        ("1_000 + 1", "1001"),
        (" 7 ", "7"),
        (".5 + 5.", "5.5"),
    ],
)
async def test_it_computes(expression: str, text: str) -> None:
    assert await answer(expression) == text


@pytest.mark.parametrize(
    ("expression", "words"),
    [
        ("9**9**9", "digits"),
        ("10 ** 5000", "digits"),
        ("1e5000", "digits"),
        ("1e999999999999999999999", "digits"),
        ("(9**999)**(9**999)", "digits"),
        ("100000!", "digits"),
        ("9**999!", "digits"),
        ("(10**3000)!", "digits"),
        ("comb(10**9, 5 * 10**8)", "digits"),
        ("comb(100000, 50000)", "digits"),
        ("round(1, 10**9)", "digits"),
        ("exp(10**6)", "digits"),
        ("2.5 ** 10**9", "digits"),
        ("pi ** 10**9", "digits"),
        ("sin(10**4000)", "digits"),
        ("lcm(" + ", ".join(f"{n}**300 + 1" for n in range(2, 60)) + ")", "digits"),
        ("1 / 0", "division by zero"),
        ("1 % 0", "division by zero"),
        ("0 ** -1", "division by zero"),
        ("sqrt(-1)", "not defined for -1"),
        ("asin(2)", "not defined for 2"),
        ("ln(0)", "not defined for 0"),
        ("(-8) ** (1/3)", "not a real number"),
        ("2.5!", "whole"),
        ("(-1)!", "not defined"),
        ("", "a number is expected, not the end"),
        ("2 +", "a number is expected, not the end"),
        ("(1", ") is expected, not the end"),
        ("1)", "')' is not expected there"),
        ("1,000 + 1", "',' is not expected there"),
        ("2 pi", "'pi' is not expected there"),
        ("2 ** * 3", "a number is expected"),
        ("sqr(4)", "did you mean sqrt?"),
        ("sqrt", "write sqrt(...)"),
        ("sqrt()", "a number is expected"),
        ("sqrt(1, 2)", "sqrt takes 1 numbers, not 2"),
        ("x + 1", "'x' is not a function or a constant"),
        ("__import__('os')", "cannot be read"),
        ("1 if 2 else 3", "'if' is not expected there"),
        ("a = 1", "cannot be read"),
        ("1" * 1001, "at most 1000"),
        ("(" * 400 + "1" + ")" * 400, "nested"),
        ("-" * 900 + "1", "nested"),
        ("2**" * 300 + "2", "nested"),
    ],
)
async def test_what_cannot_be_computed_ends_in_words_and_at_once(
    expression: str, words: str
) -> None:
    started = time.process_time()
    result = await calculator().call({"expression": expression}, ToolContext())
    assert result.is_error
    assert words in result.text
    assert time.process_time() - started < 2


async def test_the_longest_sums_and_products_take_no_time() -> None:
    started = time.process_time()
    for expression in (
        "+".join(["9" * 8] * 100),
        "*".join(["1.000000001"] * 80),
        "1!" * 1 + "!" * 900,
    ):
        await calculator().call({"expression": expression}, ToolContext())
    assert time.process_time() - started < 2


async def test_the_value_comes_as_data_with_whether_it_is_exact() -> None:
    made = calculator()
    exact = await made.call({"expression": "1/4"}, ToolContext())
    rounded = await made.call({"expression": "1/3"}, ToolContext())
    assert exact.data == {"value": "0.25", "exact": True}
    assert rounded.data == {"value": "0.333333333333333", "exact": False}


# Expressions in a spelling that Python reads too, with fractions for numbers.
numbers = st.integers(0, 99).map(str)
expressions = st.recursive(
    numbers,
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from(["+", "-", "*", "/", "//", "%"]), inner).map(" ".join),
        inner.map(lambda text: f"({text})"),
        inner.map(lambda text: f"-{text}"),
        st.tuples(inner, st.sampled_from(["2", "3"])).map(lambda pair: f"({pair[0]}) ** {pair[1]}"),
    ),
    max_leaves=12,
)


def python_value(expression: str) -> Fraction | None:
    """What Python computes, every number a fraction."""
    spelled = re.sub(r"\d+", lambda found: f"Fraction({found[0]})", expression)
    try:
        return Fraction(eval(spelled, {"Fraction": Fraction}))
    except ZeroDivisionError:
        return None


@given(expressions)
def test_it_agrees_with_python_on_precedence_and_value(expression: str) -> None:
    expected = python_value(expression)
    if expected is None:
        with pytest.raises(InputError, match="division by zero"):
            evaluate(expression)
    elif max(abs(expected.numerator), expected.denominator) < 10 ** (MAX_DIGITS // 4):
        assert evaluate(expression) == expected


@given(st.text(alphabet="0123456789.+-*/%^()!,eE pisqrtmax", max_size=60))
def test_any_text_is_a_value_or_an_error_in_words(text: str) -> None:
    try:
        value = evaluate(text)
    except InputError:
        return
    assert isinstance(value, Fraction) or math.isfinite(value)
