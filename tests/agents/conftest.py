"""Sandboxes of each isolation that the machine has."""

from __future__ import annotations

import pytest
from tests.sandboxes import ISOLATIONS, made_or_skipped

from lmstack.agents.sandbox import Sandbox, SandboxConfig
from lmstack.agents.sandbox.sandbox import IsolationName


@pytest.fixture(scope="session", params=ISOLATIONS)
def isolation(request: pytest.FixtureRequest) -> IsolationName:
    name: IsolationName = request.param
    made_or_skipped(isolation=name)
    return name


@pytest.fixture(scope="session")
def sandbox(isolation: IsolationName) -> Sandbox:
    config = SandboxConfig(cpu_s=2, wall_s=60, memory_mib=256)
    return made_or_skipped(config, isolation)
