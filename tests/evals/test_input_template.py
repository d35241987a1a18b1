"""Templates: what is put in stays as it is."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.errors import about

from lmstack.core import InputError
from lmstack.evals.task_values import InputTemplate


@given(st.text(), st.text())
def test_a_value_is_put_in_once_and_as_it_is(one: str, other: str) -> None:
    found = InputTemplate("<{{a}}|{{ b }}>").render({"a": one, "b": other})
    assert found == f"<{one}|{other}>"


def test_braces_in_a_value_are_not_a_field() -> None:
    assert InputTemplate("{{a}}").render({"a": "{{b}}", "b": "secret"}) == "{{b}}"


def test_braces_can_be_written() -> None:
    template = InputTemplate(r"\{{a}} is {{a}}, { and }} stay")
    assert template.render({"a": "x"}) == "{{a}} is x, { and }} stay"
    assert template.fields == ("a",)


def test_numbers_and_truth_values_are_as_in_json() -> None:
    assert InputTemplate("{{a}} {{b}} {{c}}").render({"a": True, "b": 1.5, "c": 3}) == "true 1.5 3"


@pytest.mark.parametrize("text", ["{{", "{{a", "{{}}", "{{ }}", "{{a}", "x {{a{b}}"])
def test_a_field_that_is_not_closed_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="the template has", check=about("input")):
        InputTemplate(text)


def test_a_missing_field_names_the_nearest() -> None:
    with pytest.raises(InputError, match="question", check=about("qestion")):
        InputTemplate("{{qestion}}").render({"question": "x"})


@pytest.mark.parametrize("value", [None, [1], {"a": 1}])
def test_a_value_that_is_no_text_is_refused(value: object) -> None:
    with pytest.raises(InputError, match="not text", check=about("a")):
        InputTemplate("{{a}}").render({"a": value})


@pytest.mark.parametrize("text", [3, None, "\ud800"])
def test_a_template_is_text(text: object) -> None:
    with pytest.raises(InputError, match="input", check=about("input")):
        InputTemplate(text)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"has '\{\{a, and then more t"):
        InputTemplate("before {{a, and then more than twenty characters")


def test_fields_are_named_once_in_their_order() -> None:
    assert InputTemplate(r"{{b}} {{a}} {{ b }} \{{c}} {{d}}").fields == ("b", "a", "d")


def test_what_a_row_has_is_told_where_nothing_is_near() -> None:
    for row, hint in (({"x": 1, "yy": 2}, "it has x, yy"), ({}, "it has no fields")):
        with pytest.raises(
            InputError, match="no field 'question'", check=about("question")
        ) as error:
            InputTemplate("{{question}}").render(row)
        assert error.value.hint == hint
