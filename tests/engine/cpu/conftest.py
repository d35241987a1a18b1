"""The paths of this machine. With a compiler there must be native ops to test."""

from __future__ import annotations

import shutil

import pytest
from tests.engine.cpu.calls import on_path

from lmstack.engine.cpu.build import compilers
from lmstack.engine.cpu.library import available_paths, problem
from lmstack.engine.cpu.mirrors import PathStruct


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "path" in metafunc.fixturenames:
        metafunc.parametrize(
            "path", available_paths() or ["missing"], indirect=True, scope="session"
        )


@pytest.fixture(scope="session")
def paths() -> list[str]:
    """Best first, portable last."""
    if problem():
        compiled = any(shutil.which(command[0]) for command in compilers())
        assert not compiled, f"{problem()}: run `pip install -e .`"
        pytest.skip("no C compiler")
    return available_paths()


@pytest.fixture(scope="session")
def path(paths: list[str], request: pytest.FixtureRequest) -> PathStruct:
    """The functions of one path; the process goes on with the one that it had."""
    with on_path(request.param) as selected:
        return selected


@pytest.fixture(scope="session")
def every(paths: list[str]) -> list[PathStruct]:
    """The functions of each path."""
    found = []
    for name in paths:
        with on_path(name) as selected:
            found.append(selected)
    return found
