"""The load generator of the latency benchmark: loops, times from the arrival, errors by kind."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

# Not by the search path: benchmarks has files that are called as installed packages are.
_SPEC = importlib.util.spec_from_file_location(
    "benchmarks_load", Path(__file__).parents[2] / "benchmarks" / "load.py"
)
load = importlib.util.module_from_spec(_SPEC)
sys.modules["benchmarks_load"] = load
_SPEC.loader.exec_module(load)
Load, Row = load.Load, load.Row
run_load, spread, summary = load.run_load, load.spread, load.summary


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.bodies: list[dict[str, Any]] = []
        self.lock, self.running, self.most = threading.Lock(), 0, 0
        self.status, self.ending = 200, "data: [DONE]\n\n"

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def do_POST(self) -> None:
        server = self.server
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        with server.lock:
            server.bodies.append(body)
            server.running += 1
            server.most = max(server.most, server.running)
        self.send_response(server.status)
        self.end_headers()
        with contextlib.suppress(ConnectionError):  # a refused client does not read on
            for text in ("a", "b", "", "c"):
                time.sleep(0.005)
                event = {"choices": [{"delta": {"content": text}}]}
                self.wfile.write(f"data: {json.dumps(event)}\n\n".encode())
            usage = {"choices": [], "usage": {"completion_tokens": 7}}
            with server.lock:  # before the client knows that it may ask again
                server.running -= 1
            end = f": a comment\n\ndata: {json.dumps(usage)}\n\n{server.ending}"
            self.wfile.write(end.encode())

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[_Server]:
    with _Server() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_a_closed_loop_keeps_so_many_running_and_no_more(server: _Server) -> None:
    found = run_load(server.url, "m", Load(streams=3, seconds=0.3, prompt_words=5, tokens=9))
    assert server.most == 3
    assert found["succeeded"] == found["requests"] == len(server.bodies) > 5
    assert found["errors"] == {}
    assert (found["streams"], found["rate"]) == (3, None)
    assert found["tokens_per_s"] == pytest.approx(7 * found["requests_per_s"])
    assert found["between"]["count"] == 2 * found["requests"]  # of three pieces with text
    assert 0.004 < found["between"]["p50"] < found["answer"]["p50"]
    body = server.bodies[0]
    assert (body["model"], body["max_tokens"], body["stream"]) == ("m", 9, True)
    texts = {each["messages"][0]["content"] for each in server.bodies}
    assert len(texts) == len(server.bodies)
    assert {len(text.split()) for text in texts} == {5}


def test_arrivals_come_at_the_wanted_rate_whether_or_not_the_server_keeps_up(
    server: _Server,
) -> None:
    found = run_load(server.url, "m", Load(rate=100.0, seconds=1.0, prompt_words=2))
    assert 60 < found["requests"] == found["succeeded"] < 140
    assert server.most > 1


@pytest.mark.parametrize(
    ("status", "ending", "error"),
    [
        (429, "", "429"),
        (200, "", "unfinished"),
        (200, 'data: {"error": "no memory"}\n\n', "error in the stream"),
        (200, "data: nonsense\n\n", "JSONDecodeError"),
    ],
)
def test_what_did_not_end_well_is_counted_by_its_kind(
    server: _Server, status: int, ending: str, error: str
) -> None:
    server.status, server.ending = status, ending
    found = run_load(server.url, "m", Load(streams=1, seconds=0.05))
    assert found["succeeded"] == 0
    assert found["errors"] == {error: found["requests"]}
    assert found["first_token"] is found["between"] is found["answer"] is None


def test_times_count_from_the_arrival_and_of_what_ended_well() -> None:
    late = Row(1.0, [3.0, 3.1, 3.4], 3.5, 10, None)
    failed = Row(0.0, [9.0, 9.5], 10.0, 10, "429")
    found = summary([late, failed])
    assert found["first_token"]["p50"] == 2.0
    assert found["answer"]["max"] == 2.5
    assert found["between"]["count"] == 2
    assert found["slow_gap_share"] == 0.5
    assert (found["requests_per_s"], found["tokens_per_s"]) == (0.1, 2.0)
    assert summary([])["requests_per_s"] == 0.0


def test_percentiles_are_those_of_numpy() -> None:
    found = spread(list(map(float, range(101))))
    assert found == {"count": 101, "max": 100, "p50": 50, "p90": 90, "p95": 95, "p99": 99}
    assert spread([]) is None
