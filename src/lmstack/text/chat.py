"""Conversations to prompts, with the template that the model was trained on.

Covers rendering in the sandbox (``sandbox.py``) and encoding in which control tokens come from
the template only, never from what a person or a document wrote. Tools and their calls are given to
templates that know them; to others as messages in words (`calls.prompt`). Does not cover guessing:
a model without a template has none.
"""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property, partial
from typing import Any

import jinja2

from lmstack.core import ContextLengthError, FormatError, InputError, Message, Tool, shown
from lmstack.text.calls.call_format import CallFormat
from lmstack.text.calls.probe import probed, shows_tools
from lmstack.text.calls.prompt import (
    PLAIN,
    with_described_tools,
    with_plain_results,
    without_tool_messages,
)
from lmstack.text.control import START, STOP, Untrusted
from lmstack.text.sandbox import GENERATION, MAX_SOURCE, FuelError, environment, fuelled
from lmstack.text.tokenizer import Tokenizer
from lmstack.text.turns import assistant_ranges, generation_ranges, token_ranges

__all__ = ["ChatTemplate"]

_MAX_CHARS = 8_000_000
# Levels of a tool's arguments: nobody means more, and templates walk them on Python's stack.
_MAX_NESTED = 100


class ChatTemplate:
    """A Jinja chat template; ``bos_token`` and ``eos_token`` are what it may print.
    ``plain_results``: the model reads results of tools better as messages of the user's than as
    its template has them.

    Raises `FormatError` where the template itself is at fault and `InputError` where it refuses
    the messages (``raise_exception``).
    """

    def __init__(
        self,
        source: str,
        bos_token: str = "",
        eos_token: str = "",
        *,
        plain_results: bool = False,
    ) -> None:
        if len(source) > MAX_SOURCE:
            raise FormatError(
                f"the chat template has {len(source)} characters, more than {MAX_SOURCE}",
                hint="no chat template needs that much: take the model from its first source",
            )
        self.source = source
        self.plain_results = plain_results
        self._names = {"bos_token": bos_token, "eos_token": eos_token}
        try:
            with fuelled(200_000):
                self._template = environment().from_string(source)
        except Exception as error:
            raise FormatError(
                f"the chat template does not compile: {shown(str(error), 200)}",
                hint="take the model's chat_template from its first source",
            ) from error

    def render(
        self,
        messages: Sequence[Message],
        *,
        tools: Sequence[Tool] = (),
        add_generation_prompt: bool = True,
    ) -> str:
        """The prompt as text. For a model, use `encode`: in text, a message that spells a
        control token looks like one."""
        dicts, shown_tools = self._given(messages, tools, _same)
        return self._render(dicts, add_generation_prompt, tools=shown_tools)

    @cached_property
    def call_format(self) -> CallFormat:
        """How calls of tools are written: as the template writes them, if it does."""
        return self._own_calls or PLAIN

    @cached_property
    def _own_calls(self) -> CallFormat | None:
        return probed(self._probe)

    @cached_property
    def _shows_tools(self) -> bool:
        return self._own_calls is not None and shows_tools(self._probe)

    @cached_property
    def _takes_system(self) -> bool:
        try:
            self.render([Message("system", "x"), Message("user", "x")])
        except (InputError, FormatError):
            return False
        return True

    def _probe(
        self,
        messages: Sequence[Mapping[str, Any]],
        tools: Sequence[Mapping[str, Any]],
        add_generation_prompt: bool,
    ) -> str:
        return self._render(messages, add_generation_prompt, tools=tools)

    def _given(
        self, messages: Sequence[Message], tools: Sequence[Tool], hide: Callable[[str], str]
    ) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        """Messages and tools as this template takes them."""
        if self.plain_results:
            messages = with_plain_results(messages)
        calls = any(message.tool_calls for message in messages)
        form = self._own_calls if tools or calls else PLAIN
        if form is None:
            form = PLAIN
            # In a way that is not understood a template may still show calls of earlier turns.
            if tools or "tool_calls" not in self.source:
                messages = without_tool_messages(messages, form)
        if tools and not self._shows_tools:
            in_system = self._takes_system
            messages = with_described_tools(messages, tools, form, in_system=in_system)
            tools = ()
        dicts = [_as_dict(message, hide, form) for message in messages]
        return dicts, [_tool_dict(tool, hide) for tool in tools]

    def unread_name(self, messages: Sequence[Message]) -> int | None:
        """The place of the first of ``messages`` whose name is not in the prompt; that of a tool
        is known from the call that it answers.

        A prompt is made with names that occur nowhere else. Whether a template shows a name or
        drops it may depend on the role.
        """
        named = [place for place, m in enumerate(messages) if m.name and m.role != "tool"]
        marks = {place: f"n{uuid.uuid4().hex}" for place in named}
        if not marks:
            return None
        marked = [replace(m, name=marks.get(place, m.name)) for place, m in enumerate(messages)]
        prompt = self.render(marked).lower()
        return next((place for place, mark in marks.items() if mark not in prompt), None)

    def encode(
        self,
        messages: Sequence[Message],
        tokenizer: Tokenizer,
        *,
        tools: Sequence[Tool] = (),
        add_generation_prompt: bool = True,
    ) -> list[int]:
        """The prompt as token ids. ``tools``: those that the model is shown.

        Strings in messages that spell a control token, whole or together with what stands next
        to them, are encoded as ordinary text. Otherwise equal to
        ``transformers.apply_chat_template(tokenize=True)``.
        """
        guard = Untrusted(tokenizer.special_tokens)
        dicts, shown_tools = self._given(messages, tools, guard.hide)
        rendered = self._render(dicts, add_generation_prompt, tools=shown_tools)
        ids: list[int] = []
        for text, special in guard.split(rendered):
            ids += tokenizer.encode(text, special=special, add_special_tokens=False)
        return ids

    def encode_turns(
        self,
        messages: Sequence[Message],
        tokenizer: Tokenizer,
        *,
        tools: Sequence[Tool] = (),
        after: int = 0,
    ) -> tuple[list[int], list[tuple[int, int]]]:
        """The conversation's token ids, those of `encode` without a prompt, and the ranges of them
        that the assistant wrote, each with the token that ends the turn. ``tools``: those that the
        model is shown. ``after``: turns among so many first messages are left out, and may be
        rendered in another way later on.

        By the template's ``{% generation %}`` marks where it has any, as transformers'
        ``return_assistant_tokens_mask`` does; otherwise what each turn adds to its prompt.
        `InputError` where these cannot be told, or there are none.
        """
        guard = Untrusted(tokenizer.special_tokens)
        dicts, shown_tools = self._given(messages, tools, guard.hide)
        after = len(self._given(messages[:after], tools, _same)[0]) if after else 0
        if self.has_generation_marks:
            marks = dict(zip(GENERATION, (START, STOP), strict=True))
            rendered, ranges = generation_ranges(self._render(dicts, False, marks, shown_tools))
            wanted = sum(message["role"] == "assistant" for message in dicts[after:])
            ranges = ranges[max(len(ranges) - wanted, 0) :]
        else:
            rendered, ranges = assistant_ranges(
                dicts, partial(self._render, tools=shown_tools), after
            )
        bounds = guard.places(rendered, [bound for each in ranges for bound in each])
        ids: list[int] = []
        offsets: list[tuple[int, int]] = []
        text = ""
        for part, special in guard.split(rendered):
            # Before post-processing, which would take spaces out of offsets.
            [encoding] = tokenizer.unfinished([part], special=special)
            ids += encoding.ids
            offsets += [(a + len(text), b + len(text)) for a, b in encoding.offsets]
            text += part
        ranges = list(zip(bounds[::2], bounds[1::2], strict=True))
        marked = self.has_generation_marks
        return ids, token_ranges(ranges, ids, offsets, text, tokenizer, is_marked=marked)

    @property
    def has_generation_marks(self) -> bool:
        """Whether the template says itself what the assistant wrote."""
        return re.search(r"\{%[-+]?\s*generation\s*[-+]?%\}", self.source) is not None

    def _render(
        self,
        messages: Sequence[Mapping[str, Any]],
        add_generation_prompt: bool,
        names: Mapping[str, str] | None = None,
        tools: Sequence[Mapping[str, Any]] = (),
    ) -> str:
        size = sum(len(m["content"] or "") for m in messages)
        size += sum(len(json.dumps(tool)) for tool in tools)
        if size > _MAX_CHARS:
            raise ContextLengthError(
                f"the messages have {size} characters, more than {_MAX_CHARS}",
                hint="no model reads that much at once: send less",
                param="messages",
            )
        units = 200_000 + 5_000 * len(messages) + size // 4
        try:
            with fuelled(units):
                return self._template.render(
                    messages=messages,
                    add_generation_prompt=add_generation_prompt,
                    # Templates tell no tools by None, or by there being no such name.
                    **({"tools": list(tools)} if tools else {}),
                    **self._names,
                    **(names or {}),
                )
        except FuelError as error:
            raise FormatError(
                f"the chat template was stopped: {error.message}",
                hint="take the model's chat_template from its first source",
            ) from error
        except jinja2.exceptions.SecurityError as error:
            raise FormatError(
                f"the chat template tries what it may not: {shown(error.message, 200)}",
                hint="do not use this model file; take it from its first source",
            ) from error
        except (jinja2.UndefinedError, jinja2.TemplateRuntimeError) as error:
            raise self._failed(error) from error
        except jinja2.TemplateError as error:
            raise InputError(
                f"the model's chat template refuses these messages: {shown(error.message, 200)}",
                hint="change the order or the roles of the messages",
                param="messages",
            ) from error
        except Exception as error:
            raise self._failed(error) from error

    def _failed(self, error: Exception) -> FormatError:
        return FormatError(
            f"the chat template failed: {type(error).__name__}: {shown(str(error), 200)}",
            hint="take the model's chat_template from its first source",
        )


