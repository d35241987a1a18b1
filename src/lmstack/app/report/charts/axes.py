"""Axes of pictures: where a value lies, round values to mark, and how they are written."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

__all__ = ["Axis", "axis_over"]

_TICKS = 4  # at least about so many steps
_POWERS = 8  # of ten that are marked, at most
_LOG_FROM = 20.0  # times the least value: from there on a logarithmic axis shows more


@dataclass(frozen=True)
class Axis:
    """``low`` to ``high`` are drawn from ``start`` to ``end``. ``is_share``: in per cent,
    with ``suffix`` behind the number."""

    low: float
    high: float
    start: float
    end: float
    is_log: bool = False
    is_share: bool = False
    suffix: str = " %"

    def __call__(self, value: float) -> float:
        """The place of ``value``; of one that lies outside, the nearer end."""
        low, high, value = map(self._scaled, (self.low, self.high, value))
        part = (value - low) / (high - low) if high > low else 0.5
        return self.start + min(max(part, 0.0), 1.0) * (self.end - self.start)

    def _scaled(self, value: float) -> float:
        return math.log10(max(value, self.low)) if self.is_log else value

    def holds(self, value: float) -> bool:
        return self.low <= value <= self.high

    @property
    def ticks(self) -> list[float]:
        """Round values on the axis, the least first."""
        if self.is_log:
            powers = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
            wanted = (1.0,) if len(powers) > 4 else (1.0, 3.0)
            kept = powers[:: -(-len(powers) // _POWERS)]
            return [f * 10.0**p for p in kept for f in wanted if self.holds(f * 10.0**p)]
        step = _step(self.high - self.low)
        first = math.ceil(self.low / step - 1e-9)
        last = math.floor(self.high / step + 1e-9)
        return [number * step for number in range(first, last + 1)]

    def text(self, tick: float) -> str:
        """``tick``, with as many decimals as its neighbours need."""
        if self.is_log:
            return f"{tick:g}" if 1e-3 <= tick < 1e5 else f"{tick:.0e}"
        step = _step(self.high - self.low) * (100 if self.is_share else 1)
        decimals = max(0, -math.floor(math.log10(step) + 1e-9))
        value = tick * (100 if self.is_share else 1)
        value = 0.0 if abs(value) < step / 1e3 else value
        return f"{value:,.{decimals}f}" + (self.suffix if self.is_share else "")


def axis_over(
    values: Iterable[float],
    start: float,
    end: float,
    *,
    is_share: bool = False,
    suffix: str = " %",
    whole: tuple[float, float] | None = None,
    may_be_log: bool = False,
) -> Axis:
    """An axis on which all finite ``values`` lie, with a little room at its ends. ``whole``: the
    least and the greatest value there can be, which it never goes beyond."""
    finite = [value for value in values if math.isfinite(value)] or [0.0, 1.0]
    low, high = min(finite), max(finite)
    if may_be_log and low > 0 and high / low >= _LOG_FROM:
        return Axis(low / 1.3, high * 1.3, start, end, is_log=True)
    room = 0.06 * (high - low) or (abs(high) or 1.0) * 0.1
    low, high = low - room, high + room
    if may_be_log:  # amounts, which are not below nought
        low = max(low, 0.0)
    if whole is not None:
        low, high = max(low, whole[0]), min(high, whole[1])
    if not high - low > 1e-12 * max(abs(low), abs(high)):
        low, high = low - 0.5, high + 0.5
    return Axis(low, high, start, end, is_share=is_share, suffix=suffix)


def _step(span: float) -> float:
    """The largest of 1, 2 and 5 times a power of ten that gives enough steps."""
    power = 10.0 ** math.floor(math.log10(span / _TICKS))
    return next(f * power for f in (5.0, 2.0, 1.0) if f * power <= span / _TICKS * (1 + 1e-9))
