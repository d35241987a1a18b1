"""All of an agent that its steps depend on, besides what its model and its tools answer.

It is stored with each run, so that a run can be resumed and replayed by what held when it began.
Does not hold the model, the tools or secrets: those are the agent's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from lmstack.agents.arguments import canonical_json, check_value_schema
from lmstack.agents.budget import Budget
from lmstack.agents.rights import Rights
from lmstack.agents.tools.tool import AgentTool
from lmstack.core import InputError, Price, SamplingParams, Tool, check_text, check_whole, shown

__all__ = ["AgentSpec", "ProtocolName", "ToolSpec"]

ProtocolName = Literal["tools", "react"]
PROTOCOLS = ("tools", "react")


@dataclass(frozen=True, slots=True)
class ToolSpec:
    """``tool``: what the model is shown. ``is_agent``: the call is a task for an agent below, which
    gets ``share`` of what is left of the budget. ``reach``: every name that it can call.
    ``is_foreign``: others wrote what the model is shown of it."""

    tool: Tool
    is_dangerous: bool = False
    is_untrusted: bool = False
    timeout_s: float = 60.0
    is_agent: bool = False
    share: float = 1.0
    reach: tuple[str, ...] = ()
    is_foreign: bool = False

    @classmethod
    def of(cls, tool: AgentTool) -> ToolSpec:
        check_value_schema(f"the tool {tool.tool.name}", tool.tool.parameters)
        return cls(
            tool.tool,
            tool.is_dangerous,
            tool.is_untrusted,
            tool.timeout_s,
            is_foreign=bool(getattr(tool, "is_foreign", False)),
        )

    @property
    def shown_text(self) -> str:
        """All that the model is shown of it."""
        return f"{self.tool.description}\n{canonical_json(self.tool.parameters)}"


@dataclass(frozen=True, slots=True)
class AgentSpec:
    """``must_call``: the first turn has to call a tool. ``result``: the JSON Schema that the answer
    follows, as JSON text; None for any text. ``is_constrained``: the model is held to grammars
    where the protocol has one. ``result_chars``: how much of a tool's result the model is shown."""

    name: str
    instructions: str = ""
    protocol: ProtocolName = "tools"
    tools: tuple[ToolSpec, ...] = ()
    rights: Rights = field(default_factory=Rights)
    budget: Budget = field(default_factory=Budget)
    price: Price | None = None
    sampling: SamplingParams = field(default_factory=SamplingParams)
    is_constrained: bool = True
    must_call: bool = False
    result: Mapping[str, Any] | None = field(default=None, hash=False)
    result_chars: int = 8000

    def __post_init__(self) -> None:
        check_text("the name of an agent", self.name)
        check_text("instructions", self.instructions)
        check_whole("result_chars", self.result_chars, 100, 10_000_000)
        if self.protocol not in PROTOCOLS:
            raise InputError(
                f"protocol is {shown(self.protocol)}",
                hint=f"protocols are {', '.join(PROTOCOLS)}",
                param="protocol",
            )
        names = [each.tool.name for each in self.tools]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise InputError(f"two tools of an agent have the name {twice}", param="tools")
        if self.budget.money is not None and self.price is None:
            raise InputError(
                "the budget is in money, and the model's price is not known",
                hint="give the agent a price, 0 where tokens cost nothing",
                param="price",
            )
        if self.sampling.n != 1:
            raise InputError(f"an agent's n is {self.sampling.n}, not 1", param="n")
        if self.result is not None:
            check_value_schema("the result", self.result)

    @property
    def reach(self) -> frozenset[str]:
        """Every name that it and the agents below it can call."""
        return frozenset(name for each in self.tools for name in (each.tool.name, *each.reach))

    @property
    def shown_tools(self) -> tuple[ToolSpec, ...]:
        """Those that the model is told of: the ones it may call."""
        return tuple(each for each in self.tools if self.rights.allows(each.tool.name))

    def tool(self, name: str) -> ToolSpec | None:
        return next((each for each in self.tools if each.tool.name == name), None)

    def needs_person(self, tool: ToolSpec) -> bool:
        """Whether a call of ``tool`` has to be approved, beforehand or when it is made."""
        return tool.is_dangerous or tool.tool.name in self.rights.dangerous
