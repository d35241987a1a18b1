"""What acts for a model: agents with tools, bounded and kept, and the sandbox that runs code.

    from lmstack.agents import Agent, Budget, Rights, RunStore

Names are looked up when they are used: the sandbox alone needs no database. No torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lmstack.agents.agent import Agent, Member
    from lmstack.agents.approval import (
        ApprovalRequest,
        Approver,
        Decided,
        Decision,
        ScriptedApprover,
    )
    from lmstack.agents.budget import Budget, Spent
    from lmstack.agents.dataflow import Flow
    from lmstack.agents.events import Ended, Event, PartialText, Started, Stepped
    from lmstack.agents.rights import Rights
    from lmstack.agents.runs import (
        Difference,
        Run,
        RunStore,
        RunSummary,
        replay,
        run_from_json,
        run_to_json,
        run_to_text,
        step_to_text,
    )
    from lmstack.agents.spans import Telemetry
    from lmstack.agents.spec import AgentSpec, ToolSpec
    from lmstack.agents.steps import (
        ApprovalStep,
        BegunStep,
        EndStep,
        ModelStep,
        NoticeStep,
        ResumeStep,
        Step,
        TaskStep,
        ToolStep,
    )

_HOMES = {
    "lmstack.agents.agent": ("Agent", "Member"),
    "lmstack.agents.approval": (
        *("ApprovalRequest", "Approver", "Decided", "Decision", "ScriptedApprover"),
    ),
    "lmstack.agents.budget": ("Budget", "Spent"),
    "lmstack.agents.dataflow": ("Flow",),
    "lmstack.agents.events": ("Ended", "Event", "PartialText", "Started", "Stepped"),
    "lmstack.agents.rights": ("Rights",),
    "lmstack.agents.runs": (
        *("Difference", "Run", "RunStore", "RunSummary", "replay"),
        *("run_from_json", "run_to_json", "run_to_text", "step_to_text"),
    ),
    "lmstack.agents.spans": ("Telemetry",),
    "lmstack.agents.spec": ("AgentSpec", "ToolSpec"),
    "lmstack.agents.steps": (
        *("ApprovalStep", "BegunStep", "EndStep", "ModelStep", "NoticeStep", "ResumeStep"),
        *("Step", "TaskStep", "ToolStep"),
    ),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "Agent",
    "AgentSpec",
    "ApprovalRequest",
    "ApprovalStep",
    "Approver",
    "BegunStep",
    "Budget",
    "Decided",
    "Decision",
    "Difference",
    "EndStep",
    "Ended",
    "Event",
    "Flow",
    "Member",
    "ModelStep",
    "NoticeStep",
    "PartialText",
    "ResumeStep",
    "Rights",
    "Run",
    "RunStore",
    "RunSummary",
    "ScriptedApprover",
    "Spent",
    "Started",
    "Step",
    "Stepped",
    "TaskStep",
    "Telemetry",
    "ToolSpec",
    "ToolStep",
    "replay",
    "run_from_json",
    "run_to_json",
    "run_to_text",
    "step_to_text",
]


def __getattr__(name: str) -> Any:
    if name in _HOME_OF:
        return getattr(importlib.import_module(_HOME_OF[name]), name)
    raise AttributeError(f"module 'lmstack.agents' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
