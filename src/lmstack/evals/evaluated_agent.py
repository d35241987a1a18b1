"""An agent as what is evaluated: a model with tools and rights, as `lmstack agent run` has it.

    agent: {files: [data], python: true, allow: [python], steps: 8}     in a task file

Each task has tools of its own, so that nothing that one run leaves behind (variables, sessions)
helps another. Nobody is asked: a call that needs a person ends the run as waiting. Not covered:
what a run is worth (`lmstack.evals.metrics.agent_run`).
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import lmstack
from lmstack.agents import Agent, Budget, Rights
from lmstack.agents.runs.run import spec_to_json
from lmstack.agents.steps import ModelStep, ToolStep
from lmstack.agents.toolkit import ChosenTools, tools_of
from lmstack.core import (
    AuthError,
    ChatModel,
    Config,
    EngineError,
    ExtraMissingError,
    InputError,
    LmstackError,
    NotFoundError,
    OverloadedError,
    RemoteError,
    StoreError,
    UnsupportedError,
    allowed,
    check_text,
    shown,
)
from lmstack.core.files import store_error
from lmstack.evals.json_forms import digest_of
from lmstack.evals.task import ModelOutput, Subject

if TYPE_CHECKING:
    from lmstack.agents import Run
    from lmstack.agents.tools import AgentTool

__all__ = ["AgentSettings", "EvaluatedAgent", "agent_subject"]

# Errors of a model that are no fault of the agent: the task is tried again.
_NOT_THE_AGENTS: dict[str, type[LmstackError]] = {
    each.code: each
    for each in (
        *(AuthError, EngineError, ExtraMissingError, NotFoundError),
        *(OverloadedError, RemoteError, StoreError, UnsupportedError),
    )
}


@dataclass(frozen=True)
class AgentSettings(Config):
    """As the options of `lmstack agent run`. ``docs`` or ``index``: documents that it may search.
    ``hosts``: of ``--host``."""

    docs: str = ""
    index: str = ""
    files: tuple[str, ...] = allowed((), str, 0, 1000)
    hosts: tuple[str, ...] = allowed((), str, 0, 1000)
    python: bool = allowed(False, bool)
    mcp: tuple[str, ...] = allowed((), str, 0, 1000)
    ask: tuple[str, ...] = allowed((), str, 0, 1000)
    allow: tuple[str, ...] = allowed((), str, 0, 1000)
    instructions: str = ""
    protocol: Literal["tools", "react"] = allowed("tools", str, also=("tools", "react"))
    must_call: bool = allowed(False, bool)
    steps: int = allowed(20, int, 1, 10_000)
    tokens: int | None = allowed(None, int, 1, 2**53)
    seconds: float | None = allowed(None, float, 0, 1e9, above=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("docs", "index", "instructions"):
            check_text(name, getattr(self, name))
        if self.docs and self.index:
            raise InputError(
                f"the agent has docs {shown(self.docs)} and the index {shown(self.index)}",
                hint="leave one out",
                param="agent",
            )


class EvaluatedAgent:
    """``shared``: tools that keep nothing of a run, beside those that each run gets for itself.
    ``pins``: as in `tools_of`."""

    def __init__(
        self,
        settings: AgentSettings,
        model: ChatModel,
        shared: Sequence[AgentTool] = (),
        *,
        pins: Path,
    ) -> None:
        self._settings, self._model, self._shared = settings, model, shared
        self._pins = pins
        files = [Path(each) for each in settings.files]
        self._choice = ChosenTools(files, settings.hosts, settings.python, settings.mcp)

    async def spec(self) -> dict[str, Any]:
        """All of the agent but its model, as JSON."""
        async with AsyncExitStack() as stack:
            return spec_to_json((await self._agent(stack, None)).spec)

    async def run(self, task: str, tools: Sequence[str] | None) -> ModelOutput:
        async with AsyncExitStack() as stack:
            run = await (await self._agent(stack, tools)).run(task)
        _raise_if_not_its_fault(run)
        spent = run.spent
        steps = [step for each in run.walk() for step in each.steps]
        calls = [step for step in steps if isinstance(step, ToolStep)]
        return ModelOutput(
            text=run.answer,
            prompt_tokens=spent.usage.prompt_tokens,
            completion_tokens=spent.usage.completion_tokens,
            seconds=run.seconds,
            finish_reason=run.end or "",
            facts={
                "end": run.end,
                "reason": run.reason,
                "steps": spent.steps,
                "calls": [{"tool": each.call.name, "outcome": each.outcome} for each in calls],
            },
        )

    async def _agent(self, stack: AsyncExitStack, tools: Sequence[str] | None) -> Agent:
        settings = self._settings
        opened = await stack.enter_async_context(
            tools_of(self._choice, self._shared, pins=self._pins)
        )
        rights = Rights(
            tools=None if tools is None else frozenset(tools),
            dangerous=frozenset(settings.ask),
            approved=frozenset(settings.allow),
        )
        return Agent(
            self._model,
            tools=opened,
            rights=rights,
            budget=Budget(settings.steps, settings.tokens, None, settings.seconds),
            instructions=settings.instructions,
            protocol=settings.protocol,
            must_call=settings.must_call,
        )


def _raise_if_not_its_fault(run: Run) -> None:
    last = next((step for step in reversed(run.steps) if isinstance(step, ModelStep)), None)
    if run.end == "failed" and last is not None and last.error_code in _NOT_THE_AGENTS:
        raise _NOT_THE_AGENTS[last.error_code](last.error)


def agent_subject(
    settings: AgentSettings,
    model: Subject,
    shared: Sequence[AgentTool] = (),
    content: str | None = None,
    *,
    pins: Path,
) -> Subject:
    """``model`` with tools, ``shared`` among them, which search an index that holds ``content``.
    The digest is of the model, the tools as the model is shown them, the rights, the budget, the
    files that it may read, what the index holds, and this version of lmstack. What hosts and MCP
    servers answer is not known beforehand."""
    chat = model.needed_chat()
    agent = EvaluatedAgent(settings, chat, shared, pins=pins)
    decides = {
        "model": model.digest,
        "spec": asyncio.run(agent.spec()),
        "hosts": sorted(settings.hosts),
        "mcp": list(settings.mcp),
        "files": [_files_digest(Path(each)) for each in settings.files],
        "index": content,
        "lmstack": lmstack.__version__,
    }
    digest = digest_of(decides, "the agent")
    return Subject(f"{model.name} as agent", digest, chat, model.likelihood, agent=agent)


def _files_digest(folder: Path) -> str:
    """Of the names and the bytes of all files under ``folder``."""
    found = hashlib.sha256()
    try:
        for path in sorted(each for each in folder.rglob("*") if each.is_file()):
            found.update(f"{path.relative_to(folder).as_posix()}\0".encode("utf-8", "replace"))
            with path.open("rb") as file:
                found.update(hashlib.file_digest(file, "sha256").digest())
    except OSError as error:
        raise store_error(error, folder, "reading") from error
    return found.hexdigest()