def _same(text: str) -> str:
    return text


def _tool_dict(tool: Tool, hide: Callable[[str], str]) -> dict[str, Any]:
    """A tool as templates expect it, which is how OpenAI's API writes one.

    Its schema begins with the type, as in what models are trained on. Of one that begins with the
    properties, as pydantic writes it, small models copy the form instead of filling it in.
    """
    parameters = _hidden(tool.parameters, hide, _MAX_NESTED)
    if "type" in parameters:
        parameters = {"type": parameters["type"], **parameters}
    function = {
        "name": tool.name,
        "description": hide(tool.description),
        "parameters": parameters,
    }
    return {"type": "function", "function": function}


def _as_dict(message: Message, hide: Callable[[str], str], form: CallFormat) -> dict[str, Any]:
    """A message as templates expect it; ``hide`` goes over every string that others wrote."""
    result: dict[str, Any] = {"role": message.role, "content": hide(message.content)}
    if message.tool_calls and not message.content:
        result["content"] = form.empty_content
    if message.name is not None:
        result["name"] = hide(message.name)
    if message.tool_call_id is not None:
        result["tool_call_id"] = hide(message.tool_call_id)
    if message.tool_calls:
        result["tool_calls"] = [
            {
                "id": hide(call.id),
                "type": "function",
                "function": {
                    "name": hide(call.name),
                    "arguments": hide(call.arguments)
                    if form.arguments_as == "text"
                    else _arguments(call.arguments, hide),
                },
            }
            for call in message.tool_calls
        ]
    return result


def _arguments(written: str, hide: Callable[[str], str]) -> Any:
    """Templates print arguments as a value; what is no JSON, or nested too deep, stays text."""
    try:
        return _hidden(json.loads(written), hide, _MAX_NESTED)
    except (ValueError, RecursionError):
        return hide(written)


def _hidden(value: Any, hide: Callable[[str], str], depth: int) -> Any:
    """``depth``: levels that may be left; `RecursionError` where there are more."""
    if isinstance(value, str):
        return hide(value)
    if isinstance(value, list | dict) and not depth:
        raise RecursionError
    if isinstance(value, list):
        return [_hidden(item, hide, depth - 1) for item in value]
    if isinstance(value, dict):
        return {hide(key): _hidden(item, hide, depth - 1) for key, item in value.items()}
    return value
