"""How full packed rows are, how long packing takes, and who meets whom again in the next epoch.

Lengths are drawn as those of conversations are spread: log-normal with a mean near 180 tokens, cut
at 1,024. Run: python benchmarks/packing.py
"""

from __future__ import annotations

import resource
import time

import numpy as np

from lmstack.train.loader import PackedRows, pack

CAPACITY = 1024


def neighbours(rows: PackedRows, order: np.ndarray) -> set[int]:
    """Pairs of examples that lie side by side in a row, each as one number."""
    members = order[rows.members]
    is_inside = np.ones(len(members) - 1, bool)
    is_inside[rows.starts[1:-1] - 1] = False
    first, second = members[:-1][is_inside], members[1:][is_inside]
    low, high = np.minimum(first, second), np.maximum(first, second)
    return set((low * len(members) + high).tolist())


def main() -> None:
    print(f"{'examples':>10}  {'filled':>7}  {'seconds':>7}  side by side again  peak MB")
    for count in (500, 4_000, 100_000, 10_000_000):
        drawn = np.exp(np.random.default_rng(0).normal(4.8, 0.9, count)).astype(np.int64) + 8
        lengths = np.minimum(drawn, CAPACITY)
        met: list[set[int]] = []
        spent = 0.0
        for epoch in range(2 if count < 1_000_000 else 1):
            order = np.random.default_rng([0, epoch]).permutation(count)
            started = time.process_time()
            rows = pack(lengths[order], CAPACITY)
            spent = time.process_time() - started
            if count < 1_000_000:
                met.append(neighbours(rows, order))
        filled = lengths.sum() / (len(rows) * CAPACITY)
        again = f"{len(met[0] & met[1]) / len(met[0]):.1%}" if met else ""
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(f"{count:>10,}  {filled:>7.2%}  {spent:>7.2f}  {again:>18}  {peak:>7,.0f}")


if __name__ == "__main__":
    main()
