"""Other people's programs, run where they can do no harm."""

from __future__ import annotations

from lmstack.agents.sandbox.bubblewrap import Ran, Sandbox, SandboxConfig
from lmstack.agents.sandbox.code_tests import CodeTests, Verdict

__all__ = ["CodeTests", "Ran", "Sandbox", "SandboxConfig", "Verdict"]
