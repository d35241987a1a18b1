"""Filters as SQL over a column ``fields`` of type jsonb (PostgreSQL), exactly.

Every part is true or false, never unknown, so that ``NOT`` is the complement. Texts compare by
code points (collation "C" over UTF-8), numbers as decimals.
"""

from __future__ import annotations

from lmstack.rag.filters import And, Condition, Filter, Not, Or, Scalar
from lmstack.rag.stores.rows import storable

__all__ = ["to_sql"]

Sql = tuple[str, list[object]]
_FALSE: Sql = ("false", [])


def to_sql(where: Filter) -> Sql:
    """An expression with ``%s`` for each of the values."""
    if isinstance(where, Not):
        inner, values = to_sql(where.part)
        return f"(NOT {inner})", values
    if isinstance(where, Condition):
        return _condition(where)
    parts = [to_sql(part) for part in where.parts]
    if not parts:
        return ("true" if isinstance(where, And) else "false"), []
    sign = " OR " if isinstance(where, Or) else " AND "
    joined = sign.join(part for part, _ in parts)
    return f"({joined})", [value for _, values in parts for value in values]


def _condition(condition: Condition) -> Sql:
    name, op, value = condition.name, condition.op, condition.value
    if op == "!=":
        equal, values = _condition(Condition(name, "=", value))
        return f"(NOT {equal})", values
    if op == "in":
        assert isinstance(value, tuple)
        texts = [one for one in value if storable(one)]
        return _typed(name, "string", "fields->>%s = ANY(%s)", [name, texts])
    assert not isinstance(value, tuple)
    if isinstance(value, str) and not storable(value) and op in ("=", "has", "under"):
        return _FALSE
    if op == "has":
        return _typed(name, "array", "fields->%s ? %s", [name, value])
    if op == "under":
        folder = str(value).rstrip("/")
        test = "(fields->>%s = %s OR starts_with(fields->>%s, %s))"
        return _typed(name, "string", test, [name, folder, name, f"{folder}/"])
    return _compared(name, op, value)


def _compared(name: str, op: str, value: Scalar) -> Sql:
    if isinstance(value, bool):
        test = "(fields->>%s)::boolean = %s"
        return _typed(name, "boolean", test, [name, value]) if op == "=" else _FALSE
    if isinstance(value, str):
        if not storable(value):
            return _against_unstorable(name, op, value)
        return _typed(name, "string", f'fields->>%s COLLATE "C" {op} %s', [name, value])
    test = f"(fields->>%s)::numeric {op} %s::numeric"
    return _typed(name, "number", test, [name, _decimal(value)])


def _against_unstorable(name: str, op: str, value: str) -> Sql:
    """No field equals ``value``, so what comes before its first bad character decides, and
    then whether that character is NUL (before all others) or half of a pair (in their midst)."""
    good = next(i for i in range(len(value)) if not storable(value[: i + 1]))
    head, bad = value[:good], value[good]
    if bad == "\0":
        # `head` itself and all that comes before it are less; what goes on after it is more.
        return _typed(
            name,
            "string",
            f'fields->>%s COLLATE "C" {"<=" if op[0] == "<" else ">"} %s',
            [name, head],
        )
    edge = head + "\ue000"
    return _typed(
        name, "string", f'fields->>%s COLLATE "C" {"<" if op[0] == "<" else ">="} %s', [name, edge]
    )


def _decimal(value: float) -> str:
    text = repr(value)
    return {"inf": "Infinity", "-inf": "-Infinity"}.get(text, text)


def _typed(name: str, kind: str, test: str, values: list[object]) -> Sql:
    """False where the field is missing or of another type; the test is not tried there."""
    guard = f"CASE WHEN jsonb_typeof(fields->%s) = '{kind}' THEN {test} ELSE false END"
    return guard, [name, *values]
