"""Tests in the order in which they are written, though they are named in another, those of the
module with the fault first; tests that cannot be collected have failed; and what failed without a
fault is written to ``failed.txt``.

`run` copies this as the conftest.py at the top: mutmut names the tests of a fault in no order,
and a fixture that tests of a module share is then made again and again, which takes long. And
pytest ends with the same code when a test file cannot be imported, by which a fault is noticed,
and when somebody interrupts it. mutmut keeps to itself which test failed.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=written)


def written(item: pytest.Item) -> tuple[bool, str, int, str]:
    """The place of a test: its file, its line, and its id, for one that has parameters. The module
    with the fault, if there is one, is named in the environment by mutmut."""
    file, line, _ = item.location
    faulty = os.environ.get("MUTANT_UNDER_TEST", "").split(".")
    return Path(file).stem.removeprefix("test_") not in faulty, file, line or 0, item.nodeid


def pytest_collectreport(report: pytest.CollectReport) -> None:
    if report.failed:  # with a test named in the file, pytest only says that it is not found
        os.environ["TESTS_BROKEN"] = "1"


def pytest_sessionfinish(session: pytest.Session) -> None:
    if session.exitstatus == pytest.ExitCode.INTERRUPTED and session.testsfailed:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_exception_interact(
    node: pytest.Item | pytest.Collector, report: pytest.CollectReport | pytest.TestReport
) -> None:
    if os.environ.get("MUTANT_UNDER_TEST", "") in ("", "stats"):
        (ROOT / "failed.txt").write_text(f"{node.nodeid}\n{report.longreprtext}\n")
