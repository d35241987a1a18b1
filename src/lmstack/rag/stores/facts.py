"""Filters for engines that know less than `lmstack.rag.filters`.

A row's fields become *facts*, short texts such as ``format=tpdf``, which any engine with a list
of keywords can test, and *measures*, one number a number and one a text. A filter becomes a tree
over them that is true of every row the filter matches, and of few others: what it lets through
is judged again by `Filter.matches`, so the result is exact whatever the engine could express.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeVar

from lmstack.core import UnsupportedError
from lmstack.rag.filters import And, Condition, Fields, Filter, Not, Scalar
from lmstack.rag.stores.rows import StoreHit, dump, storable

__all__ = [
    "NOTHING",
    "SIGNS",
    "All",
    "Any",
    "Has",
    "Lacks",
    "Leaf",
    "Order",
    "Tree",
    "facts_of",
    "fill",
    "measures_of",
    "metadata_of",
    "narrow",
    "render",
]

_LONGEST = 200
_DEEPEST = 64
_HEAD_BYTES = 6
Comparison = Literal["<", "<=", ">", ">="]
# What most engines call them.
SIGNS: dict[Comparison, str] = {"<": "lt", "<=": "lte", ">": "gt", ">=": "gte"}
_COMPLEMENT: dict[str, Comparison] = {"<": ">=", "<=": ">", ">": "<=", ">=": "<"}
_LOOSE: dict[str, Comparison] = {"<": "<=", "<=": "<=", ">": ">=", ">=": ">="}


@dataclass(frozen=True, slots=True)
class Has:
    fact: str


@dataclass(frozen=True, slots=True)
class Lacks:
    fact: str


@dataclass(frozen=True, slots=True)
class Order:
    """A measure compared with a number. Always beside a `Has` of its kind or a `Lacks`."""

    measure: str
    op: Comparison
    value: float


@dataclass(frozen=True, slots=True)
class All:
    """Two parts or more."""

    parts: tuple[Tree, ...]


@dataclass(frozen=True, slots=True)
class Any:
    """Two parts or more; `NOTHING`, which no row matches, has none and is part of no tree."""

    parts: tuple[Tree, ...]


Leaf = Has | Lacks | Order
Tree = Leaf | All | Any
NOTHING = Any(())
_T = TypeVar("_T")


def facts_of(fields: Fields) -> list[str]:
    """Everything that `narrow` may ask to be held or lacking; never empty."""
    facts = {"row"}
    for name, value in fields.items():
        if isinstance(value, tuple):
            facts.update(_fact(name, "~", member) for member in value)
            continue
        facts.add(_equals(name, value))
        facts.add(_kind(name, value))
        if isinstance(value, str):
            cuts = [i for i, sign in enumerate(value) if sign == "/"][:_DEEPEST]
            facts.update(_fact(name, "/", value[:cut]) for cut in cuts)
            if len(cuts) < _DEEPEST:
                facts.add(_fact(name, "/", value))
    return sorted(facts)


def measures_of(fields: Fields) -> dict[str, float]:
    """A number by which each number and each text is ordered; names hold only [A-Za-z0-9_]."""
    return {
        _measure(name, value): _head(value) if isinstance(value, str) else float(value)
        for name, value in fields.items()
        if not isinstance(value, bool | tuple)
    }


def metadata_of(fields: Fields) -> dict[str, str | float | list[str]]:
    """A row's fields as one text (`rows.load` reads it), beside its facts and measures."""
    return {"fields": dump(fields), "facts": facts_of(fields), **measures_of(fields)}


def narrow(where: Filter | None) -> Tree | None:
    """A tree that holds wherever ``where`` does; None where nothing can be said."""
    return None if where is None else _narrow(where, False)


def render(
    tree: Tree,
    leaf: Callable[[Leaf], _T | None],
    join: Callable[[type[All] | type[Any], list[_T]], _T],
) -> _T | None:
    """``tree`` in an engine's own words. ``leaf`` gives None for what the engine cannot test;
    None: it can test nothing of the tree."""
    if not isinstance(tree, All | Any):
        return leaf(tree)
    parts = [render(part, leaf, join) for part in tree.parts]
    kept = [part for part in parts if part is not None]
    if not kept or (isinstance(tree, Any) and len(kept) < len(parts)):
        return None
    return kept[0] if len(kept) == 1 else join(type(tree), kept)


def _narrow(where: Filter, negated: bool) -> Tree | None:
    if isinstance(where, Not):
        return _narrow(where.part, not negated)
    if isinstance(where, Condition):
        return _leaf(where, negated)
    parts = [_narrow(part, negated) for part in where.parts]
    return _all(parts) if isinstance(where, And) != negated else _any(parts)


def _all(parts: list[Tree | None]) -> Tree | None:
    said = [part for part in parts if part is not None]
    if NOTHING in said:
        return NOTHING
    return All(tuple(said)) if len(said) > 1 else said[0] if said else None


