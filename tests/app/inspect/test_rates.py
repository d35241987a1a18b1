"""Measuring the machine: what is counted, and what it leaves behind."""

from __future__ import annotations

import time

import numpy as np
import pytest
import torch

from lmstack.app.inspect import rates
from lmstack.app.inspect.product import ByteProduct
from lmstack.app.inspect.rates import measure_rates
from lmstack.engine import native_problem


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rates, "SHAPES", ((8, 16, 8), (16, 16, 16)))
    monkeypatch.setattr(rates, "NATIVE_SHAPE", (4, 128, 16))


def test_every_rate_is_measured_and_all_cores_read_no_less_than_one(small: None) -> None:
    found = measure_rates(2, 1 << 16, seconds=0)
    assert set(found.matrix) == {"int8", "bfloat16", "float32"}
    assert min(found.matrix.values()) > 0
    assert 0 < found.read_one <= found.read_all


def test_a_rate_is_bytes_or_operations_over_the_shortest_time(
    small: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rates, "_best_time", lambda call, seconds: 0.5)
    monkeypatch.setattr(rates, "problem", lambda: "no native ops")
    found = measure_rates(1, 4000, seconds=0)
    assert found.read_all == 4000 / 0.5
    assert found.matrix["int8"] == 2 * 16 * 16 * 16 / 0.5


def test_the_number_of_threads_is_what_it_was(small: None) -> None:
    before = torch.get_num_threads()
    measure_rates(before + 1, 1 << 12, seconds=0)
    assert torch.get_num_threads() == before


def test_a_type_that_torch_does_not_multiply_is_as_fast_as_the_floats_it_widens_to(
    small: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("not implemented for 'Char'")

    monkeypatch.setattr(torch, "_int_mm", refuse)
    monkeypatch.setattr(rates, "problem", lambda: "no native ops")
    found = measure_rates(1, 1 << 12, seconds=0).matrix
    assert found["int8"] == found["float32"]


def test_no_narrow_type_is_slower_than_float32(
    small: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """AVX2 has no dot products of bytes or bfloat16: torch's took a thousand times as long."""
    taken = {"int8": 1000.0, "bfloat16": 500.0, "float32": 1.0}
    monkeypatch.setattr(rates, "_matrix_rate", lambda kind, seconds: 1e9 / taken[kind])
    monkeypatch.setattr(rates, "problem", lambda: "no native ops")
    assert set(measure_rates(1, 1 << 12, seconds=0).matrix.values()) == {1e9}


@pytest.mark.skipif(bool(native_problem()), reason="the native ops are not built")
def test_int8_is_as_fast_as_the_native_ops_multiply_it(
    small: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rates, "_matrix_rate", lambda kind, seconds: 1.0)
    found = measure_rates(2, 1 << 12, seconds=0).matrix
    assert found["int8"] > 1e6 > found["float32"]


@pytest.mark.skipif(bool(native_problem()), reason="the native ops are not built")
def test_the_native_product_that_is_measured_is_the_product() -> None:
    product = ByteProduct(3, 256, 32, low=130, high=131)  # each weight is 2
    product()
    expected = 2 * product.activations.sum(1, dtype=np.int32)
    np.testing.assert_array_equal(product.out, np.repeat(expected[:, None], 32, 1))


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
