"""Forms that an answer can have: what holds a model to one, what asks for it in words, and what
reads it.

    a type         a pydantic class, dataclass, TypedDict, list[...], Literal, Enum
    a JSON Schema  a mapping
    choices        a list or tuple of texts
    a pattern      re.compile(...), in the syntax that Rust's regex has too: no lookaround
    a `Grammar`    of any kind; one in Lark only for models that can be held to it

What is read is always validated, whatever held the model: by pydantic, or by jsonschema-rs, whose
patterns take linear time and which fetches nothing. Does not cover asking (`structuring`).
"""

from __future__ import annotations

import json
import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, Generic, TypeVar

from lmstack.core import Grammar, InputError, check_text, shown
from lmstack.core.json_text import parse_json
from lmstack.core.schemas import check_keywords, json_validator
from lmstack.prompting.embedded_json import json_texts
from lmstack.prompting.schemas import type_schema

__all__ = ["AnswerForm", "NotOfFormError", "form_of"]

T = TypeVar("T")
_MOST_PROBLEMS, _LONGEST_PROBLEM = 5, 300
_BEGINS = {"object": "{", "array": "[", "string": '"'}
_CUT = "it was cut before its end"


class NotOfFormError(Exception):
    """A text is not of a form, and why, in words. ``is_cut``: because it was cut."""

    def __init__(self, reason: str, *, is_cut: bool = False) -> None:
        super().__init__(reason)
        self.reason, self.is_cut = reason, is_cut


class AnswerForm(ABC, Generic[T]):
    """``grammar`` holds a model to the form, ``words`` ask for it; None where words are not
    enough. ``begins``: the characters that its texts, which are JSON, may begin with; empty for
    other texts. Numbers and words by themselves are no part of an answer that is shown as it
    grows."""

    begins: str = ""
    grammar: Grammar
    words: str | None

    @abstractmethod
    def read(self, text: str, *, is_cut: bool = False) -> T:
        """The value in ``text``, or `NotOfFormError`. ``is_cut``: more might have come."""


def form_of(wanted: Any) -> AnswerForm[Any]:
    """The form that ``wanted`` stands for, by the table above."""
    if isinstance(wanted, AnswerForm):
        return wanted
    if isinstance(wanted, Grammar):
        return _form_of_grammar(wanted)
    if isinstance(wanted, Mapping):
        return SchemaForm(wanted)
    if isinstance(wanted, re.Pattern):
        return PatternForm(_source(wanted))
    if isinstance(wanted, list | tuple):
        return ChoicesForm(wanted)
    if isinstance(wanted, str | bytes) or wanted is None:
        raise InputError(
            f"the form of the answer is {shown(wanted)}",
            hint='give a type, a schema, ["one", "other"] or re.compile("...")',
            param="form",
        )
    return TypeForm(wanted)


class _JsonForm(AnswerForm[T]):
    def __init__(self, schema: Mapping[str, Any], grammar: Grammar | None = None) -> None:
        self.schema = schema
        self.grammar = grammar or Grammar.json_schema(schema)
        self.begins = _BEGINS.get(str(schema.get("type")), "{[")
        written = json.dumps(schema, ensure_ascii=False)
        self.words = (
            "Reply with JSON that follows this JSON Schema, and with nothing else:\n" + written
        )

    def read(self, text: str, *, is_cut: bool = False) -> T:
        try:
            parts = json_texts(text)
        except ValueError as error:
            reason = _CUT if is_cut else f"it is not JSON: {error}"
            raise NotOfFormError(reason, is_cut=is_cut) from error
        problems: list[tuple[int, NotOfFormError]] = []
        for part in parts:
            if is_cut and part[0] not in '{["':  # a number, which may have gone on
                raise NotOfFormError(_CUT, is_cut=True)
            try:
                return self._value(part)
            except NotOfFormError as error:
                problems.append((len(part), error))
        raise max(problems, key=lambda each: each[0])[1]

    @abstractmethod
    def _value(self, text: str) -> T: ...


class TypeForm(_JsonForm[T]):
    """A Python type, by pydantic."""

    def __init__(self, wanted: Any) -> None:
        from pydantic import TypeAdapter
        from pydantic.errors import PydanticUserError

        self._name = getattr(wanted, "__name__", shown(wanted))
        try:
            self._adapter: TypeAdapter[T] = TypeAdapter(wanted)
        except PydanticUserError as error:
            raise InputError(
                f"{shown(wanted)} is no type that an answer can have: {str(error).splitlines()[0]}",
                hint="use a pydantic class, a dataclass, list[...], Literal or an Enum",
                param="form",
            ) from error
        super().__init__(type_schema(self._adapter, self._name))

    def _value(self, text: str) -> T:
        from pydantic import ValidationError

        try:
            return self._adapter.validate_json(text)
        except ValidationError as error:
            found = error.errors(include_url=False, include_context=False, include_input=False)
            raise _not_valid([(each["loc"], each["msg"]) for each in found]) from error


