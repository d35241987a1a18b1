"""The server under load: its address, its key, the fields that it takes, its tokens."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx
import pytest

from lmstack.app.loadgen.prompts import RandomPrompts
from lmstack.app.loadgen.target import base_url, connect, headers_of, words_for
from lmstack.core import AuthError, InputError, LmstackError, NotFoundError, RemoteError

BASE = "http://test/v1"
Client = Callable[..., httpx.AsyncClient]


async def reached(client: httpx.AsyncClient, **options: Any) -> Any:
    wanted = {"endpoint": "chat", "model": None, "extra": {}, "variable": "KEY_X"} | options
    async with client:
        return await connect(client, BASE, **wanted)


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ("127.0.0.1:8000", "http://127.0.0.1:8000/v1"),
        ("http://127.0.0.1:8000/", "http://127.0.0.1:8000/v1"),
        ("https://host/v1/", "https://host/v1"),
        ("https://host/openai/v3", "https://host/openai/v3"),
        ("http://host/v1/chat/completions", "http://host/v1"),
        ("http://[::1]:80/v1/completions?x=1#y", "http://[::1]/v1"),
    ],
)
def test_an_address_is_understood_as_people_type_it(typed: str, expected: str) -> None:
    assert base_url(typed) == expected


@pytest.mark.parametrize(
    "typed",
    ["", "ftp://host", "http://", "http://[", "a\nb", "\ud800", "x" * 300, "a b", "a:70000"],
)
def test_what_is_no_address_is_refused(typed: str) -> None:
    with pytest.raises(InputError, match="no address"):
        base_url(typed)


def test_a_password_in_an_address_is_refused_and_not_repeated() -> None:
    with pytest.raises(InputError) as raised:
        base_url("http://me:secret@host")
    assert "secret" not in str(raised.value)


async def test_a_strict_server_is_asked_without_what_it_refuses(fake: Any, client: Client) -> None:
    server = fake(refuses=["ignore_eos", "stream_options", "max_tokens", "temperature"])
    target = await reached(client(server))
    assert len(server.bodies) == 5
    assert server.bodies[-1].keys() == {"model", "messages", "max_completion_tokens", "stream"}
    assert [note for note in target.notes if "ignore_eos" in note]


async def test_a_willing_server_is_asked_for_everything_that_measuring_wants(
    fake: Any, client: Client
) -> None:
    server = fake()
    target = await reached(client(server), extra={"top_p": 0.5}, endpoint="completions")
    body = target.body(RandomPrompts(5, 9, 0).ask(0, 0))
    assert body.pop("prompt").count(" ") == 4
    assert body == {
        "model": "fake",
        "max_tokens": 9,
        "temperature": 0,
        "stream": True,
        "stream_options": {"include_usage": True},
        "ignore_eos": True,
        "top_p": 0.5,
    }
    assert target.notes == ()


async def test_a_field_that_was_asked_for_is_not_left_out(fake: Any, client: Client) -> None:
    with pytest.raises(InputError, match="not known here"):
        await reached(client(fake(refuses=["ignore_eos"])), extra={"ignore_eos": False})


@pytest.mark.parametrize(("tokens_a_word", "overhead"), [(1.0, 0), (3.0, 11), (0.75, 40)])
@pytest.mark.parametrize("wanted", [60, 1000])
async def test_prompts_have_the_length_that_was_asked_for(
    fake: Any, client: Client, tokens_a_word: float, overhead: int, wanted: int
) -> None:
    target = await reached(client(fake(tokens_a_word=tokens_a_word, overhead=overhead)))
    tokens = overhead + tokens_a_word * words_for(target, wanted)
    assert abs(tokens - wanted) <= max(2 * tokens_a_word, 0.02 * wanted)


async def test_a_server_that_counts_no_tokens_is_noted(fake: Any, client: Client) -> None:
    target = await reached(client(fake(tokens_a_word=None)))
    assert words_for(target, 50) == 50
    assert target.notes == (
        "the server does not count tokens: a word counts as one in, a chunk as one out",
    )


async def test_the_first_of_several_models_is_asked_and_that_is_noted(
    fake: Any, client: Client
) -> None:
    target = await reached(client(fake(models=["one", "two"])))
    assert target.model == "one"
    assert "two" in target.notes[0]
    assert (await reached(client(fake(models=["one", "two"])), model="two")).notes == ()


async def test_a_listed_model_that_does_not_answer_is_passed_over(
    fake: Any, client: Client
) -> None:
    server = fake(models=["embedder", "writer"], status=lambda n: None if n else 404)
    assert (await reached(client(server))).model == "writer"
    with pytest.raises(NotFoundError):
        await reached(client(fake(models=["one", "two"], status=lambda n: 404)))


async def test_the_key_is_sent_and_a_wrong_one_says_where_it_comes_from(
    fake: Any, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KEY_X", " sesame ")
    headers = headers_of("KEY_X")
    assert (await reached(client(fake(key="sesame"), headers=headers))).model == "fake"
    with pytest.raises(AuthError) as raised:
        await reached(client(fake(key="other"), headers=headers))
    assert "export KEY_X=KEY" in str(raised.value)
    assert "sesame" not in str(raised.value)


def test_no_key_is_sent_where_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KEY_X", raising=False)
    assert headers_of("KEY_X") == {}
    monkeypatch.setenv("KEY_X", "schlüssel")
    with pytest.raises(InputError, match="KEY_X"):
        headers_of("KEY_X")


@pytest.mark.parametrize(
    ("status", "error", "said"),
    [
        (404, NotFoundError, "--model NAME"),
        (403, AuthError, "KEY_X"),
        (429, LmstackError, "wait"),
        (400, InputError, "--body"),
        (500, RemoteError, "log"),
    ],
)
async def test_a_server_that_refuses_the_first_request_says_why(
    fake: Any, client: Client, status: int, error: type[LmstackError], said: str
) -> None:
    with pytest.raises(error, match=f"it is {status}") as raised:
        await reached(client(fake(status=lambda _: status)))
    assert said in (raised.value.hint or "")


async def test_a_server_without_a_list_of_models_needs_a_name(fake: Any, client: Client) -> None:
    with pytest.raises(RemoteError, match="lists no model") as raised:
        await reached(client(fake(models=[])))
    assert "--model NAME" in (raised.value.hint or "")
    assert (await reached(client(fake(models=[])), model="x")).model == "x"


async def test_an_address_where_nothing_is_says_how_to_start_it() -> None:
    with pytest.raises(RemoteError, match="no server answers") as raised:
        async with httpx.AsyncClient(trust_env=False) as client:
            await connect(client, "http://127.0.0.1:9/v1", "chat", None, {}, "KEY_X")
    assert "lmstack up" in (raised.value.hint or "")
