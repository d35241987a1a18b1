"""Keywords that JSON Schema does not know are refused on every route, by the check of Python."""

from __future__ import annotations

from typing import Any

import pytest
from openai import pydantic_function_tool
from pydantic import BaseModel, Field

from lmstack.core import Grammar, InputError, ScriptedModel
from lmstack.core.schemas import check_keywords
from lmstack.serve import create_app

ASK = [{"role": "user", "content": "hi"}]


def chat(schema: Any, strict: bool | None) -> tuple[str, dict[str, Any]]:
    form = {"name": "f", "schema": schema, "strict": strict}
    asked = {"messages": ASK, "response_format": {"type": "json_schema", "json_schema": form}}
    return "/v1/chat/completions", asked


def chat_tools(schema: Any, strict: bool | None) -> tuple[str, dict[str, Any]]:
    function = {"name": "f", "parameters": schema, "strict": strict}
    return "/v1/chat/completions", {
        "messages": ASK,
        "tools": [{"type": "function", "function": function}],
    }


def responses(schema: Any, strict: bool | None) -> tuple[str, dict[str, Any]]:
    form = {"type": "json_schema", "name": "f", "schema": schema, "strict": strict}
    return "/v1/responses", {"input": "hi", "text": {"format": form}}


def responses_tools(schema: Any, strict: bool | None) -> tuple[str, dict[str, Any]]:
    tool = {"type": "function", "name": "f", "parameters": schema, "strict": strict}
    return "/v1/responses", {"input": "hi", "tools": [tool]}


def messages(schema: Any, _: bool | None) -> tuple[str, dict[str, Any]]:
    form = {"format": {"type": "json_schema", "schema": schema}}
    return "/v1/messages", {"messages": ASK, "max_tokens": 9, "output_config": form}


def messages_tools(schema: Any, strict: bool | None) -> tuple[str, dict[str, Any]]:
    tool = {"name": "f", "input_schema": schema} | ({} if strict is None else {"strict": strict})
    return "/v1/messages", {"messages": ASK, "max_tokens": 9, "tools": [tool]}


ROUTES = [chat, chat_tools, responses, responses_tools, messages, messages_tools]


async def answer(http: Any, route: Any, schema: Any, strict: bool | None = None) -> Any:
    path, body = route(schema, strict)
    async with http(create_app(models={"m": ScriptedModel(["{}"])})) as client:
        return await client.post(path, json={"model": "m", **body})


@pytest.mark.parametrize("strict", [None, True])
@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize(
    ("below", "keyword", "meant"),
    [
        ({"maximun": 3}, "'maximun'", "maximum"),
        ({"minLenght": 40}, "'minLenght'", "minLength"),
        ({"anyOf": [{}, {"requierd": ["a"]}]}, "'requierd'", "required"),
    ],
)
async def test_a_misspelt_keyword_is_refused_by_its_path_and_the_nearest_is_named(
    http, route, strict, below, keyword, meant
):
    schema = {"type": "object", "properties": {"n": below}}
    got = await answer(http, route, schema, strict)
    assert got.status_code == 400
    text = got.text
    place = "properties/n/anyOf/1" if "anyOf" in below else "properties/n"
    assert f"keyword {keyword} at {place}, which JSON Schema does not know" in text
    assert f"did you mean '{meant}'?" in text


class Place(BaseModel):
    """Where it is."""

    city: str = Field(title="City", description="its name", examples=["Bern"], max_length=40)
    code: int | None = Field(None, json_schema_extra={"x-order": 3, "$comment": "old"})
    since: str = Field("2020-01-01", json_schema_extra={"format": "date"}, deprecated=True)


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize(
    "schema",
    [
        Place.model_json_schema(),
        pydantic_function_tool(Place)["function"]["parameters"],
        {
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "$id": "https://example.com/a",
            "type": "object",
            "properties": {"maximun": {"type": "string", "default": {"maximun": 1}}},
            "xml": {"name": "a"},
            "externalDocs": {"url": "https://example.com"},
            "readOnly": True,
        },
    ],
    ids=["pydantic", "openai", "others"],
)
async def test_annotations_that_constrain_nothing_stay_accepted(http, route, schema):
    got = await answer(http, route, schema)
    assert got.status_code == 200, got.text


def test_python_refuses_them_as_well_wherever_a_grammar_is_made() -> None:
    with pytest.raises(InputError, match="'maximun' at items"):
        Grammar.json_schema({"items": {"maximun": 3}})


def test_a_schema_that_is_nested_too_deep_is_an_error_in_words() -> None:
    schema: dict[str, Any] = {}
    for _ in range(5000):
        schema = {"items": schema}
    with pytest.raises(InputError, match="too deep"):
        check_keywords(schema)
