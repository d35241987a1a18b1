"""What processes know of each other, with the sum over all of them given by hand."""

from __future__ import annotations

import pytest
import torch
import torch.distributed as dist

from lmstack.train.parallel import Parallel


def test_all_processes_know_what_the_first_says(monkeypatch: pytest.MonkeyPatch) -> None:
    """The step that a run goes on from: neither a mean over processes nor anybody else's word."""
    said, group = (12, 7, 0), [Parallel(rank, 3) for rank in range(3)]
    given: list[torch.Tensor] = []
    monkeypatch.setattr(dist, "all_reduce", lambda sums: given.append(sums.clone()))
    for parallel, value in zip(group, said, strict=True):
        parallel.told_by_first(value)
    total = torch.stack(given).sum(0)
    monkeypatch.setattr(dist, "all_reduce", lambda sums: sums.copy_(total))
    assert [p.told_by_first(value) for p, value in zip(group, said, strict=True)] == [12] * 3
