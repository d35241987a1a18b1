"""Code that passes the row's tests: 1 where it does, else 0.

The code of an answer is its last block of Markdown code, or the whole answer where it has none;
``[before]`` is put in front of it. It runs in the sandbox of `lmstack.agents.sandbox`, which the
program lends, apart from the tests: it passes only where the tests have returned, and they see
plain data alone. Where no sandbox can be made nothing runs, and the run ends before its first step.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from lmstack.core import InputError, UnsupportedError, check_text
from lmstack.train.rewards.reward import Checks, CodeCheck, RewardFunction
from lmstack.train.rollouts.protocol import RolloutSample

__all__ = ["UnitTests", "code_of"]

_FENCED = re.compile(r"```[ \t]*(?:python|py)?[ \t]*\r?\n(.*?)(?:```|\Z)", re.S | re.I)


@dataclass(frozen=True)
class UnitTests(RewardFunction):
    name: ClassVar[str] = "unit-tests"
    columns: ClassVar[Mapping[str, str]] = {
        "tests": "Python that asserts what the code's functions return",
        "[entry_point]": "the function that `check` in the tests is given, as in HumanEval",
        "[before]": "code that the answer goes on from",
    }
    # What `lent` puts on the instance: no field, so no setting.
    check: ClassVar[CodeCheck | None] = None

    def lent(self, checks: Checks) -> Self:
        if checks.code is None:
            raise UnsupportedError(
                f"the reward {self.name} needs a sandbox, and this program lends none",
                hint="lmstack train runs code in one, with bubblewrap installed",
            )
        found = self.replace()
        object.__setattr__(found, "check", checks.code())
        return found

    def check_row(self, row: Mapping[str, Any]) -> None:
        super().check_row(row)
        for column in ("tests", "entry_point", "before"):
            if row.get(column) is not None:
                check_text(column, row[column])
        if not row["tests"].strip():
            raise InputError("tests is empty", hint="assert f(1) == 2", param="tests")

    def score(self, samples: Sequence[RolloutSample]) -> list[float]:
        assert self.check is not None, "lent() gives the sandbox"
        jobs = [
            (
                (s.row.get("before") or "") + code_of(s.text),
                s.row["tests"],
                s.row.get("entry_point"),
            )
            for s in samples
        ]
        return [float(verdict.passed) for verdict in self.check.judge(jobs)]


def code_of(text: str) -> str:
    """The code of an answer."""
    blocks = _FENCED.findall(text)
    return blocks[-1] if blocks else text
