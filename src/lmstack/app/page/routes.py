"""The page's routes on the server's app: `/`, `/static/*` and the JSON that the page reads.

They pass the guards that `lmstack.serve.create_app` puts before every route (host, origin,
key). What the answers are made of is `PageView`'s. The routes serve the page only and may
change with it, so they are not in the OpenAPI schema; programs use `/v1`.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal, ParamSpec, TypeVar

from fastapi import FastAPI
from pydantic import Field, StringConstraints
from starlette.requests import Request
from starlette.responses import Response

from lmstack.app.page.agents.live import LiveRuns
from lmstack.app.page.agents.routes import add_agents
from lmstack.app.page.assets import Asset, read_assets, serve_asset
from lmstack.app.page.receive import receive
from lmstack.app.page.stream import AnswerStream
from lmstack.app.page.view import PageView
from lmstack.core import InputError, LmstackError, Message, OverloadedError, shown
from lmstack.rag import AnswerWishes
from lmstack.release.feedback import FeedbackJudgement, Verdict
from lmstack.serve.http.body import parse_json, read_json
from lmstack.serve.http.fields import Body, text_up_to
from lmstack.serve.http.guard import unexpected
from lmstack.serve.http.state import caller_of, state_of

__all__ = ["PUBLIC_PATHS", "Queue", "add_page"]

P = ParamSpec("P")
T = TypeVar("T")


class Queue:
    """``at_once`` pieces run in threads and up to ``waiting`` wait; whoever comes then is told to
    come back. ``what`` is waited for, in words. For one event loop."""

    def __init__(self, at_once: int, waiting: int, what: str) -> None:
        self._places = asyncio.Semaphore(at_once)
        self._most = at_once + waiting
        self._in = 0
        self._what = what

    async def run(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """What ``work`` returns, or `OverloadedError` at once."""
        if self._in >= self._most:
            raise OverloadedError(
                f"there are {self._in} {self._what} already", hint="try again", retry_after_s=1
            )
        self._in += 1
        try:
            async with self._places:
                return await asyncio.to_thread(work, *args, **kwargs)
        finally:
            self._in -= 1


# Served without a key: the page itself holds no data, and asks for the key where one is needed.
PUBLIC_PATHS = ("/", "/static/*", "/agents", "/agents/*")
MAX_QUESTION = 4000
MAX_PAST = 20_000
MAX_BODY_BYTES = 512 * 1024
MAX_COMMENT = 2000
DEFAULT_WIDTH = 1_200
MAX_DRAWING = 32


class Past(Body):
    """One message of the conversation before the question."""

    role: Literal["user", "assistant"]
    content: Annotated[
        str, StringConstraints(min_length=1, max_length=MAX_PAST), text_up_to(MAX_PAST)
    ]


class Ask(Body):
    question: Annotated[
        str,
        StringConstraints(min_length=1, max_length=MAX_QUESTION, strip_whitespace=True),
        text_up_to(MAX_QUESTION),
    ]
    history: Annotated[list[Past], Field(max_length=16, default_factory=list)]
    where: dict[str, Any] | None = None
    answers: Literal["quote", "write"] | None = None
    unsure: Literal["closest", "strict"] | None = None
    task: Literal["answer", "summarize", "compare", "list", "draft"] | None = None


class Judged(Body):
    """What somebody thinks of an answer; all empty takes it back."""

    request_id: Annotated[str, StringConstraints(min_length=1, max_length=64)]
    verdict: Verdict | None = None
    comment: Annotated[str, StringConstraints(max_length=MAX_COMMENT, strip_whitespace=True)] = ""
    wrong_sources: Annotated[list[int], Field(max_length=100, default_factory=list)]
    edit: Annotated[
        str,
        StringConstraints(max_length=MAX_PAST, strip_whitespace=True),
        text_up_to(MAX_PAST),
    ] = ""
    consent: bool = False


class Nothing(Body):
    """A body without fields."""


def add_page(
    app: FastAPI,
    *,
    view: PageView,
    record: Callable[[Mapping[str, Any]], object] = lambda _: None,
    agents: LiveRuns | None = None,
) -> None:
    """Serve the page that ``view`` fills from ``app``, which `lmstack.serve.create_app` made with
    `PUBLIC_PATHS` among its ``public_paths``. ``record`` writes to the audit log. ``agents``:
    runs to show below `/agents`."""
    assets = read_assets()
    routes = _Routes(view, record, assets, has_agents=agents is not None)
    if agents is not None:
        add_agents(app, agents, assets, record)
    for path, handler, methods in [
        ("/", routes.page, ["GET", "HEAD"]),
        ("/static/{name}", routes.static, ["GET", "HEAD"]),
        ("/api/status", routes.status, ["GET"]),
        ("/api/documents", routes.documents, ["GET"]),
        ("/api/documents/{id}", routes.document, ["GET"]),
        ("/api/documents/{id}/text", routes.text, ["GET"]),
        ("/api/documents/{id}/boxes", routes.boxes, ["GET"]),
        ("/api/documents/{id}/pages/{number}", routes.picture, ["GET"]),
        ("/api/facets", routes.facets, ["GET"]),
        ("/api/suggestions", routes.suggestions, ["GET"]),
        ("/api/index", routes.index, ["POST"]),
        ("/api/ask", routes.ask, ["POST"]),
        ("/api/feedback", routes.feedback, ["POST"]),
        ("/api/uploads", routes.upload, ["PUT"]),
    ]:
        app.add_route(path, handler, methods=methods, include_in_schema=False)


class _Routes:
    """One method a route; what may block goes to a thread."""

    def __init__(
        self,
        view: PageView,
        record: Callable[[Mapping[str, Any]], object],
        assets: Mapping[str, Asset],
        *,
        has_agents: bool,
    ) -> None:
        self._view = view
        self._has_agents = has_agents
        self._drawing = Queue(at_once=1, waiting=MAX_DRAWING, what="pages to draw")
        self._record = record
        self._assets = assets

    async def page(self, request: Request) -> Response:
        return serve_asset(request, self._assets, "index.html")

    async def static(self, request: Request) -> Response:
        return serve_asset(request, self._assets, request.path_params["name"])

    async def status(self, request: Request) -> Response:
        client = caller_of(request).client
        status = await asyncio.to_thread(self._view.status, client)
        return _json({**status, "agents": self._has_agents and request.state.is_operator})

    async def documents(self, request: Request) -> Response:
        wanted = request.query_params.get("find", "")[:200]
        client = caller_of(request).client
        where = await asyncio.to_thread(self._view.filter_of, _where(request), client)
        return _json(await asyncio.to_thread(self._view.documents, wanted, client, where))

    async def facets(self, request: Request) -> Response:
        client = caller_of(request).client
        return _json(await asyncio.to_thread(self._view.facets, client))

    async def document(self, request: Request) -> Response:
        start, around = _count(request, "start"), _count(request, "around")
        found = await asyncio.to_thread(
            self._view.document,
            _identity(request),
            path=request.query_params.get("path"),
            start=start,
            around=around,
            client=caller_of(request).client,
        )
        return _json(found)

    async def text(self, request: Request) -> Response:
        path = request.query_params.get("path")
        client = caller_of(request).client
        text = await asyncio.to_thread(self._view.document_text, _identity(request), path, client)
        data = text.encode("utf-8", "replace")
        return Response(data, media_type="text/plain; charset=utf-8")

    async def boxes(self, request: Request) -> Response:
        found = await self._drawing.run(
            self._view.boxes,
            _identity(request),
            _count(request, "start") or 0,
            _count(request, "end") or 0,
            caller_of(request).client,
        )
        return _json(found)

    async def picture(self, request: Request) -> Response:
        data, etag = await self._drawing.run(
            self._view.picture,
            _identity(request),
            _natural(request.path_params["number"], "page"),
            _count(request, "width") or DEFAULT_WIDTH,
            caller_of(request).client,
        )
        # Private: what one caller may see is not for a cache that others share.
        headers = {"ETag": etag, "Cache-Control": "private, no-cache"}
        if etag in request.headers.get("if-none-match", ""):
            return Response(status_code=304, headers=headers)
        return Response(data, headers=headers, media_type="image/png")

    async def suggestions(self, request: Request) -> Response:
        client = caller_of(request).client
        return _json({"questions": await self._view.suggestions(client)})

    async def index(self, request: Request) -> Response:
        await read_json(request, Nothing, MAX_BODY_BYTES)
        self._view.start_indexing()
        return await self.status(request)

    async def ask(self, request: Request) -> Response:
        asked = await read_json(request, Ask, MAX_BODY_BYTES)
        history = tuple(Message(past.role, past.content) for past in asked.history)
        # Before the stream begins: a wrong one is an answer of its own.
        caller = caller_of(request)
        where = await asyncio.to_thread(self._view.filter_of, asked.where, caller.client)

        def failed(error: Exception) -> LmstackError:
            return unexpected(error, request.scope)

        def left() -> None:
            request.state.gone = True

        return AnswerStream(
            self._view.ask(
                asked.question,
                history,
                client=caller.client,
                request_id=caller.request_id,
                where=where,
                wishes=AnswerWishes(asked.answers, asked.unsure, asked.task),
            ),
            stopping=state_of(request).stopping,
            failed=failed,
            left=left,
        )

    async def feedback(self, request: Request) -> Response:
        judged = await read_json(request, Judged, MAX_BODY_BYTES)
        wrong = tuple(judged.wrong_sources)
        judgement = FeedbackJudgement(
            judged.verdict, judged.comment, wrong, judged.edit, judged.consent
        )
        client = caller_of(request).client
        await asyncio.to_thread(self._view.judge, judged.request_id, judgement, client)
        return _json({"kept": not judgement.is_empty})

    async def upload(self, request: Request) -> Response:
        incoming = await receive(request, self._view.uploads, self._record)
        self._view.start_indexing()
        named = self._view.name_of(incoming.path)
        return _json({"path": named, "bytes": incoming.size}, 201)


def _json(value: Any, status: int = 200) -> Response:
    # ASCII JSON: a lone surrogate in a document or a path is carried as an escape.
    data = json.dumps(value).encode("ascii")
    return Response(data, status_code=status, media_type="application/json")


def _where(request: Request) -> object:
    """The filter in the query, as JSON; its meaning is `PageView`'s to check."""
    value = request.query_params.get("where")
    return None if value is None else parse_json(value.encode("utf-8", "surrogatepass"))


def _identity(request: Request) -> int:
    return _natural(request.path_params["id"], "id")


def _count(request: Request, name: str) -> int | None:
    value = request.query_params.get(name)
    return None if value is None else _natural(value, name)


def _natural(value: str, name: str) -> int:
    if not (value.isascii() and value.isdigit() and len(value) <= 15):
        raise InputError(f"{name} is {shown(value)}, not a whole number", param=name)
    return int(value)
