"""The description of the API: what it refers to exists, and its words are those of OpenAPI."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from lmstack.core import ScriptedModel
from lmstack.serve import create_app
from lmstack.serve.http.requests import ChatBody
from lmstack.serve.http.responses import ChatChunk, ChatCompletion
from lmstack.serve.http.routes import documented, model_errors

KINDS = {"object", "array", "string", "number", "integer", "boolean", "null"}
# What they hold is data, not a schema.
DATA = ("default", "const", "enum", "example", "examples", "securitySchemes")


def document() -> dict[str, Any]:
    return create_app(models={"m": ScriptedModel()}, api_keys=["k" * 32]).openapi()


def walked(value: Any) -> Iterator[dict[str, Any]]:
    """Every object of the document that is not data."""
    if isinstance(value, list):
        for each in value:
            yield from walked(each)
    elif isinstance(value, dict):
        yield value
        for name, each in value.items():
            if name not in DATA:
                yield from walked(each)


def test_every_type_is_one_of_json_schema() -> None:
    found = [each["type"] for each in walked(document()) if isinstance(each.get("type"), str)]
    assert set(found) <= KINDS
    assert len(found) > 100


def test_every_reference_and_every_name_of_a_security_scheme_exists() -> None:
    whole = document()
    components = whole["components"]
    schemas = components["schemas"]
    named = [each["$ref"] for each in walked(whole) if isinstance(each.get("$ref"), str)]
    assert {name.removeprefix("#/components/schemas/") for name in named} <= set(schemas)
    # Any one of them is enough.
    assert [list(asked) for asked in whole["security"]] == [["key"], ["x-api-key"]]
    assert components["securitySchemes"] == {
        "key": {"type": "http", "scheme": "bearer"},
        "x-api-key": {"type": "apiKey", "in": "header", "name": "x-api-key"},
    }


def test_an_event_of_a_stream_is_a_text_that_holds_json() -> None:
    content = document()["paths"]["/v1/chat/completions"]["post"]["responses"]["200"]["content"]
    event = content["text/event-stream"]["itemSchema"]
    described = documented(ChatBody, ChatCompletion, ChatChunk, model_errors)
    assert described["responses"][200]["content"]["text/event-stream"]["itemSchema"] == event
    assert event["required"] == ["data"] == list(event["properties"])
    done, data = event["properties"]["data"]["anyOf"]
    assert done == {"const": "[DONE]"}
    assert (data["type"], data["contentMediaType"]) == ("string", "application/json")
    refs = [each["$ref"].rpartition("/")[2] for each in data["contentSchema"]["anyOf"]]
    assert refs == ["ChatChunk", "ErrorBody"]


def test_a_named_event_holds_one_of_the_events_of_its_api() -> None:
    whole = document()
    for path, kind in (("/v1/responses", "ResponseEvent"), ("/v1/messages", "MessageEvent")):
        content = whole["paths"][path]["post"]["responses"]["200"]["content"]
        event = content["text/event-stream"]["itemSchema"]
        assert event["required"] == ["event", "data"]
        refs = [each["$ref"] for each in event["properties"]["data"]["contentSchema"]["anyOf"]]
        assert refs == [f"#/components/schemas/{kind}"]


def test_errors_of_each_route_have_the_shape_of_its_api() -> None:
    paths = document()["paths"]
    for path, kind in (("/v1/responses", "ErrorBody"), ("/v1/messages", "AnthropicErrorBody")):
        for status, answer in paths[path]["post"]["responses"].items():
            if status != "200":
                schema = answer["content"]["application/json"]["schema"]
                assert schema == {"$ref": f"#/components/schemas/{kind}"}
