"""A Jinja environment in which a template can neither reach Python nor run away.

Chat templates come with model files, so they are other people's programs. Covered: attribute and
import escapes (Jinja's immutable sandbox plus allow-lists of filters, string methods and
globals), loops, recursion, string and number bombs, output bombs. Every loop turn, call, filter,
operator and printed value takes fuel in proportion to the text it makes; a template that runs
out stops with `FuelError`. Does not cover isolation in another process: there is nothing left to
isolate that costs more than the fuel.
"""

from __future__ import annotations

import functools
import json
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import datetime
from typing import Any

import jinja2
from jinja2 import nodes
from jinja2.exceptions import SecurityError
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

__all__ = ["GENERATION", "FuelError", "environment", "fuelled"]

MAX_SOURCE = 256 * 1024
_MAX_TEXT = 16 * 1024 * 1024  # characters of one value
_CHARS_PER_UNIT = 64
_POINTER = 64  # what an element of a list costs besides its text
_MAX_CPU_S = 5.0
_UNITS_A_LOOK = 64  # at the clock

_FILTERS = """
    abs capitalize count d default dictsort first float groupby int items join last length list
    lower map max min reject rejectattr replace reverse round safe select selectattr sort string
    sum title trim unique upper e escape
"""
_STRING_METHODS = """
    capitalize casefold count endswith find index isalnum isalpha isdigit islower isnumeric
    isspace istitle isupper join lower lstrip partition removeprefix removesuffix replace rfind
    rindex rpartition rsplit rstrip split splitlines startswith strip swapcase title upper
"""
_SAFE_METHODS = frozenset(_STRING_METHODS.split())
_REFUSED_NODES = (nodes.Include, nodes.Import, nodes.FromImport, nodes.Extends, nodes.Block)


class FuelError(jinja2.TemplateRuntimeError):
    """The template used up its steps, memory or time."""


