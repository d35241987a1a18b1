"""What is measured of predictions, as counts that add up over batches, and what follows from them.

Legend: B predictions, K classes.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["class_counts", "correlation", "macro_f1", "moments"]


def class_counts(predicted: Tensor, actual: Tensor) -> Tensor:
    """(3, K): hits, predicted, actual; of (B, K), 1 where a class is."""
    return torch.stack([(predicted * actual).sum(0), predicted.sum(0), actual.sum(0)])


def macro_f1(counts: Tensor) -> float:
    """Mean of 2 * hits / (predicted + actual) over the classes that have any, as scikit-learn has
    it. ``counts``: of `class_counts`."""
    hits, predicted, actual = counts
    seen = predicted + actual
    return float((2 * hits / seen.clamp(min=1))[seen > 0].mean()) if bool((seen > 0).any()) else 0.0


def moments(x: Tensor, y: Tensor) -> Tensor:
    """(6,): how many there are, and the sums of x, y, x^2, y^2 and xy; of (B,), in float64."""
    x, y = x.double(), y.double()
    ones = torch.ones_like(x)
    pairs = ((ones, ones), (x, ones), (y, ones), (x, x), (y, y), (x, y))
    return torch.stack([(a * b).sum() for a, b in pairs])


def correlation(sums: Tensor) -> float:
    """Pearson's, of `moments`; 0 without a spread."""
    n, x, y, xx, yy, xy = sums.tolist()
    spread = max(n * xx - x * x, 0.0) * max(n * yy - y * y, 0.0)
    return float((n * xy - x * y) / spread**0.5) if spread > 0 else 0.0
