"""The schema that a function's annotations and docstring make."""

from __future__ import annotations

import datetime
import decimal
import enum
import json
import pathlib
import random
import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Annotated, Any, Literal, NotRequired

import jsonschema
import numpy as np
import pytest
from pydantic import BaseModel, Field
from tests.errors import about
from typing_extensions import TypedDict

from lmstack.agents.tools import FunctionTool, Secret, ToolContext, tool
from lmstack.core import Grammar, InputError
from lmstack.engine.constraints.grammar import GrammarCompiler
from lmstack.engine.constraints.vocabulary import GrammarVocabulary


class Colour(enum.Enum):
    """A colour."""

    red = "r"
    blue = "b"


@dataclass
class Point:
    """A place on the map."""

    x: int
    y: float = 0.0


class Options(TypedDict):
    depth: int
    label: NotRequired[str]


class Cat(BaseModel):
    kind: Literal["cat"]
    title: str


class Dog(BaseModel):
    kind: Literal["dog"]
    age: int


class Node(BaseModel):
    """A tree."""

    name: str
    children: list[Node] = []


Pet = Annotated[Cat | Dog, Field(discriminator="kind")]


def everything(
    text: str,
    count: Annotated[int, Field(ge=1, le=9, description="How many there are.")],
    ratio: float,
    flag: bool,
    colour: Colour,
    mode: Literal["fast", "slow"],
    point: Point,
    options: Options,
    pet: Pet,
    tree: Node,
    words: list[str],
    unique: set[int],
    pair: tuple[int, str],
    prices: dict[str, decimal.Decimal],
    when: datetime.datetime,
    day: datetime.date,
    path: pathlib.Path,
    number: int | str,
    anything: Any,
    maybe: str | None = None,
    limit: int = 5,
    key: uuid.UUID | None = None,
) -> str:
    return text


def schema_of(function: Callable[..., Any]) -> dict[str, Any]:
    return dict(FunctionTool.of(function).tool.parameters)


def keys_of(schema: Any) -> set[str]:
    """Keywords in a schema, not the names of properties."""
    if isinstance(schema, list):
        return set().union(*map(keys_of, schema)) if schema else set()
    if not isinstance(schema, dict):
        return set()
    found = set(schema)
    for key, value in schema.items():
        named = key in ("properties", "$defs")
        found |= keys_of(list(value.values()) if named else value)
    return found


def test_the_schema_is_that_of_the_annotations() -> None:
    schema = schema_of(everything)
    assert schema["type"] == "object"
    assert schema["additionalProperties"] is False
    optional = {"maybe", "limit", "key"}
    assert set(schema["required"]) == set(schema["properties"]) - optional
    properties = schema["properties"]
    assert properties["text"] == {"type": "string"}
    assert properties["count"] == {
        "type": "integer",
        "minimum": 1,
        "maximum": 9,
        "description": "How many there are.",
    }
    assert properties["mode"] == {"type": "string", "enum": ["fast", "slow"]}
    assert properties["limit"] == {"type": "integer", "default": 5}
    assert properties["maybe"] == {"anyOf": [{"type": "string"}, {"type": "null"}], "default": None}
    assert properties["when"] == {"type": "string", "format": "date-time"}
    assert properties["prices"]["additionalProperties"] == {"type": "number"}
    assert schema["$defs"]["Point"] == {
        "type": "object",
        "description": "A place on the map.",
        "properties": {"x": {"type": "integer"}, "y": {"type": "number", "default": 0.0}},
        "required": ["x"],
        "additionalProperties": False,
    }
    assert schema["$defs"]["Options"]["required"] == ["depth"]


def test_it_holds_nothing_that_only_people_read_but_a_property_may_be_called_title() -> None:
    schema = schema_of(everything)
    assert not keys_of(schema) & {"title", "discriminator", "oneOf", "uniqueItems", "examples"}
    assert "title" in schema["$defs"]["Cat"]["properties"]


LETTERS = [bytes([value]) for value in range(256)]
END = 256


@pytest.fixture(scope="module")
def compiler() -> GrammarCompiler:
    """One, because each starts a process."""
    return GrammarCompiler(
        GrammarVocabulary([*LETTERS, b""], frozenset({END}), frozenset({END})), 1 << 20
    )


