"""/v1/chat/completions with the official client against a scripted model."""

from __future__ import annotations

import json
import math

import openai
import pydantic
import pytest

from lmstack.core import (
    ContextLengthError,
    Delta,
    EngineError,
    Message,
    OverloadedError,
    ScriptedModel,
    TokenLogprob,
    Usage,
)
from lmstack.serve import create_app

ASK = [{"role": "user", "content": "hello there"}]


def app_of(model: ScriptedModel, **options):
    return create_app(models={"scripted": model}, **options)


async def test_streamed_chunks_join_to_the_whole_answer(connect):
    async with connect(app_of(ScriptedModel(["one two  three\n"]))) as client:
        whole = await client.chat.completions.create(model="scripted", messages=ASK)
        stream = await client.chat.completions.create(model="scripted", messages=ASK, stream=True)
        parts = [chunk.choices[0].delta.content or "" async for chunk in stream]
    assert "".join(parts) == whole.choices[0].message.content == "one two  three\n"


async def test_first_chunk_names_the_role_and_the_last_has_usage(connect):
    async with connect(app_of(ScriptedModel(["one two"]))) as client:
        stream = await client.chat.completions.create(
            model="scripted", messages=ASK, stream=True, stream_options={"include_usage": True}
        )
        chunks = [chunk async for chunk in stream]
    assert chunks[0].choices[0].delta.role == "assistant"
    assert chunks[-1].choices == []
    assert (chunks[-1].usage.prompt_tokens, chunks[-1].usage.completion_tokens) == (2, 2)
    assert all(chunk.usage is None for chunk in chunks[:-1])


async def test_an_error_before_the_first_event_is_a_status(connect):
    model = ScriptedModel([ContextLengthError("too long", param="messages")])
    async with connect(app_of(model)) as client:
        with pytest.raises(openai.BadRequestError) as caught:
            await client.chat.completions.create(model="scripted", messages=ASK, stream=True)
    assert caught.value.code == "context_length_exceeded"


async def test_each_of_n_choices_is_whole_and_has_its_role_and_end(connect):
    async with connect(app_of(ScriptedModel(["one two"]))) as client:
        stream = await client.chat.completions.create(
            model="scripted", messages=ASK, stream=True, n=3
        )
        texts, roles, ends = ["", "", ""], [], []
        async for chunk in stream:
            choice = chunk.choices[0]
            texts[choice.index] += choice.delta.content or ""
            roles += [choice.index] if choice.delta.role else []
            ends += [choice.index] if choice.finish_reason else []
        whole = await client.chat.completions.create(model="scripted", messages=ASK, n=3)
    assert texts == ["one two"] * 3
    assert roles == ends == [0, 1, 2]
    assert [choice.message.content for choice in whole.choices] == texts


async def test_logprobs_are_equal_whole_and_streamed(connect):
    ask = {"model": "scripted", "messages": ASK, "logprobs": True, "top_logprobs": 1}
    async with connect(app_of(ScriptedModel(["one two"]))) as client:
        whole = await client.chat.completions.create(**ask)
        stream = await client.chat.completions.create(**ask, stream=True)
        streamed = []
        async for chunk in stream:
            if chunk.choices[0].logprobs:
                streamed += chunk.choices[0].logprobs.content
    assert whole.choices[0].logprobs.content == streamed
    assert [(t.token, bytes(t.bytes)) for t in streamed] == [("one", b"one"), (" two", b" two")]
    assert [t.top_logprobs[0].logprob for t in streamed] == [-0.5, -0.5]


async def test_minus_infinity_is_written_as_json_can(connect):
    class Impossible(ScriptedModel):
        async def stream(self, request):
            token = TokenLogprob("x", b"x", -math.inf, 1)
            yield Delta("x", logprobs=(token,))
            yield Delta(finish_reason="stop")
            yield Delta(usage=Usage(1, 1))

    async with connect(app_of(Impossible())) as client:
        whole = await client.chat.completions.create(model="scripted", messages=ASK, logprobs=True)
    assert whole.choices[0].logprobs.content[0].logprob == -9999.0


