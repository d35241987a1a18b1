"""/v1/chat/completions with the official client against a scripted model."""

from __future__ import annotations

import openai
import pytest

from lmstack.core import ContextLengthError, ScriptedModel
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
