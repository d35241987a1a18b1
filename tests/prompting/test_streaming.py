"""Structured answers while they arrive: each value a beginning of the next, the last validated."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
from pydantic import BaseModel
from tests.errors import about
from tests.prompting.models import PickyProvider, Unheld

from lmstack.core import Delta, InputError, Message, Request, SamplingParams, ScriptedModel
from lmstack.prompting import Partial, StructuredError, stream_structured


class City(BaseModel):
    name: str
    parts: list[str]


BERLIN = '{"name": "Berlin on the Spree", "parts": ["Mitte", "Wedding and others"]}'


def ask(**sampling: Any) -> Request:
    return Request((Message("user", "Which city?"),), sampling=SamplingParams(**sampling))


async def told(model: Any, form: Any = City, **sampling: Any) -> list[Partial[Any]]:
    return [each async for each in stream_structured(model, ask(**sampling), form)]


async def test_a_value_grows_and_the_last_one_is_validated() -> None:
    model = ScriptedModel([BERLIN])
    *partials, last = await told(model)
    assert model.requests[0].messages == ask().messages
    assert [partial.value for partial in partials] == [
        {},
        {"name": "Berlin"},
        {"name": "Berlin on"},
        {"name": "Berlin on the"},
        {"name": "Berlin on the Spree"},
        {"name": "Berlin on the Spree", "parts": ["Mitte"]},
        {"name": "Berlin on the Spree", "parts": ["Mitte", "Wedding"]},
        {"name": "Berlin on the Spree", "parts": ["Mitte", "Wedding and"]},
        {"name": "Berlin on the Spree", "parts": ["Mitte", "Wedding and others"]},
    ]
    assert not any(partial.is_whole for partial in partials)
    assert last == Partial(json.loads(BERLIN), City(**json.loads(BERLIN)), is_whole=True)


@pytest.mark.parametrize("kind", [Unheld, PickyProvider])
async def test_text_around_it_is_passed_over_where_nothing_holds_the_model(kind: Any) -> None:
    model = kind([f"Here [1] it is:\n```json\n{BERLIN}\n```\nAnything else?"])
    *partials, last = await told(model)
    assert partials[1].value == {"name": "Berlin"}
    assert partials[-1].value == json.loads(BERLIN)
    assert last.result == City(**json.loads(BERLIN))
    assert "JSON Schema" in model.requests[0].messages[0].content


async def test_half_an_object_ends_in_an_error() -> None:
    stream = stream_structured(ScriptedModel([BERLIN]), ask(max_tokens=4), City)
    found = [(await anext(stream)).value for _ in range(4)]
    assert found[-1] == {"name": "Berlin on the"}
    with pytest.raises(StructuredError, match="cut inside of its value") as caught:
        await anext(stream)
    assert caught.value.text == '{"name": "Berlin on the'


async def test_what_is_not_of_the_form_ends_in_an_error_and_is_not_asked_again() -> None:
    model = ScriptedModel(['{"name": "Berlin", "parts": 3}'])
    with pytest.raises(StructuredError, match="parts: Input should be a valid array"):
        await told(model)
    assert len(model.requests) == 1


async def test_other_forms_grow_as_text() -> None:
    *partials, last = await told(ScriptedModel(["good enough"]), ["good", "good enough"])
    assert [partial.value for partial in partials] == ["good", "good enough"]
    assert (last.value, last.result) == ("good enough", "good enough")
    *_, last = await told(ScriptedModel(["12-34"]), re.compile(r"\d+-\d+"))
    assert last.result == "12-34"


async def test_a_number_by_itself_is_there_at_the_end() -> None:
    [last] = await told(ScriptedModel(["123"]), int)
    assert last == Partial(123, 123, is_whole=True)


async def test_a_model_that_ignores_its_grammar_is_read_at_the_end() -> None:
    *_, last = await told(ScriptedModel([f"It is {BERLIN}."]))
    assert last.result == City(**json.loads(BERLIN))


async def test_leaving_early_closes_the_model_s_stream() -> None:
    model = ScriptedModel([BERLIN])
    stream = stream_structured(model, ask(), City)
    await anext(stream)
    assert model.open_streams == 1
    await stream.aclose()
    assert model.open_streams == 0


async def test_a_provider_s_error_in_the_middle_is_raised_and_nothing_is_asked_again() -> None:
    class Breaking(ScriptedModel):
        async def stream(self, request: Request) -> AsyncIterator[Delta]:
            self.requests.append(request)
            yield Delta('{"name": ')
            raise InputError("the grammar became too complex", param="response_format")

    model = Breaking()
    model.info = replace(model.info, digest=None)
    with pytest.raises(InputError, match="too complex", check=about("response_format")):
        await told(model)
    assert len(model.requests) == 1


async def test_errors_of_the_request_are_raised_as_they_are() -> None:
    error = InputError("top_k is wrong", param="top_k")
    with pytest.raises(InputError, check=about("top_k")) as caught:
        await told(ScriptedModel([error]))
    assert caught.value is error
