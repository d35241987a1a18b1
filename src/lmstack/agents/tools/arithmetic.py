"""Arithmetic as people write it, evaluated exactly and within bounds.

A Pratt parser over a few tokens. Whole numbers and decimals are fractions of integers, so that
0.1 + 0.2 is 0.3; roots, logarithms and angles are floats. Length, depth and the size of every
number on the way are bounded, so that no expression takes more than milliseconds. Does not cover
variables, units, complex numbers or symbolic results.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from fractions import Fraction

from lmstack.core import InputError, nearest, shown

__all__ = ["Number", "evaluate"]

Number = Fraction | float

MAX_LENGTH = 1_000
MAX_DEPTH = 50
# Some 3,900 decimal digits: Python writes integers of up to 4,300.
MAX_BITS = 13_000
MAX_DIGITS = int(MAX_BITS * math.log10(2))

_TOKEN = re.compile(
    r"\s*(?:(?P<number>(?:\d[\d_]*(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?)|(?P<name>[A-Za-z_]\w*)"
    r"|(?P<sign>\*\*|//|[-+*/%^(),!]))"
)
_SPELLINGS = str.maketrans({"×": "*", "·": "*", "÷": "/", "−": "-", "–": "-", "π": "pi"})
# How tightly an operator binds on its left, and what its right side is parsed with: a power's is
# looser than itself, which makes it associate to the right.
_BINDING = {
    **dict.fromkeys("+-", (1, 2)),
    **dict.fromkeys(("*", "/", "//", "%"), (3, 4)),
    **dict.fromkeys(("**", "^"), (7, 6)),
}
_UNARY, _FACTORIAL = 5, 8


def evaluate(expression: str) -> Number:
    """The value of ``expression``; `InputError` says what in it cannot be read or computed."""
    if len(expression) > MAX_LENGTH:
        problem = f"the expression has {len(expression)} characters, at most {MAX_LENGTH}"
        raise InputError(problem, hint="compute it in parts")
    return _Parser(_tokens(expression.translate(_SPELLINGS))).whole()


def _tokens(text: str) -> list[tuple[str, str]]:
    tokens: list[tuple[str, str]] = []
    place, end = 0, len(text.rstrip())
    while place < end:
        match = _TOKEN.match(text, place)
        if match is None:
            raise InputError(f"{shown(text[place:].strip())} cannot be read", hint=_CAN)
        tokens.append((str(match.lastgroup), match[str(match.lastgroup)]))
        place = match.end()
    return tokens


class _Parser:
    """One pass over the tokens; values are computed as they are parsed."""

    def __init__(self, tokens: list[tuple[str, str]]) -> None:
        self._tokens = [*tokens, ("end", "the end")]
        self._place = 0
        self._depth = 0

    def whole(self) -> Number:
        value = self._value(0)
        if self._kind != "end":
            raise InputError(f"{shown(self._text)} is not expected there", hint=_CAN)
        return value

    @property
    def _kind(self) -> str:
        return self._tokens[self._place][0]

    @property
    def _text(self) -> str:
        return self._tokens[self._place][1]

    def _next(self) -> tuple[str, str]:
        token = self._tokens[self._place]
        self._place += 1
        return token

    def _value(self, least: int) -> Number:
        """The longest value from here on whose operators bind at least as tightly as ``least``."""
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise InputError(f"the expression is nested more than {MAX_DEPTH} deep")
        left = self._prefix()
        while self._kind == "sign":
            if self._text == "!" and least <= _FACTORIAL:
                self._next()
                left = _factorial(left)
                continue
            binding = _BINDING.get(self._text)
            if binding is None or binding[0] < least:
                break
            operator = self._next()[1]
            left = _operate(operator, left, self._value(binding[1]))
        self._depth -= 1
        return left

    def _prefix(self) -> Number:
        kind, text = self._next()
        if kind == "number":
            return _literal(text)
        if kind == "name":
            return self._named(text)
        if text in ("+", "-"):
            value = self._value(_UNARY)
            return -value if text == "-" else value
        if text == "(":
            value = self._value(0)
            self._expect(")")
            return value
        raise InputError(f"a number is expected, not {text}", hint=_CAN)

    def _named(self, name: str) -> Number:
        called = self._text == "("
        if name in _CONSTANTS and not called:
            return _CONSTANTS[name]
        if name not in _FUNCTIONS:
            guess = nearest(name, [*_FUNCTIONS, *_CONSTANTS])
            hint = f"did you mean {guess}?" if guess else _CAN
            raise InputError(f"{shown(name)} is not a function or a constant", hint=hint)
        if not called:
            raise InputError(f"{name} is a function", hint=f"write {name}(...)")
        return _call(name, self._arguments())

    def _arguments(self) -> list[Number]:
        self._expect("(")
        values = [self._value(0)]
        while self._text == ",":
            self._next()
            values.append(self._value(0))
        self._expect(")")
        return values

    def _expect(self, text: str) -> None:
        found = self._next()[1]
        if found != text:
            raise InputError(f"{text} is expected, not {found}", hint=_CAN)


def _literal(text: str) -> Number:
    exponent = re.split("[eE]", text)[1:]
    if exponent and abs(int(exponent[0][:9])) > MAX_DIGITS:
        raise _too_large()
    return _fits(Fraction(text.replace("_", "")))


def _operate(operator: str, a: Number, b: Number) -> Number:
    if operator in ("/", "//", "%") and b == 0:
        raise InputError("division by zero")
    try:
        if operator in ("**", "^"):
            return _power(a, b)
        return _fits(_OPERATORS[operator](a, b))
    except OverflowError:
        raise _too_large() from None


def _power(base: Number, exponent: Number) -> Number:
    if base == 0 and exponent < 0:
        raise InputError("division by zero")
    if isinstance(base, Fraction) and isinstance(exponent, Fraction) and exponent.denominator == 1:
        bits = max(abs(base.numerator).bit_length(), base.denominator.bit_length()) - 1
        if bits * abs(exponent.numerator) > MAX_BITS:
            raise _too_large()
        return _fits(Fraction(base**exponent.numerator))
    if exponent == Fraction(1, 2) and base >= 0:
        return _root(base)
    if base < 0 and exponent != int(exponent):
        raise InputError(f"a negative number to the power of {exponent} is not a real number")
    return _fits(float(base) ** float(exponent))


def _fits(value: Number) -> Number:
    """``value`` unless it is too large, or not a number."""
    if isinstance(value, float):
        if not math.isfinite(value):
            raise _too_large()
    elif max(abs(value.numerator), value.denominator).bit_length() > MAX_BITS:
        raise _too_large()
    return value


def _too_large() -> InputError:
    problem = f"a number on the way has more than {MAX_DIGITS:,} digits"
    return InputError(problem, hint="work with logarithms, or with smaller numbers")


def _call(name: str, values: list[Number]) -> Number:
    least, most, function = _FUNCTIONS[name]
    if not least <= len(values) <= most:
        wanted = str(least) if least == most else f"{least} to {most}"
        raise InputError(f"{name} takes {wanted} numbers, not {len(values)}")
    try:
        result = function(*values)
    except OverflowError:
        raise _too_large() from None
    except (ValueError, ZeroDivisionError) as error:
        problem = f"{name} is not defined for {', '.join(str(v)[:40] for v in values)}"
        raise InputError(problem) from error
    return _fits(Fraction(result) if isinstance(result, int) else result)


def _whole(value: Number, name: str) -> int:
    if value != int(value):
        raise InputError(f"{name} needs whole numbers, not {str(value)[:40]}")
    return int(value)


def _factorial(value: Number) -> Number:
    n = _whole(value, "a factorial")
    if n < 0:
        raise InputError(f"the factorial of {n} is not defined")
    if n > MAX_BITS or math.lgamma(n + 1) / math.log(2) > MAX_BITS:
        raise _too_large()
    return Fraction(math.factorial(n))


def _chosen(n: Number, k: Number) -> Number:
    """n over k, one factor at a time so that it ends as soon as it is too large."""
    items, picked = _whole(n, "comb"), _whole(k, "comb")
    if items < 0 or picked < 0:
        raise InputError("comb needs numbers that are not negative")
    if picked > items:
        return Fraction(0)
    value: Number = Fraction(1)
    for step in range(1, min(picked, items - picked) + 1):
        value = _fits(value * (items - step + 1) / step)
    return value


def _root(value: Number) -> Number:
    """Exact where it is rational."""
    if isinstance(value, Fraction) and value >= 0:
        top, bottom = math.isqrt(value.numerator), math.isqrt(value.denominator)
        if top * top == value.numerator and bottom * bottom == value.denominator:
            return Fraction(top, bottom)
    return math.sqrt(value)


def _log(value: Number, base: Number = Fraction(10)) -> Number:
    """Of numbers that are too large for a float too."""
    if base == 10 and isinstance(value, Fraction):
        return math.log10(value.numerator) - math.log10(value.denominator)
    return _ln(value) / _ln(base)


def _ln(value: Number) -> float:
    if isinstance(value, Fraction):
        return math.log(value.numerator) - math.log(value.denominator)
    return math.log(value)


def _rounded(value: Number, digits: Number = Fraction(0)) -> Number:
    """Half away from zero, as people round."""
    places = _whole(digits, "round")
    if abs(places) > MAX_DIGITS:
        raise _too_large()
    scaled = Fraction(value) * Fraction(10) ** places
    return (
        Fraction(math.floor(abs(scaled) + Fraction(1, 2)))
        * (1 if scaled >= 0 else -1)
        / (Fraction(10) ** places)
    )


def _gcd(*values: Number) -> Number:
    return Fraction(math.gcd(*(_whole(value, "gcd") for value in values)))


def _lcm(*values: Number) -> Number:
    result: Number = Fraction(1)
    for value in values:
        result = _fits(Fraction(math.lcm(int(result), _whole(value, "lcm"))))
    return result


_OPERATORS: dict[str, Callable[[Number, Number], Number]] = {
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
    "*": lambda a, b: a * b,
    "/": lambda a, b: a / b,
    "//": lambda a, b: Fraction(a // b),
    "%": lambda a, b: a % b,
}
_CONSTANTS: dict[str, Number] = {"pi": math.pi, "e": math.e, "tau": math.tau}
# The least and the most arguments, and the function.
_FUNCTIONS: dict[str, tuple[int, int, Callable[..., Number | int]]] = {
    "abs": (1, 1, abs),
    "ceil": (1, 1, math.ceil),
    "floor": (1, 1, math.floor),
    "round": (1, 2, _rounded),
    "min": (1, 100, min),
    "max": (1, 100, max),
    "sqrt": (1, 1, _root),
    "exp": (1, 1, math.exp),
    "ln": (1, 1, _ln),
    "log": (1, 2, _log),
    "log10": (1, 1, _log),
    "log2": (1, 1, lambda value: _log(value, Fraction(2))),
    **{name: (1, 1, getattr(math, name)) for name in ("sin", "cos", "tan", "asin", "acos", "atan")},
    "degrees": (1, 1, math.degrees),
    "radians": (1, 1, math.radians),
    "factorial": (1, 1, _factorial),
    "comb": (2, 2, _chosen),
    "gcd": (1, 100, _gcd),
    "lcm": (1, 100, _lcm),
}
_CAN = "numbers, + - * / // % ** ( ), the constants pi, e and tau, and the functions " + ", ".join(
    _FUNCTIONS
)
