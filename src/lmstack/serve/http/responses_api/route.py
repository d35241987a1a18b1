"""POST /v1/responses: OpenAI's Responses API, stateless, whole or as named events."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel

from lmstack.serve.http.errors import in_words_of
from lmstack.serve.http.parts import answered
from lmstack.serve.http.responses_api.answer import ResponseAnswer, ResponseEvent
from lmstack.serve.http.responses_api.body import ResponsesBody
from lmstack.serve.http.responses_api.mapping import NAMES, responses_request
from lmstack.serve.http.responses_api.shape import ResponseShape
from lmstack.serve.http.routes import post
from lmstack.serve.http.state import caller_of, state_of

__all__ = ["router"]

router = APIRouter()


@post(router, "/v1/responses", ResponsesBody, ResponseAnswer, ResponseEvent, named_events=True)
async def responses(request: Request, body: ResponsesBody) -> BaseModel | Response:
    """Answer a conversation, whole or as named server-sent events. Nothing is kept."""
    model = state_of(request).model(body.model)
    with in_words_of(NAMES):
        asked = responses_request(body, caller_of(request), model.info.default_sampling)
        shape = ResponseShape(body, asked, model.info.digest)
        return await answered(request, model, asked, shape, streamed=bool(body.stream))
