from __future__ import annotations

import os

import pytest
from tests.agents.inside.leaving import Left


@pytest.fixture
def left(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The statuses with which `os._exit` was called; each call raises `Left`."""
    statuses: list[int] = []

    def leave(status: int) -> None:
        statuses.append(status)
        raise Left

    monkeypatch.setattr(os, "_exit", leave)
    return statuses
