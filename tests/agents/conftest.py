"""A sandbox, where the machine lets one be made."""

from __future__ import annotations

import pytest
from tests.sandboxes import made_or_skipped

from lmstack.agents.sandbox import Sandbox, SandboxConfig


@pytest.fixture(scope="session")
def sandbox() -> Sandbox:
    return made_or_skipped(SandboxConfig(cpu_s=2, wall_s=60, memory_mib=256))
