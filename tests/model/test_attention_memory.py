"""What attention allocates, by length: linear by default, and quadratic only for the weights.

Counted by torch's allocator, so nothing else on the machine changes a figure. The same at 1k to
16k, with pictures, is in benchmarks/attention.py.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.profiler import ProfilerActivity, profile

from lmstack.model import scaled_dot_product_attention
from lmstack.model.biases import AlibiBias, BucketBias, DisentangledBias, alibi_slopes

LENGTHS = (512, 2048)
TABLE = torch.zeros(32, 1)
TERMS = torch.zeros(2, 64, 1, 16)
VARIANTS: dict[str, dict[str, Any]] = {
    "full": {},
    "causal": {"causal": True},
    "padded": {"causal": True, "mask": "keys"},
    "window": {"causal": True, "window": 512},
    "softcap": {"causal": True, "softcap": 50.0},
    "alibi": {"causal": True, "bias": AlibiBias(alibi_slopes(1))},
    "t5": {"bias": BucketBias(TABLE, 128, both_sides=True)},
    "t5_learned": {"bias": BucketBias(TABLE.clone().requires_grad_(), 128, both_sides=True)},
    "deberta": {"bias": DisentangledBias(*TERMS, 32, 32, 64, 0.1)},
}


def peak_bytes(call: Callable[[], object]) -> int:
    """The most that lives at once of what ``call`` allocates."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record:
        call()
    events = [e for e in record.profiler.kineto_results.events() if e.name() == "[memory]"]
    now = top = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        now += event.nbytes()
        top = max(top, now)
    return top


def slope(peaks: list[int]) -> float:
    """Of the line through first and last on paper with two logarithmic axes."""
    return math.log(peaks[-1] / peaks[0]) / math.log(LENGTHS[-1] / LENGTHS[0])


def peaks(variant: str, *, backward: bool, weights: bool = False) -> list[int]:
    found = []
    for T in LENGTHS:
        tensors = [torch.randn(1, 1, T, 16, requires_grad=backward) for _ in range(3)]
        options = dict(VARIANTS[variant])
        if "mask" in options:
            options["mask"] = torch.arange(T)[None, None, None] >= 5

        def call(tensors: Any = tensors, options: Any = options) -> None:
            out = scaled_dot_product_attention(*tensors, **options, return_weights=weights)
            out = out[0] if weights else out
            if backward:
                out.sum().backward()

        found.append(peak_bytes(call))
    return found


@pytest.mark.parametrize("backward", [False, True], ids=["forward", "backward"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_memory_grows_with_the_length_and_not_with_its_square(variant: str, backward: bool) -> None:
    assert slope(peaks(variant, backward=backward)) < 1.15


@pytest.mark.parametrize("backward", [False, True], ids=["forward", "backward"])
def test_weights_cost_the_square(backward: bool) -> None:
    assert 1.9 < slope(peaks("causal", backward=backward, weights=True)) < 2.1
