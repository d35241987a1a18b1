"""The messages of one request, whatever API they came by: each result answers a call of the turn
before it.

A body becomes a conversation message by message; what does not fit is an error that names the
place in the body. Does not cover the fields of a message, nor which roles a model's template
knows.
"""

from __future__ import annotations

from collections.abc import Sequence

from lmstack.core import InputError, Message, ToolCall, shown

__all__ = ["Conversation"]


class Conversation:
    """Messages are added in order; `messages` ends it. ``at``: a place in the body."""

    def __init__(self) -> None:
        self._messages: list[Message] = []
        # Of the assistant's last turn: its calls by id, the places of those without a result yet.
        self._calls: dict[str, ToolCall] = {}
        self._open: dict[str, str] = {}

    def add(self, message: Message, calls_at: Sequence[str] = ()) -> None:
        """Any message that is no result. ``calls_at``: the places of the ids of its calls."""
        self._check_all_answered()
        self._calls = {call.id: call for call in message.tool_calls}
        for call, at in zip(message.tool_calls, calls_at, strict=True):
            if call.id in self._open:
                raise _wrong(at, f"two calls have the id {shown(call.id)}", "give each its own")
            self._open[call.id] = at
        self._messages.append(message)

    def result(self, call_id: str, content: str, at: str, name: str | None = None) -> None:
        """What a tool gave back for the call ``call_id``, a word at ``at``. ``name``: of the
        function, where the sender repeats it."""
        if call_id not in self._open:
            raise self._unasked(call_id, at)
        called = self._calls[call_id].name
        if name is not None and name != called:
            place = f"{at.rpartition('.')[0]}.name"
            problem = f"is {shown(name)}, and the call {shown(call_id)} is of {called}"
            raise _wrong(place, problem, "leave it out")
        del self._open[call_id]
        self._messages.append(Message("tool", content, tool_call_id=call_id))

    def messages(self) -> tuple[Message, ...]:
        self._check_all_answered()
        return tuple(self._messages)

    def _unasked(self, call_id: str, at: str) -> InputError:
        if call_id in self._calls:
            return _wrong(at, f"the call {shown(call_id)} has a result already", "send one of each")
        if not self._open:
            hint = "send the assistant's turn with its calls, and then their results"
            return _wrong(at, f"no call {shown(call_id)} comes before this result", hint)
        waiting = ", ".join(self._open)
        hint = f"calls that wait for a result: {waiting}"
        return _wrong(at, f"the turn before has no call {shown(call_id)}", hint)

    def _check_all_answered(self) -> None:
        for call_id, at in self._open.items():
            hint = "send the result of each call right after the turn that asks for it"
            raise _wrong(at, f"the call {shown(call_id)} has no result", hint)


def _wrong(at: str, problem: str, hint: str) -> InputError:
    return InputError(f"{at}: {problem}", hint=hint, param=at)
