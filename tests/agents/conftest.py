"""Sandboxes of each isolation that the machine has."""

from __future__ import annotations

import zlib

import pytest
from tests.sandboxes import ISOLATIONS, made_or_skipped

from lmstack.agents.sandbox import Sandbox, SandboxConfig
from lmstack.agents.sandbox.sandbox import IsolationName

# What these check is not the walls, which are tried in both.
IN_TURN = ("test_session", "test_code_tests")


@pytest.hookimpl(tryfirst=True)
def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """The ordinary suite takes one of the isolations for each test of `IN_TURN`."""
    if "isolation" in metafunc.fixturenames and metafunc.module.__name__.endswith(IN_TURN):
        first = zlib.crc32(metafunc.function.__name__.encode()) % 2
        names = [
            pytest.param(name, marks=[pytest.mark.long] * (number != first))
            for number, name in enumerate(ISOLATIONS)
        ]
        mark = pytest.mark.parametrize("isolation", names, indirect=True, scope="session")
        metafunc.definition.add_marker(mark)


@pytest.fixture(scope="session", params=ISOLATIONS)
def isolation(request: pytest.FixtureRequest) -> IsolationName:
    name: IsolationName = request.param
    made_or_skipped(isolation=name)
    return name


@pytest.fixture(scope="session")
def sandbox(isolation: IsolationName) -> Sandbox:
    config = SandboxConfig(cpu_s=2, wall_s=60, memory_mib=256)
    return made_or_skipped(config, isolation)
