"""POST /v1/messages: Anthropic's Messages API, whole or as named events.

Not covered: /v1/messages/count_tokens and batches.
"""

from __future__ import annotations

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel

from lmstack.serve.http.errors import MESSAGES, AnthropicErrorBody, in_words_of
from lmstack.serve.http.messages_api.answer import MessageAnswer, MessageEvent
from lmstack.serve.http.messages_api.body import MessagesBody
from lmstack.serve.http.messages_api.mapping import NAMES, messages_request
from lmstack.serve.http.messages_api.shape import MessageShape
from lmstack.serve.http.parts import answered
from lmstack.serve.http.routes import post
from lmstack.serve.http.state import caller_of, state_of

__all__ = ["router"]

router = APIRouter()


@post(
    router,
    MESSAGES,
    MessagesBody,
    MessageAnswer,
    MessageEvent,
    failure=AnthropicErrorBody,
    named_events=True,
)
async def messages(request: Request, body: MessagesBody) -> BaseModel | Response:
    """Answer a conversation in Anthropic's words, whole or as named server-sent events."""
    model = state_of(request).model(body.model)
    with in_words_of(NAMES):
        asked = messages_request(body, caller_of(request), model.info.default_sampling)
        shape = MessageShape(body.model, asked)
        return await answered(request, model, asked, shape, streamed=bool(body.stream))
