"""OpenAI's embeddings through the real SDK, against a local server that accepts nothing unknown."""

from __future__ import annotations

import json
import pickle
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from lmstack.core import (
    AuthError,
    Embedder,
    InputError,
    NotFoundError,
    OverloadedError,
    RemoteError,
)
from lmstack.rag import RemoteEmbedder

KEY = "sk-test-9f"
FIELDS = {"model", "input", "encoding_format", "dimensions"}


class Server:
    """Vectors that tell the text: (length, number of "a", 1, 0, …)."""

    def __init__(self) -> None:
        self.requests: list[dict] = []
        self.times: list[float] = []
        self.failures: list[tuple[int, dict[str, str], str]] = []
        self.size, self.spoil = 4, None
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_):
                pass

            def do_POST(self):
                length = int(self.headers["content-length"])
                outer.answer(self, json.loads(self.rfile.read(length)))

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}/v1"
        self.thread = threading.Thread(target=self.http.serve_forever, args=(0.02,))
        self.thread.start()

    def answer(self, handler, body):
        self.requests.append(body)
        self.times.append(time.monotonic())
        status, headers, reply = 200, {}, None
        if handler.path != "/v1/embeddings" or set(body) - FIELDS:
            status, reply = 400, json.dumps({"error": {"message": f"unknown {set(body)}"}})
        elif handler.headers["authorization"] != f"Bearer {KEY}":
            status = 401
            reply = json.dumps({"error": {"message": f"bad {handler.headers['authorization']}"}})
        elif self.failures:
            status, headers, reply = self.failures.pop(0)
        else:
            reply = json.dumps(self.vectors(body))
        data = reply.encode()
        handler.send_response(status)
        for name, value in (headers | {"content-type": "application/json"}).items():
            handler.send_header(name, value)
        handler.send_header("content-length", str(len(data)))
        handler.end_headers()
        handler.wfile.write(data)

    def vectors(self, body):
        size = body.get("dimensions", self.size)
        rows = [
            {
                "object": "embedding",
                "index": n,
                "embedding": [float(len(text)), float(text.count("a")), 1.0, *[0.0] * size][:size],
            }
            for n, text in enumerate(body["input"])
        ]
        rows.reverse()
        if self.spoil:
            self.spoil(rows)
        usage = {"prompt_tokens": 1, "total_tokens": 1}
        return {"object": "list", "data": rows, "model": body["model"], "usage": usage}


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    running = Server()
    yield running
    running.http.shutdown()
    running.http.server_close()
    running.thread.join()


def embedder(server, **options) -> RemoteEmbedder:
    options = {"max_retries": 0, "timeout_s": 5} | options
    return RemoteEmbedder("m", base_url=server.url, **options)


def test_vectors_come_in_the_order_of_the_texts_at_length_one(server):
    model = embedder(server)
    assert isinstance(model, Embedder)
    texts = ["a", "bb", "aaa"]
    expected = np.array([[1, 1, 1, 0], [2, 0, 1, 0], [3, 3, 1, 0]], np.float32)
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(model.embed(texts), expected, rtol=1e-6)
    assert model.dimensions == 4
    assert model.embed([]).shape == (0, 4)


def test_many_texts_go_in_batches_within_the_limits(server):
    model = embedder(server)
    assert model.embed(["a"] * 1100).shape == (1100, 4)
    model.embed(["x" * 100_000] * 5)
    sizes = [len(r["input"]) for r in server.requests if r["input"] != ["size"]]
    assert sizes == [512, 512, 76, 2, 2, 1]


def test_retry_after_is_waited_for(server):
    server.failures = [(429, {"retry-after": "0.7"}, json.dumps({"error": {"message": "slow"}}))]
    model = embedder(server, max_retries=2, dimensions=4)
    assert model.embed(["a"]).shape == (1, 4)
    assert server.times[1] - server.times[0] >= 0.7


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, InputError),
        (404, NotFoundError),
        (429, OverloadedError),
        (500, RemoteError),
    ],
)
def test_failures_have_our_errors(server, status, kind):
    server.failures = [(status, {}, json.dumps({"error": {"message": "no"}}))]
    with pytest.raises(kind):
        embedder(server, dimensions=4).embed(["a"])


def test_key_is_never_shown(server, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-wrong-77")
    model = embedder(server)
    with pytest.raises(AuthError) as caught:
        model.embed(["a"])
    chain = f"{caught.value!r} {caught.value.__cause__!r} {caught.value.__context__!r} {model!r}"
    assert "sk-wrong-77" not in chain
    with pytest.raises(InputError, match="holds a key"):
        pickle.dumps(model)


def test_without_a_key_nothing_is_made(server, monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY")
    with pytest.raises(AuthError, match="OPENAI_API_KEY is not set"):
        embedder(server)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda rows: rows.pop(),
        lambda rows: rows[0].update(index=0),
        lambda rows: rows[0].update(embedding=[1.0]),
        lambda rows: rows[0].update(embedding=[0.0] * 4),
        lambda rows: rows[0].update(embedding=[float("nan")] * 4),
    ],
)
def test_answers_that_do_not_fit_are_refused(server, spoil):
    server.spoil = spoil
    with pytest.raises(RemoteError):
        embedder(server, dimensions=4).embed(["a", "b"])


def test_prefixes_and_dimensions_are_sent(server):
    model = embedder(server, dimensions=3, prefixes=("query: ", "passage: "))
    model.embed(["a"], "query")
    model.embed(["a"])
    assert [r["input"] for r in server.requests] == [["query: a"], ["passage: a"]]
    assert {r["dimensions"] for r in server.requests} == {3}


def test_dimensions_above_the_models_are_refused(server):
    with pytest.raises(InputError, match="dimensions is 2000"):
        RemoteEmbedder("text-embedding-3-small", dimensions=2000)
    assert RemoteEmbedder("text-embedding-3-small").dimensions == 1536


@pytest.mark.parametrize("texts", [["a", " "], [""]])
def test_blank_texts_are_refused_before_they_are_sent(server, texts):
    with pytest.raises(InputError, match=r"texts\[\d\] is empty"):
        embedder(server).embed(texts)
    assert not server.requests


def test_text_within_the_counted_limit_has_no_more_bytes_than_the_model_has_tokens(server):
    model = embedder(server, max_tokens=300)
    text = "é" * 150
    assert model.count_tokens([text])[0] <= model.max_tokens
    assert model.count_tokens([text + "é" * 2])[0] > model.max_tokens
