"""Filters are two-valued, survive JSON, read what people write, and refuse the rest clearly."""

from __future__ import annotations

import json
import math
import string
from contextlib import suppress
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lmstack.core import InputError
from lmstack.rag.filters import (
    MAX_NODES,
    And,
    Condition,
    Filter,
    Not,
    Or,
    all_of,
    check_names,
    parse_condition,
    parse_filter,
)

NAMES = st.sampled_from(["a", "b", "date", "path"])
TEXTS = st.sampled_from(["", "x", "y", "x/y", "x/yz", "2024-05", "2024-06-01", "10", "é"])
NUMBERS = st.one_of(
    st.integers(-3, 3),
    st.sampled_from([-1.5, 0.0, 0.5, 1e300, 2**60]),
    st.sampled_from([math.inf, -math.inf]),
)
SCALARS = st.one_of(TEXTS, NUMBERS, st.booleans())
LISTS = st.lists(TEXTS, max_size=3).map(tuple)
FIELDS = st.dictionaries(NAMES, st.one_of(SCALARS, LISTS), max_size=4)
CONDITIONS = st.one_of(
    st.builds(Condition, NAMES, st.sampled_from(["=", "!=", "<", "<=", ">", ">="]), SCALARS),
    st.builds(Condition, NAMES, st.just("in"), LISTS),
    st.builds(Condition, NAMES, st.sampled_from(["has", "under"]), TEXTS),
)
FILTERS = st.recursive(
    CONDITIONS,
    lambda inner: st.one_of(
        st.builds(And, st.lists(inner, max_size=3).map(tuple)),
        st.builds(Or, st.lists(inner, max_size=3).map(tuple)),
        st.builds(Not, inner),
    ),
    max_leaves=8,
)


@settings(deadline=None)
@given(FILTERS)
def test_json_gives_the_same_filter_back(where: Filter):
    assert parse_filter(json.loads(json.dumps(where.to_json()))) == where


@settings(deadline=None)
@given(FILTERS, FIELDS)
def test_not_is_the_complement_for_every_document(where: Filter, fields):
    assert Not(where).matches(fields) is not where.matches(fields)


@settings(deadline=None)
@given(FILTERS, FILTERS, FIELDS)
def test_de_morgan(one: Filter, other: Filter, fields):
    assert Not(And((one, other))).matches(fields) == Or((Not(one), Not(other))).matches(fields)


@settings(deadline=None)
@given(CONDITIONS, FIELDS)
def test_unequal_is_the_complement_of_equal(where: Condition, fields):
    if where.op == "=":
        assert replace(where, op="!=").matches(fields) is not where.matches(fields)


@settings(deadline=None)
@given(CONDITIONS)
def test_condition_on_a_missing_field_is_false_but_for_unequal(where: Condition):
    assert where.matches({}) is (where.op == "!=")


@settings(deadline=None)
@given(NAMES, SCALARS, SCALARS)
def test_an_order_holds_between_values_of_one_kind_and_no_others(name, held, asked):
    results = [Condition(name, op, asked).matches({name: held}) for op in ("<", "=", ">")]
    kinds = {
        bool if isinstance(v, bool) else str if isinstance(v, str) else float for v in (held, asked)
    }
    if len(kinds) > 1:
        assert results == [False] * 3
    elif bool in kinds:
        assert results == [False, held == asked, False]
    else:
        assert results.count(True) == 1


@settings(deadline=None)
@given(NAMES, NUMBERS, NUMBERS)
def test_at_most_is_less_or_equal(name, held, asked):
    fields = {name: held}
    less, same = (Condition(name, op, asked).matches(fields) for op in ("<", "="))
    assert Condition(name, "<=", asked).matches(fields) is (less or same)
    assert Condition(name, ">=", asked).matches(fields) is not less


@settings(deadline=None)
@given(NAMES, SCALARS, LISTS)
def test_in_is_equal_to_one_of_them(name, held, several):
    one_of = any(Condition(name, "=", value).matches({name: held}) for value in several)
    assert Condition(name, "in", several).matches({name: held}) is one_of


@settings(deadline=None)
@given(LISTS, TEXTS)
def test_has_looks_into_lists_only(held, asked):
    assert Condition("a", "has", asked).matches({"a": held}) is (asked in held)
    assert not Condition("a", "has", asked).matches({"a": asked})


@settings(deadline=None)
@given(LISTS, CONDITIONS)
def test_a_list_matches_nothing_but_has(held, where: Condition):
    if where.op not in ("has", "!="):
        assert not where.matches({where.name: held})


