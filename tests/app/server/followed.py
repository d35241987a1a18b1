"""Servers that follow an alias, over real sockets, and what tests ask them."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.serve.conftest import running

from lmstack.app import wiring
from lmstack.app.server import following
from lmstack.app.server.serve import Service
from lmstack.app.wiring import retrieval

__all__ = [
    "LONG",
    "PROMPTS",
    "Start",
    "body",
    "connected",
    "digest_listed",
    "digest_now",
    "figures",
    "has_digest",
    "is_behind",
    "records",
    "servers",
    "until",
]

LONG = 80
PROMPTS = {"the cat": 4, "dog number 7": 6, "and saw": 3, "number": LONG}
Start = Callable[..., Service]


@contextlib.contextmanager
def servers(docs: Path, patch: pytest.MonkeyPatch) -> Iterator[Start]:
    """Starts what `lmstack up prod` serves, which looks often; all are closed at the end."""
    patch.setattr(following, "LOOK_EVERY_S", 0.02)
    patch.setattr(following, "IDLE_S", 0.1)
    patch.setattr(retrieval, "answer_reranker", lambda *_: None)
    services: list[Service] = []

    def build(**options: Any) -> Service:
        given = {"model": "prod", "embedder_name": None, "api_keys": (), "local": True, **options}
        services.append(wiring.service(docs, **given))
        return services[-1]

    yield build
    for service in services:
        service.close()


@contextlib.asynccontextmanager
async def connected(service: Service) -> AsyncIterator[httpx.AsyncClient]:
    limits = httpx.Limits(max_connections=32)
    async with (
        running(service.app) as url,
        httpx.AsyncClient(base_url=url, timeout=60, limits=limits) as client,
    ):
        yield client


def body(prompt: str = "the cat", model: str = "prod", **more: Any) -> dict[str, Any]:
    asked = {"model": model, "prompt": prompt, "max_tokens": PROMPTS[prompt], "temperature": 0}
    return {**asked, "ignore_eos": True, **more}


async def digest_now(client: httpx.AsyncClient, model: str = "prod") -> str:
    answer = await client.post("/v1/completions", json=body(model=model))
    assert answer.status_code == 200, answer.text
    return str(answer.json()["system_fingerprint"])


async def digest_listed(client: httpx.AsyncClient, model: str = "prod") -> str:
    return str((await client.get(f"/v1/models/{model}")).json()["digest"])


async def has_digest(told: Any, expected: str) -> bool:
    return await told == expected


async def until(told: Callable[[], Any]) -> None:
    async with asyncio.timeout(120):
        while True:
            found = told()
            if await found if asyncio.iscoroutine(found) else found:
                return
            await asyncio.sleep(0.02)


async def figures(client: httpx.AsyncClient) -> dict[str, float]:
    lines = (await client.get("/metrics")).text.splitlines()
    told = (line.removeprefix("lmstack_").split() for line in lines if "lmstack_release" in line)
    return {name: float(value) for name, value in (each for each in told if len(each) == 2)}


async def is_behind(client: httpx.AsyncClient, number: int) -> bool:
    return (await figures(client))["releases_behind"] == number


def records(event: str) -> list[dict[str, Any]]:
    """Of the audit log."""
    path = wiring.audit_path()
    lines = path.read_bytes().splitlines() if path.exists() else []
    found = [json.loads(line) for line in lines]
    return [each for each in found if each["event"] == event]
