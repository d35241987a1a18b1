"""Measuring the machine: what is counted, and what it leaves behind."""

from __future__ import annotations

import time

import pytest
import torch

from lmstack.engine import rates
from lmstack.engine.rates import measure_rates


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rates, "SHAPES", ((8, 16, 8), (16, 16, 16)))


def test_every_rate_is_measured_and_all_cores_read_no_less_than_one(small: None) -> None:
    found = measure_rates(2, 1 << 16, seconds=0)
    assert set(found.matrix) == {"int8", "bfloat16", "float32"}
    assert min(found.matrix.values()) > 0
    assert 0 < found.read_one <= found.read_all


def test_a_rate_is_bytes_or_operations_over_the_shortest_time(
    small: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rates, "_best_time", lambda call, seconds: 0.5)
    found = measure_rates(1, 4000, seconds=0)
    assert found.read_all == 4000 / 0.5
    assert found.matrix["int8"] == 2 * 16 * 16 * 16 / 0.5


def test_the_number_of_threads_is_what_it_was(small: None) -> None:
    before = torch.get_num_threads()
    measure_rates(before + 1, 1 << 12, seconds=0)
    assert torch.get_num_threads() == before


def test_a_product_that_torch_does_not_have_is_left_out(
    small: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("not implemented for 'Char'")

    monkeypatch.setattr(torch, "_int_mm", refuse)
    assert set(measure_rates(1, 1 << 12, seconds=0).matrix) == {"bfloat16", "float32"}


def test_a_product_without_instructions_of_its_own_is_measured_once(
    small: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    multiply, shapes = torch._int_mm, []

    def slow(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
        shapes.append(left.shape)
        end = time.thread_time() + 0.02
        while time.thread_time() < end:
            pass
        return multiply(left, right)

    monkeypatch.setattr(rates, "LONG_S", 0.01)
    monkeypatch.setattr(torch, "_int_mm", slow)
    assert measure_rates(1, 1 << 12, seconds=0).matrix["int8"] > 0
    assert shapes == [(8, 16)]


def test_progress_ends_where_it_said_it_would(small: None) -> None:
    seen: list[tuple[int, int]] = []
    measure_rates(1, 1 << 12, seconds=0, progress=lambda done, total, _: seen.append((done, total)))
    assert seen[-1][0] == seen[-1][1]
    assert [done for done, _ in seen] == list(range(len(seen)))
