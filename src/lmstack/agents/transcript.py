"""The conversation that a model is shown, derived from the steps of a run.

Messages of the same role that follow each other are one for users, since many templates take them
in turns only. Does not cover the end of a turn that failed: it was never said.
"""

from __future__ import annotations

from lmstack.agents.progress import AgentTurn, RunProgress
from lmstack.agents.protocols import PROTOCOLS
from lmstack.agents.spec import AgentSpec
from lmstack.core import Message

__all__ = ["transcript"]


def transcript(spec: AgentSpec, progress: RunProgress) -> tuple[Message, ...]:
    protocol = PROTOCOLS[spec.protocol]
    system = protocol.system(spec)
    messages = [Message("system", system)] if system else []
    elided = frozenset(list(progress.results)[: progress.elided])
    for item in progress.items:
        if isinstance(item, AgentTurn):
            messages += protocol.messages(item, elided)
            messages += [_notice(n.text) for n in item.notices if n.kind != "context"]
        else:
            messages.append(Message("user", item.text))
    said_before = [] if progress.turns else progress.notices
    messages += [_notice(n.text) for n in said_before if n.kind != "context"]
    return tuple(_joined(messages))


def _notice(text: str) -> Message:
    return Message("user", text)


def _joined(messages: list[Message]) -> list[Message]:
    found: list[Message] = []
    for message in messages:
        if found and message.role == found[-1].role == "user":
            message = Message("user", f"{found[-1].content}\n\n{message.content}")
            found.pop()
        found.append(message)
    return found