def _any(parts: list[Tree | None]) -> Tree | None:
    said = [part for part in parts if part is not None and part != NOTHING]
    if None in parts:
        return None
    return Any(tuple(said)) if len(said) > 1 else said[0] if said else NOTHING


def _leaf(condition: Condition, negated: bool) -> Tree | None:
    name, op, value = condition.name, condition.op, condition.value
    if op == "!=":
        return _leaf(Condition(name, "=", value), not negated)
    if op == "in":
        assert isinstance(value, tuple)
        members: list[Tree | None] = [
            _test(_equals(name, one), negated) for one in value if storable(one)
        ]
        return _all(members) if negated else _any(members)
    assert not isinstance(value, tuple)
    if isinstance(value, str) and op in ("=", "has", "under") and not storable(value):
        return _constant(negated)
    if op == "=":
        return _test(_equals(name, value), negated) if _is_double(value) else _constant(negated)
    if op == "has":
        return _test(_fact(name, "~", str(value)), negated)
    if op == "under":
        return _under(name, str(value).rstrip("/"), negated)
    return _order(name, op, value, negated)


def _under(name: str, folder: str, negated: bool) -> Tree | None:
    parts = folder.split("/")
    if len(parts) <= _DEEPEST:
        return _test(_fact(name, "/", folder), negated)
    return None if negated else Has(_fact(name, "/", "/".join(parts[:_DEEPEST])))


def _order(name: str, op: str, value: Scalar, negated: bool) -> Tree | None:
    if isinstance(value, bool):
        return _constant(negated)
    wanted: Comparison = _COMPLEMENT[op] if negated else op  # type: ignore[assignment]
    if isinstance(value, str) or not _is_double(value):
        wanted = _LOOSE[wanted]  # measures are rounded, and rounding keeps the order
    try:
        bound = _head(value) if isinstance(value, str) else float(value)
    except OverflowError:
        bound = math.inf
    kind = _kind(name, value)
    if not math.isfinite(bound):
        return None if negated else Has(kind)
    order = Order(_measure(name, value), wanted, bound)
    return Any((Lacks(kind), order)) if negated else All((Has(kind), order))


def _constant(true: bool) -> Tree | None:
    return None if true else NOTHING


def _test(fact: str, negated: bool) -> Tree:
    return Lacks(fact) if negated else Has(fact)


def _is_double(value: Scalar) -> bool:
    if not isinstance(value, int):
        return True
    try:
        return int(float(value)) == value
    except OverflowError:
        return False


def _equals(name: str, value: Scalar) -> str:
    if isinstance(value, bool):
        return _fact(name, "=b", str(value))
    if isinstance(value, str):
        return _fact(name, "=t", value)
    return _fact(name, "=n", repr(float(value) + 0.0))  # one spelling of zero


def _kind(name: str, value: Scalar) -> str:
    return f"{name}:{'b' if isinstance(value, bool) else 't' if isinstance(value, str) else 'n'}"


def _fact(name: str, sign: str, value: str) -> str:
    if len(value) > _LONGEST:
        value = (
            "#"
            + hashlib.blake2b(value.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()
        )
    return f"{name}{sign}{value}"


def _measure(name: str, value: Scalar) -> str:
    plain = "".join(c if c.isascii() and c.isalnum() else f"_{ord(c):02x}" for c in name)
    return f"{'text' if isinstance(value, str) else 'number'}_{plain}"


def _head(text: str) -> float:
    """The first bytes of a text as a number. UTF-8 keeps the order of code points, and so does
    this up to ties."""
    head = text.encode("utf-8", "surrogatepass")[:_HEAD_BYTES]
    return float(int.from_bytes(head.ljust(_HEAD_BYTES, b"\0")))


Candidate = tuple[int, float, Fields | None]


def fill(
    ask: Callable[[int], list[Candidate]], k: int, where: Filter | None, most: int, name: str
) -> list[StoreHit]:
    """The first ``k`` candidates that match. ``ask(n)`` gives the ``n`` best that the engine's
    own filter let through, with None for the fields of one that went meanwhile; it is asked for
    more until ``k`` match or there are no more. ``most``: the largest ``n`` that the engine takes.
    """
    wanted = min(k, most)
    while True:
        rows = ask(wanted)
        kept = [
            (id, score)
            for id, score, fields in rows
            if fields is not None and (where is None or where.matches(fields))
        ]
        if len(kept) >= k or len(rows) < wanted:
            found = [StoreHit(id, score) for id, score in kept]
            return sorted(found, key=lambda one: (-one.score, one.id))[:k]
        if wanted == most:
            raise UnsupportedError(
                f"{name} gives at most {most} results, and {k} were asked for that match a "
                "filter it cannot express",
                hint="ask for fewer, or move the index to another store",
                param="filter",
            )
        wanted = min(wanted * 4, most)
