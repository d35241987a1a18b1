"""More connections than places: who is dropped, and that whoever sends a request gets in."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator

import httpx
import pytest
from fastapi import FastAPI, Response
from hypothesis import given, settings
from hypothesis import strategies as st

from lmstack.core import ScriptedModel
from lmstack.serve import create_app
from lmstack.serve.http import server
from lmstack.serve.http.connections import Connections, ConnectionSlot, PatientProtocol, State

from .test_server import BODY, Running, reads_until_closed

HALF_A_HEAD = b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Slow: "
KEY = "sk-of-a-friend"


class Crowd:
    """Connections by name, and which of them were dropped, in order."""

    def __init__(self, most: int) -> None:
        self.connections = Connections(most)
        self.places: dict[str, ConnectionSlot] = {}
        self.dropped: list[str] = []

    def enter(self, name: str, address: str = "10.0.0.1", state: State = State.UNFINISHED) -> None:
        place = self.connections.enter(address, lambda: self.dropped.append(name))
        place.move(state)
        self.places[name] = place


def test_the_slowest_head_goes_first_then_the_longest_idle_and_requests_last():
    crowd = Crowd(8)  # six of them for strangers
    for name, state in [
        ("answering", State.ANSWERING),
        ("sending", State.SENDING),
        ("idle", State.IDLE),
        ("fresh idle", State.IDLE),
        ("slow head", State.UNFINISHED),
        ("newer head", State.UNFINISHED),
    ]:
        crowd.enter(name, f"10.0.0.{len(crowd.places)}", state)
    for number in range(6):
        crowd.enter(f"good {number}", f"10.0.1.{number}", State.ANSWERING)
    assert crowd.dropped == [
        "slow head", "newer head", "idle", "fresh idle", "sending", "answering",
    ]  # fmt: skip


def test_one_address_loses_its_own_slow_heads_and_not_those_of_others():
    crowd = Crowd(100)
    crowd.enter("other", "10.0.0.2")
    for number in range(60):
        crowd.enter(f"flood {number}")
    assert crowd.dropped == [f"flood {number}" for number in range(10)]


def test_a_proxy_with_many_requests_under_way_is_not_cut_off_by_the_share_of_an_address():
    crowd = Crowd(100)
    for number in range(70):
        crowd.enter(f"chat {number}", state=State.ANSWERING)
    assert crowd.dropped == []
    crowd.enter("slow")
    crowd.enter("good", state=State.ANSWERING)
    assert crowd.dropped == ["slow"]


def test_an_ipv6_network_is_one_address():
    crowd = Crowd(8)
    for number in range(6):
        crowd.enter(str(number), f"2001:db8::{number}")
    crowd.enter("other", "2001:db8:0:1::1")
    assert crowd.dropped == ["0", "1"]
    assert Connections(8).enter("::ffff:1.2.3.4", lambda: None).group != "::ffff:0:0/64"


def test_strangers_never_take_the_places_of_clients_that_showed_a_key():
    crowd = Crowd(16)
    for number in range(4):
        crowd.enter(f"friend {number}", state=State.IDLE)
        crowd.places[f"friend {number}"].know(f"key:{number}")
    for number in range(100):
        crowd.enter(f"stranger {number}", f"10.1.0.{number}", State.ANSWERING)
    assert not any(name.startswith("friend") for name in crowd.dropped)
    assert len(crowd.connections) <= 16


def test_a_key_that_holds_many_idle_connections_loses_its_own():
    crowd = Crowd(16)
    for number in range(12):
        crowd.enter(f"hoard {number}", state=State.IDLE)
        crowd.places[f"hoard {number}"].know("key:greedy")
    assert crowd.dropped == [f"hoard {number}" for number in range(4)]
    crowd.enter("friend", state=State.IDLE)
    crowd.places["friend"].know("key:other")
    assert "friend" not in crowd.dropped


ACTIONS = st.lists(
    st.tuples(
        st.sampled_from(["enter", "move", "know", "leave"]),
        st.integers(0, 30),
        st.integers(0, 3),
    ),
    max_size=120,
)


@settings(deadline=None)
@given(ACTIONS)
def test_places_are_bounded_and_the_newest_connection_always_stays(actions):
    crowd = Crowd(8)
    for number, (action, which, value) in enumerate(actions):
        names = [name for name in crowd.places if name not in crowd.dropped]
        if action == "enter" or not names:
            crowd.enter(str(number), f"10.0.0.{value}")
            assert str(number) not in crowd.dropped
            continue
        place = crowd.places[names[which % len(names)]]
        if action == "move":
            place.move(State(value))
        elif action == "know":
            place.know(f"key:{value}")
        else:
            place.leave()
            del crowd.places[names[which % len(names)]]
        assert len(crowd.connections) <= 8
    assert len(crowd.dropped) == len(set(crowd.dropped))
    assert len(crowd.connections) == len(set(crowd.places) - set(crowd.dropped))


@contextlib.contextmanager
def running(app: FastAPI) -> Iterator[httpx.URL]:
    service = Running(app)
    try:
        yield httpx.URL(service.url)
    finally:
        service.end()


def connected(url: httpx.URL, sent: bytes) -> socket.socket:
    connection = socket.create_connection((url.host, url.port), timeout=30)
    connection.sendall(sent)
    return connection


def test_clients_that_never_finish_a_head_keep_nobody_out(monkeypatch):
    monkeypatch.setattr(server, "MOST_CONNECTIONS", 12)
    model = ScriptedModel(["a b c d e f"], delay_s=0.1)
    with running(create_app(models={"m": model})) as url, contextlib.ExitStack() as held:
        chat = held.enter_context(
            httpx.stream("POST", f"{url}/v1/chat/completions", json=BODY, timeout=30)
        )
        for _ in range(50):
            held.enter_context(connected(url, HALF_A_HEAD))
            assert httpx.get(f"{url}/healthz", timeout=10).status_code == 200
        assert chat.read().rstrip().endswith(b"[DONE]")


@pytest.mark.skipif(sys.platform != "linux", reason="has one loopback address")
def test_a_flood_from_another_address_does_not_cost_an_older_client_its_place(monkeypatch):
    monkeypatch.setattr(server, "MOST_CONNECTIONS", 16)
    with running(create_app(models={"m": ScriptedModel()})) as url, contextlib.ExitStack() as held:
        older = held.enter_context(connected(url, HALF_A_HEAD))
        floods = []
        for _ in range(10):
            source = ("127.0.0.2", 0)
            floods.append(socket.create_connection((url.host, url.port), 30, source))
            held.enter_context(floods[-1]).sendall(HALF_A_HEAD)
        for lost in floods[:2]:
            with contextlib.suppress(ConnectionResetError):
                assert reads_until_closed(lost) == b""
        older.sendall(b"1\r\n\r\n")
        assert status(older) == 200


def test_a_connection_that_showed_a_key_outlives_a_flood_of_strangers(monkeypatch):
    monkeypatch.setattr(server, "MOST_CONNECTIONS", 8)
    app = create_app(models={"m": ScriptedModel()}, api_keys=[KEY])
    request = b"GET /v1/models HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer %s\r\n\r\n"
    with running(app) as url, contextlib.ExitStack() as held:
        friend = held.enter_context(connected(url, request % KEY.encode()))
        stranger = held.enter_context(connected(url, request % b"wrong"))
        assert status(friend) == 200
        assert status(stranger) == 401
        floods = [held.enter_context(connected(url, HALF_A_HEAD)) for _ in range(20)]
        with contextlib.suppress(ConnectionResetError):
            assert reads_until_closed(floods[0]) == b""
        friend.sendall(request % KEY.encode())
        assert status(friend) == 200


def status(connection: socket.socket) -> int:
    """Of the next answer, which is read whole."""
    answer = http.client.HTTPResponse(connection)
    answer.begin()
    answer.read()
    return answer.status


def post(length: int, *, key: bytes = b"") -> bytes:
    return (
        b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\n"
        b"Content-Type: application/json\r\n" + key + b"Content-Length: %d\r\n\r\n" % length
    )


@pytest.fixture
def hurried(monkeypatch):
    """A client that does nothing is given up on within three tenths of a second."""
    monkeypatch.setattr(PatientProtocol, "look_s", 0.05)
    monkeypatch.setattr(PatientProtocol, "looks", 6)
    monkeypatch.setattr(PatientProtocol, "head_timeout_s", 0.3)


def drips_until_closed(connection: socket.socket) -> float:
    """Seconds for which a byte could be sent again and again."""
    start = time.monotonic()
    with contextlib.suppress(ConnectionError, TimeoutError):
        while time.monotonic() < start + 20:
            connection.sendall(b" ")
            time.sleep(0.02)
    return time.monotonic() - start


def test_a_body_that_drips_does_not_hold_its_connection(hurried):
    with (
        running(create_app(models={"m": ScriptedModel()})) as url,
        connected(url, post(100_000)) as connection,
    ):
        assert drips_until_closed(connection) < 15


def test_the_rest_of_a_body_that_was_refused_does_not_hold_its_connection(hurried):
    app = create_app(models={"m": ScriptedModel()}, api_keys=[KEY])
    with running(app) as url, connected(url, post(100_000)) as connection:
        assert status(connection) == 401
        assert drips_until_closed(connection) < 15


def test_the_end_of_a_refused_body_starts_the_time_of_an_idle_connection(monkeypatch):
    monkeypatch.setattr(server, "KEEP_ALIVE_S", 0.3)
    app = create_app(models={"m": ScriptedModel()}, api_keys=[KEY])
    with running(app) as url, connected(url, post(4)) as connection:
        assert status(connection) == 401
        connection.sendall(b"1234")
        assert reads_until_closed(connection) == b""


def large_answers(size: int) -> FastAPI:
    app = create_app(models={})
    app.add_api_route("/large", lambda: Response(b"x" * size), response_class=Response)
    return app


GET_LARGE = b"GET /large HTTP/1.1\r\nHost: localhost\r\n%s\r\n"


@pytest.mark.parametrize("header", [b"", b"Connection: close\r\n"])
def test_an_answer_that_is_not_read_does_not_hold_its_connection(hurried, header):
    size = 50_000_000
    with running(large_answers(size)) as url, connected(url, GET_LARGE % header) as connection:
        received = len(connection.recv(1))
        time.sleep(1.5)
        with contextlib.suppress(ConnectionError):
            while part := connection.recv(1 << 20):
                received += len(part)
    assert 0 < received < size


def test_an_answer_that_is_read_slowly_arrives_whole(hurried):
    size = 20_000_000
    with running(large_answers(size)) as url, connected(url, GET_LARGE % b"") as connection:
        received = 0
        while received < size:
            received += len(connection.recv(1 << 19))
            time.sleep(0.01)
    assert received > size


def test_a_model_that_thinks_for_long_is_not_a_client_that_does_nothing(hurried):
    model = ScriptedModel(["a b"], delay_s=0.5)
    with running(create_app(models={"m": model})) as url:
        answer = httpx.post(f"{url}/v1/chat/completions", json=BODY, timeout=60)
    assert answer.text.rstrip().endswith("[DONE]")


def test_a_body_that_is_announced_first_is_waited_for(hurried):
    body = json.dumps(BODY).encode()
    head = post(len(body), key=b"Expect: 100-continue\r\n")
    with (
        running(create_app(models={"m": ScriptedModel()})) as url,
        connected(url, head) as connection,
    ):
        assert connection.recv(65536).startswith(b"HTTP/1.1 100")
        connection.sendall(body)
        assert status(connection) == 200


def test_a_server_raises_the_usual_limit_of_descriptors():
    program = """
import resource
hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
from lmstack.serve.http.server import server_config
server_config(lambda *_: None)
print(resource.getrlimit(resource.RLIMIT_NOFILE)[0], hard)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    soft, hard = map(int, done.stdout.split())
    assert soft == min(hard, 65_536) if hard > 0 else soft == 65_536
