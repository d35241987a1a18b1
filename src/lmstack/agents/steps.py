"""What happens in a run, one typed step after the other: all that is kept of it.

The conversation that a model sees, what was used and what comes next are derived from the steps
(`progress`, `protocols`, `deciding`) and stored nowhere else. Does not cover their form on disk.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from lmstack.agents.approval import ApprovalDecision, ApprovalRequest
from lmstack.agents.budget import Part, Spent
from lmstack.agents.dataflow import TextOrigin
from lmstack.agents.tools.tool import Picture
from lmstack.core import FinishReason, Message, Prompt, Request, Span, ToolCall, Usage

__all__ = [
    "ApprovalStep",
    "BegunStep",
    "End",
    "EndStep",
    "ModelStep",
    "NoticeKind",
    "NoticeStep",
    "Outcome",
    "RequestDigests",
    "ResumeStep",
    "Step",
    "TaskStep",
    "ToolStep",
]

End = Literal["answered", "budget", "refused", "cancelled", "failed", "waiting"]
NoticeKind = Literal["repetition", "stop", "unreadable", "result", "budget", "context"]
# What became of a call. The first three ran; the others never did, except that nobody knows of one
# that had begun when its process was killed (``unfinished``).
Outcome = Literal[
    "ok",
    "error",
    "timeout",
    "unfinished",
    "unknown_tool",
    "outside_rights",
    "invalid_arguments",
    "denied",
    "over_budget",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Timed:
    """``at``: when the step ended, in seconds of Unix time. ``clock_s``: seconds that models and
    tools had worked by then."""

    at: float = 0.0
    clock_s: float = 0.0


@dataclass(frozen=True, slots=True)
class TaskStep(_Timed):
    """What the run was asked to do: ``spans``, of which some may be untrusted text.

    Of an agent below another: ``inherited`` are the texts that its caller had read, and
    ``own_words`` those of the user, since the task itself is a model's."""

    spans: tuple[Span, ...]
    inherited: tuple[TextOrigin, ...] = ()
    own_words: str | None = None

    @property
    def text(self) -> str:
        return Prompt(self.spans).render()

    @property
    def user_words(self) -> str:
        """What the user wrote, as far as it is the user's own."""
        if self.own_words is not None:
            return self.own_words
        return "\n".join(span.text for span in self.spans if not span.untrusted)


@dataclass(frozen=True, slots=True)
class RequestDigests:
    """What a model was asked, as digests: enough to tell whether it would be asked the same again,
    and where not. ``size``: bytes of the messages."""

    messages: tuple[str, ...] = ()
    tools: str = ""
    grammar: str = ""
    sampling: str = ""
    size: int = 0

    @classmethod
    def of(cls, request: Request) -> RequestDigests:
        tools = [asdict(tool) for tool in request.tools]
        return cls(
            tuple(_digest(asdict(message)) for message in request.messages),
            _digest([tools, request.tool_choice, request.parallel_tool_calls]),
            _digest(None if request.grammar is None else asdict(request.grammar)),
            _digest(asdict(request.sampling)),
            sum(map(_size, request.messages)),
        )

    def differences(self, other: RequestDigests) -> list[str]:
        """What of ``other`` is not as here."""
        found = [name for name in ("tools", "grammar", "sampling") if self._differs(other, name)]
        pairs = zip(self.messages, other.messages, strict=False)
        found += [f"message {n}" for n, (one, two) in enumerate(pairs) if one != two]
        if len(self.messages) != len(other.messages):
            found.append(f"{len(other.messages)} messages, {len(self.messages)} before")
        return found

    def _differs(self, other: RequestDigests, name: str) -> bool:
        return bool(getattr(self, name) != getattr(other, name))


@dataclass(frozen=True, slots=True)
class ModelStep(_Timed):
    """A turn of the model. ``calls``: of tools, each with an id that no other call of the run has.
    ``is_last``: it was asked for without tools. ``is_cut``: the budget left it fewer tokens than
    it wanted. ``error``, ``error_code``: why it came to nothing; ``text`` is then what had come,
    and ``usage`` an estimate."""

    text: str
    calls: tuple[ToolCall, ...] = ()
    usage: Usage = field(default_factory=Usage)
    seconds: float = 0.0
    model: str = ""
    digest: str | None = None
    finish_reason: FinishReason = "stop"
    asked: RequestDigests = RequestDigests()
    is_last: bool = False
    is_cut: bool = False
    error: str = ""
    error_code: str = ""


@dataclass(frozen=True, slots=True)
class BegunStep(_Timed):
    """A call is about to run; written before it does."""

    call_id: str


@dataclass(frozen=True, slots=True)
class ToolStep(_Timed):
    """What became of a call. ``is_untrusted``: others wrote ``text``, or it was made from what
    they wrote. ``spent``: by the agent that was called, where it was one; its run is ``run_id``."""

    call: ToolCall
    outcome: Outcome
    text: str
    data: Any = None
    pictures: tuple[Picture, ...] = ()
    seconds: float = 0.0
    is_untrusted: bool = False
    spent: Spent = field(default_factory=Spent)
    run_id: str = ""

    @property
    def has_run(self) -> bool:
        return self.outcome in ("ok", "error", "timeout")


@dataclass(frozen=True, slots=True)
class ApprovalStep(_Timed):
    """What a person was asked and said. ``seconds``: of waiting, which the run's clock leaves
    out."""

    request: ApprovalRequest
    decision: ApprovalDecision
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class NoticeStep(_Timed):
    """What the loop tells the model. ``part``: of the budget that is used up. ``elided``: how many
    of the oldest results the model is no longer shown, since the conversation was too long."""

    kind: NoticeKind
    text: str
    part: Part | None = None
    elided: int = 0


@dataclass(frozen=True, slots=True)
class ResumeStep(_Timed):
    """Somebody went on with a run that had stopped."""


@dataclass(frozen=True, slots=True)
class EndStep(_Timed):
    """``answer``: what the model said at last; empty if nothing. ``reason``: of every end that is
    not a plain answer."""

    end: End
    answer: str = ""
    reason: str = ""
    can_resume: bool = False


Step = (
    TaskStep | ModelStep | BegunStep | ToolStep | ApprovalStep | NoticeStep | ResumeStep | EndStep
)


def _digest(value: Any) -> str:
    text = json.dumps(_plain(value), sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def _plain(value: Any) -> Any:
    """JSON values in which 0.0 is 0: what was read from a file has the types of its fields."""
    if isinstance(value, Mapping):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value


def _size(message: Message) -> int:
    texts = [message.content, message.name or ""]
    texts += [part for call in message.tool_calls for part in (call.id, call.name, call.arguments)]
    return sum(len(text.encode("utf-8", "surrogatepass")) for text in texts)
