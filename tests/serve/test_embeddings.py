"""/v1/embeddings, /tokenize, /detokenize, /v1/models."""

from __future__ import annotations

import asyncio
import threading
import time

import httpx
import numpy as np
import openai
import pytest

from lmstack.core import ScriptedModel
from lmstack.serve import create_app


@pytest.fixture
def app_of(hash_embedder):
    def build(**tokenizers):
        return create_app(
            models={"org/m": ScriptedModel()},
            embedders={"e": hash_embedder},
            tokenizers={name.replace("_", "/"): codec for name, codec in tokenizers.items()},
        )

    return build


async def test_float_and_base64_give_the_same_vectors(connect, app_of, hash_embedder):
    async with connect(app_of()) as client:
        floats = await client.embeddings.create(
            model="e", input=["a", "b"], encoding_format="float"
        )
        base64 = await client.embeddings.create(model="e", input=["a", "b"])
    expected = hash_embedder.embed(["a", "b"])
    for answer in (floats, base64):
        got = np.array([item.embedding for item in answer.data], dtype=np.float32)
        np.testing.assert_array_equal(got, expected)
    assert floats.usage.prompt_tokens == 6


async def test_more_texts_than_a_batch_keep_their_order(connect, app_of, hash_embedder):
    texts = [f"t{i}" for i in range(100)]
    async with connect(app_of()) as client:
        answer = await client.embeddings.create(model="e", input=texts)
    assert [item.index for item in answer.data] == list(range(100))
    got = np.array([item.embedding for item in answer.data], dtype=np.float32)
    np.testing.assert_array_equal(got, hash_embedder.embed(texts))


async def test_embedding_happens_off_the_event_loop(connect, app_of, hash_embedder):
    async with connect(app_of()) as client:
        await client.embeddings.create(model="e", input="a")
    assert threading.get_ident() not in hash_embedder.threads


async def test_a_text_that_is_too_long_is_refused_and_not_cut(connect, app_of):
    async with connect(app_of()) as client:
        with pytest.raises(openai.BadRequestError, match=r"input\[1\] has 102 tokens") as caught:
            await client.embeddings.create(model="e", input=["short", "x" * 100])
    assert caught.value.code == "context_length_exceeded"


async def test_dimensions_other_than_the_models_are_refused(connect, app_of):
    async with connect(app_of()) as client:
        await client.embeddings.create(model="e", input="a", dimensions=8)
        with pytest.raises(openai.BadRequestError) as caught:
            await client.embeddings.create(model="e", input="a", dimensions=4)
    assert caught.value.param == "dimensions"


@pytest.mark.parametrize("ids", [[104, 105], [[104, 105]], [256, 104, 105]])
async def test_token_ids_are_embedded_as_their_text(
    connect, ids, app_of, byte_codec, hash_embedder
):
    async with connect(app_of(e=byte_codec)) as client:
        answer = await client.embeddings.create(model="e", input=ids)
    got = np.array(answer.data[0].embedding, dtype=np.float32)
    np.testing.assert_array_equal(got, hash_embedder.embed(["hi"])[0])


@pytest.mark.parametrize("ids", [[300], [0xE2, 0x80], [104, 256]])
async def test_token_ids_that_no_text_has_are_refused(connect, ids, app_of, byte_codec):
    async with connect(app_of(e=byte_codec)) as client:
        with pytest.raises(openai.BadRequestError) as caught:
            await client.embeddings.create(model="e", input=ids)
    assert caught.value.param == "input"


async def test_token_ids_without_a_tokenizer_are_refused(connect, app_of):
    async with connect(app_of()) as client:
        with pytest.raises(openai.BadRequestError, match="takes text"):
            await client.embeddings.create(model="e", input=[1, 2])


async def test_a_chat_model_does_not_embed(connect, app_of):
    async with connect(app_of()) as client:
        with pytest.raises(openai.NotFoundError):
            await client.embeddings.create(model="org/m", input="a")


async def test_tokenize_and_detokenize_are_inverse(http, app_of, byte_codec):
    async with http(app_of(org_m=byte_codec)) as client:
        ids = await client.post(
            "/tokenize",
            json={"prompt": "hé", "add_special_tokens": False, "return_token_strs": True},
        )
        text = await client.post(
            "/detokenize", json={"model": "org/m", "tokens": ids.json()["tokens"]}
        )
    assert ids.json()["tokens"] == list("hé".encode())
    assert ids.json()["count"] == len(ids.json()["token_strs"]) == 3
    assert ids.json()["max_model_len"] == 8192
    assert text.json() == {"prompt": "hé"}


async def test_tokenize_adds_special_tokens_unless_told(http, app_of, byte_codec):
    async with http(app_of(org_m=byte_codec)) as client:
        answer = await client.post("/tokenize", json={"prompt": "a"})
    assert answer.json()["tokens"] == [256, 97]


async def test_detokenize_refuses_ids_outside_the_vocabulary(http, app_of, byte_codec):
    async with http(app_of(org_m=byte_codec)) as client:
        answer = await client.post("/detokenize", json={"tokens": [257]})
    assert answer.status_code == 400
    assert "257 is not a token id" in answer.json()["error"]["message"]


async def test_tokenize_asks_for_a_model_where_there_are_two_tokenizers(http, app_of, byte_codec):
    async with http(app_of(a=byte_codec, b=byte_codec)) as client:
        answer = await client.post("/tokenize", json={"prompt": "x"})
    assert answer.status_code == 400
    assert answer.json()["error"]["hint"] == "set model; known: a, b"


async def test_models_list_and_names_with_a_slash(connect, app_of):
    async with connect(app_of()) as client:
        names = [model.id async for model in client.models.list()]
        one = await client.models.retrieve("org/m")
        with pytest.raises(openai.NotFoundError):
            await client.models.retrieve("nothing")
    assert names == ["e", "org/m"]
    assert (one.id, one.owned_by) == ("org/m", "lmstack")


async def test_embedding_does_not_hold_up_streams(connect, app_of, hash_embedder, monkeypatch):
    begun, finished = threading.Event(), threading.Event()
    embed = hash_embedder.embed

    def slow(texts, kind="passage"):
        begun.set()
        assert finished.wait(30), "the stream waited for the embedding"
        return embed(texts, kind)

    monkeypatch.setattr(hash_embedder, "embed", slow)
    async with connect(app_of()) as client:
        embedding = asyncio.create_task(client.embeddings.create(model="e", input="a"))
        while not begun.is_set():
            await asyncio.sleep(0.001)
        ask = {"model": "org/m", "messages": [{"role": "user", "content": "x"}]}
        stream = await client.chat.completions.create(**ask, stream=True)
        assert [chunk async for chunk in stream]
        finished.set()
        await embedding


async def test_a_client_that_leaves_stops_a_long_embedding(
    serve, app_of, hash_embedder, monkeypatch
):
    calls = 0
    embed = hash_embedder.embed

    def slow(texts, kind="passage"):
        nonlocal calls
        calls += 1
        time.sleep(0.05)
        return embed(texts, kind)

    monkeypatch.setattr(hash_embedder, "embed", slow)
    async with serve(app_of()) as url, httpx.AsyncClient(base_url=url, timeout=30) as client:
        body = {"model": "e", "input": ["x"] * 2048}
        asking = asyncio.create_task(client.post("/v1/embeddings", json=body))
        while not calls:
            await asyncio.sleep(0.001)
        asking.cancel()
        before = -1
        while calls != before:
            before = calls
            await asyncio.sleep(0.3)
    assert calls < 2048 / 32
