"""A calculator as a tool: arithmetic as people write it, evaluated exactly and within bounds.

Python's own parser reads the expression; nothing is compiled or run. Whole numbers and decimals
are fractions of integers, so that 0.1 + 0.2 is 0.3; roots, logarithms and angles are floats. The
length and the size of every number on the way are bounded, so that no expression takes more than
milliseconds. An exact value is written out, any other has fifteen significant digits after ``≈``.
Where a % can be read in two ways, both values are given. Does not cover variables, units, complex
numbers or symbolic results.
"""

from __future__ import annotations

import ast
import functools
import math
import operator
import re
from collections.abc import Callable
from decimal import Context, Decimal
from fractions import Fraction
from typing import Any

from lmstack.agents.tools.function import FunctionTool
from lmstack.agents.tools.tool import ToolResult
from lmstack.core import InputError, nearest, shown

__all__ = ["calculator", "evaluate"]

Number = Fraction | float

MAX_LENGTH = 1_000
# Some 3,900 decimal digits: Python writes integers of up to 4,300.
MAX_BITS = 13_000
MAX_DIGITS = int(MAX_BITS * math.log10(2))
# Of all numbers on the way together.
MAX_TOTAL_BITS = 20 * MAX_BITS

# No bracket, quote, colon or equals sign ever reaches the parser. A percent sign is a remainder
# unless "of", or what cannot begin a number, follows.
_TOKEN = re.compile(
    r"(?P<number>(?:\d[\d_]*(?:\.\d*)?|\.\d+)(?:[eE](?P<exponent>[+-]?\d+))?)"
    r"|(?P<percent>%\s*(?:(?P<of>of\b)|(?=[*/),]|$)))|(?P<factorial>!)|(?P<power>\^)"
    r"|[A-Za-z_]\w*|[-+*/%(),]|(?P<space>\s+)|(?P<other>.)"
)
_SPELLINGS = str.maketrans({"×": "*", "·": "*", "÷": "/", "−": "-", "–": "-", "π": "pi"})
_THOUSANDS = re.compile(r"(?<=\d),(?=\d{3}(?!\d))")


def evaluate(expression: str, *, percent: bool = False) -> Number:
    """The value of ``expression``; `InputError` says what in it cannot be read or computed.
    ``percent``: whether 17 % 50 is 17% of 50, and not the remainder."""
    if len(expression) > MAX_LENGTH:
        problem = f"the expression has {len(expression)} characters, at most {MAX_LENGTH}"
        raise InputError(problem, hint="compute it in parts")
    text, numbers = expression.translate(_SPELLINGS).strip(), list[Fraction]()
    if "(" not in text:  # where a comma may separate arguments
        text = _THOUSANDS.sub("", text)
    text = _TOKEN.sub(lambda found: _python(found, numbers), text)
    try:
        tree = ast.parse(text.strip(), mode="eval")
    except SyntaxError as error:
        raise InputError(f"{shown(expression)} cannot be read: {error.msg}", hint=_CAN) from None
    except (MemoryError, RecursionError):
        raise InputError("the expression is nested too deep", hint="compute it in parts") from None
    # Breadth first, and then backwards: what a node is made of comes before it.
    nodes = list(ast.walk(tree.body))
    if ".percent" in text and any(isinstance(node, ast.Mod) for node in nodes):
        raise InputError("% is a percentage and a remainder here", hint="write 0.05 for 5%")
    called = {node.func for node in nodes if isinstance(node, ast.Call)}
    values: dict[ast.AST, Number] = {}
    total = 0
    for node in reversed(nodes):
        if isinstance(node, ast.expr) and node not in called:
            values[node] = _value(node, values, numbers, percent)
            total += _bits(values[node])
            if total > MAX_TOTAL_BITS:
                raise InputError("the numbers on the way are too long", hint="compute it in parts")
    return values[tree.body]


def _python(found: re.Match[str], numbers: list[Fraction]) -> str:
    """A token as Python writes it. A number is its place in ``numbers``, where it is exact; what
    follows a number and binds as tightly is an attribute."""
    match found.lastgroup if found["number"] is None else "number":
        case "number":
            if abs(int(found["exponent"] or 0)) > MAX_DIGITS:
                raise _too_large()
            numbers.append(Fraction(found["number"].replace("_", "")))
            return f" {len(numbers) - 1} "
        case "percent" | "of":
            return " .percent *" if found["of"] else " .percent "
        case "factorial":
            return " .factorial "
        case "power":
            return "**"
        case "space":
            return " "
        case "other":
            raise InputError(f"{shown(found.string[found.start() :])} cannot be read", hint=_CAN)
    return found[0]


def _value(
    node: ast.expr, of: dict[ast.AST, Number], numbers: list[Fraction], percent: bool
) -> Number:
    """``of``: the values of what ``node`` is made of."""
    match node:
        case ast.Constant(value=place) if type(place) is int:
            return numbers[place]
        case ast.Name(id=name) if name in _CONSTANTS:
            return _CONSTANTS[name]
        case ast.Name(id=name) if name in _FUNCTIONS:
            raise InputError(f"{name} is a function", hint=f"write {name}(...)")
        case ast.UnaryOp(op=ast.UAdd() | ast.USub(), operand=operand):
            return -of[operand] if isinstance(node.op, ast.USub) else of[operand]
        case ast.Attribute(value=value, attr="percent"):
            return _fits(of[value] / 100)
        case ast.Attribute(value=value, attr="factorial"):
            return _call("factorial", [of[value]])
        case ast.BinOp(left=left, op=ast.Mod(), right=right) if percent:
            return _apply(lambda a, b: a * b / 100, of[left], of[right])
        case ast.BinOp(left=left, op=sign, right=right):
            return _apply(_OPERATORS[type(sign)], of[left], of[right])
        case ast.Call(func=ast.Name(id=name), args=given, keywords=[]) if name in _FUNCTIONS:
            return _call(name, [of[each] for each in given])
        case ast.Name(id=name) | ast.Call(func=ast.Name(id=name)):
            guess = nearest(name, [*_FUNCTIONS, *_CONSTANTS])
            hint = f"did you mean {guess}?" if guess else _CAN
            raise InputError(f"{shown(name)} is not a function or a constant", hint=hint)
        case ast.Tuple():
            raise InputError("a comma is not expected there", hint="write 1000, not 1,000")
    raise InputError("only numbers, operators and functions can be computed", hint=_CAN)


