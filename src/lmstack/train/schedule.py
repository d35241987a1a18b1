"""The learning rate of a step, as a share of the highest.

Linear warm-up, then cosine (Loshchilov and Hutter, 2017), linear, constant, or constant with a
linear decay over the last fifth (Hu et al., MiniCPM, 2024). After the warm-up these are the values
of transformers' `get_cosine_with_min_lr_schedule_with_warmup`, `get_linear_schedule_with_warmup`
and `get_wsd_schedule`. The warm-up differs on purpose: theirs has a rate of zero in the first step,
which learns nothing; ours begins with one part of it and reaches the highest rate a step earlier.
"""

from __future__ import annotations

import math

__all__ = ["DECAY", "lr_share"]

DECAY = 0.2


def lr_share(schedule: str, step: int, steps: int, warmup: float, final: float) -> float:
    """Of step ``step`` (from 0) of ``steps``, in [0, 1]. ``warmup``: a share of all steps;
    ``final``: what is approached; a step after the last would have it."""
    ramp = round(warmup * steps)
    if step < ramp:
        return (step + 1) / ramp
    left = max(steps - ramp, 1)
    progress = min((step - ramp) / left, 1.0)
    if schedule == "constant":
        return 1.0
    if schedule == "linear":
        return 1 + (final - 1) * progress
    if schedule == "constant-decay":
        start = max(1 - DECAY * steps / left, 0.0)
        return 1.0 if progress <= start else 1 + (final - 1) * (progress - start) / (1 - start)
    return final + (1 - final) * 0.5 * (1 + math.cos(math.pi * progress))
