"""Samples on which a model and the base differ: which are shown, and what is said of them.

There are at most `MOST` of a comparison on a page, and the page says how many it leaves out.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence

from lmstack.app.page.evaluation.report import SampleChange
from lmstack.evals.results import SampleResult

__all__ = ["MOST", "chosen", "outcome", "sample_facts"]

MOST = 300


def chosen(changes: Sequence[SampleChange]) -> tuple[list[SampleChange], int]:
    """At most `MOST`, as many of each direction as there is room for, and how many are not."""
    lost = [each for each in changes if not each.is_gain]
    gained = [each for each in changes if each.is_gain]
    room = max(MOST // 2, MOST - len(gained))
    kept = lost[:room]
    kept += gained[: MOST - len(kept)]
    return kept, len(changes) - len(kept)


def outcome(change: SampleChange) -> str:
    """Which of the two models did better."""
    pair = change.pair
    right = pair.other if change.is_gain else pair.base
    if pair.is_binary:
        is_right = pair.found is None or pair.found.metric.better == "higher"
        return f"{'right' if is_right else 'better'}: {right.label}"
    return f"{'better' if change.is_gain else 'worse'}: {pair.other.label}"


def sample_facts(sample: SampleResult, columns: Sequence[str]) -> str:
    """Its scores but those of ``columns``, and what it took."""
    parts = [
        f"{name} {value:.4g}"
        for name, value in sample.scores.items()
        if name not in columns and not math.isnan(value)
    ]
    if sample.finish_reason:
        parts.append(f"ended by {json.dumps(sample.finish_reason, ensure_ascii=False)}")
    if sample.prompt_tokens or sample.completion_tokens:
        parts.append(f"{sample.prompt_tokens:,} tokens in, {sample.completion_tokens:,} out")
    if sample.seconds:
        parts.append(f"{sample.seconds:.2f} s")
    return ", ".join(parts)
