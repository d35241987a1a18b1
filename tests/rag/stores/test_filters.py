"""Filters mean on every store what `Filter.matches` says: missing fields, types, lists, paths."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.rag.stores.model import Model, unit

from lmstack.core import UnsupportedError
from lmstack.rag.filters import And, Condition, Fields, Filter, Not, Or
from lmstack.rag.stores import facts

NAMES = ("a", "b.c", "d-e", "_f")
TEXTS = (
    *("", "a", "A", "a b", " a", "a ", "a/b", "a/b/c", "a/bc", "a/", "/", "/a", "//", "a//b"),
    *(
        "é",
        "e\u0301",
        "日本",
        "日本/語",
        "\U0001f600",
        "\ue000z",
        "\uffff",
        "'",
        '"',
        "\\",
        "%",
        "$a",
    ),
    *("1", "true", "None", "2024-01-01", "2024-06-30", "2024-06", "\n", "x" * 300, "x" * 301),
    *("/".join("d" * 70), "/".join("d" * 71)),
)
NUMBERS = (0, 0.0, -0.0, 1, 1.0, -3, 2.5, 0.1, 1e300, -1e300, 2**53, 2**53 - 1, 5e-324)
BEYOND = (2**60, 2**53 + 1, -(10**400), 10**400, float("inf"), float("-inf"))
UNWRITABLE = ("\0", "a\0", "\ud800", "a/\udfff", "\U0001f600\ud83d")

texts = st.sampled_from(TEXTS)
values = st.one_of(
    texts,
    st.sampled_from(NUMBERS),
    st.booleans(),
    st.lists(texts, max_size=3).map(tuple),
)
some_fields = st.dictionaries(st.sampled_from(NAMES), values, max_size=4)
asked = st.one_of(
    texts, st.sampled_from(NUMBERS), st.booleans(), st.sampled_from(BEYOND + UNWRITABLE)
)
asked_texts = st.one_of(texts, st.sampled_from(UNWRITABLE))
names = st.sampled_from(NAMES)
conditions = st.one_of(
    st.builds(Condition, names, st.sampled_from(("=", "!=", "<", "<=", ">", ">=")), asked),
    st.builds(Condition, names, st.just("in"), st.lists(asked_texts, max_size=3).map(tuple)),
    st.builds(Condition, names, st.sampled_from(("has", "under")), asked_texts),
)
filters = st.recursive(
    conditions,
    lambda inner: st.one_of(
        st.builds(Not, inner),
        st.builds(And, st.lists(inner, max_size=3).map(tuple)),
        st.builds(Or, st.lists(inner, max_size=3).map(tuple)),
    ),
    max_leaves=4,
)


def holds(tree: facts.Tree | None, fields: Fields) -> bool:
    """What an engine makes of a tree."""
    match tree:
        case None:
            return True
        case facts.Has(fact):
            return fact in facts.facts_of(fields)
        case facts.Lacks(fact):
            return fact not in facts.facts_of(fields)
        case facts.Order(measure, op, value):
            held = facts.measures_of(fields).get(measure)
            if held is None:
                return False
            return {"<": held < value, "<=": held <= value, ">": held > value}.get(
                op, held >= value
            )
    return (all if isinstance(tree, facts.All) else any)(holds(p, fields) for p in tree.parts)


@settings(max_examples=150, deadline=None)
@given(some_fields, filters)
def test_narrowing_keeps_every_row_that_matches(fields: Fields, where: Filter) -> None:
    assert holds(facts.narrow(where), fields) or not where.matches(fields)


@settings(max_examples=150)
@given(some_fields, st.one_of(conditions, conditions.map(Not)))
def test_all_but_orders_of_texts_are_narrowed_to_what_matches(
    fields: Fields, where: Filter
) -> None:
    condition = where.part if isinstance(where, Not) else where
    assert isinstance(condition, Condition)
    if condition.op in ("<", "<=", ">", ">=") or "/".join("d" * 65) in str(condition.value):
        return
    assert holds(facts.narrow(where), fields) == where.matches(fields)


def rows_of(fields: list[Fields]) -> tuple[np.ndarray, np.ndarray, list[Fields]]:
    return np.arange(len(fields)), unit(np.random.default_rng(0), len(fields)), fields


def check(store, fields: list[Fields], wheres: list[Filter]) -> None:
    """Equal to the model, for a ``k`` that takes all and for one that does not."""
    ids, vectors, _ = rows_of(fields)
    model = Model()
    model.upsert(ids.tolist(), vectors, fields)
    store.clear()
    store.upsert(ids, vectors, fields)
    for where in wheres:
        for k in (2, len(fields) + 1):
            found = store.search(vectors[0], k, where)
            assert model.recall(found, vectors[0], k, where) == 1, where


def test_each_comparison_of_many_values_with_each(store):
    """Pairs of a held and an asked value, a filter for each comparison."""
    held: list[Fields] = [{}, *({"a": value} for value in (*TEXTS, *NUMBERS, True, False))]
    held += [{"a": ()}, {"a": ("a", "é")}, {"a": ("a/b",)}, {"b.c": "a"}]
    wheres: list[Filter] = []
    some = ("a", "a/b", "2024-06", "é", " a", "x" * 300, "\0", "\ud800", 1, 2.5, 2**60, True)
    for value in some:
        wheres += [Condition("a", op, value) for op in ("=", "!=", "<", "<=", ">", ">=")]
        if isinstance(value, str):
            wheres += [Condition("a", "has", value), Condition("a", "under", value)]
            wheres.append(Condition("a", "in", (value, "a")))
    wheres += [And(()), Or(()), Not(And(())), Not(Or(())), Condition("a", "in", ())]
    ids, vectors, _ = rows_of(held)
    store.upsert(ids, vectors, held)
    for where in wheres:
        found = {one.id for one in store.search(vectors[0], 100, where)}
        assert found == {i for i, fields in enumerate(held) if where.matches(fields)}, where


def test_generated_filters_over_generated_fields(store):
    examples = settings(
        max_examples=4,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        derandomize=True,
    )
    inputs = given(
        st.lists(some_fields, min_size=5, max_size=25),
        st.lists(filters, min_size=10, max_size=10),
    )
    examples(inputs(lambda fields, wheres: check(store, fields, wheres)))()


def test_enough_results_are_found_behind_a_filter_that_cannot_be_pushed():
    rows = [(i, 1 - i / 100, {"n": i}) for i in range(100)]
    where = Condition("n", ">=", 90)
    found = facts.fill(lambda n: rows[:n], 5, where, 1000, "store")
    assert [one.id for one in found] == [90, 91, 92, 93, 94]
    with pytest.raises(UnsupportedError, match="at most 50"):
        facts.fill(lambda n: rows[:n], 5, where, 50, "store")
