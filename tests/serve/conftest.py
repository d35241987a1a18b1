"""A real server on 127.0.0.1 in the test's own event loop, clients for it, and small fakes."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager

import httpx
import numpy as np
import openai
import pytest
import uvicorn
from fastapi import FastAPI
from tests.oracles import anthropic

from lmstack.core import (
    ContextLengthError,
    Delta,
    InputError,
    ModelInfo,
    ScriptedModel,
    Usage,
)

Serve = Callable[[FastAPI], AbstractAsyncContextManager[str]]


class QuietServer(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self):
        yield


@contextlib.asynccontextmanager
async def running(app: FastAPI) -> AsyncIterator[str]:
    """The base URL of ``app``, served until the block ends."""
    config = uvicorn.Config(
        app, port=0, log_level="error", lifespan="off", timeout_graceful_shutdown=2
    )
    server = QuietServer(config)
    task = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.001)
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        await task


@pytest.fixture
def serve() -> Serve:
    return running


@contextlib.asynccontextmanager
async def openai_client(app: FastAPI, key: str = "none") -> AsyncIterator[openai.AsyncOpenAI]:
    async with (
        running(app) as url,
        openai.AsyncOpenAI(base_url=f"{url}/v1", api_key=key, max_retries=0) as client,
    ):
        yield client


@pytest.fixture
def connect():
    return openai_client


@contextlib.asynccontextmanager
async def anthropic_client(
    app: FastAPI, key: str = "none"
) -> AsyncIterator[anthropic.AsyncAnthropic]:
    async with (
        running(app) as url,
        anthropic.AsyncAnthropic(base_url=url, api_key=key, max_retries=0) as client,
    ):
        yield client


@pytest.fixture
def claude():
    """As ``connect``, of Anthropic's SDK."""
    return anthropic_client


class ToldModel(ScriptedModel):
    """Gives the deltas that it was told, and then what it used; an error is raised in its place."""

    def __init__(self, *told: Delta | Exception) -> None:
        super().__init__()
        self.told = told

    async def stream(self, request):
        self.requests.append(request)
        for each in self.told:
            if isinstance(each, Exception):
                raise each
            yield each
        yield Delta(usage=Usage(12, 5, 4))


@pytest.fixture
def told():
    return ToldModel


@pytest.fixture
def http():
    """An HTTP client for an app, without a socket: for everything that is not a stream."""

    def client(app: FastAPI, **options) -> httpx.AsyncClient:
        transport = httpx.ASGITransport(app)
        return httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1", **options)

    return client


class ByteCodec:
    """Bytes are tokens; 256 opens a text."""

    vocab_size = 257

    def encode(self, text: str, *, add_special_tokens: bool = True) -> list[int]:
        return [256] * add_special_tokens + list(text.encode())

    def decode(self, ids, *, skip_special_tokens: bool = False) -> str:
        opening = "" if skip_special_tokens else "<s>" * list(ids).count(256)
        return opening + bytes(i for i in ids if i < 256).decode("utf-8", "replace")

    def token(self, token_id: int) -> str:
        return "<s>" if token_id == 256 else chr(token_id)


class HashEmbedder:
    """A text's vector is drawn from its hash; a token is a character, and two are special."""

    dimensions = 8
    max_tokens = 40

    def __init__(self) -> None:
        self.info = ModelInfo("hash", "sha256:" + "1" * 64, self.max_tokens)
        self.threads: set[int] = set()

    def embed(self, texts, kind="passage"):
        self.threads.add(threading.get_ident())
        seeds = [int(hashlib.sha256(t.encode()).hexdigest()[:8], 16) for t in texts]
        rows = np.array([np.random.default_rng(seed).normal(size=8) for seed in seeds])
        return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)

    def count_tokens(self, texts):
        return [len(text) + 2 for text in texts]


@pytest.fixture
def byte_codec() -> ByteCodec:
    return ByteCodec()


@pytest.fixture
def hash_embedder() -> HashEmbedder:
    return HashEmbedder()


class WordReranker:
    """A passage's relevance is how many words of the query it holds; a token is a character."""

    max_tokens = 60

    def __init__(self) -> None:
        self.info = ModelInfo("words", "sha256:" + "2" * 64, self.max_tokens)
        self.threads: set[int] = set()

    def score(self, query, passages, max_passage_tokens=None):
        self.threads.add(threading.get_ident())
        passages = [passage[:max_passage_tokens] for passage in passages]
        for count in self.count_tokens(query, passages):
            if count > self.max_tokens:
                raise ContextLengthError(f"a text has {count} tokens", param="max_length")
        words = set(query.split())
        return np.array([len(words & set(p.split())) for p in passages], np.float32)

    def count_tokens(self, query, passages):
        return [len(query) + len(passage) + 3 for passage in passages]


class VowelClassifier:
    """Few or many vowels; a token is a character."""

    labels = ("few", "many")
    max_tokens = 60

    def __init__(self) -> None:
        self.info = ModelInfo("vowels", "sha256:" + "3" * 64, self.max_tokens)
        self.threads: set[int] = set()

    def classify(self, texts, *, raw=False):
        self.threads.add(threading.get_ident())
        for text in texts:
            if len(text) > self.max_tokens:
                raise ContextLengthError("a text is too long", param="max_length")
        share = [sum(c in "aeiou" for c in text) / max(len(text), 1) for text in texts]
        rows = np.array([[1 - s, s] for s in share], np.float32).reshape(-1, 2)
        return 10 * rows - 5 if raw else rows

    def count_tokens(self, texts):
        return [len(text) + 2 for text in texts]


@pytest.fixture
def word_reranker() -> WordReranker:
    return WordReranker()


@pytest.fixture
def vowel_classifier() -> VowelClassifier:
    return VowelClassifier()


class LengthTasks:
    """Gives back inputs with their options, as tasks would. ``takes_all``: any options and any
    input."""

    takes_all = False
    tasks = ("token-classification", "feature-extraction", "zero-shot-classification")

    def __init__(self) -> None:
        self.info = ModelInfo("lengths", "sha256:" + "4" * 64, 60)
        self.calls: list[list] = []

    def run(self, task, inputs, options):
        self.calls.append(list(inputs))
        for name in () if self.takes_all else options:
            if name not in ("labels", "top_k", "aggregation"):
                raise InputError(f"{task} has no option {name!r}", param=name)
        if not self.takes_all and any(not isinstance(i, str) for i in inputs):
            raise InputError("input 0 is not a text", param="input 0")
        return [{"length": len(i), **options} for i in inputs]


@pytest.fixture
def length_tasks() -> LengthTasks:
    return LengthTasks()
