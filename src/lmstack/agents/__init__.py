"""What acts for a model: agents with tools, bounded and kept, and the sandbox that runs code.

    from lmstack.agents import Agent, Budget, Rights, RunStore

Names are looked up when they are used: the sandbox alone needs no database. No torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lmstack.lazy_names import lazy_names

if TYPE_CHECKING:
    from lmstack.agents.agent import Agent, Member
    from lmstack.agents.approval import (
        ApprovalDecision,
        ApprovalRequest,
        Approver,
        Decided,
        ScriptedApprover,
    )
    from lmstack.agents.budget import Budget, Spent
    from lmstack.agents.dataflow import Flow
    from lmstack.agents.journal import Ended, Event, PartialText, Started, Stepped
    from lmstack.agents.rights import Rights
    from lmstack.agents.runs import (
        ReplayDifference,
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


__all__ = [
    "Agent",
    "AgentSpec",
    "ApprovalDecision",
    "ApprovalRequest",
    "ApprovalStep",
    "Approver",
    "BegunStep",
    "Budget",
    "Decided",
    "EndStep",
    "Ended",
    "Event",
    "Flow",
    "Member",
    "ModelStep",
    "NoticeStep",
    "PartialText",
    "ReplayDifference",
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

__getattr__, __dir__ = lazy_names(__name__)
