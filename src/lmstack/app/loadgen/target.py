"""The server under load: its address, its key, its model, and the fields that it takes.

A first, short request finds out whether the server answers at all, which of the fields that
measuring wants it refuses, and how many tokens a word takes. Errors here are the caller's to
mend, so they say what to do.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import httpx

from lmstack.app.loadgen.prompts import Ask, words
from lmstack.app.loadgen.stream import Row, ask, message_of
from lmstack.core import (
    AuthError,
    InputError,
    LmstackError,
    NotFoundError,
    OverloadedError,
    RemoteError,
    shown,
)

__all__ = [
    "Endpoint",
    "Target",
    "base_url",
    "client_for",
    "connect",
    "headers_of",
    "words_for",
]

Endpoint = Literal["chat", "completions"]
PATHS = {"chat": "/chat/completions", "completions": "/completions"}
# What a server may refuse, and can be measured without, or under another name.
_REFUSABLE = ("ignore_eos", "stream_options", "max_tokens", "temperature")
FEW, MANY = 16, 144  # words of the two prompts that measure tokens
_LOCAL = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True)
class Target:
    """``fields``: of every request besides model, prompt and length. ``renamed``: fields under
    the names that the server has for them. ``words_overhead`` and ``tokens_a_word``: tokens of a
    prompt of n words are the first plus n times the second; None where the server does not say.
    ``notes``: what a reader of the figures should know."""

    base: str
    endpoint: Endpoint
    model: str
    fields: Mapping[str, Any]
    renamed: Mapping[str, str] = dataclasses.field(default_factory=dict)
    tokens_a_word: float | None = None
    words_overhead: float = 0.0
    notes: tuple[str, ...] = ()

    @property
    def url(self) -> str:
        return self.base + PATHS[self.endpoint]

    def body(self, wanted: Ask) -> dict[str, Any]:
        """A request for ``wanted``."""
        what: dict[str, Any] = {"prompt": wanted.text}
        if self.endpoint == "chat":
            what = {"messages": list(wanted.messages)}
        body = {"model": self.model, **what, "max_tokens": wanted.max_tokens, **self.fields}
        return {self.renamed.get(name, name): value for name, value in body.items()}


def base_url(text: str) -> str:
    """``http://host:port/v1`` from what people type: /v1 is added where there is no path."""
    if not text.isprintable():
        raise _no_address(text)
    try:
        url = httpx.URL(text if "://" in text else f"http://{text}")
        url.host.encode("idna")  # as a look-up does, which would fail later and less clearly
    except (httpx.InvalidURL, ValueError) as error:
        raise _no_address(text) from error
    escaped = "%" in url.host and ":" not in url.host  # %5B, %20: no host has such letters
    if url.scheme not in ("http", "https") or not url.host or escaped or (url.port or 0) > 65535:
        raise _no_address(text)
    if url.userinfo:
        raise InputError(
            "the address holds a password",
            hint="leave it out and set the key in the environment variable LMSTACK_API_KEY",
            param="url",
        )
    path = url.path.rstrip("/")
    for ending in PATHS.values():
        path = path.removesuffix(ending)
    return str(url.copy_with(path=path or "/v1", query=None, fragment=None))


def _no_address(text: str) -> InputError:
    return InputError(
        f"{shown(text)} is no address of a server", hint="http://127.0.0.1:8000", param="url"
    )


def headers_of(variable: str) -> dict[str, str]:
    """The key in the environment variable ``variable``, if there is one."""
    key = os.environ.get(variable, "").strip()
    if not key.isascii() or not key.isprintable():
        raise InputError(f"the key in {variable} has a character that is not ASCII", param=variable)
    return {"Authorization": f"Bearer {key}"} if key else {}


def client_for(base: str, headers: Mapping[str, str], timeout_s: float) -> httpx.AsyncClient:
    """No limit of connections of our own: a queue must form at the server, where it is seen."""
    return httpx.AsyncClient(
        headers=dict(headers),
        timeout=httpx.Timeout(timeout_s, connect=min(timeout_s, 10.0), pool=None),
        limits=httpx.Limits(max_connections=None, max_keepalive_connections=None),
        trust_env=httpx.URL(base).host not in _LOCAL,
    )


