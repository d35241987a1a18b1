"""Where each step of a run stands on one axis of time.

The axis is the time that passed, those of agents below and waiting for people included, without
the pauses after which somebody went on with the run: else a run that waited over night would be
all night. Times come from stored runs and may be anything.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

from lmstack.agents.runs.run import Run
from lmstack.agents.steps import ApprovalStep, ModelStep, ResumeStep, Step, TaskStep, ToolStep

__all__ = ["TimeAxis", "seconds_of"]

_MOST_TICKS = 5
_UNITS = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 21_600, 43_200, 86_400)


@dataclass(frozen=True, slots=True)
class TimeAxis:
    """``start``: Unix time of its 0. ``cuts``: pauses that are left out, each from and to.
    ``total``: its length in seconds."""

    start: float = 0.0
    cuts: tuple[tuple[float, float], ...] = ()
    total: float = 0.0

    @classmethod
    def of(cls, run: Run) -> TimeAxis:
        steps = [step for each in run.walk() for step in each.steps]
        if not steps:
            return cls()
        ends = sorted(_finite(step.at) for step in steps)
        start = min(_finite(step.at) - seconds_of(step) for step in steps)
        axis = cls(start, tuple(_pauses(run, ends)))
        return cls(start, axis.cuts, axis.place(ends[-1]))

    def place(self, at: float) -> float:
        """Seconds from the beginning of the axis to the time ``at``."""
        at = _finite(at)
        left_out = sum(max(0.0, min(at, end) - begin) for begin, end in self.cuts)
        return max(0.0, at - self.start - left_out)

    def ticks(self) -> tuple[float, ...]:
        """A few round numbers of seconds, from 0 on."""
        if not self.total:
            return ()
        unit = _round(self.total / _MOST_TICKS)
        return tuple(unit * number for number in range(int(self.total / unit) + 1))


def seconds_of(step: Step) -> float:
    """How long it took: 0 for those that only note something."""
    if isinstance(step, ModelStep | ToolStep | ApprovalStep):
        return max(0.0, _finite(step.seconds))
    return 0.0


def _pauses(run: Run, ends: list[float]) -> Iterator[tuple[float, float]]:
    """From the last thing that happened anywhere in the run until it went on."""
    for _, step in pairwise(run.steps):
        if isinstance(step, ResumeStep | TaskStep):
            before = [end for end in ends if end < _finite(step.at)]
            if before:
                yield before[-1], _finite(step.at)


def _round(least: float) -> float:
    """The smallest round number of seconds that is not below ``least``."""
    if least > _UNITS[-1]:
        return math.ceil(least / _UNITS[-1]) * float(_UNITS[-1])
    if least >= 1:
        return float(next(unit for unit in _UNITS if unit >= least))
    scale: float = 10.0 ** math.floor(math.log10(least))
    return next(scale * factor for factor in (1, 2, 5, 10) if scale * factor >= least * 0.999)


def _finite(value: float) -> float:
    return value if math.isfinite(value) and abs(value) < 1e15 else 0.0
