"""The calls of one request: the grammar that holds an answer to them, and how they are read.

Joins what a template writes (`text.calls`), the tools of the request and the model's tokens. Does
not cover running tools.
"""

from __future__ import annotations

import hashlib
import json
import re
import string
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from lmstack.core import Grammar, Request, UnsupportedError
from lmstack.core.schemas import json_validator
from lmstack.engine import MAX_CALLS, Piece, ToolGrammar
from lmstack.engine.constraints.tool_grammar import closed
from lmstack.text import (
    CallFormat,
    CallReader,
    ChatTemplate,
    JsonArguments,
    Tokenizer,
    control_tokens_of,
)

__all__ = ["RequestCalls", "calls_of"]

_ALPHABET = string.digits + string.ascii_letters
_ID_LENGTH = 9  # what every template takes: Mistral's refuses others


def calls_of(
    request: Request, template: ChatTemplate | None, tokenizer: Tokenizer, *, encodes: bool
) -> RequestCalls | None:
    """None where the answer may not call anything."""
    if request.tools and (template is None or encodes):
        raise UnsupportedError(
            "this model has no chat template, so it cannot be given tools",
            hint="use a chat model, for example smollm2-135m-instruct",
            param="tools",
        )
    if not request.called_tools:
        return None
    assert template is not None, "checked above"
    form = template.call_format
    return RequestCalls(request, form, control_tokens_of(form, tokenizer.special_tokens))


@dataclass(frozen=True)
class RequestCalls:
    """``control_tokens``: those in the texts of ``form``, with their ids."""

    request: Request
    form: CallFormat
    control_tokens: Mapping[str, int]

    @cached_property
    def grammar(self) -> Grammar:
        form = self.form
        return ToolGrammar(
            lead=self._piece(form.lead),
            name_end=self._piece(form.name_end),
            end=self._piece(form.end),
            tools=tuple((tool.name, tool.parameters) for tool in self.request.called_tools),
            required=self.request.tool_choice != "auto",
            max_calls=self._max_calls,
            between=self._piece(form.between or ""),
            end_of_many=None if form.end_of_many is None else self._piece(form.end_of_many),
            opening=self._piece(form.opening),
            id_lead=self._piece(form.id_lead or ""),
            ids=() if form.id_lead is None else self.ids,
            **self._arguments(),
        ).grammar()

    def _arguments(self) -> dict[str, Any]:
        form = self.form.arguments
        if isinstance(form, JsonArguments):
            return {"separators": (form.item_separator, form.key_separator)}
        tags = tuple(self._piece(text) for text in (form.lead, form.key_end, form.value_end))
        python, plain = ("True", "False", "None"), ("true", "false", "null")
        return {"tags": tags, "names": python if form.python_names else plain}

    @property
    def _max_calls(self) -> int:
        request, form = self.request, self.form
        one = not request.parallel_tool_calls or request.tool_choice not in ("auto", "required")
        return 1 if one or form.between is None else min(form.max_calls or MAX_CALLS, MAX_CALLS)

    @cached_property
    def ids(self) -> tuple[str, ...]:
        """Of the calls, in order: the same for the same request, so that a seed gives the same
        tokens where the model writes them."""
        asked = repr((self.request.messages, self.request.tools)).encode()
        return tuple(_call_id(asked, place) for place in range(MAX_CALLS))

    def reader(self) -> CallReader:
        """For one choice."""
        tools = self.request.called_tools
        return CallReader(
            *(self.form, tools, self.ids, self.control_tokens),
            fits=self._fits,
            max_calls=self._max_calls,
        )

    def _fits(self, name: str, arguments: Mapping[str, Any]) -> bool:
        """Whether the grammar would have let these arguments pass."""
        schema = self._schemas.get(name)
        if schema is None:
            return False
        try:
            return bool(json_validator(schema).is_valid(arguments))
        except ValueError:
            return False  # no validator can hold them to it

    @cached_property
    def _schemas(self) -> Mapping[str, str]:
        return {t.name: json.dumps(closed(t.parameters)) for t in self.request.called_tools}

    def _piece(self, text: str) -> Piece:
        tokens = self.control_tokens
        if not tokens:
            return (text,) if text else ()
        pattern = "|".join(map(re.escape, sorted(tokens, key=len, reverse=True)))
        parts = re.split(f"({pattern})", text)
        return tuple(tokens.get(part, part) for part in parts if part)


def _call_id(asked: bytes, place: int) -> str:
    digest = hashlib.blake2b(asked, digest_size=16, key=b"call %d" % place).digest()
    number = int.from_bytes(digest, "big")
    letters = []
    for _ in range(_ID_LENGTH):
        number, rest = divmod(number, len(_ALPHABET))
        letters.append(_ALPHABET[rest])
    return "".join(letters)