async def connect(
    client: httpx.AsyncClient,
    base: str,
    endpoint: Endpoint,
    model: str | None,
    extra: Mapping[str, Any],
    variable: str,
) -> Target:
    """The server at ``base``, tried out. ``extra``: fields that every request shall have.
    ``variable``: where the key is from, for hints."""
    fields = {
        "temperature": 0,
        "stream": True,
        "stream_options": {"include_usage": True},
        "ignore_eos": True,
        **extra,
    }
    names = [model] if model is not None else await _models(client, base, variable)
    for number, name in enumerate(names):
        try:
            target = Target(base, endpoint, name, fields)
            target, few = await _tried(client, target, extra, variable)
            break
        except NotFoundError:  # a model that is listed may do something else, such as embed
            if number == len(names) - 1:
                raise
    if len(names) > 1:
        others = ", ".join(n for n in names if n != target.model)
        note = f"of several models the first that answers: {target.model} (others: {others})"
        target = dataclasses.replace(target, notes=(note, *target.notes))
    if few.prompt_tokens is None:
        note = "the server does not count tokens: a word counts as one in, a chunk as one out"
        return dataclasses.replace(target, notes=(*target.notes, note))
    many = await _answer(client, target, MANY)
    _check(many, target, variable)
    slope = ((many.prompt_tokens or 0) - few.prompt_tokens) / (MANY - FEW)
    if slope <= 0:
        return target
    overhead = few.prompt_tokens - FEW * slope
    return dataclasses.replace(target, tokens_a_word=slope, words_overhead=overhead)


def words_for(target: Target, tokens: int) -> int:
    """How many words make a prompt of ``tokens``, one at least."""
    a_word = target.tokens_a_word or 1.0
    return max(1, round((tokens - target.words_overhead) / a_word))


async def _models(client: httpx.AsyncClient, base: str, variable: str) -> list[str]:
    try:
        response = await client.get(f"{base}/models")
    except httpx.HTTPError as error:
        raise _absent(base, error) from error
    if response.status_code != 200:
        hint = "--model NAME, if the server lists none; else check the address"
        raise _refused(response.status_code, message_of(response.text), base, variable, hint)
    try:
        names = [str(item["id"]) for item in response.json()["data"]]
    except (ValueError, KeyError, TypeError, RecursionError):
        names = []
    if not names:
        raise RemoteError(
            f"{base}/models lists no model", hint="--model NAME, or check the address", param="url"
        )
    return names


async def _tried(
    client: httpx.AsyncClient, target: Target, extra: Mapping[str, Any], variable: str
) -> tuple[Target, Row]:
    """The target without the fields that it refuses, and how it answered a short prompt. Fields
    in ``extra`` are wanted, so their refusal is an error."""
    left = [name for name in _REFUSABLE if name not in extra]
    while True:
        row = await _answer(client, target, FEW)
        refused = row.error in ("400", "422")
        name = next((n for n in left if refused and n in row.detail), None)
        if name is None:
            _check(row, target, variable)
            return target, row
        left.remove(name)
        target = _without(target, name)


def _without(target: Target, name: str) -> Target:
    if name == "max_tokens":
        return dataclasses.replace(target, renamed={name: "max_completion_tokens"})
    fields = {key: value for key, value in target.fields.items() if key != name}
    notes = target.notes
    if name == "ignore_eos":
        notes += ("the server refuses ignore_eos, so answers may end before their length",)
    return dataclasses.replace(target, fields=fields, notes=notes)


async def _answer(client: httpx.AsyncClient, target: Target, num_words: int) -> Row:
    row = Row(0, 0.0)
    text = words(num_words, f"probe {num_words}")
    await ask(
        client,
        target.url,
        target.body(Ask([{"role": "user", "content": text}], 4)),
        row,
        lambda: 0.0,
    )
    return row


def _check(row: Row, target: Target, variable: str) -> None:
    if row.error is None:
        return
    if row.error.isdecimal():
        hint = f"--model NAME: {target.model} was asked for; --endpoint names the route"
        raise _refused(int(row.error), row.detail, target.url, variable, hint)
    raise _absent(target.base, row.detail or row.error)


def _absent(base: str, why: object) -> LmstackError:
    return RemoteError(
        f"no server answers at {base}: {str(why) or type(why).__name__}",
        hint="start it (lmstack up DIR), or check the address",
        param="url",
    )


def _refused(status: int, said: str, url: str, variable: str, hint: str) -> LmstackError:
    what = f"{url} answers {status}: {said}"
    if status in (401, 403):
        return AuthError(what, hint=f"export {variable}=KEY, or --api-key-env NAME", param="url")
    if status == 404:
        return NotFoundError(what, hint=hint, param="model")
    if status == 429:
        return OverloadedError(what, hint="wait until others are done, and start again")
    if status in (400, 422):
        return InputError(what, hint="--body JSON changes what is sent; see --help")
    return RemoteError(what, hint="look at the server's log")
