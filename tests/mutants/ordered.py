"""Tests in the order in which they are written, though they are named in another.

`run` copies this as the conftest.py at the top: mutmut names the tests of a fault in no order,
and a fixture that tests of a module share is then made again and again, which takes long.
"""

from __future__ import annotations

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=written)


def written(item: pytest.Item) -> tuple[str, int, str]:
    """The place of a test: its file, its line, and its id, for one that has parameters."""
    file, line, _ = item.location
    return file, line or 0, item.nodeid
