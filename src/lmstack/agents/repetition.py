"""Turns that go round in circles: the same calls again, or two that take turns."""

from __future__ import annotations

from collections.abc import Sequence

from lmstack.agents.arguments import canonical_json
from lmstack.agents.progress import AgentTurn
from lmstack.core import ToolCall
from lmstack.core.json_text import parse_json

__all__ = ["repeated"]


def repeated(turns: Sequence[AgentTurn]) -> str | None:
    """What the last turn repeats, in words; None if it does not. Calls are the same if their tool
    and their arguments are; their order in one turn does not count."""
    made = [_signature(turn) for turn in turns]
    if not made or not made[-1]:
        return None
    names = " and ".join(sorted({call.name for call in turns[-1].model.calls}))
    if len(made) > 1 and made[-1] == made[-2]:
        return f"the call of {names} with the same arguments"
    if len(made) > 3 and made[-1] == made[-3] and made[-2] == made[-4] and made[-2]:
        return f"the call of {names} in turns with another"
    return None


def _signature(turn: AgentTurn) -> tuple[tuple[str, str], ...]:
    return tuple(sorted((call.name, _canonical(call)) for call in turn.model.calls))


def _canonical(call: ToolCall) -> str:
    try:
        return canonical_json(parse_json(call.arguments))
    except ValueError:
        return call.arguments
