"""Running one call of a tool: within its time, with every failure an observation.

What comes back is bounded, well-formed and without secrets before it becomes a step. A tool that
ignores being cancelled cannot be stopped from here. Does not cover whether the call may run.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from lmstack.agents.steps import Outcome
from lmstack.agents.tools.results import SecretMask
from lmstack.agents.tools.tool import AgentTool, Picture, ToolContext, ToolResult
from lmstack.core import LmstackError

__all__ = ["CallLimits", "call_tool", "clean_text", "is_cancelled", "shortened"]

ERROR_CHARS = 500
DATA_CHARS = 1 << 20
PICTURE_BYTES = 8 << 20


@dataclass(frozen=True)
class CallLimits:
    """``seconds``: for the call. ``for_budget``: they are what the run has left, less than the tool
    may take. ``chars``: of the text that the model is shown."""

    seconds: float
    for_budget: bool
    chars: int
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)


async def call_tool(
    tool: AgentTool, arguments: Mapping[str, Any], context: ToolContext, limits: CallLimits
) -> tuple[Outcome, ToolResult]:
    """What became of the call; raises only if the run itself is stopped."""
    outcome: Outcome = "ok"
    try:
        async with asyncio.timeout(limits.seconds) as timer:
            result = await tool.call(arguments, context)
        if not isinstance(result, ToolResult):
            kind = type(result).__name__
            raise TypeError(f"the tool gave a {kind}, not a ToolResult")
    except asyncio.CancelledError:
        if is_cancelled():
            raise
        result = ToolResult("the tool cancelled itself", is_error=True)
    except Exception as error:
        if isinstance(error, TimeoutError) and timer.expired():
            why = ", all the time that the run had left" if limits.for_budget else ""
            return "timeout", ToolResult(f"stopped after {limits.seconds:.3g} s{why}", True)
        result = ToolResult(_told(error), is_error=True)
    if result.is_error:
        outcome = "error"
    return outcome, _kept(result, limits)


def is_cancelled() -> bool:
    """Whether somebody cancelled the task that runs, and not what it waits for itself."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _told(error: Exception) -> str:
    if isinstance(error, LmstackError):
        return str(error)
    return f"{type(error).__name__}: {error}"[:ERROR_CHARS]


def _kept(result: ToolResult, limits: CallLimits) -> ToolResult:
    """``result`` as it can be stored and shown."""
    mask = SecretMask(limits.secrets.values())
    text = mask.text(clean_text(str(result.text)))
    pictures, left_out = _bounded(result.pictures)
    if left_out:
        text += f"\n({left_out} pictures were too large to keep.)"
    return replace(
        result,
        text=shortened(text, limits.chars),
        data=mask.data(_json_data(result.data)),
        pictures=pictures,
    )


def shortened(text: str, most: int) -> str:
    if len(text) <= most:
        return text
    return f"{text[:most]}\n(... {len(text) - most} more characters are not shown.)"


def clean_text(text: str) -> str:
    """``text`` with half surrogate pairs replaced: UTF-8 cannot write them."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _json_data(data: Any) -> Any:
    """``data`` if it is JSON and not too long; else nothing, since the text says it too."""
    try:
        text = json.dumps(data, ensure_ascii=False, allow_nan=False)
        return json.loads(clean_text(text)) if len(text) <= DATA_CHARS else None
    except (TypeError, ValueError, RecursionError):
        return None


def _bounded(pictures: tuple[Picture, ...]) -> tuple[tuple[Picture, ...], int]:
    kept: list[Picture] = []
    room = PICTURE_BYTES
    for picture in pictures:
        if len(picture.data) > room:
            break
        kept.append(picture)
        room -= len(picture.data)
    return tuple(kept), len(pictures) - len(kept)