def _call(name: str, values: list[Number]) -> Number:
    least, most, function = _FUNCTIONS[name]
    if not least <= len(values) <= most:
        wanted = str(least) if least == most else f"{least} to {most}"
        raise InputError(f"{name} takes {wanted} numbers, not {len(values)}")
    try:
        return _apply(function, *values)
    except ValueError as error:
        problem = f"{name} is not defined for {', '.join(str(v)[:40] for v in values)}"
        raise InputError(problem) from error


def _apply(function: Callable[..., Number], *values: Number) -> Number:
    try:
        result = function(*values)
    except ZeroDivisionError:
        raise InputError("division by zero") from None
    except OverflowError:
        raise _too_large() from None
    return _fits(Fraction(result) if isinstance(result, int) else result)


def _fits(value: Number) -> Number:
    """``value`` unless it is too large, or not a number."""
    if _bits(value) > MAX_BITS or (isinstance(value, float) and not math.isfinite(value)):
        raise _too_large()
    return value


def _bits(value: Number) -> int:
    if isinstance(value, float):
        return 0
    return max(abs(value.numerator), value.denominator).bit_length()


def _too_large() -> InputError:
    problem = f"a number on the way has more than {MAX_DIGITS:,} digits"
    return InputError(problem, hint="work with logarithms, or with smaller numbers")


def _power(base: Number, exponent: Number) -> Number:
    if isinstance(base, Fraction) and isinstance(exponent, Fraction) and exponent.denominator == 1:
        if (_bits(base) - 1) * abs(exponent.numerator) > MAX_BITS:
            raise _too_large()
        return Fraction(base**exponent.numerator)
    if exponent == Fraction(1, 2) and base >= 0:
        return _root(base)
    if base < 0 and exponent != int(exponent):
        raise InputError(f"a negative number to the power of {exponent} is not a real number")
    return float(float(base) ** float(exponent))


def _whole(value: Number) -> int:
    if value != int(value):
        raise InputError(f"a whole number is needed, not {str(value)[:40]}")
    return int(value)


def _factorial(value: Number) -> Number:
    n = _whole(value)
    if n > MAX_BITS:
        raise _too_large()
    return math.factorial(n)


def _chosen(n: Number, k: Number) -> Number:
    items, picked = _whole(n), _whole(k)
    fewest = min(picked, items - picked)
    # n over k is at least (n / k) to the power of k.
    if fewest > 0 and fewest * (math.log2(items) - math.log2(fewest)) > MAX_BITS:
        raise _too_large()
    return math.comb(items, picked)


def _root(value: Number) -> Number:
    """Exact where it is rational."""
    if isinstance(value, Fraction) and value >= 0:
        top, bottom = math.isqrt(value.numerator), math.isqrt(value.denominator)
        if top * top == value.numerator and bottom * bottom == value.denominator:
            return Fraction(top, bottom)
    return math.sqrt(value)


def _log(value: Number, base: Number = Fraction(10)) -> float:
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
    places = _whole(digits)
    if abs(places) > MAX_DIGITS:
        raise _too_large()
    unit = Fraction(10) ** -places
    size = math.floor(abs(Fraction(value)) / unit + Fraction(1, 2)) * unit
    return -size if value < 0 else size


def _gcd(*values: Number) -> Number:
    return math.gcd(*map(_whole, values))


def _lcm(*values: Number) -> Number:
    result = Fraction(1)
    for value in values:
        result = Fraction(math.lcm(result.numerator, _whole(value)))
        _fits(result)
    return result


_OPERATORS: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: _power,
}
_CONSTANTS: dict[str, Number] = {"pi": math.pi, "e": math.e, "tau": math.tau}
# The least and the most arguments, and the function.
_FUNCTIONS: dict[str, tuple[int, int, Callable[..., Any]]] = {
    **{name: (1, 1, getattr(math, name)) for name in ("sin", "cos", "tan", "asin", "acos", "atan")},
    **{name: (1, 1, getattr(math, name)) for name in ("exp", "degrees", "radians")},
    **{name: (1, 1, getattr(math, name)) for name in ("ceil", "floor")},
    "abs": (1, 1, abs),
    "round": (1, 2, _rounded),
    "min": (1, 100, min),
    "max": (1, 100, max),
    "sqrt": (1, 1, _root),
    "ln": (1, 1, _ln),
    "log": (1, 2, _log),
    "log10": (1, 1, _log),
    "log2": (1, 1, functools.partial(_log, base=Fraction(2))),
    "factorial": (1, 1, _factorial),
    "comb": (2, 2, _chosen),
    "gcd": (1, 100, _gcd),
    "lcm": (1, 100, _lcm),
}
_CAN = (
    "numbers, + - * / // ( ), % as in 7 % 3 and in 5% of 80, ** for powers, the constants pi, e"
    f" and tau, and the functions {', '.join(_FUNCTIONS)}"
)


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
