"""Ctrl-C while requests run, on every route of a server process."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import httpx
import pytest

from lmstack.serve import create_app

# Everything that these routes ask goes on for three seconds after the server was told to stop,
# twice as long as requests get to finish.
CHILD = """
import os
os.cpu_count = lambda: 32  # so that each of them has a thread, and none waits for another
import asyncio, sys, threading
from lmstack.app.server.serve import Service, open_port, serve
from lmstack.app.server.stopping import Stopping
from lmstack.app.page.routes import add_page
from lmstack.core import ModelInfo, ScriptedModel
from lmstack.serve import create_app

never = threading.Event()

class Slow:
    info, dimensions, max_tokens, labels = ModelInfo("m"), 4, 100, ("a",)
    tasks = ("token-classification",)

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return lambda *_, **__: never.wait(300)

class View(Slow):
    uploads = Slow()

    def filter_of(self, *_):
        return None

    def start_indexing(self):
        pass

    async def suggestions(self, _):
        await asyncio.Event().wait()

    async def ask(self, *_, **__):
        yield "searching", {}
        await asyncio.Event().wait()

def load():
    slow = Slow()
    app = create_app(
        models={"silent": ScriptedModel(["a"] * 9, delay_s=60),
                "talking": ScriptedModel(["word " * 9999] * 9, delay_s=0.01)},
        embedders={"m": slow}, rerankers={"m": slow}, classifiers={"m": slow},
        task_models={"m": slow}, tokenizers={"m": slow},
    )
    add_page(app, view=View())

    def stopping():
        app.state.shared.stopping.set()
        threading.Timer(3, never.set).start()

    return Service(app, stopping=stopping)

listener = open_port("127.0.0.1", 0, "up")
try:
    with Stopping() as stop:
        serve(listener, load, lambda: print(listener.getsockname()[1], flush=True), stop)
except KeyboardInterrupt:
    sys.exit(stop.exit_code)
"""
CHAT = {"messages": [{"role": "user", "content": "x"}]}
PROMPT = {"prompt": "x"}
# What is answered whole; (method, path) to a body.
WHOLE: dict[tuple[str, str], object] = {
    ("POST", "/v1/chat/completions"): {"model": "silent", **CHAT},
    ("POST", "/v1/completions"): {"model": "silent", **PROMPT},
    ("POST", "/v1/responses"): {"model": "silent", "input": "x"},
    ("POST", "/v1/messages"): {"model": "silent", "max_tokens": 9, **CHAT},
    ("POST", "/v1/embeddings"): {"model": "m", "input": "x"},
    ("POST", "/v1/rerank"): {"model": "m", "query": "x", "documents": ["y"]},
    ("POST", "/v1/classify"): {"model": "m", "input": "x"},
    ("POST", "/v1/tasks"): {"model": "m", "task": "token-classification", "input": "x"},
    ("POST", "/tokenize"): {"model": "m", "prompt": "x"},
    ("POST", "/api/index"): {},
    ("POST", "/api/feedback"): {"request_id": "x"},
    ("PUT", "/api/uploads?name=x.md"): None,
    ("GET", "/api/status"): None,
    ("GET", "/api/documents"): None,
    ("GET", "/api/documents/1/boxes"): None,
    ("GET", "/api/suggestions"): None,
}
STREAMS: dict[str, object] = {
    "/v1/chat/completions": {"model": "talking", "stream": True, **CHAT},
    "/v1/completions": {"model": "talking", "stream": True, "max_tokens": 9999, **PROMPT},
    "/v1/responses": {"model": "talking", "stream": True, "input": "x"},
    "/v1/messages": {"model": "talking", "stream": True, "max_tokens": 9999, **CHAT},
    "/api/ask": {"question": "x"},
}
# They look something up before anything else, which takes no time, or open a few megabytes.
AT_ONCE = {"/detokenize", "/v1/load_lora_adapter", "/v1/unload_lora_adapter"}


@dataclass
class Stopped:
    """What clients got of a server that was told to stop, and what the server said."""

    code: int
    err: str
    whole: dict[str, httpx.Response]
    streams: dict[str, str]


def _in_flight(url: str) -> int:
    metrics = httpx.get(f"{url}/metrics", timeout=60).text
    found = re.search(r"^lmstack_\w*in_flight\w* (\d+)", metrics, re.M)
    assert found is not None
    return int(found[1]) - 1  # this one


@pytest.fixture(scope="module")
def stopped() -> Stopped:
    """Ctrl-C; SIGTERM takes the same way from `Stopping` on."""
    process = subprocess.Popen(
        [sys.executable, "-c", CHILD], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    url = f"http://127.0.0.1:{process.stdout.readline().strip()}"

    def ask(method: str, path: str, body: object) -> httpx.Response:
        if path.startswith("/api/uploads"):
            kind = {"Content-Type": "application/octet-stream"}
            return httpx.put(url + path, content=b"x", headers=kind, timeout=60)
        return httpx.request(method, url + path, json=body, timeout=60)

    begun: list[str] = []  # streams; before that, one that is stopped is answered whole, by 503

    def listen(path: str, body: object) -> str:
        with httpx.stream("POST", url + path, json=body, timeout=60) as answer:
            begun.append(path)
            return answer.read().decode()

    count = len(WHOLE) + len(STREAMS)
    with process, ThreadPoolExecutor(count) as pool:
        whole: dict[str, Future[httpx.Response]] = {
            f"{method} {path}": pool.submit(ask, method, path, body)
            for (method, path), body in WHOLE.items()
        }
        streams = {path: pool.submit(listen, path, body) for path, body in STREAMS.items()}
        while _in_flight(url) < count or len(begun) < len(STREAMS):
            if any(future.done() for future in (*whole.values(), *streams.values())):
                break
        process.send_signal(signal.SIGINT)
        answers = {name: future.result() for name, future in whole.items()}
        texts = {path: future.result() for path, future in streams.items()}
        _, err = process.communicate(timeout=60)
    return Stopped(process.returncode, err, answers, texts)


def test_a_request_that_cannot_finish_is_told_when_to_come_again(stopped: Stopped) -> None:
    for name, answer in stopped.whole.items():
        assert (name, answer.status_code) == (name, 503), answer.text
        assert answer.headers["content-type"] == "application/json", name
        assert answer.headers["retry-after"] == "5", name
        error, kind = answer.json()["error"], "server_error"
        if name == "POST /v1/messages":
            error, kind = {**error, **error["details"]}, "overloaded_error"
            error["code"] = error["error_code"]
        assert (error["code"], error["type"]) == ("server_stopping", kind), name
        assert error["hint"], name


def test_a_stream_ends_with_an_error_event(stopped: Stopped) -> None:
    for path, text in stopped.streams.items():
        last = text.strip().split("\n\n")[-1]
        assert "the server is stopping" in last, path
        data = json.loads(last[last.index("data: ") + 6 :])
        assert data.get("status", 503) == 503
        assert "[DONE]" not in text


def test_the_log_holds_no_word_about_requests_that_were_cut_short(stopped: Stopped) -> None:
    assert stopped.err == ""
    assert stopped.code == 130


def test_every_route_that_computes_is_among_those_tried() -> None:
    app = create_app(models={})
    posts = {path for path, on in app.openapi()["paths"].items() if "post" in on}
    assert posts <= {path for _, path in WHOLE} | AT_ONCE
