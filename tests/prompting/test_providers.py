"""Structured answers through the official SDKs, over real sockets, from a server with their API."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from pydantic import BaseModel
from tests.serve.conftest import running

from lmstack.core import ChatModel, InputError, Message, Request, SamplingParams, ScriptedModel
from lmstack.prompting import StructuredError, stream_structured, structured, structured_answer
from lmstack.remote import AnthropicModel, OpenAIModel
from lmstack.serve import create_app


class City(BaseModel):
    name: str
    people: int


Make = Callable[[str], ChatModel]
BERLIN = '{"name": "Berlin", "people": 3878100}'


@pytest.fixture(autouse=True)
def keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    monkeypatch.setenv("ANTHROPIC_API_KEY", "none")


def openai(url: str) -> ChatModel:
    return OpenAIModel("m", base_url=f"{url}/v1", max_retries=0, timeout_s=10)


def anthropic(url: str) -> ChatModel:
    return AnthropicModel("m", base_url=url, max_retries=0, timeout_s=10)


both = pytest.mark.parametrize("make", [openai, anthropic])


def ask(**sampling: Any) -> Request:
    sampling = {"max_tokens": 100, **sampling}
    return Request((Message("user", "Which city?"),), sampling=SamplingParams(**sampling))


@both
async def test_a_provider_holds_the_model_to_a_class(make: Make) -> None:
    model = ScriptedModel([BERLIN])
    async with running(create_app(models={"m": model})) as url:
        answer = await structured_answer(make(url), ask(), City)
    assert (answer.value, answer.held) == (City(name="Berlin", people=3878100), True)
    assert model.requests[0].grammar is not None
    assert len(model.requests[0].messages) == 1


@both
@pytest.mark.parametrize("said", ["Berlin.", "It is Berlin"])
async def test_what_a_provider_has_no_field_for_is_asked_in_words(make: Make, said: str) -> None:
    model = ScriptedModel([said, "Berlin"])
    async with running(create_app(models={"m": model})) as url:
        answer = await structured_answer(make(url), ask(), ["Berlin", "Paris"])
    assert (answer.value, answer.held) == ("Berlin", False)
    assert answer.attempts == (1 if said == "Berlin." else 2)
    assert '"Berlin", "Paris"' in model.requests[0].messages[-1].content


@both
async def test_a_schema_that_the_provider_refuses_is_asked_in_words(make: Make) -> None:
    def refuses(request: Request) -> str:
        if request.grammar is not None:
            raise InputError("the keyword pattern is not permitted", param="response_format")
        return f"Sure:\n```json\n{BERLIN}\n```"

    model = ScriptedModel([refuses])
    async with running(create_app(models={"m": model})) as url:
        answer = await structured_answer(make(url), ask(), City)
    assert (answer.value.name, answer.held) == ("Berlin", False)


@both
async def test_an_answer_that_was_cut_is_an_error(make: Make) -> None:
    async with running(create_app(models={"m": ScriptedModel([BERLIN])})) as url:
        with pytest.raises(StructuredError, match="cut inside of its value"):
            await structured(make(url), ask(max_tokens=2), City)


@both
async def test_a_stream_grows(make: Make) -> None:
    async with running(create_app(models={"m": ScriptedModel([BERLIN])})) as url:
        found = [each async for each in stream_structured(make(url), ask(), City)]
    assert [each.value for each in found] == [
        {},
        {"name": "Berlin"},
        {"name": "Berlin", "people": 3878100},
        {"name": "Berlin", "people": 3878100},
    ]
    assert found[-1].result == City(name="Berlin", people=3878100)