@pytest.mark.parametrize(
    ("folder", "path", "expected"),
    [
        ("docs", "docs", True),
        ("docs", "docs/a.md", True),
        ("docs/", "docs/a.md", True),
        ("docs", "docs2/a.md", False),
        ("docs", "old/docs/a.md", False),
        ("docs/a", "docs/a.md", False),
        ("/", "/a/b", True),
        ("/", "a/b", False),
    ],
)
def test_under_is_the_path_or_inside_it(folder, path, expected):
    assert Condition("path", "under", folder).matches({"path": path}) is expected


def test_a_boolean_is_no_number():
    assert not Condition("a", "=", 1).matches({"a": True})
    assert not Condition("a", "<", 2).matches({"a": True})
    assert Condition("a", "=", 1).matches({"a": 1.0})


def test_large_numbers_are_not_rounded():
    assert not Condition("a", "=", 2**53).matches({"a": 2**53 + 1})
    assert Condition("a", ">", 2**53).matches({"a": 2**53 + 1})


def test_iso_dates_compare_as_dates():
    where = parse_condition("date >= 2024-06")
    dates = ["2023-12-31", "2024-05-31", "2024-06-01", "2024-06-01T10:00:00Z", "2025-01-01"]
    assert [where.matches({"date": date}) for date in dates] == [False, False, True, True, True]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("format = pdf", Condition("format", "=", "pdf")),
        ("format=pdf", Condition("format", "=", "pdf")),
        ("  size>10 ", Condition("size", ">", 10)),
        ("size >= -1.5", Condition("size", ">=", -1.5)),
        ("draft = true", Condition("draft", "=", True)),
        ('year = "2024"', Condition("year", "=", "2024")),
        ("date >= 2024-06", Condition("date", ">=", "2024-06")),
        ("title != a = b", Condition("title", "!=", "a = b")),
        ("title = it's in here", Condition("title", "=", "it's in here")),
        ("tags has budget", Condition("tags", "has", "budget")),
        ('tags has "annual budget"', Condition("tags", "has", "annual budget")),
        ("tags has 2024", Condition("tags", "has", "2024")),
        ("path under contracts/2024", Condition("path", "under", "contracts/2024")),
        ("path under 2024", Condition("path", "under", "2024")),
        ("path under true", Condition("path", "under", "true")),
        ('path under "2024"', Condition("path", "under", "2024")),
        ("year = " + "9" * 18, Condition("year", "=", int("9" * 18))),
        ("year = " + "9" * 5000, Condition("year", "=", "9" * 5000)),
        ("author in Ada, Grace", Condition("author", "in", ("Ada", "Grace"))),
        ('author in ["Ada", "Grace"]', Condition("author", "in", ("Ada", "Grace"))),
        ('author in ["Ada, Countess"]', Condition("author", "in", ("Ada, Countess",))),
        ('author in "Ada", Grace', Condition("author", "in", ("Ada", "Grace"))),
        ("author in Ada", Condition("author", "in", ("Ada",))),
        ("year in 2023, 2024", Condition("year", "in", ("2023", "2024"))),
        ("year in 2023", Condition("year", "in", ("2023",))),
        ("a.b-c = 1", Condition("a.b-c", "=", 1)),
        ("note =", Condition("note", "=", "")),
        ("note = two\nlines", Condition("note", "=", "two\nlines")),
    ],
)
def test_reads_what_people_write(text, expected):
    assert parse_condition(text) == expected


@settings(deadline=None)
@given(NAMES, SCALARS)
def test_a_value_in_json_quotes_is_text(name, value):
    text = str(value)
    assert parse_condition(f"{name} = {json.dumps(text)}") == Condition(name, "=", text)


@settings(deadline=None)
@given(st.text(string.printable, max_size=30))
def test_any_text_is_a_condition_or_an_input_error(text):
    with suppress(InputError):
        found = parse_condition(text)
        assert parse_filter(found.to_json()) == found


JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(
            st.sampled_from(["field", "op", "value", "all", "any", "not", "x"]), inner, max_size=3
        ),
        st.fixed_dictionaries({"field": inner, "op": inner, "value": inner}),
    ),
    max_leaves=8,
)


@settings(deadline=None)
@given(JSON)
def test_any_json_is_a_filter_or_an_input_error(data):
    with suppress(InputError):
        found = parse_filter(data)
        assert parse_filter(found.to_json()) == found


@pytest.mark.parametrize(
    "text",
    ["", "format", "format pdf", "= pdf", "1a = 2", "a ~ b", 'a = "open', "a in [1]", "a in [b"],
)
def test_what_cannot_be_read_is_said(text):
    with pytest.raises(InputError) as error:
        parse_condition(text)
    assert error.value.hint


