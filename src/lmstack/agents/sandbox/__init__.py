"""Other people's programs, run where they can do no harm."""

from __future__ import annotations

from lmstack.agents.sandbox.code_tests import CodeTests, CodeTestVerdict
from lmstack.agents.sandbox.config import SandboxConfig
from lmstack.agents.sandbox.execution import CodeError, Execution, FolderFile
from lmstack.agents.sandbox.processes import Ran
from lmstack.agents.sandbox.sandbox import Sandbox
from lmstack.agents.sandbox.session import SandboxSession

__all__ = [
    "CodeError",
    "CodeTestVerdict",
    "CodeTests",
    "Execution",
    "FolderFile",
    "Ran",
    "Sandbox",
    "SandboxConfig",
    "SandboxSession",
]
