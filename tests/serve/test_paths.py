"""Absolute paths of the server in errors are cut to their last names; what was sent is not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lmstack.core import InputError, NotFoundError, ScriptedModel
from lmstack.serve import create_app
from lmstack.serve.http.errors import asked, asking, without_paths

HERE = str(Path(__file__).resolve())
CHAT = "/v1/chat/completions"
BODY = {"model": "m", "messages": [{"role": "user", "content": "x"}]}


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (f"cannot read {HERE}: No such file", "cannot read test_paths.py: No such file"),
        (f"the file '{HERE}' is empty.", "the file 'test_paths.py' is empty."),
        (f"lmstack index verify --index={HERE}", "lmstack index verify --index=test_paths.py"),
        ("sqlite:////usr/lib/x.db is locked", "x.db is locked"),
        ("see file:///usr/lib/x", "see x"),
        ("/usr", "usr"),
        ("socket \"/usr/run/.s.PGSQL.5432\" failed", 'socket ".s.PGSQL.5432" failed'),
        ("/usr/lib, /usr/bin/x and (/etc/y)", "lib, x and (y)"),
        ("/usr/my docs/x.md", "my docs/x.md"),
        ("/usr/lib/a…", "a…"),
    ],
)  # fmt: skip
def test_an_absolute_path_is_cut_to_its_last_name(text, shown):
    assert without_paths(text) == shown


@pytest.mark.parametrize(
    "text",
    [
        "send a prompt instead of messages (/v1/completions)",
        "GET /openapi.json lists the routes",
        "uploads/usr/lib/x is taken",
        "docs/x.md and and/or",
        "https://usr/lib and http://127.0.0.1:8000/usr/x",
        "a / b",
        "/usrlocal/x",
    ],
)
def test_what_is_no_path_of_this_machine_is_left_as_it_is(text):
    assert without_paths(text) == text


def test_what_the_request_holds_is_quoted_as_it_was_sent():
    scope = {"type": "http", "path": "/v1/models//etc/a", "query_string": b"name=%2Fetc%2Fb+c"}
    with asking(scope):
        asked(json.dumps({"model": "/etc/d"}).encode())
        assert without_paths("/etc/a /etc/b /etc/d") == "/etc/a /etc/b /etc/d"
        assert without_paths("/etc/a/e /etc/x") == "e x"
    assert without_paths("/etc/a") == "a"


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("after", [0, 3])
async def test_an_error_of_a_model_names_no_path_streamed_or_not(http, stream, after):
    class Broken(ScriptedModel):
        async def stream(self, request):
            number = 0
            async for delta in super().stream(request):
                if number == after:
                    break
                number += 1
                yield delta
            raise InputError(f"{HERE} is broken", hint=f"lmstack pull {HERE}", param=HERE)

    app = create_app(models={"m": Broken(["a b c d e f"])})
    async with http(app) as client:
        answer = await client.post(CHAT, json=BODY | {"stream": stream})
    assert "test_paths.py is broken" in answer.text
    assert str(Path(HERE).parent) not in answer.text


async def test_a_model_that_is_named_like_a_path_is_quoted(http):
    async with http(create_app(models={"m": ScriptedModel()})) as client:
        answer = await client.post(CHAT, json=BODY | {"model": "/etc/passwd"})
    assert "'/etc/passwd'" in answer.json()["error"]["message"]


async def test_a_route_that_others_add_names_no_path(http):
    app = create_app(models={})

    @app.get("/mine")
    def mine() -> None:
        raise NotFoundError(f"nothing at {HERE}")

    async with http(app) as client:
        answer = await client.get("/mine")
    assert answer.json()["error"]["message"] == "nothing at test_paths.py"
