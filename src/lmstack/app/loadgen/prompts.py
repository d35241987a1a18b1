"""What is asked under load: random words of a wanted length, or prompts from a file.

Random prompts differ from their first word on, and from one load to the next, so that a server's
prefix cache cannot answer for its model. How many tokens a word takes is measured on the server.
"""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from lmstack.core import FormatError, InputError, NotFoundError, StoreError, shown

__all__ = ["Ask", "FilePrompts", "Prompts", "RandomPrompts", "words"]

# Short and common: a token each in most vocabularies.
_COMMON = (
    "time year people way day man thing woman life child world school state family student group"
    " country problem hand part place case week company system program question work number night"
    " point home water room mother area money story fact month lot right study book eye job word"
    " business issue side kind head house service friend father power hour game line end member"
    " law car city name team minute idea kid body back parent face level office door health person"
    " art war history party result change morning reason research girl guy moment air teacher force"
    " order river garden letter window paper music north south winter summer"
)

_FORM = '{"prompt": "..."} or {"messages": [{"role": "user", "content": "..."}]} on every line'


@dataclass(frozen=True)
class Ask:
    """``messages`` for a chat; their last text is the prompt where there is no chat."""

    messages: Sequence[Mapping[str, Any]]
    max_tokens: int

    @property
    def text(self) -> str:
        return str(self.messages[-1]["content"])


class Prompts(Protocol):
    def ask(self, level: int, index: int) -> Ask:
        """Request ``index`` of load ``level``; the same for the same seed."""
        ...


def words(count: int, seed: str) -> str:
    """``count`` random words."""
    return " ".join(random.Random(seed).choices(_COMMON.split(), k=count))


@dataclass(frozen=True)
class RandomPrompts:
    """``num_words``: of each prompt, which come to the tokens that were wanted."""

    num_words: int
    max_tokens: int
    seed: int

    def ask(self, level: int, index: int) -> Ask:
        text = words(self.num_words, f"{self.seed}/{level}/{index}")
        return Ask([{"role": "user", "content": text}], self.max_tokens)


@dataclass(frozen=True)
class FilePrompts:
    """Prompts in turn, from the beginning again after the last."""

    asks: Sequence[Ask]

    @classmethod
    def read(cls, path: Path, max_tokens: int) -> FilePrompts:
        """A prompt a line; in ``.jsonl`` an object with ``prompt`` or ``messages``, and with
        ``max_tokens`` where it differs."""
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except FileNotFoundError:
            raise NotFoundError(
                f"{path} does not exist",
                hint="--prompts FILE, with a prompt a line",
                param="prompts",
            ) from None
        except UnicodeDecodeError as error:
            raise FormatError(
                f"{path} is not UTF-8 text (byte {error.start})",
                hint="save it as UTF-8",
                param="prompts",
            ) from error
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise StoreError(f"{shown(str(path))} cannot be read: {reason}") from error
        read = _object if path.suffix == ".jsonl" else _line
        asks = [
            read(line, max_tokens, f"{path}:{number}")
            for number, line in enumerate(lines, start=1)
            if line.strip()
        ]
        if not asks:
            raise FormatError(f"{path} holds no prompt", hint="one a line", param="prompts")
        return cls(asks)

    def ask(self, level: int, index: int) -> Ask:  # noqa: ARG002
        return self.asks[index % len(self.asks)]


def _line(line: str, max_tokens: int, place: str) -> Ask:  # noqa: ARG001
    return Ask([{"role": "user", "content": line}], max_tokens)


def _object(line: str, max_tokens: int, place: str) -> Ask:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise FormatError(f"{place} is not JSON: {error}", hint=_FORM, param="prompts") from error
    if not isinstance(value, dict):
        raise FormatError(
            f"{place} holds {shown(value)}, not an object", hint=_FORM, param="prompts"
        )
    messages: Any = value.get("messages")
    if messages is None and isinstance(value.get("prompt"), str):
        messages = [{"role": "user", "content": value["prompt"]}]
    sound = isinstance(messages, list) and messages and all(map(_is_message, messages))
    if not sound:
        raise FormatError(
            f"{place} has neither a prompt nor messages: {shown(value)}",
            hint=_FORM,
            param="prompts",
        )
    limit = value.get("max_tokens", max_tokens)
    if not isinstance(limit, int) or isinstance(limit, bool) or limit < 1:
        raise InputError(
            f"{place}: max_tokens is {shown(limit)}", hint="a number from 1", param="prompts"
        )
    return Ask(messages, limit)


def _is_message(value: object) -> bool:
    return isinstance(value, dict) and {"role", "content"} <= value.keys()
