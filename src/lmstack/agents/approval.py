"""A person's word before a dangerous call: what is asked, and what comes back.

Covers the request, the decision and who decides in tests and in programs. Asking on a command line
or a page is their own. An approver that fails has approved nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from lmstack.agents.arguments import canonical_json
from lmstack.agents.dataflow import Flow
from lmstack.core import InputError

__all__ = [
    "ApprovalDecision",
    "ApprovalRequest",
    "Approver",
    "Decided",
    "ScriptedApprover",
    "Verdict",
]

Verdict = Literal["approved", "denied", "later", "cancelled"]


@dataclass(frozen=True, slots=True)
class ApprovalRequest:
    """May ``tool`` be called with ``arguments`` (canonical JSON)? ``reason``: why a person is
    asked. ``flows``: arguments that hold text of a tool or a document, those of untrusted ones
    first. ``untrusted_read``: every untrusted origin that the run had read by then, whether or not
    its text shows. ``agent``: the names from the first agent down to the one that calls."""

    call_id: str
    tool: str
    arguments: str
    reason: str
    flows: tuple[Flow, ...] = ()
    untrusted_read: tuple[str, ...] = ()
    run_id: str = ""
    agent: str = ""

    @property
    def is_tainted(self) -> bool:
        """Whether arguments hold text that others wrote."""
        return any(flow.is_untrusted for flow in self.flows)

    @property
    def digest(self) -> str:
        """SHA-256 of what is asked: the run, the call, its tool and arguments, and the reason. A
        call's id alone is that of another call in another run."""
        asked = [self.run_id, self.call_id, self.tool, self.arguments, self.reason]
        return hashlib.sha256(canonical_json(asked).encode("utf-8", "surrogatepass")).hexdigest()


@dataclass(frozen=True, slots=True)
class ApprovalDecision:
    """``later``: the run ends as ``waiting`` and can be resumed. ``cancelled``: it ends here.
    ``reason``: the model is told why its call was denied. ``by``: who decided, where that is
    known."""

    verdict: Verdict
    reason: str = ""
    by: str = ""


class Approver(Protocol):
    async def decide(self, request: ApprovalRequest) -> ApprovalDecision:
        """Ask somebody. May take as long as it takes: the time is not the run's."""
        ...


class ScriptedApprover:
    """Decides in turn from ``decisions`` (the last one repeats); an error is raised. ``requests``
    records what was asked. For tests."""

    def __init__(self, *decisions: ApprovalDecision | Verdict | Exception) -> None:
        if not decisions:
            raise InputError("a ScriptedApprover needs at least one decision", param="decisions")
        self.requests: list[ApprovalRequest] = []
        self._decisions = decisions

    async def decide(self, request: ApprovalRequest) -> ApprovalDecision:
        decision = self._decisions[min(len(self.requests), len(self._decisions) - 1)]
        self.requests.append(request)
        if isinstance(decision, Exception):
            raise decision
        return ApprovalDecision(decision) if isinstance(decision, str) else decision


class Decided:
    """Decisions that were made already, by the `digest` of the request that somebody saw; every
    other call waits. For a page or a command that resumes a run once somebody has decided."""

    def __init__(self, decisions: Mapping[str, ApprovalDecision]) -> None:
        self._decisions = dict(decisions)

    async def decide(self, request: ApprovalRequest) -> ApprovalDecision:
        return self._decisions.get(request.digest, ApprovalDecision("later"))


def untrusted_first(found: Sequence[Flow]) -> tuple[Flow, ...]:
    return tuple(sorted(found, key=lambda flow: not flow.is_untrusted))
