"""What a form reads, and what is said of what it does not."""

from __future__ import annotations

import re
from typing import Any

import pytest
from tests.errors import about

from lmstack.core import Grammar, InputError
from lmstack.prompting import NotOfFormError, form_of


def problem(form: Any, text: str, *, is_cut: bool = False) -> NotOfFormError:
    with pytest.raises(NotOfFormError) as caught:
        form_of(form).read(text, is_cut=is_cut)
    return caught.value


@pytest.mark.parametrize(
    ("form", "begins"),
    [
        ({"type": "object"}, "{"),
        ({"type": "array"}, "["),
        ({"type": "string"}, '"'),
        ({"type": ["object", "null"]}, "{["),
        ({}, "{["),
        (["a"], ""),
        (re.compile("a"), ""),
    ],
)
def test_a_form_says_how_its_json_begins(form: Any, begins: str) -> None:
    assert form_of(form).begins == begins


@pytest.mark.parametrize(
    "form", [{"type": "integer"}, re.compile("[0-9]+"), Grammar("lark", 'start: "1"')]
)
def test_what_may_have_gone_on_is_cut_and_not_wrong(form: Any) -> None:
    found = problem(form, "1", is_cut=True)
    assert (found.is_cut, found.reason) == (True, "it was cut before its end")
    assert form_of(form).read("1") in (1, "1")


def test_json_that_is_none_is_cut_only_where_it_was() -> None:
    assert problem({}, '{"a"').is_cut is False
    assert problem({}, '{"a"').reason.startswith("it is not JSON: ")
    assert problem({}, '{"a"', is_cut=True).reason == "it was cut before its end"


def test_of_several_parts_that_fit_not_the_longest_is_told_of() -> None:
    form = {"type": "array", "items": {"type": "integer"}, "minItems": 3}
    assert "3" in problem(form, "[1] or [2]?").reason
    assert problem(form, '[1] or ["ab", "cd", "ef"]?').reason != problem(form, "[1]").reason


def test_choices_that_differ_in_case_alone_are_told_apart() -> None:
    assert form_of(["A", "a"]).read(" a ") == "a"
    found = problem(["A", "a"], "a.")
    assert (found.reason, found.is_cut) == ("it is none of the choices (A, a)", False)
    assert problem(["A", "a"], "b", is_cut=True).is_cut


def test_a_model_that_is_not_held_to_them_is_told_all_choices() -> None:
    words = form_of(['say "no"', "é"]).words
    assert words == 'Reply with one of these and with nothing else: "say \\"no\\"", "é"'


def test_a_model_that_is_not_held_to_a_schema_is_told_it_as_it_is_written() -> None:
    words = form_of({"type": "string", "const": "é"}).words
    assert words is not None
    assert words.endswith(':\n{"type": "string", "const": "é"}')


def test_a_choice_stands_for_itself_in_the_grammar() -> None:
    assert form_of(["a.b", "c d", "é_1"]).grammar.source == "a\\x{2e}b|c d|é_1"


def test_of_many_problems_the_first_five_are_told_each_in_short() -> None:
    names = [f"n{number}" for number in range(7)]
    schema = {"type": "object", "properties": {name: {"type": "integer"} for name in names}}
    lines = problem(schema, '{"n0":"x","n1":"","n2":"","n3":"","n4":"","n5":"","n6":""}').reason
    assert lines.count("; ") == 5
    assert lines.endswith("; and 2 more")
    assert lines.startswith('n0: "x" is not of type "integer"; n1: ')
    assert problem({"type": "object"}, "[1]").reason == 'the value: [1] is not of type "object"'
    assert len(problem({"type": "object"}, f"[{'1,' * 300}1]").reason) == 300


def test_a_pattern_matches_a_text_from_its_beginning_to_its_end() -> None:
    form = form_of(re.compile("a|bc"))
    assert form.read("\nbc ") == "bc"
    for text in ("ab", "xbc", "bcx"):
        assert "does not match" in problem(re.compile("a|bc"), text).reason


def test_a_grammar_is_a_form_by_its_kind() -> None:
    whole = Grammar("json_object")
    assert form_of(whole).grammar == whole
    assert form_of(whole).read('{"a": 1}') == {"a": 1}
    assert "not of type" in problem(whole, "[1]").reason
    schema = Grammar.json_schema({"type": "integer"})
    assert (form_of(schema).grammar, form_of(schema).read("3")) == (schema, 3)
    for source, said, param in (("{", "is not JSON", "response_format"), ("[1]", "[1]", "form")):
        with pytest.raises(InputError, match=re.escape(said), check=about(param)):
            form_of(Grammar("json_schema", source))


@pytest.mark.parametrize(
    ("form", "param", "hint"),
    [
        ("x", "form", "give a type"),
        ([""], "form", "one or more different texts"),
        (object(), "form", "use a pydantic class"),
        (re.compile(b"a"), "form", "a pattern of text"),
        (re.compile("a", re.S), "form", "without flags"),
        (re.compile("(?=a)"), "response_format", "lookaround"),
    ],
)
def test_a_form_that_is_none_says_what_to_give(form: Any, param: str, hint: str) -> None:
    with pytest.raises(InputError) as caught:
        form_of(form)
    assert caught.value.param == param
    assert hint in str(caught.value.hint)
