"""Rows of nothing but padding, and long padding beside real rows, in every kind of attention."""

from __future__ import annotations

import functools
from typing import Any

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from lmstack.model import LayerKind, Transformer, TransformerConfig

BASE: dict[str, Any] = {
    "vocab_size": 41,
    "hidden_size": 24,
    "intermediate_size": 40,
    "num_layers": 2,
    "num_heads": 4,
    "num_kv_heads": 2,
    "head_dim": 8,
    "max_positions": 300,
}
STILL = {"kinds": (LayerKind(None),)}
VARIANTS: dict[str, dict[str, Any]] = {
    "rope": {},
    "encoder": {"causal": False},
    "window": {"kinds": (LayerKind(window=5),)},
    "softcap": {"attention_softcap": 2.0},
    "alibi": STILL | {"bias": "alibi"},
    "t5": STILL | {"bias": "t5", "causal": False},
    "deberta": STILL | {"bias": "deberta", "causal": False, "num_kv_heads": 4, "bias_buckets": 8},
}


@pytest.mark.parametrize("T", [9, 270], ids=["one_tile", "two_tiles"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_a_row_of_padding_disturbs_no_other_and_no_gradient(variant: str, T: int) -> None:
    torch.manual_seed(0)
    module = Transformer(TransformerConfig(**(BASE | VARIANTS[variant])))
    module.reset_parameters(0.2)
    ids, mask = torch.randint(0, 41, (3, T)), torch.ones(3, T, dtype=torch.long)
    mask[1] = 0
    mask[2, : T // 2] = 0
    logits = module(ids, mask).logits
    assert logits.isfinite().all()
    assert_close(logits[:1], module(ids[:1]).logits, rtol=1e-4, atol=1e-5)
    assert_close(logits[2:, T // 2 :], module(ids[2:, T // 2 :]).logits, rtol=1e-4, atol=1e-5)
    logits[mask.bool()].square().mean().backward()
    gradients = [p.grad for p in module.parameters() if p.grad is not None]
    assert gradients
    assert all(gradient.isfinite().all() for gradient in gradients)


ROWS, LONGEST = 3, 9
masks = st.lists(
    st.lists(st.booleans(), min_size=LONGEST, max_size=LONGEST).filter(any),
    min_size=ROWS,
    max_size=ROWS,
)


@functools.cache
def made(variant: str) -> Transformer:
    torch.manual_seed(0)
    module = Transformer(TransformerConfig(**(BASE | VARIANTS[variant])))
    module.reset_parameters(0.3)
    return module


@pytest.mark.parametrize("keep", [False, True], ids=["plain", "weights_kept"])
@pytest.mark.parametrize("variant", VARIANTS)
@settings(max_examples=12, deadline=None)
@given(masks)
@example([[True] * LONGEST] * ROWS)
@example([[True] * (LONGEST - n) + [False] * n for n in range(ROWS)])
def test_what_stands_in_masked_places_changes_nothing_in_real_ones(
    variant: str, keep: bool, mask: list[list[bool]]
) -> None:
    """On either side or between real tokens; with the weights kept as without."""
    module, real = made(variant), torch.tensor(mask)
    ids, other = torch.randint(0, 41, (2, *real.shape), generator=torch.Generator().manual_seed(1))
    other = torch.where(real, ids, other)
    with torch.no_grad():
        plain = module(ids, real).logits
        found = module(other, real, output_attentions=keep)
    assert_close(found.logits[real], plain[real], rtol=1e-4, atol=1e-5)
    for weights in found.attentions or ():
        assert not weights.masked_select(~real[:, None, None, :]).any()
