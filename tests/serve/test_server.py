"""run_server: binding, signals, and a shutdown that does not wait for open streams."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time

import httpx
import openai
import pytest

from lmstack.core import InputError, ScriptedModel
from lmstack.serve import create_app, run_server
from lmstack.serve.http import server
from lmstack.serve.http.connections import PatientProtocol
from lmstack.serve.http.server import KEEP_ALIVE_S, bind, server_config

BODY = {"model": "m", "messages": [{"role": "user", "content": "x"}], "stream": True}


class Running:
    """run_server in a thread, as a program would call it in its main thread."""

    def __init__(self, app, **options) -> None:
        self.stop = threading.Event()
        self.url = ""
        ready = threading.Event()

        def on_ready(url: str) -> None:
            self.url = url
            ready.set()

        self.thread = threading.Thread(
            target=run_server,
            args=(app,),
            kwargs={"port": 0, "stop": self.stop, "on_ready": on_ready, **options},
        )
        self.thread.start()
        assert ready.wait(60)

    def end(self) -> float:
        start = time.perf_counter()
        self.stop.set()
        self.thread.join(60)
        assert not self.thread.is_alive()
        return time.perf_counter() - start


def test_open_streams_do_not_hold_up_a_shutdown_and_their_clients_are_told():
    model = ScriptedModel([" ".join(["word"] * 100_000)], delay_s=0.001)
    server = Running(create_app(models={"m": model}))
    client = openai.OpenAI(base_url=f"{server.url}/v1", api_key="x", max_retries=0)
    with client:
        stream = client.chat.completions.create(**BODY)
        next(iter(stream))
        took: list[float] = []
        ending = threading.Thread(target=lambda: took.append(server.end()))
        ending.start()
        with pytest.raises(openai.APIError, match="the server is stopping"):
            for _ in stream:
                pass
        ending.join()
    assert took[0] < 5
    assert model.open_streams == 0


def test_a_request_that_is_still_queued_does_not_hold_up_a_shutdown():
    model = ScriptedModel(["word"], delay_s=60)
    server = Running(create_app(models={"m": model}))
    errors: list[Exception] = []

    def ask() -> None:
        try:
            httpx.post(f"{server.url}/v1/chat/completions", json=BODY, timeout=30)
        except httpx.HTTPError as error:
            errors.append(error)

    asking = threading.Thread(target=ask)
    asking.start()
    while not model.open_streams:
        time.sleep(0.005)
    assert server.end() < 5
    asking.join()
    assert model.open_streams == 0


def test_a_used_port_names_the_next_one():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(InputError) as caught:
            run_server(create_app(models={}), port=port)
    assert caught.value.message == f"port {port} is in use by another program"
    assert caught.value.hint == f"--port {port + 1}"


@pytest.mark.parametrize(
    ("host", "port", "param"),
    [
        ("127.0.0.1", 70000, "port"),
        ("no.such.host.invalid", 0, "host"),
        ("a" * 300, 0, "host"),
        ("192.0.2.1", 0, "host"),
    ],
)
def test_an_address_that_cannot_be_had_is_an_input_error(host, port, param):
    with pytest.raises(InputError) as caught:
        bind(host, port)
    assert caught.value.param == param


def test_a_name_is_listened_on_where_its_first_address_is_not_of_this_machine(monkeypatch):
    found = [*socket.getaddrinfo("192.0.2.1", 0), *socket.getaddrinfo("127.0.0.1", 0)]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
    with bind("localhost", 0) as listener:
        assert listener.getsockname()[0] == "127.0.0.1"


def test_other_machines_are_not_let_in_without_keys():
    with pytest.raises(InputError, match="no API keys"):
        run_server(create_app(models={}), host="0.0.0.0")


def test_the_server_answers_on_this_machine_only_by_default():
    server = Running(create_app(models={}))
    try:
        assert server.url.startswith("http://127.0.0.1:")
        assert httpx.get(f"{server.url}/healthz").headers.get("server") is None
    finally:
        server.end()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_the_server_and_the_caller_goes_on(number):
    program = """
        from lmstack.core import ScriptedModel
        from lmstack.serve import create_app, run_server
        app = create_app(models={"m": ScriptedModel(["w " * 10000], delay_s=0.01)})
        run_server(app, port=0, on_ready=lambda url: print(url, flush=True))
        print("closed cleanly", flush=True)
    """
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(program)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ,
    )
    with process:
        url = process.stdout.readline().strip()
        with httpx.stream("POST", f"{url}/v1/chat/completions", json=BODY) as answer:
            lines = answer.iter_lines()
            next(lines)
            start = time.perf_counter()
            process.send_signal(number)
            last = [line for line in lines if line][-1]
        out, err = process.communicate(timeout=60)
    assert time.perf_counter() - start < 5
    assert json.loads(last.removeprefix("data: "))["error"]["code"] == "server_stopping"
    assert (out, err, process.returncode) == ("closed cleanly\n", "", 0)


def test_a_forged_forwarding_header_does_not_change_who_the_client_is():
    model = ScriptedModel()
    server = Running(create_app(models={"m": model}))
    try:
        forged = {"X-Forwarded-For": "10.9.9.9", "X-Forwarded-Proto": "https"}
        httpx.post(f"{server.url}/v1/chat/completions", json=BODY, headers=forged)
    finally:
        server.end()
    assert model.requests[0].client == "ip:127.0.0.1"


def reads_until_closed(connection: socket.socket) -> bytes:
    return b"".join(iter(lambda: connection.recv(4096), b""))


@pytest.mark.parametrize(
    "sent", [b"", b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Slow: "], ids=["silent", "half"]
)
def test_a_request_head_that_never_ends_does_not_hold_its_connection(monkeypatch, sent):
    monkeypatch.setattr(PatientProtocol, "head_timeout_s", 0.2)
    running = Running(create_app(models={"m": ScriptedModel()}))
    url = httpx.URL(running.url)
    with socket.create_connection((url.host, url.port), timeout=30) as connection:
        connection.sendall(sent)
        assert reads_until_closed(connection) == b""
    running.end()


def test_a_long_answer_outlives_the_time_limit_of_request_heads(monkeypatch):
    monkeypatch.setattr(PatientProtocol, "head_timeout_s", 0.1)
    running = Running(create_app(models={"m": ScriptedModel(["a b c d"], delay_s=0.1)}))
    answer = httpx.post(f"{running.url}/v1/chat/completions", json=BODY, timeout=60)
    assert answer.text.rstrip().endswith("[DONE]")
    running.end()


SMUGGLED = b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"


@pytest.mark.parametrize("order", [1, -1])
def test_a_request_that_states_two_lengths_is_refused_and_its_connection_closed(order):
    lengths = [b"Content-Length: 4\r\n", b"Transfer-Encoding: chunked\r\n"][::order]
    head = b"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\n" + b"".join(lengths)
    running = Running(create_app(models={"m": ScriptedModel()}))
    url = httpx.URL(running.url)
    with socket.create_connection((url.host, url.port), timeout=30) as connection:
        connection.sendall(head + b"\r\n0\r\n\r\n" + SMUGGLED)
        answer = reads_until_closed(connection)
    running.end()
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert answer.count(b"HTTP/1.1") == 1
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["error"]["code"] == "ambiguous_length"


def test_two_requests_with_one_length_each_share_a_connection():
    running = Running(create_app(models={"m": ScriptedModel()}))
    url = httpx.URL(running.url)
    last = SMUGGLED.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
    with socket.create_connection((url.host, url.port), timeout=30) as connection:
        connection.sendall(SMUGGLED + last)
        answer = reads_until_closed(connection)
    running.end()
    assert answer.count(b"HTTP/1.1 200 ") == 2


def test_an_idle_connection_is_kept_longer_than_proxies_keep_theirs():
    assert server_config(create_app(models={})).timeout_keep_alive == KEEP_ALIVE_S > 60


def test_the_time_that_an_idle_connection_is_kept_is_applied(monkeypatch):
    monkeypatch.setattr(server, "KEEP_ALIVE_S", 0.2)
    running = Running(create_app(models={"m": ScriptedModel()}))
    url = httpx.URL(running.url)
    with socket.create_connection((url.host, url.port), timeout=30) as connection:
        connection.sendall(SMUGGLED)
        start = time.perf_counter()
        assert reads_until_closed(connection).startswith(b"HTTP/1.1 200 ")
        assert 0.15 < time.perf_counter() - start < 5
    running.end()


async def test_what_is_written_is_sent_at_once_and_not_held_for_an_acknowledgement():
    told = asyncio.get_running_loop().create_future()

    async def look(_, writer):
        connection = writer.get_extra_info("socket")
        told.set_result(connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
        writer.close()

    listener = bind("127.0.0.1", 0)
    async with await asyncio.start_server(look, sock=listener):
        _, writer = await asyncio.open_connection(*listener.getsockname())
        assert await told
        writer.close()
