"""mutmut, with two changes; `run` starts this in the copy instead of ``mutmut``.

The tests have passed when mutmut has seen which of them reach what, and are not run once more. And
a fault that keeps a conftest.py or a file of tests from being imported is noticed: pytest calls it
a wrong command, as it does a test that is not there, and mutmut a timeout.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

from mutmut.__main__ import cli
from mutmut.runners.harness import BadTestExecutionCommandsException, PytestRunner
from mutmut.workers.isolation import ForkServerRunner

_run_tests = PytestRunner.run_tests


def run_tests(self: PytestRunner, *, mutant_name: str | None, tests: Iterable[str]) -> int:
    from _pytest.config import ConftestImportFailure  # in the child alone

    begin, broken = ConftestImportFailure.__init__, []

    def noted(failure: ConftestImportFailure, *given: Any, **named: Any) -> None:
        broken.append(failure)
        begin(failure, *given, **named)

    ConftestImportFailure.__init__ = noted  # type: ignore[method-assign]
    try:
        return _run_tests(self, mutant_name=mutant_name, tests=tests)
    except BadTestExecutionCommandsException:
        if broken or "TESTS_BROKEN" in os.environ:  # by `ordered`
            return 1
        raise


if __name__ == "__main__":
    PytestRunner.run_tests = run_tests  # type: ignore[method-assign]
    ForkServerRunner.run_clean_tests = lambda self, tests: 0  # type: ignore[method-assign]
    cli()
