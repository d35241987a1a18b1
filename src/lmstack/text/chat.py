"""Conversations to prompts, with the template that the model was trained on.

Covers rendering in the sandbox (``sandbox.py``) and encoding in which control tokens come from
the template only, never from what a person or a document wrote. Does not cover guessing: a model
without a template has none.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from typing import Any

import jinja2

from lmstack.core import FormatError, InputError, Message, shown
from lmstack.text.sandbox import MAX_SOURCE, FuelError, environment, fuelled
from lmstack.text.tokenizer import Tokenizer

__all__ = ["ChatTemplate"]

# Noncharacters: valid in a str, never assigned, so no template or filter cares about them.
_OPEN, _CLOSE = "\ufdd0", "\ufdd1"
_MARK = re.compile(f"{_OPEN}([0-9]+){_CLOSE}")


class ChatTemplate:
    """A Jinja chat template; ``bos_token`` and ``eos_token`` are what it may print.

    Raises `FormatError` where the template itself is at fault and `InputError` where it refuses
    the messages (``raise_exception``).
    """

    def __init__(self, source: str, bos_token: str = "", eos_token: str = "") -> None:
        if len(source) > MAX_SOURCE:
            raise FormatError(
                f"the chat template has {len(source)} characters, more than {MAX_SOURCE}",
                hint="no chat template needs that much: take the model from its first source",
            )
        self.source = source
        self._names = {"bos_token": bos_token, "eos_token": eos_token}
        try:
            with fuelled(1_000_000, len(source)):
                self._template = environment().from_string(source)
        except Exception as error:
            raise FormatError(
                f"the chat template does not compile: {shown(str(error), 200)}",
                hint="take the model's chat_template from its first source",
            ) from error

    def render(self, messages: Sequence[Message], *, add_generation_prompt: bool = True) -> str:
        """The prompt as text. For a model, use `encode`: in text, a message that spells a
        control token looks like one."""
        return self._render([_as_dict(m, _same) for m in messages], add_generation_prompt)

    def encode(
        self,
        messages: Sequence[Message],
        tokenizer: Tokenizer,
        *,
        add_generation_prompt: bool = True,
    ) -> list[int]:
        """The prompt as token ids.

        Strings in messages that spell a control token, whole or together with what stands next
        to them, are encoded as ordinary text. Otherwise equal to
        ``transformers.apply_chat_template(tokenize=True)``.
        """
        guard = _Guard(tokenizer.special_tokens)
        dicts = [_as_dict(m, guard.hide) for m in messages]
        rendered = self._render(dicts, add_generation_prompt)
        ids: list[int] = []
        for text, special in guard.split(rendered):
            ids += tokenizer.encode(text, special=special, add_special_tokens=False)
        return ids

    def _render(self, messages: list[dict[str, Any]], add_generation_prompt: bool) -> str:
        size = sum(len(m["content"]) for m in messages)
        units = 1_000_000 + 10_000 * len(messages) + size
        try:
            with fuelled(units, len(self.source)):
                return self._template.render(
                    messages=messages, add_generation_prompt=add_generation_prompt, **self._names
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


def _as_dict(message: Message, hide: Callable[[str], str]) -> dict[str, Any]:
    """A message as templates expect it; ``hide`` goes over every string that others wrote."""
    result: dict[str, Any] = {"role": message.role, "content": hide(message.content)}
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
                    "arguments": _hidden(_parsed(call.arguments), hide),
                },
            }
            for call in message.tool_calls
        ]
    return result


def _parsed(arguments: str) -> Any:
    """Templates print arguments as a value; what is no JSON stays text."""
    try:
        return json.loads(arguments)
    except (ValueError, RecursionError):
        return arguments


def _hidden(value: Any, hide: Callable[[str], str]) -> Any:
    if isinstance(value, str):
        return hide(value)
    if isinstance(value, list):
        return [_hidden(item, hide) for item in value]
    if isinstance(value, dict):
        return {hide(key): _hidden(item, hide) for key, item in value.items()}
    return value


class _Guard:
    """Keeps track of which characters of a rendered prompt came from messages, where it matters.

    Every piece of a message that spells a control token, or that could be the part of one which
    its neighbours complete, is replaced by a mark before rendering (templates may trim, split or
    quote contents; they leave marks alone). Afterwards each control token in the text that
    touches such a piece is known not to be the template's own.
    """

    def __init__(self, special_tokens: Sequence[str] | Any) -> None:
        self._tokens = sorted((t for t in special_tokens if t), key=len, reverse=True)
        self._hidden: list[str] = []
        whole = [re.escape(token) for token in self._tokens]
        self._occurrence = re.compile("|".join(whole)) if whole else None
        marks = [_OPEN, _CLOSE]
        self._whole = re.compile("|".join([*whole, *marks]), re.IGNORECASE)

    def hide(self, text: str) -> str:
        marked = self._whole.sub(lambda match: self._mark(match[0]), text)
        core = marked.strip()
        if not core or not self._tokens:
            return marked
        lead = marked[: len(marked) - len(marked.lstrip())]
        tail = marked[len(marked.rstrip()) :]
        if any(core in token for token in self._tokens):
            return lead + self._mark(core) + tail
        start = max((_overlap(token, core) for token in self._tokens), default=0)
        end = max((_overlap(core, token) for token in self._tokens), default=0)
        end = min(end, len(core) - start)
        middle = core[start : len(core) - end]
        first = self._mark(core[:start]) if start else ""
        last = self._mark(core[len(core) - end :]) if end else ""
        return lead + first + middle + last + tail

    def split(self, rendered: str) -> list[tuple[str, bool]]:
        """Pieces of the prompt with the hidden text back in place; True: control tokens count."""
        text, foreign = self._restore(rendered)
        pieces: list[tuple[str, bool]] = []
        start = 0
        for match in self._occurrence.finditer(text) if self._occurrence and foreign else ():
            low, high = match.span()
            if any(low < stop and begin < high for begin, stop in foreign):
                pieces += [(text[start:low], True), (text[low:high], False)]
                start = high
        return [piece for piece in [*pieces, (text[start:], True)] if piece[0]]

    def _mark(self, text: str) -> str:
        self._hidden.append(text)
        return f"{_OPEN}{len(self._hidden) - 1}{_CLOSE}"

    def _restore(self, rendered: str) -> tuple[str, list[tuple[int, int]]]:
        parts: list[str] = []
        foreign: list[tuple[int, int]] = []
        length = position = 0
        for match in _MARK.finditer(rendered):
            before = rendered[position : match.start()]
            hidden = self._hidden[int(match[1])]
            parts += [before, hidden]
            length += len(before)
            foreign.append((length, length + len(hidden)))
            length += len(hidden)
            position = match.end()
        return "".join([*parts, rendered[position:]]), foreign


def _overlap(left: str, right: str) -> int:
    """Length of the longest proper end of ``left`` that ``right`` begins with."""
    longest = min(len(left), len(right)) - 1
    return next((n for n in range(longest, 0, -1) if left.endswith(right[:n])), 0)
