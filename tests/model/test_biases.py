"""What positions add to scores, against transformers and against plain loops."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close
from transformers.models.bloom.modeling_bloom import build_alibi_tensor
from transformers.models.deberta_v2.modeling_deberta_v2 import make_log_bucket_position
from transformers.models.mpt.modeling_mpt import build_mpt_alibi_tensor
from transformers.models.t5.modeling_t5 import T5Attention

from lmstack.model.biases import (
    AlibiBias,
    BucketBias,
    DisentangledBias,
    alibi_slopes,
    bucket,
    log_bucket,
)


@pytest.mark.parametrize("heads", range(1, 41))
def test_alibi_slopes_for_any_number_of_heads(heads: int) -> None:
    bloom = build_alibi_tensor(torch.ones(1, 2), heads, torch.float32)[:, 0, 1]
    assert_close(alibi_slopes(heads), bloom)
    for top in (4.0, 8.0, 12.5):
        mpt = build_mpt_alibi_tensor(heads, 2, top)[:, 0, 0]
        assert_close(alibi_slopes(heads, top), -mpt)


def test_alibi_takes_a_slope_for_each_token_between() -> None:
    slopes = alibi_slopes(3)
    q, k = torch.zeros(1, 4, 3, 2), torch.zeros(1, 6, 3, 2)
    found = AlibiBias(slopes)(q, k, torch.arange(2, 6), torch.arange(6))
    expected = [
        [[float(slopes[h]) * (s - t) for s in range(6)] for t in range(2, 6)] for h in range(3)
    ]
    assert_close(found, torch.tensor(expected))


DISTANCES = torch.arange(-700, 701)


@pytest.mark.parametrize("both_sides", [False, True])
@pytest.mark.parametrize(("count", "farthest"), [(32, 128), (32, 256), (8, 20), (64, 1024)])
def test_buckets_are_those_of_t5(count: int, farthest: int, both_sides: bool) -> None:
    expected = T5Attention._relative_position_bucket(
        DISTANCES, bidirectional=both_sides, num_buckets=count, max_distance=farthest
    )
    found = bucket(DISTANCES, count, farthest, both_sides=both_sides)
    assert torch.equal(found, expected)
    assert {0, count - 1} <= set(found.tolist()) or farthest > 700


@pytest.mark.parametrize(("count", "farthest"), [(256, 512), (32, 64), (8, 512), (16, 17)])
def test_signed_buckets_are_those_of_deberta(count: int, farthest: int) -> None:
    expected = make_log_bucket_position(DISTANCES, count, farthest).long()
    assert torch.equal(log_bucket(DISTANCES, count, farthest), expected)


def test_a_table_gives_each_head_its_number() -> None:
    table = torch.randn(8, 3)
    q, k = torch.zeros(2, 4, 3, 2), torch.zeros(2, 5, 3, 2)
    found = BucketBias(table, 10, both_sides=True)(q, k, torch.arange(4), torch.arange(5))
    found = found.expand(2, 3, 4, 5)
    for t in range(4):
        for s in range(5):
            row = bucket(torch.tensor(s - t), 8, 10, both_sides=True)
            assert torch.equal(found[0, :, t, s], table[row])


@pytest.mark.parametrize("parts", [("c2p",), ("p2c",), ("c2p", "p2c")])
@pytest.mark.parametrize("buckets", [0, 4])
def test_disentangled_terms_are_products_with_bucketed_positions(
    parts: tuple[str, ...], buckets: int
) -> None:
    B, T, S, H, hd, span = 2, 6, 7, 3, 4, 4
    generator = torch.Generator().manual_seed(0)
    q = torch.randn(B, T, H, hd, generator=generator)
    k = torch.randn(B, S, H, hd, generator=generator)
    keys, queries = torch.randn(2, 2 * span, H, hd, generator=generator)
    bias = DisentangledBias(
        keys if "c2p" in parts else None,
        queries if "p2c" in parts else None,
        span,
        buckets,
        9,
        0.37,
    )
    found = bias(q, k, torch.arange(1, 1 + T), torch.arange(S))
    for t in range(T):
        for s in range(S):
            away = torch.tensor(1 + t - s)
            if buckets:
                away = make_log_bucket_position(away, buckets, 9)
            row = min(max(int(away) + span, 0), 2 * span - 1)
            expected = torch.zeros(B, H)
            if "c2p" in parts:
                expected += (q[:, t] * keys[row]).sum(-1)
            if "p2c" in parts:
                expected += (k[:, s] * queries[row]).sum(-1)
            assert_close(found[:, :, t, s], expected * 0.37)


def biases() -> dict[str, Any]:
    generator = torch.Generator().manual_seed(3)
    terms = torch.randn(2, 8, 2, 3, generator=generator)
    return {
        "alibi": AlibiBias(alibi_slopes(2)),
        "t5": BucketBias(torch.randn(8, 2, generator=generator), 10, both_sides=True),
        "t5_decoder": BucketBias(torch.randn(8, 2, generator=generator), 10, both_sides=False),
        "deberta": DisentangledBias(terms[0], terms[1], 4, 4, 9, 0.5),
    }


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(sorted(biases())), st.data())
def test_a_tile_of_a_bias_is_that_part_of_the_whole(name: str, data: st.DataObject) -> None:
    bias = biases()[name]
    T = data.draw(st.integers(1, 20))
    start, low = data.draw(st.integers(0, T - 1)), data.draw(st.integers(0, T - 1))
    end, high = data.draw(st.integers(start + 1, T)), data.draw(st.integers(low + 1, T))
    generator = torch.Generator().manual_seed(T)
    q, k = torch.randn(2, 1, T, 2, 3, generator=generator)
    places = torch.arange(T)
    whole = bias(q, k, places, places).expand(1, 2, T, T)
    tile = bias(q[:, start:end], k[:, low:high], places[start:end], places[low:high])
    assert_close(tile.expand(1, 2, end - start, high - low), whole[:, :, start:end, low:high])


@pytest.mark.parametrize("name", sorted(biases()))
def test_positions_may_differ_by_row_and_only_distances_count(name: str) -> None:
    bias = biases()[name]
    q, k = torch.randn(2, 2, 5, 2, 3, generator=torch.Generator().manual_seed(0))
    places = torch.arange(5)
    alike = bias(q, k, places, places).expand(2, 2, 5, 5)
    rows = torch.stack([places, places + 100])
    assert_close(bias(q, k, rows, rows).expand(2, 2, 5, 5), alike)