async def test_an_error_in_mid_stream_is_raised_by_the_client(connect):
    class Breaks(ScriptedModel):
        async def stream(self, request):
            yield Delta("some")
            raise EngineError("the engine stopped")

    async with connect(app_of(Breaks())) as client:
        stream = await client.chat.completions.create(model="scripted", messages=ASK, stream=True)
        with pytest.raises(openai.APIError, match="the engine stopped"):
            async for _ in stream:
                pass


async def test_a_bug_in_mid_stream_tells_the_client_only_the_request_id(connect, caplog):
    class Breaks(ScriptedModel):
        async def stream(self, request):
            yield Delta("some")
            raise KeyError(request.messages[0].content)

    async with connect(app_of(Breaks())) as client:
        secret = [{"role": "user", "content": "my secret"}]
        stream = await client.chat.completions.create(
            model="scripted", messages=secret, stream=True
        )
        with pytest.raises(openai.APIError) as caught:
            async for _ in stream:
                pass
    told = str(caught.value.body)
    assert stream.response.headers["x-request-id"] in told
    assert "KeyError" in caplog.text
    assert "secret" not in told + caplog.text


async def test_content_parts_and_the_developer_role_reach_the_model(connect):
    model = ScriptedModel(["ok"])
    async with connect(app_of(model)) as client:
        await client.chat.completions.create(
            model="scripted",
            messages=[
                {"role": "developer", "content": "be brief"},
                {
                    "role": "user",
                    "name": "ann",
                    "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}],
                },
            ],
        )
    assert model.requests[0].messages == (
        Message("system", "be brief"),
        Message("user", "a\nb", name="ann"),
    )


async def test_the_fingerprint_is_the_digest_and_usage_has_cached_tokens(connect):
    class Cached(ScriptedModel):
        async def stream(self, request):
            yield Delta("x", finish_reason="stop")
            yield Delta(usage=Usage(7, 1, cached_tokens=4))

    model = Cached()
    async with connect(app_of(model)) as client:
        answer = await client.chat.completions.create(model="scripted", messages=ASK)
    assert answer.system_fingerprint == model.info.digest
    assert answer.usage.prompt_tokens_details.cached_tokens == 4
    assert answer.usage.total_tokens == 8


async def test_metadata_and_the_service_tier_come_back(connect):
    async with connect(app_of(ScriptedModel())) as client:
        answer = await client.chat.completions.create(
            model="scripted", messages=ASK, metadata={"k": "v"}, service_tier="auto"
        )
    assert answer.metadata == {"k": "v"}
    assert answer.service_tier == "default"


@pytest.mark.parametrize("beta", [False, True])
async def test_the_sdk_parses_a_schema_constrained_answer(connect, beta):
    class City(pydantic.BaseModel):
        name: str

    model = ScriptedModel(['{"name": "Turin"}'])
    async with connect(app_of(model)) as client:
        parse = (client.beta if beta else client).chat.completions.parse
        answer = await parse(model="scripted", messages=ASK, response_format=City)
    assert answer.choices[0].message.parsed == City(name="Turin")
    assert json.loads(model.requests[0].grammar.source)["required"] == ["name"]


async def test_a_429_says_when_to_try_again(http):
    model = ScriptedModel([OverloadedError("the queue is full", retry_after_s=2.2)])
    async with http(app_of(model)) as client:
        answer = await client.post(
            "/v1/chat/completions", json={"model": "scripted", "messages": ASK}
        )
    assert answer.status_code == 429
    assert answer.headers["retry-after"] == "3"


async def test_a_missing_model_is_404_and_names_the_nearest(connect):
    async with connect(app_of(ScriptedModel())) as client:
        with pytest.raises(openai.NotFoundError) as caught:
            await client.chat.completions.create(model="scriptd", messages=ASK)
    assert caught.value.code == "model_not_found"
    assert "'scripted'" in caught.value.body["hint"]


async def test_a_model_that_ends_early_is_an_error_and_not_an_empty_answer(http):
    class Empty(ScriptedModel):
        async def stream(self, request):
            for nothing in ():
                yield nothing

    body = {"model": "scripted", "messages": ASK}
    async with http(app_of(Empty())) as client:
        whole = await client.post("/v1/chat/completions", json=body)
        streamed = await client.post("/v1/chat/completions", json=body | {"stream": True})
    assert (whole.status_code, streamed.status_code) == (503, 500)
