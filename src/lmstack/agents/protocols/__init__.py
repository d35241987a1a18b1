"""The two ways to ask for a turn and to read it: function calling and ReAct."""

from __future__ import annotations

from collections.abc import Mapping

from lmstack.agents.protocols.function_calling import FunctionCalling
from lmstack.agents.protocols.protocol import (
    Calls,
    FinalAnswer,
    Reading,
    TurnProtocol,
    Unreadable,
)
from lmstack.agents.protocols.react import ReAct
from lmstack.agents.spec import ProtocolName

__all__ = [
    "PROTOCOLS",
    "Calls",
    "FinalAnswer",
    "FunctionCalling",
    "ReAct",
    "Reading",
    "TurnProtocol",
    "Unreadable",
]

PROTOCOLS: Mapping[ProtocolName, TurnProtocol] = {"tools": FunctionCalling(), "react": ReAct()}
