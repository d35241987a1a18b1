"""A process to fork commands from, once for all tests of a run that need some."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.train.forked import Forks


@pytest.fixture(scope="session")
def forks() -> Iterator[Forks]:
    found = Forks()
    yield found
    found.close()
