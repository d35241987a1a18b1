"""A sandbox, where the machine lets one be made."""

from __future__ import annotations

import pytest

from lmstack.agents.sandbox import Sandbox, SandboxConfig
from lmstack.core import LmstackError


@pytest.fixture(scope="session")
def sandbox() -> Sandbox:
    found = Sandbox(SandboxConfig(cpu_s=2, wall_s=60, memory_mib=256))
    try:
        found.check()
    except LmstackError as error:
        pytest.skip(f"no sandbox: {error}")
    return found