class _Fuel:
    def __init__(self, units: int) -> None:
        self.left = self._look_at = units
        self.deadline = time.thread_time() + _MAX_CPU_S

    def burn(self, units: int) -> None:
        self.left -= units
        if self.left > self._look_at:
            return
        # Asking for the time costs more than most steps.
        self._look_at = self.left - _UNITS_A_LOOK
        if self.left < 0 or time.thread_time() > self.deadline:
            raise FuelError("it runs for too many steps")

    def text(self, size: float) -> None:
        """A value of ``size`` characters is about to be made."""
        if size > _MAX_TEXT:
            raise FuelError("it makes a text that is too long")
        self.burn(1 + int(size) // _CHARS_PER_UNIT)


_FUEL: ContextVar[_Fuel] = ContextVar("lmstack_template_fuel")


@contextmanager
def fuelled(units: int) -> Iterator[None]:
    """Limit everything that templates do inside."""
    token = _FUEL.set(_Fuel(units))
    try:
        yield
    finally:
        _FUEL.reset(token)


def environment() -> jinja2.Environment:
    """The environment, with the names that Hugging Face templates rely on."""
    env = _Sandbox(
        trim_blocks=True,
        lstrip_blocks=True,
        extensions=[_Generation, loopcontrols],
        optimized=False,
    )
    own: dict[str, Callable[..., Any]] = {"tojson": _tojson, "indent": _indent}
    known = {**{name: env.filters[name] for name in _FILTERS.split()}, **own}
    env.filters = {name: _charged(name, function) for name, function in known.items()}
    env.filters |= {_COUNT: _Counted, _CONCAT: _concat, _WEIGH: _weighed, _PRINT: _printed}
    env.globals = {
        "range": env.globals["range"],
        "namespace": env.globals["namespace"],
        "dict": env.globals["dict"],
        "raise_exception": _raise_exception,
        "strftime_now": _strftime_now,
    }
    return env


_COUNT, _CONCAT = "lmstack_count", "lmstack_concat"
_WEIGH, _PRINT = "lmstack_weigh", "lmstack_print"
_LIGHT = ("length", "count", "first", "last", "default", "d")


class _Sandbox(ImmutableSandboxedEnvironment):
    intercepted_binops = frozenset(["+", "-", "*", "/", "//", "%", "**"])

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        tree = super()._parse(source, name, filename)
        for node in tree.find_all(_REFUSED_NODES):
            raise jinja2.TemplateSyntaxError(
                f"{type(node).__name__.lower()} is not allowed", node.lineno
            )
        for loop in tree.find_all(nodes.For):
            if loop.recursive:
                raise jinja2.TemplateSyntaxError("recursive loops are not allowed", loop.lineno)
            loop.iter = _filter(loop.iter, _COUNT)
        _rewrite(tree)
        return tree

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        if isinstance(obj, str):
            return attr in _SAFE_METHODS
        return super().is_safe_attribute(obj, attr, value)

    def wrap_str_format(self, value: Any) -> None:
        """Jinja lets ``str.format`` through in a safe form; its widths are a bomb all the same."""

    def unsafe_undefined(self, obj: Any, attribute: str) -> jinja2.Undefined:
        raise SecurityError(f"{attribute} of {type(obj).__name__} is not for templates")

    def call(__self, __context: Any, __obj: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: N805
        fuel = _FUEL.get()
        fuel.burn(1)
        owner, name = getattr(__obj, "__self__", None), getattr(__obj, "__name__", "")
        if isinstance(owner, str):
            fuel.text(_method_size(owner, name, args))
        return _charge(super().call(__context, __obj, *args, **kwargs))

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        fuel = _FUEL.get()
        if operator == "**":
            if not (_small(left, 1e6) and _small(right, 64)):
                raise FuelError("it raises a number to a power that is too large")
        elif operator == "%" and isinstance(left, str):
            raise jinja2.TemplateRuntimeError("text % values is not allowed; join with ~")
        elif operator == "*" and (_size(left) or _size(right)):
            count = right if _size(left) else left
            size = max(_size(left), _size(right)) if _small(count, 1e12) else 0
            fuel.text(size * max(count, 0) if size else 0)
        elif operator == "*" and not (_small(left, 1e30) and _small(right, 1e30)):
            raise FuelError("it multiplies numbers that are too large")
        else:
            fuel.text(_size(left) + _size(right))
        return super().call_binop(context, operator, left, right)


# Names of what `{% generation %}` prints before and after its body; nothing unless they are given.
GENERATION = ("lmstack_generation_start", "lmstack_generation_stop")


class _Generation(Extension):
    """``{% generation %}``: marks assistant text for training; prints its body."""

    tags = {"generation"}  # noqa: RUF012

    def parse(self, parser: Parser) -> nodes.Node | list[nodes.Node]:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        start, stop = (nodes.Name(name, "load", lineno=line) for name in GENERATION)
        return [nodes.Output([start], lineno=line), *body, nodes.Output([stop], lineno=line)]


def _filter(node: nodes.Node, name: str) -> nodes.Filter:
    result = nodes.Filter(node, name, [], [], None, None, lineno=node.lineno)
    result.environment = node.environment
    return result


def _rewrite(node: nodes.Node) -> None:
    """Send what compiles to bare Python through filters that charge for it: everything printed,
    ``a ~ b``, slices, and the operands of comparisons and tests."""
    for field, value in node.iter_fields():
        if isinstance(value, list):
            setattr(node, field, [_rewritten(child, node) for child in value])
        else:
            setattr(node, field, _rewritten(value, node))


def _rewritten(child: Any, parent: nodes.Node) -> Any:
    if not isinstance(child, nodes.Node):
        return child
    _rewrite(child)
    if isinstance(child, nodes.Concat):
        parts = nodes.List(child.nodes, lineno=child.lineno)
        parts.environment = child.environment
        child = _filter(parts, _CONCAT)
    if isinstance(parent, nodes.Output):
        return _filter(child, _PRINT)
    sliced = isinstance(child, nodes.Getitem) and isinstance(child.arg, nodes.Slice)
    operand = isinstance(parent, nodes.Compare | nodes.Operand | nodes.Test)
    if sliced or (operand and isinstance(child, nodes.Expr) and not isinstance(child, nodes.Const)):
        return _filter(child, _WEIGH)
    return child


def _size(value: Any) -> int:
    """Characters of the value as text, roughly; shared parts count each time they are reached."""
    if isinstance(value, str | bytes):
        return len(value)
    if not isinstance(value, list | tuple | dict):
        return 0
    total, waiting = 0, [value]
    while waiting:
        item = waiting.pop()
        if isinstance(item, str | bytes):
            total += len(item)
        elif isinstance(item, list | tuple):
            total += _POINTER * len(item)
            waiting.extend(item)
        elif isinstance(item, dict):
            total += _POINTER * len(item)
            waiting.extend(item)
            waiting.extend(item.values())
        if total > _MAX_TEXT:
            raise FuelError("it makes a text that is too long")
    return total


def _small(value: Any, limit: float) -> bool:
    return isinstance(value, int | float) and abs(value) <= limit


def _charge(value: Any) -> Any:
    _FUEL.get().text(_size(value))
    return value


def _weighed(value: Any) -> Any:
    size = _size(value)
    if size > _CHARS_PER_UNIT:
        _FUEL.get().text(size)
    return value


@jinja2.pass_context  # or constants would be printed at compile time, for nothing
def _printed(_context: Any, value: Any) -> str:
    _charge(value)
    return value if isinstance(value, str) else str(value)


def _method_size(owner: str, name: str, args: tuple[Any, ...]) -> float:
    """Most characters that a string method may make."""
    if name == "replace" and len(args) >= 2:
        return _replaced_size(owner, args[0], args[1])
    if name == "join" and args:
        return len(owner) * _length(args[0]) + _size(args[0])
    return len(owner)


def _replaced_size(text: Any, old: Any, new: Any) -> float:
    count = (len(text) + 1) if not old else len(text) // max(_size(old), 1)
    return len(text) + count * _size(new)


def _charged(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """The filter ``name``, paying for what goes in and what comes out."""
    offset = 1 if hasattr(function, "jinja_pass_arg") else 0

    @functools.wraps(function)
    def paid(*args: Any, **kwargs: Any) -> Any:
        fuel = _FUEL.get()
        value, rest = args[offset], args[offset + 1 :]
        if name in _LIGHT:
            fuel.burn(1)
            return function(*args, **kwargs)
        if isinstance(value, Iterator):
            value = list(_counted_one_by_one(value, fuel))
            args = (*args[:offset], value, *rest)
        size = _size(value)
        fuel.text(size)
        if name == "replace":
            old, new = [*rest, kwargs.get("old", kwargs.get("s", "")), kwargs.get("new", "")][:2]
            fuel.text(_replaced_size(str(value), old, new))
        if name == "join":
            fuel.text(size + _size(rest[0] if rest else kwargs.get("d", "")) * _length(value))
        return _charge(function(*args, **kwargs))

    return paid


def _length(value: Any) -> int:
    return len(value) if isinstance(value, str | list | tuple | dict | range) else 0


class _Counted:
    """What a ``for`` goes over, paying for each turn. Keeps its length, for ``loop.last``."""

    def __init__(self, iterable: Any) -> None:
        self._iterable = iterable

    def __iter__(self) -> Iterator[Any]:
        return _counted_one_by_one(self._iterable, _FUEL.get())

    def __len__(self) -> int:
        return len(self._iterable)

    def __bool__(self) -> bool:
        return True


def _counted_one_by_one(iterable: Iterable[Any], fuel: _Fuel) -> Iterator[Any]:
    for item in iterable:
        fuel.burn(1)
        yield item


def _concat(parts: list[Any]) -> str:
    _FUEL.get().text(_size(parts))
    return "".join([part if isinstance(part, str) else str(part) for part in parts])


def _tojson(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """As transformers does it: plain JSON, not HTML-safe JSON."""
    if indent is not None and not 0 <= int(indent) <= 16:
        raise FuelError("it indents by too much")
    return json.dumps(
        value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )


def _indent(text: str, width: int | str = 4, first: bool = False, blank: bool = False) -> str:
    """Jinja's ``indent`` with a bounded width."""
    lead = width if isinstance(width, str) else " " * min(int(width), 64)
    lines = str(text).split("\n")
    _FUEL.get().text(len(text) + len(lines) * len(lead))
    rest = [lead + line if line or blank else line for line in lines[1:]]
    return "\n".join([(lead + lines[0]) if first else lines[0], *rest])


def _raise_exception(message: str) -> None:
    raise jinja2.TemplateError(str(message))


def _strftime_now(form: str) -> str:
    if len(form) > 100:
        raise FuelError("it formats a date with a pattern that is too long")
    return datetime.now().strftime(form)
