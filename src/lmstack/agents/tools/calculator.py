"""A calculator as a tool.

Covers what `arithmetic` evaluates, and writing the value. An exact value is written out, any other
has fifteen significant digits after ``≈``. Where a % can be read in two ways, both values are
given.
"""

from __future__ import annotations

from decimal import Context, Decimal
from fractions import Fraction

from lmstack.agents.tools.arithmetic import Number, evaluate
from lmstack.agents.tools.function import FunctionTool
from lmstack.agents.tools.tool import ToolResult
from lmstack.core import InputError

__all__ = ["calculator"]

SIGNIFICANT = 15
# A decimal with more places than this is rounded rather than written out.
MAX_PLACES = 30


def calculator() -> FunctionTool:
    """The tool ``calculator``, which evaluates one expression."""

    def calculate(expression: str) -> ToolResult:
        """Evaluate an arithmetic expression, exactly where that is possible.

        It knows + - * / // ** and parentheses, % as in 7 % 3 and in 5% of 80, pi, e and tau, and
        the functions sqrt, abs, round, floor, ceil, min, max, exp, ln, log (base 10, or log(x,
        base)), log2, sin, cos, tan, asin, acos, atan (in radians), degrees, radians, factorial,
        comb, gcd and lcm.

        Args:
            expression: For example "(17 * 23 + 4) / 5", "5% of 80" or "round(sqrt(2), 3)".
        """
        value = evaluate(expression)
        text, exact = _written(value)
        shown = _shown(value)
        percent = _as_percentage(expression)
        if percent is not None and percent != value:
            shown = f"{_shown(percent)} with % as a percentage, {shown} as a remainder"
        return ToolResult(shown, data={"value": text, "exact": exact})

    return FunctionTool.of(calculate, name="calculator", timeout_s=10)


def _as_percentage(expression: str) -> Number | None:
    """What ``expression`` is where people would read its % as a percentage: only who asked knows
    which of the two is meant."""
    try:
        return evaluate(expression, percent=True) if "%" in expression else None
    except InputError:
        return None


def _shown(value: Number) -> str:
    text, exact = _written(value)
    return text if exact else f"≈ {text}"


def _written(value: Number) -> tuple[str, bool]:
    """``value`` in decimal, and whether that is all of it."""
    if isinstance(value, Fraction):
        if value.denominator == 1:
            return str(value.numerator), True
        places = _places(value.denominator)
        if places is not None:
            digits = str(abs(value.numerator) * 10**places // value.denominator)
            digits = digits.rjust(places + 1, "0")
            sign = "-" if value < 0 else ""
            return f"{sign}{digits[:-places]}.{digits[-places:]}", True
        context = Context(prec=SIGNIFICANT)
        quotient = context.divide(Decimal(value.numerator), Decimal(value.denominator))
        return format(quotient, "f" if -7 < quotient.adjusted() < SIGNIFICANT else "e"), False
    return f"{value:.{SIGNIFICANT}g}", False


def _places(denominator: int) -> int | None:
    """Decimal places of a fraction with this denominator, None where it never ends or is long."""
    for places in range(1, MAX_PLACES + 1):
        if 10**places % denominator == 0:
            return places
    return None
