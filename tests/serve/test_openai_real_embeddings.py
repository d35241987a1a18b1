"""The official client against a real encoder: vectors, usage, limits."""

from __future__ import annotations

import asyncio

import numpy as np
import openai
import pytest

from lmstack.registry import load
from lmstack.serve import LocalEmbedder, create_app

pytestmark = [pytest.mark.weights]

TEXTS = ["A cat sat on the mat.", "", "x", "Ünïcödé — 漢字 🙂", "long " * 200]


@pytest.fixture(scope="module")
def loaded(minilm):
    return load(minilm)


@pytest.fixture(scope="module")
def embedder(loaded):
    return LocalEmbedder(loaded)


@pytest.fixture
def app(embedder, loaded):
    return create_app(
        models={},
        embedders={"minilm": embedder},
        tokenizers={"minilm": loaded.tokenizer},
    )


async def test_vectors_and_usage_are_the_embedders_own(connect, app, embedder):
    async with connect(app) as client:
        answer = await client.embeddings.create(model="minilm", input=TEXTS)
    got = np.array([item.embedding for item in answer.data], dtype=np.float32)
    np.testing.assert_allclose(got, embedder.embed(TEXTS), atol=1e-6)
    assert answer.usage.prompt_tokens == sum(embedder.count_tokens(TEXTS))


async def test_token_ids_give_the_vector_of_their_text(connect, app, loaded):
    text = "A cat sat on the mat."
    ids = loaded.tokenizer.encode(text, add_special_tokens=False)
    async with connect(app) as client:
        of_ids = await client.embeddings.create(model="minilm", input=ids)
        of_text = await client.embeddings.create(model="minilm", input=text)
    np.testing.assert_allclose(of_ids.data[0].embedding, of_text.data[0].embedding, atol=1e-6)


async def test_a_text_over_the_limit_is_refused(connect, app, embedder):
    async with connect(app) as client:
        with pytest.raises(openai.BadRequestError) as caught:
            await client.embeddings.create(model="minilm", input="word " * embedder.max_tokens)
    assert caught.value.code == "context_length_exceeded"


async def test_many_clients_at_once_all_get_their_own_vector(connect, app, embedder):
    async with connect(app) as client:
        answers = await asyncio.gather(
            *(client.embeddings.create(model="minilm", input=f"text {i}") for i in range(16))
        )
    got = np.array([answer.data[0].embedding for answer in answers], dtype=np.float32)
    expected = embedder.embed([f"text {i}" for i in range(16)])
    np.testing.assert_allclose(got, expected, atol=1e-5)