class SchemaForm(_JsonForm[Any]):
    """A JSON Schema of any draft, without references that lead out of it."""

    def __init__(self, schema: Mapping[str, Any], grammar: Grammar | None = None) -> None:
        check_keywords(schema)
        super().__init__(dict(schema), grammar)
        self._validator = _validator(self.schema)

    def _value(self, text: str) -> Any:
        value = parse_json(text)
        found = [(e.instance_path, e.message) for e in self._validator.iter_errors(value)]
        if found:
            raise _not_valid(found)
        return value


class ChoicesForm(AnswerForm[str]):
    """One of several texts. A model that is not held to them may quote its choice, write it in
    another case or end it with a full stop."""

    def __init__(self, choices: Sequence[Any]) -> None:
        for choice in choices:
            check_text("a choice", choice)
        self.choices: tuple[str, ...] = tuple(choices)
        if not self.choices or len(set(self.choices)) < len(self.choices) or "" in self.choices:
            raise InputError(
                f"the choices are {shown(list(choices))}",
                hint="give one or more different texts",
                param="form",
            )
        self.grammar = Grammar("regex", "|".join(map(_literal, self.choices)))
        listed = json.dumps(list(self.choices), ensure_ascii=False)[1:-1]
        self.words = f"Reply with one of these and with nothing else: {listed}"

    def read(self, text: str, *, is_cut: bool = False) -> str:
        said = text.strip()
        if is_cut and any(c.startswith(said) and c != said for c in self.choices):
            raise NotOfFormError(_CUT, is_cut=True)
        for alike in (str, _bare):
            found = [choice for choice in self.choices if alike(choice) == alike(said)]
            if len(found) == 1:
                return found[0]
        listed = ", ".join(self.choices)
        raise NotOfFormError(f"it is none of the choices ({listed})", is_cut=is_cut)


class PatternForm(AnswerForm[str]):
    """A text that a regular expression matches from its beginning to its end."""

    def __init__(self, pattern: str) -> None:
        self.pattern = pattern
        self.grammar = Grammar("regex", pattern)
        self.words = (
            "Reply with text that this regular expression matches as a whole, and with nothing"
            f" else: {pattern}"
        )
        self._validator = _validator({"type": "string", "pattern": f"^(?:{pattern})$"})

    def read(self, text: str, *, is_cut: bool = False) -> str:
        if is_cut:
            raise NotOfFormError(_CUT, is_cut=True)
        for said in (text, text.strip()):
            if self._validator.is_valid(said):
                return said
        raise NotOfFormError("the regular expression does not match it")


class HeldForm(AnswerForm[str]):
    """A text in a Lark grammar, which a model has to be held to: nothing here can read it."""

    words = None

    def __init__(self, grammar: Grammar) -> None:
        self.grammar = grammar

    def read(self, text: str, *, is_cut: bool = False) -> str:
        if is_cut:
            raise NotOfFormError(_CUT, is_cut=True)
        return text


def _form_of_grammar(grammar: Grammar) -> AnswerForm[Any]:
    if grammar.kind == "json_object":
        return SchemaForm({"type": "object"}, grammar)
    if grammar.kind == "regex":
        return PatternForm(grammar.source)
    if grammar.kind == "lark":
        return HeldForm(grammar)
    try:
        schema = parse_json(grammar.source)
    except ValueError as error:
        raise InputError(
            f"the JSON Schema is not JSON: {error}", param="response_format"
        ) from error
    if not isinstance(schema, Mapping):
        raise InputError(f"the JSON Schema is {shown(schema)}, not an object", param="form")
    return SchemaForm(schema, grammar)


def _validator(schema: Mapping[str, Any]) -> Any:
    try:
        return json_validator(json.dumps(dict(schema)), checks_formats=True)
    except (TypeError, ValueError, RecursionError) as error:
        raise InputError(
            f"the JSON Schema cannot be used: {str(error) or 'nested too deep'}",
            hint="without references that lead out of it, unknown formats, and lookaround",
            param="response_format",
        ) from error


def _not_valid(found: Sequence[tuple[Sequence[Any], str]]) -> NotOfFormError:
    lines = [f"{_place(path)}: {message}"[:_LONGEST_PROBLEM] for path, message in found]
    if len(lines) > _MOST_PROBLEMS:
        lines[_MOST_PROBLEMS:] = [f"and {len(lines) - _MOST_PROBLEMS} more"]
    return NotOfFormError("; ".join(lines))


def _place(path: Sequence[Any]) -> str:
    return ".".join(str(step) for step in path) or "the value"


def _source(pattern: re.Pattern[Any]) -> str:
    if not isinstance(pattern.pattern, str) or pattern.flags & ~re.UNICODE:
        raise InputError(
            f"the pattern is {shown(pattern)}",
            hint="give a pattern of text, without flags",
            param="form",
        )
    return pattern.pattern


def _literal(text: str) -> str:
    """``text`` as a regular expression for itself, in Rust's syntax."""
    return "".join(c if c.isalnum() or c in " _" else f"\\x{{{ord(c):x}}}" for c in text)


def _bare(text: str) -> str:
    return text.strip(" \t\r\n\"'`*_.,;:!?").casefold()