def written(compiler: GrammarCompiler, schema: dict[str, Any], seed: int) -> str:
    """What a model that picks letters at random writes under the grammar of ``schema``, closing
    what is open half of the times."""
    matcher = compiler.compile(Grammar("json_schema", json.dumps(schema)))
    choose, text = random.Random(seed), b""
    while True:
        mask = matcher.mask(END + 1)
        bits = np.unpackbits(mask.view(np.uint8), bitorder="little")[: END + 1]
        allowed = np.flatnonzero(bits).tolist()
        if END in allowed:
            return text.decode()
        closing = [letter for letter in allowed if letter in b'"]}']
        letter = choose.choice(closing if closing and choose.random() < 0.5 else allowed)
        matcher.accept(letter)
        text += LETTERS[letter]


@pytest.mark.parametrize("seed", range(40))
def test_whatever_its_grammar_lets_a_model_write_is_taken(
    compiler: GrammarCompiler, seed: int
) -> None:
    """But for what no grammar of a number or a date can know: 1e999 and a leap second."""
    made = FunctionTool.of(everything)
    arguments = json.loads(written(compiler, dict(made.tool.parameters), seed))
    problem = ""
    try:
        made.parameters.bind(arguments, ToolContext())
    except InputError as error:
        problem = error.message
    assert not problem or "second value" in problem or "Infinity" in json.dumps(arguments)


def test_it_is_a_valid_schema_that_takes_what_the_function_takes() -> None:
    schema = schema_of(everything)
    jsonschema.Draft202012Validator.check_schema(schema)
    arguments = {
        "text": "a",
        "count": 3,
        "ratio": 1,
        "flag": True,
        "colour": "r",
        "mode": "fast",
        "point": {"x": 1},
        "options": {"depth": 2},
        "pet": {"kind": "dog", "age": 3},
        "tree": {"name": "a", "children": [{"name": "b"}]},
        "words": [],
        "unique": [1, 1],
        "pair": [1, "a"],
        "prices": {"a": 0.1},
        "when": "2026-01-02T03:04:05Z",
        "day": "2026-01-02",
        "path": "a/b",
        "number": "x",
        "anything": [1, None],
    }
    jsonschema.validate(arguments, schema)
    _, values = FunctionTool.of(everything).parameters.bind(arguments, ToolContext())
    assert values["colour"] is Colour.red
    assert values["point"] == Point(1, 0.0)
    assert values["options"] == {"depth": 2}
    assert values["pet"] == Dog(kind="dog", age=3)
    assert values["tree"].children[0].name == "b"
    assert values["unique"] == {1}
    assert values["pair"] == (1, "a")
    assert values["prices"] == {"a": decimal.Decimal("0.1")}
    assert values["when"] == datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=datetime.UTC)
    assert values["path"] == pathlib.Path("a/b")
    assert "limit" not in values, "the function's own default applies"


def test_a_function_without_parameters_takes_an_empty_object() -> None:
    def now() -> str:
        return "now"

    assert schema_of(now) == {"type": "object", "properties": {}, "additionalProperties": False}


def test_names_that_pydantic_reserves_are_parameters_like_any_other() -> None:
    def odd(schema: str, model_config: str, _hidden: int, json: str, self: str) -> str:
        return schema + model_config + str(_hidden) + json + self

    made = FunctionTool.of(odd)
    names = ["schema", "model_config", "_hidden", "json", "self"]
    assert list(made.tool.parameters["properties"]) == names
    arguments = {"schema": "a", "model_config": "b", "_hidden": 1, "json": "c", "self": "d"}
    args, kwargs = made.parameters.bind(arguments, ToolContext())
    assert made.function(*args, **kwargs) == "ab1cd"


GOOGLE = """Search the index.

Only what is there is found.

Args:
    query (str): What to look for,
        in plain words.
    limit: How many. Defaults to 5.

Returns:
    The passages.
"""
NUMPY = """Search the index.

Only what is there is found.

Parameters
----------
query : str
    What to look for,
    in plain words.
limit : int, optional
    How many. Defaults to 5.

Returns
-------
str
    The passages.
"""
REST = """Search the index.

Only what is there is found.

:param query: What to look for,
    in plain words.
:type query: str
:param int limit: How many. Defaults to 5.
:returns: The passages.
"""


