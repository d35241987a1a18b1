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

from lmstack.core import ModelInfo

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
