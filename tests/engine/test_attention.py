"""Paged attention against the dense one, over the shapes that a step can have."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.engine.conftest import tiny_config

from lmstack.engine.executor import SequenceSpan
from lmstack.engine.torch.attention import PagedAttention
from lmstack.engine.torch.kvpool import KVPool
from lmstack.model import REFERENCE_OPS, DenseAttention, ForwardContext, LayerKind, Transformer

BLOCK = 4
CONFIG = tiny_config(num_layers=1)
KINDS: dict[str, dict[str, object]] = {
    "plain": {},
    "window": {"kinds": (LayerKind(window=6),)},
    "window of a block": {"kinds": (LayerKind(window=4),)},
    "window of one": {"kinds": (LayerKind(window=1),)},
    "softcap": {"attention_softcap": 1.5, "attention_scale": 0.9},
    "softcap and window": {"attention_softcap": 1.5, "kinds": (LayerKind(window=5),)},
    "alibi": {"bias": "alibi", "kinds": (LayerKind(rope=None),)},
    "t5": {"bias": "t5", "attention_scale": 1.0, "bias_buckets": 8, "bias_max_distance": 16},
}
HQ, HKV, HD = CONFIG.num_heads, CONFIG.num_kv_heads, CONFIG.head_dim


def qkv(count: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    fused = torch.randn(count, HQ + 2 * HKV, HD)
    return fused[:, :HQ], fused[:, HQ : HQ + HKV], fused[:, HQ + HKV :]


def run(
    lengths: list[tuple[int, int]], *, scattered: bool, seed: int = 0, kind: str = "plain"
) -> None:
    """Sequences of (tokens before, tokens of the step); compares each with dense attention."""
    torch.manual_seed(seed)
    config = tiny_config(num_layers=1, **KINDS[kind])
    module = Transformer(config)
    module.reset_parameters(std=1.0)
    bias = module._shared_bias()
    lengths = sorted(lengths, key=lambda x: x[1] > 1)
    widths = [-(-(a + b) // BLOCK) for a, b in lengths]
    blocks = torch.randperm(sum(widths)) if scattered else torch.arange(sum(widths))
    tables = [t.tolist() for t in blocks.split(widths)]
    pool = KVPool(config, sum(widths), BLOCK, torch.float32)
    # What an earlier owner left behind must not be seen.
    pool.keys.normal_()
    pool.values.normal_()
    tensors = [qkv(a + b) for a, b in lengths]
    before = [(t, 0, a) for t, (a, _) in zip(tables, lengths, strict=True)]
    for (table, start, end), (q, k, v) in zip(before, tensors, strict=True):
        if end:
            PagedAttention(pool, config, [SequenceSpan(table, start, end)])(
                0, q[:end], k[:end], v[:end], bias
            )
    spans = [SequenceSpan(t, a, a + b) for t, (a, b) in zip(tables, lengths, strict=True)]
    packed = [
        torch.cat([x[i][a:] for x, (a, _) in zip(tensors, lengths, strict=True)]) for i in range(3)
    ]
    out = PagedAttention(pool, config, spans)(0, *packed, bias)
    parts = out.split([b for _, b in lengths])
    for part, (q, k, v), (a, _) in zip(parts, tensors, lengths, strict=True):
        dense = DenseAttention(config, REFERENCE_OPS)(0, q[None], k[None], v[None], bias)[0, a:]
        torch.testing.assert_close(part, dense)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("scattered", [False, True])
@pytest.mark.parametrize(
    "lengths",
    [
        [(0, 1)],
        [(7, 1)],
        [(0, 9)],
        [(5, 9)],
        [(4, 4)],
        [(3, 1), (8, 1), (0, 1)],
        [(3, 1), (0, 6)],
        [(3, 1), (9, 1), (0, 6), (6, 5), (0, 2)],
    ],
)
@torch.no_grad()
def test_equals_dense_attention(lengths: list[tuple[int, int]], scattered: bool, kind: str) -> None:
    run(lengths, scattered=scattered, kind=kind)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 20), st.integers(1, 8)), min_size=1, max_size=5),
    st.booleans(),
    st.integers(0, 100),
    st.sampled_from(sorted(KINDS)),
)
@torch.no_grad()
def test_equals_dense_attention_for_any_mix(
    lengths: list[tuple[int, int]], scattered: bool, seed: int, kind: str
) -> None:
    run(lengths, scattered=scattered, seed=seed, kind=kind)


def test_paged_hidden_states_equal_those_of_forward(module: Transformer) -> None:
    ids = torch.randint(0, 250, (1, 37), generator=torch.Generator().manual_seed(1))
    pool = KVPool(module.config, 16, BLOCK, torch.float32)
    table = torch.randperm(16).tolist()
    outs = []
    with torch.inference_mode():
        for start, end in [(0, 13), (13, 14), (14, 30), (30, 37)]:
            attend = PagedAttention(pool, module.config, [SequenceSpan(table, start, end)])
            outs.append(
                module.hidden(
                    ids[0, start:end], torch.arange(start, end), ForwardContext(attend=attend)
                )
            )
        expected = module(ids).last_hidden_state[0]
    torch.testing.assert_close(torch.cat(outs), expected, rtol=1e-4, atol=1e-5)


def test_wipe_leaves_no_nan_behind() -> None:
    pool = KVPool(CONFIG, 3, BLOCK, torch.float32)
    pool.keys.fill_(float("nan"))
    pool.values.fill_(float("nan"))
    pool.wipe([0, 2])
    assert pool.keys[:, :BLOCK].isfinite().all()
    assert pool.values[:, 2 * BLOCK :].isfinite().all()
    assert pool.keys[:, BLOCK : 2 * BLOCK].isnan().all()