@pytest.mark.parametrize(
    "data",
    [
        None,
        3,
        [],
        {},
        {"all": "format = pdf"},
        {"all": [], "any": []},
        {"field": "a", "op": "=", "value": None},
        {"field": "a", "op": "=", "value": [1]},
        {"field": "a", "op": "in", "value": "x"},
        {"field": "a", "op": "=", "value": ["x"]},
        {"field": "a", "op": "has", "value": 1},
        {"field": "a b", "op": "=", "value": 1},
        {"field": 1, "op": "=", "value": 1},
        {"field": "a", "op": "like", "value": "x"},
        {"field": "a", "op": ["="], "value": "x"},
        {"field": "a", "op": "=", "value": math.nan},
        {"field": "a", "op": "=", "value": 1, "extra": 1},
        {"not": {}},
    ],
)
def test_what_is_no_filter_is_refused(data):
    with pytest.raises(InputError):
        parse_filter(data)


def test_a_filter_too_large_or_too_deep_is_refused():
    assert len(parse_filter({"all": ["a = 1"] * (MAX_NODES - 1)}).parts) == MAX_NODES - 1
    with pytest.raises(InputError, match="too large"):
        parse_filter({"all": ["a = 1"] * MAX_NODES})
    deep: object = "a = 1"
    for _ in range(100_000):
        deep = {"not": deep}
    with pytest.raises(InputError, match="too large"):
        parse_filter(deep)


@pytest.mark.parametrize("wrap", ["unknown", "value"])
def test_deep_nonsense_is_refused_in_words(wrap: str):
    deep: object = {}
    for _ in range(100_000):
        deep = {"x": deep}
    asked = {"field": "a", "op": "=", "value": deep} if wrap == "value" else deep
    with pytest.raises(InputError, match="cannot"):
        parse_filter(asked)


def test_list_of_very_many_values_is_refused():
    with pytest.raises(InputError, match="list of 1,001"):
        parse_filter({"field": "a", "op": "in", "value": ["x"] * 1_001})


def test_all_of_leaves_out_what_is_not_given():
    one, other = Condition("a", "=", 1), Condition("b", "=", 2)
    assert all_of() is None
    assert all_of(None, None) is None
    assert all_of(None, one) == one
    assert all_of(one, None, other) == And((one, other))


def test_nothing_asked_is_true_and_nothing_offered_is_false():
    assert And(()).matches({})
    assert not Or(()).matches({"a": 1})


@settings(deadline=None)
@given(FILTERS)
def test_filters_can_be_keys(where: Filter):
    assert {where: 1}[parse_filter(where.to_json())] == 1


HELD = (
    {"path": "/n/a/plan.md", "source": "/n", "format": "markdown", "tags": ("x",)},
    {"path": "/n/b.pdf", "source": "/n", "format": "pdf", "author": "Ada"},
)


@pytest.mark.parametrize(
    ("asked", "exist"),
    [
        ("athor = Ada", "did you mean 'author'?"),
        ("formt = pdf", "author, format, path, source, tags"),
        ("format = docx", "markdown, pdf"),
        ("format != pfd", "did you mean 'pdf'?"),
        ("format in docx, html", "markdown, pdf"),
        ("path = plan.md", "did you mean '/n/a/plan.md'?"),
        ("path under /n/c", "/n/a/plan.md, /n/b.pdf"),
        ("source = /m", "/n"),
    ],
)
def test_a_name_that_no_document_has_is_an_error_that_says_which_exist(asked: str, exist: str):
    for where in (parse_condition(asked), Not(Or((And((parse_condition(asked),)),)))):
        with pytest.raises(InputError) as error:
            check_names(where, HELD)
        assert exist in (error.value.hint or "")


@pytest.mark.parametrize(
    "asked",
    [
        "author = Grace",
        "format in docx, pdf",
        "format > m",
        "path under /n/a",
        "path != /n/b.pdf",
        "tags has y",
    ],
)
def test_a_value_that_no_document_has_is_looked_for(asked: str):
    check_names(parse_condition(asked), HELD)


def test_a_name_is_looked_for_as_people_write_paths():
    with pytest.raises(InputError, match="no file or folder 'c'") as error:
        check_names(Condition("path", "under", "/n/c"), HELD, lambda path: path.removeprefix("/n/"))
    assert error.value.hint == "there are: a/plan.md, b.pdf"


def test_nothing_can_be_chosen_among_no_documents():
    with pytest.raises(InputError, match="no document"):
        check_names(parse_condition("format = pdf"), ())


def test_an_error_names_some_of_many():
    many = [{"path": f"/n/{number:03}"} for number in range(40)]
    with pytest.raises(InputError) as error:
        check_names(parse_condition("path = x"), many)
    assert (error.value.hint or "").endswith("/n/011 and 28 more")


@pytest.mark.parametrize("asked", ["format == pdf", "date => 2024", "format ~ pdf", "title is x"])
def test_an_unknown_comparison_is_no_part_of_the_value(asked: str):
    with pytest.raises(InputError, match="no comparison") as error:
        parse_condition(asked)
    assert ">=, in, has, under" in (error.value.hint or "")
