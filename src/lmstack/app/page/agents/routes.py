"""`/agents`: the routes of agents' runs on the server's app.

The pages themselves hold no data, like `/`: they ask `/api/agents` for it, with the key where one
is needed. A run holds whatever its tools returned, and carries no access labels, so that only
whoever operates the server sees runs and decides about calls; a server without keys is its
user's.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Callable, Mapping
from functools import partial
from typing import Annotated, Any, Literal

from fastapi import FastAPI
from pydantic import StringConstraints
from starlette.requests import Request
from starlette.responses import Response

from lmstack.agents import ApprovalDecision
from lmstack.app.page.agents.cards import MAX_REASON
from lmstack.app.page.agents.live import LiveRuns
from lmstack.app.page.assets import Asset, has_current, read_assets, serve_asset
from lmstack.app.server.approvals import PendingApproval
from lmstack.core import AuthError
from lmstack.serve import create_app
from lmstack.serve.http.body import read_json
from lmstack.serve.http.errors import operator_only
from lmstack.serve.http.fields import Body
from lmstack.serve.http.state import caller_of

__all__ = ["add_agents", "agents_app"]

MAX_BODY_BYTES = 16 * 1024


class Decide(Body):
    """What a person says about a call. ``reason``: told to the model where it is denied."""

    verdict: Literal["approved", "denied"]
    reason: Annotated[str, StringConstraints(max_length=MAX_REASON, strip_whitespace=True)] = ""


def agents_app(runs: LiveRuns, record: Callable[[Mapping[str, Any]], object], key: str) -> FastAPI:
    """The pages of ``runs`` by themselves, for a process that serves nothing else. ``key``: whoever
    has it sees them and decides; other users of the machine reach its ports too."""
    assets = read_assets()
    public = ("/static/*", "/agents", "/agents/*")
    app = create_app(models={}, api_keys=[key], public_paths=public)
    add_agents(app, runs, assets, record)

    async def status(request: Request) -> Response:
        return _fresh(request, b"{}")  # the page tries a key that somebody types on it

    async def static(request: Request) -> Response:
        return serve_asset(request, assets, request.path_params["name"])

    app.add_route("/api/status", status, methods=["GET"], include_in_schema=False)
    app.add_route("/static/{name}", static, methods=["GET", "HEAD"], include_in_schema=False)
    return app


def add_agents(
    app: FastAPI,
    runs: LiveRuns,
    assets: Mapping[str, Asset],
    record: Callable[[Mapping[str, Any]], object],
) -> None:
    """``record`` writes to the audit log, before a decision holds."""
    routes = _Routes(runs, assets, record)
    for path, handler, methods in [
        ("/agents", routes.page, ["GET", "HEAD"]),
        ("/agents/{run_id:path}.json", routes.as_json, ["GET"]),
        ("/agents/{run_id:path}", routes.page, ["GET", "HEAD"]),
        ("/api/agents", routes.listed, ["GET"]),
        ("/api/agents/{run_id:path}", routes.view, ["GET"]),
        ("/api/approvals/{id}", routes.decide, ["POST"]),
    ]:
        app.add_route(path, handler, methods=methods, include_in_schema=False)


class _Routes:
    def __init__(
        self,
        runs: LiveRuns,
        assets: Mapping[str, Asset],
        record: Callable[[Mapping[str, Any]], object],
    ) -> None:
        self._runs, self._assets, self._record = runs, assets, record

    async def page(self, request: Request) -> Response:
        return serve_asset(request, self._assets, "agents.html")

    async def listed(self, request: Request) -> Response:
        _operator_only(request)
        return _fresh(request, await asyncio.to_thread(_bytes, self._runs.listed))

    async def view(self, request: Request) -> Response:
        _operator_only(request)
        show = partial(self._runs.view, request.path_params["run_id"])
        return _fresh(request, await asyncio.to_thread(_bytes, show))

    async def as_json(self, request: Request) -> Response:
        _operator_only(request)
        show = partial(self._runs.as_json, request.path_params["run_id"])
        return _fresh(request, await asyncio.to_thread(_bytes, show))

    async def decide(self, request: Request) -> Response:
        _operator_only(request)
        said = await read_json(request, Decide, MAX_BODY_BYTES)
        caller = caller_of(request)
        decision = ApprovalDecision(said.verdict, said.reason, by=caller.client)

        def record(asked: PendingApproval) -> None:
            self._record(
                {
                    "event": "agent_call_decided",
                    "request": caller.request_id,
                    "client": caller.client,
                    "verdict": said.verdict,
                    **_call(asked),
                }
            )

        await asyncio.to_thread(self._runs.decide, request.path_params["id"], decision, record)
        return _fresh(request, json.dumps({"verdict": said.verdict}).encode())


def _call(asked: PendingApproval) -> dict[str, str]:
    """Which call it was; its arguments by their hash, as the log holds no texts."""
    request = asked.request
    digest = hashlib.sha256(request.arguments.encode("utf-8", "surrogatepass")).hexdigest()
    return {
        "run": request.run_id,
        "call": request.call_id,
        "tool": request.tool,
        "arguments_sha256": digest,
    }


def _operator_only(request: Request) -> None:
    """The addresses below `/agents` need no key, since pages are among them: here it is asked
    for."""
    if not request.state.is_operator and not caller_of(request).client.startswith("key:"):
        raise AuthError(
            "the API key is missing or wrong", hint="send Authorization: Bearer YOUR-KEY"
        )
    operator_only(request, "runs of agents hold whatever their tools returned")


def _bytes(value: Callable[[], Any]) -> bytes:
    # ASCII JSON: a lone surrogate in a text is carried as an escape.
    return json.dumps(value()).encode("ascii")


def _fresh(request: Request, data: bytes) -> Response:
    """``data``, or 304 where the page has it already."""
    etag = f'"{hashlib.sha256(data).hexdigest()[:32]}"'
    headers = {"ETag": etag, "Cache-Control": "private, no-cache"}
    if request.method == "GET" and has_current(request, etag):
        return Response(status_code=304, headers=headers)
    return Response(data, headers=headers, media_type="application/json")