@pytest.mark.parametrize("docstring", [GOOGLE, NUMPY, REST], ids=["google", "numpy", "rest"])
def test_the_docstring_describes_the_tool_and_its_parameters(docstring: str) -> None:
    def search(query: str, limit: int = 5) -> str:
        return query

    search.__doc__ = docstring
    made = FunctionTool.of(search).tool
    assert made.description == "Search the index.\n\nOnly what is there is found."
    assert made.parameters["properties"]["query"]["description"] == (
        "What to look for, in plain words."
    )
    assert made.parameters["properties"]["limit"]["description"] == "How many. Defaults to 5."


def test_a_description_in_the_annotation_beats_the_docstring() -> None:
    def search(query: Annotated[str, Field(description="From the annotation.")]) -> str:
        """Search.

        Args:
            query: From the docstring.
        """
        return query

    described = schema_of(search)["properties"]["query"]["description"]
    assert described == "From the annotation."


def test_secrets_and_the_context_are_not_in_the_schema() -> None:
    def fetch(
        url: str,
        context: ToolContext,
        token: Secret,
        other: Annotated[Secret, "OTHER_KEY"],
        maybe: Secret | None = None,
    ) -> str:
        return url

    made = FunctionTool.of(fetch)
    assert list(made.tool.parameters["properties"]) == ["url"]
    assert made.parameters.secrets == {
        "token": ("token", False),
        "other": ("OTHER_KEY", False),
        "maybe": ("maybe", True),
    }


def no_annotation(query, limit: int = 5) -> str:  # type: ignore[no-untyped-def]
    return str(query)


def many(*queries: str) -> str:
    return ""


def named(**queries: str) -> str:
    return ""


def called(query: Callable[[], str]) -> str:
    return ""


class Unknown:
    pass


def strange(query: Unknown) -> str:
    return ""


def of_a_class(query: type[int]) -> str:
    return ""


def lazily(query: Iterable[int]) -> str:
    return ""


def looking_ahead(query: Annotated[str, Field(pattern="(?=a)b")]) -> str:
    return ""


def secret_or_text(query: Secret | str) -> str:
    return ""


def default_field(query: int = Field(ge=1)) -> str:
    return ""


def no_type(query: 1()) -> str:  # type: ignore[valid-type]
    return ""


def no_expression(query: str) -> str:
    return query


no_expression.__annotations__["query"] = "1 +"


def missing(query: NotDefined) -> str:  # type: ignore[name-defined]  # noqa: F821
    return ""


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (no_annotation, "'query' of no_annotation has no annotation"),
        (many, r"many takes \*queries"),
        (named, r"named takes \*\*queries"),
        (called, "parameter 'query' of called"),
        (strange, "parameter 'query' of strange"),
        (of_a_class, "parameter 'query' of of_a_class"),
        (lazily, "parameter 'query' of lazily"),
        (looking_ahead, "parameter 'query' of looking_ahead"),
        (secret_or_text, "'query' is a secret or something else"),
        (default_field, "default of the parameter 'query' of default_field"),
        (no_type, "the annotations of no_type cannot be read: "),
        (no_expression, "the annotations of no_expression cannot be read: "),
        (missing, "NotDefined"),
    ],
)
def test_a_function_that_leaves_something_open_is_refused(
    function: Callable[..., Any], message: str
) -> None:
    with pytest.raises(InputError, match=message) as raised:
        FunctionTool.of(function)
    assert raised.value.hint


async def generated(query: str) -> Any:
    yield query


@pytest.mark.parametrize("function", [generated, Unknown, len, lambda x: x, "text"])
def test_what_is_not_a_plain_function_is_refused(function: Any) -> None:
    with pytest.raises(InputError):
        FunctionTool.of(function)


def test_the_decorator_takes_settings_and_leaves_a_function_that_can_be_called() -> None:
    @tool
    def plain(a: int) -> int:
        """Plain."""
        return a + 1

    @tool(name="renamed", is_dangerous=True, timeout_s=2)
    async def other(a: int) -> int:
        return a

    assert plain(1) == 2
    assert (plain.tool.name, plain.is_dangerous, plain.is_untrusted) == ("plain", False, False)
    assert (other.tool.name, other.is_dangerous, other.timeout_s) == ("renamed", True, 2)


@pytest.mark.parametrize(
    "settings",
    [
        {"timeout_s": 0},
        {"timeout_s": 86_401},
        {"max_chars": 99},
        {"max_chars": 10_000_001},
        {"name": "a b"},
    ],
)
def test_settings_that_make_no_sense_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(InputError, check=about("max_chars", "timeout_s", "tools")):
        FunctionTool.of(everything, **settings)
