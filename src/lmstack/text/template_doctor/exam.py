"""A chat template under examination, the conversation for it, and what a check finds.

Covers rendering and encoding, as a model is trained and served. Does not cover the checks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, Literal

from lmstack.core import Message, shown
from lmstack.text.chat import ChatTemplate
from lmstack.text.tokenizer import Tokenizer

__all__ = [
    "ASKED",
    "REPLIED",
    "REPLIED_AGAIN",
    "SYSTEM",
    "TALK",
    "Checks",
    "Exam",
    "Severity",
    "TemplateFinding",
    "apart",
    "excerpt",
    "fail",
    "note",
    "ok",
    "warn",
]

ASKED = Message("user", "How far away is the moon?")
REPLIED = Message("assistant", "About 384,400 km, on average.")
ASKED_AGAIN = Message("user", "And the sun?")
REPLIED_AGAIN = Message("assistant", "Roughly 150 million km.")
SYSTEM = Message("system", "Answer in metric units.")
TALK = (ASKED, REPLIED, ASKED_AGAIN, REPLIED_AGAIN)
Severity = Literal["ok", "note", "warn", "fail"]


@dataclass(frozen=True)
class Exam:
    """A template under examination. ``eos_ids``: the tokens at which serving stops."""

    template: ChatTemplate
    tokenizer: Tokenizer
    eos_ids: frozenset[int]

    def text(self, *messages: Message, prompt: bool = False) -> str:
        return self.template.render(messages, add_generation_prompt=prompt)

    def ids(self, *messages: Message, prompt: bool = False) -> list[int]:
        return self.template.encode(messages, self.tokenizer, add_generation_prompt=prompt)

    def control(self, ids: Sequence[int]) -> list[int]:
        """The control tokens in ``ids``; unknown text is none, though its token is of that kind,
        unless it also ends a turn."""
        control = self.tokenizer.special_ids - (self.tokenizer.unknown_ids - self.eos_ids)
        return [index for index in ids if index in control]

    def spelled(self, ids: Sequence[int]) -> str:
        return excerpt("".join(self.tokenizer.token(i) for i in ids))

    def as_read(self, content: str) -> str:
        """``content`` as it comes back from the vocabulary, which may fold case or space."""
        ids = self.tokenizer.encode(content, special=False, add_special_tokens=False)
        return self.tokenizer.decode(ids).strip()

    @property
    def ending(self) -> str:
        """What is printed after a reply that ends the conversation."""
        return self.text(ASKED, REPLIED).rpartition(REPLIED.content)[2]


@dataclass(frozen=True, slots=True)
class TemplateFinding:
    """``fail``: the model will be trained or served wrongly. ``warn``: it will be under a
    condition that ``what`` names. ``note``: worth knowing. ``seen``: the value, quoted.
    ``mend``: what to do; None where nothing needs doing."""

    check: str
    severity: Severity
    what: str
    seen: str = ""
    mend: str | None = None

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


Checks = Mapping[str, Callable[[Exam], Iterator[TemplateFinding]]]
# Findings of a check, which is named where it is listed.
ok, note = partial(TemplateFinding, "", "ok"), partial(TemplateFinding, "", "note")
warn, fail = partial(TemplateFinding, "", "warn"), partial(TemplateFinding, "", "fail")


def excerpt(text: str, limit: int = 70) -> str:
    """``text`` quoted; of a long one the end, where renderings differ."""
    return shown(text) if len(text) <= limit else "…" + shown(text[-limit:], limit + 10)


def apart(first: str, second: str) -> str:
    """Where two texts part, with a little of what stands around."""
    same = 0
    for left, right in zip(first, second, strict=False):
        if left != right:
            break
        same += 1
    start = max(0, same - 16)
    left, right = (shown(text[start : same + 24]) for text in (first, second))
    return f"{left} and {right}, apart at character {same}"
