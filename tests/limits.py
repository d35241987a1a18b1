"""The least and the most that a setting takes: both are taken, and what lies beyond is refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from tests.errors import about

from lmstack.core import InputError

__all__ = ["check_limits"]


def check_limits(
    make: Callable[[Any], object], name: str, least: float, most: float, opened: str = ""
) -> None:
    """``make``: with the setting ``name``. ``opened``: "low" and "high" where a limit itself is
    not taken. Limits that are whole are those of a whole number."""
    is_whole = isinstance(least, int) and isinstance(most, int)

    def beside(limit: float, way: int) -> float:
        return limit + way if is_whole else limit + way * 1e-6 * max(1.0, abs(limit))

    for limit, way, is_open in ((least, -1, "low" in opened), (most, 1, "high" in opened)):
        taken, refused = (beside(limit, -way), limit) if is_open else (limit, beside(limit, way))
        make(taken)
        with pytest.raises(InputError, match=name, check=about(name)):
            make(refused)
