"""Scaled dot-product attention against a float64 reference in plain loops, and against torch."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.autograd import gradcheck
from torch.testing import assert_close

from lmstack.core import InputError
from lmstack.model import scaled_dot_product_attention
from lmstack.model.biases import AlibiBias, BucketBias, DisentangledBias, alibi_slopes


def plainly(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    *,
    mask: torch.Tensor | None = None,
    causal: bool = False,
    window: int | None = None,
    scale: float | None = None,
    softcap: float | None = None,
    bias: Any = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """(Hq, T, hd) over (Hkv, S, hd), one query after the other, in float64."""
    q, k, v = (x.double() for x in (q, k, v))
    (Hq, T, hd), (Hkv, S, _) = q.shape, k.shape
    out, weights = torch.zeros(Hq, T, v.shape[-1]).double(), torch.zeros(Hq, T, S).double()
    whole = None if mask is None else mask.expand(Hq, T, S)
    first = S - T
    for h, t in itertools.product(range(Hq), range(T)):
        scores = []
        for s in range(S):
            score = float(q[h, t] @ k[h // (Hq // Hkv), s])
            score *= hd**-0.5 if scale is None else scale
            if softcap is not None:
                score = softcap * math.tanh(score / softcap)
            if bias is not None:
                score += bias(h, first + t, s)
            away = first + t - s
            hidden = (causal and away < 0) or (window is not None and abs(away) >= window)
            if whole is not None and whole.dtype == torch.bool:
                hidden = hidden or not bool(whole[h, t, s])
            elif whole is not None:
                score += float(whole[h, t, s])
            scores.append(-math.inf if hidden else score)
        top = max(scores)
        if top == -math.inf:
            continue
        raised = [math.exp(score - top) for score in scores]
        for s in range(S):
            weights[h, t, s] = raised[s] / sum(raised)
        out[h, t] = weights[h, t] @ v[h // (Hq // Hkv)]
    return out, weights


MASKS = ("none", "keys", "full", "row", "nothing", "numbers", "infinities")


@dataclass
class Case:
    """One call: tensors (B, H, T, hd), options, and the bias as the plain reference takes it."""

    q: torch.Tensor
    k: torch.Tensor
    v: torch.Tensor
    options: dict[str, Any] = field(default_factory=dict)
    plain_bias: Any = None

    def run(self, **more: Any) -> Any:
        return scaled_dot_product_attention(self.q, self.k, self.v, **self.options, **more)

    def expected(self) -> tuple[torch.Tensor, torch.Tensor]:
        options = {key: value for key, value in self.options.items() if key not in ("bias", "mask")}
        rows = []
        for b in range(len(self.q)):
            mask = self.options.get("mask")
            if mask is not None and mask.dim() == 4:
                mask = mask[b if len(mask) > 1 else 0]
            rows.append(
                plainly(self.q[b], self.k[b], self.v[b], mask=mask, bias=self.plain_bias, **options)
            )
        out, weights = zip(*rows, strict=True)
        return torch.stack(out), torch.stack(weights)


def made_mask(kind: str, shape: tuple[int, int, int, int], seed: int) -> torch.Tensor | None:
    B, H, T, S = shape
    generator = torch.Generator().manual_seed(seed)
    coin = torch.rand(B, H, T, S, generator=generator) > 0.4
    if kind == "keys":  # padding: the same keys for all heads and queries of a row
        return coin[:, :1, :1]
    if kind == "full":
        return coin
    if kind == "row":
        return coin[0, 0]
    if kind == "nothing":
        coin[:, :, T // 2] = False
        return coin
    if kind == "numbers":
        return torch.randn(H, T, S, generator=generator)
    if kind == "infinities":
        return torch.zeros(B, 1, T, S).masked_fill(~coin[:, :1], -torch.inf)
    return None


@st.composite
def cases(draw: st.DrawFn) -> Case:
    B, Hkv, groups = (draw(st.integers(1, 2)) for _ in range(3))
    T, S, hd = draw(st.integers(1, 9)), draw(st.integers(1, 9)), draw(st.integers(1, 4))
    S = T if draw(st.booleans()) else S
    H, seed = Hkv * groups, draw(st.integers(0, 99))
    generator = torch.Generator().manual_seed(seed)
    q = 2 * torch.randn(B, H, T, hd, generator=generator)
    k, v = (2 * torch.randn(B, Hkv, S, hd, generator=generator) for _ in range(2))
    options: dict[str, Any] = {
        "causal": draw(st.booleans()),
        "window": draw(st.none() | st.integers(1, 10)),
        "softcap": draw(st.sampled_from([None, 1.5])),
        "scale": draw(st.sampled_from([None, 0.3, 1.0])),
        "mask": made_mask(draw(st.sampled_from(MASKS)), (B, H, T, S), seed),
    }
    if not draw(st.booleans()):
        return Case(q, k, v, options)
    slopes = alibi_slopes(H)
    options["bias"] = AlibiBias(slopes)
    return Case(q, k, v, options, lambda h, i, j: float(slopes[h]) * (j - i))


@settings(max_examples=120, deadline=None)
@given(cases())
def test_output_and_weights_are_those_of_the_formula(case: Case) -> None:
    out, weights = case.run(return_weights=True)
    expected = case.expected()
    assert_close(out.double(), expected[0], rtol=1e-5, atol=1e-5)
    assert_close(weights.double(), expected[1], rtol=1e-5, atol=1e-5)


@settings(max_examples=120, deadline=None)
@given(cases(), st.integers(1, 10))
def test_tiles_of_any_size_give_what_all_at_once_gives(case: Case, tile: int) -> None:
    assert_close(case.run(tile=tile), case.run(return_weights=True)[0], rtol=1e-5, atol=1e-5)


@settings(max_examples=60, deadline=None)
@given(cases(), st.integers(1, 10))
def test_gradients_of_tiles_are_those_of_all_at_once(case: Case, tile: int) -> None:
    tensors = (case.q, case.k, case.v)
    for x in tensors:
        x.requires_grad_()
    towards = torch.randn(case.q.shape, generator=torch.Generator().manual_seed(0))
    found = torch.autograd.grad((case.run(tile=tile) * towards).sum(), tensors)
    out, _ = case.run(return_weights=True)
    for a, b in zip(found, torch.autograd.grad((out * towards).sum(), tensors), strict=True):
        assert a.isfinite().all()
        assert_close(a, b, rtol=1e-4, atol=1e-5)


def three(B: int = 2, H: int = 4, T: int = 7, S: int = 7, hd: int = 8, kv: int | None = None):
    generator = torch.Generator().manual_seed(T + S)
    q = torch.randn(B, H, T, hd, generator=generator)
    k, v = (torch.randn(B, kv or H, S, hd, generator=generator) for _ in range(2))
    return q, k, v


@pytest.mark.parametrize("kv", [1, 2, 4], ids=["multi_query", "grouped", "multi_head"])
@pytest.mark.parametrize("kind", ["none", "causal", "keys", "full", "numbers"])
def test_it_is_torchs_where_torch_has_it(kind: str, kv: int) -> None:
    q, k, v = three(kv=kv)
    mask = made_mask(kind, (2, 4, 7, 7), 3)
    causal = kind == "causal"
    expected = F.scaled_dot_product_attention(q, k, v, mask, is_causal=causal, enable_gqa=kv != 4)
    for more in ({}, {"tile": 2}):
        found = scaled_dot_product_attention(q, k, v, mask=mask, causal=causal, **more)
        assert_close(found, expected)
    out, weights = scaled_dot_product_attention(
        q, k, v, mask=mask, causal=causal, return_weights=True
    )
    assert_close(out, expected)
    assert_close(weights.sum(-1), torch.ones(2, 4, 7))


@pytest.mark.parametrize("where", ["plain", "tiles", "eager", "softcap", "additive"])
def test_a_query_that_may_look_nowhere_gives_zeros_and_finite_gradients(where: str) -> None:
    q, k, v = (x.requires_grad_() for x in three())
    mask: torch.Tensor = torch.ones(2, 1, 7, 7, dtype=torch.bool)
    mask[0, :, 3] = False
    mask[1] = False
    if where == "additive":
        mask = torch.zeros(2, 1, 7, 7).masked_fill(~mask, -torch.inf)
    options: dict[str, Any] = {"plain": {}, "tiles": {"tile": 2, "causal": True}}.get(where, {})
    if where == "softcap":
        options = {"softcap": 2.0}
    out = scaled_dot_product_attention(q, k, v, mask=mask, **options)
    if where == "eager":
        out, _ = scaled_dot_product_attention(q, k, v, mask=mask, return_weights=True)
    assert torch.equal(out[0, :, 3], torch.zeros(4, 8))
    assert torch.equal(out[1], torch.zeros(4, 7, 8))
    assert out[0, :, 2].abs().min() > 0
    for gradient in torch.autograd.grad(out.square().sum(), (q, k, v)):
        assert gradient.isfinite().all()
        assert torch.equal(gradient[1], torch.zeros_like(gradient[1]))


def test_queries_continue_a_sequence_where_there_are_more_keys() -> None:
    q, k, v = three(T=7, S=7)
    whole = scaled_dot_product_attention(q, k, v, causal=True)
    for T in (1, 2, 5):
        last = scaled_dot_product_attention(q[:, :, -T:], k, v, causal=True)
        assert_close(last, whole[:, :, -T:])


def test_a_window_counts_the_query_itself() -> None:
    q, k, v = three()
    assert_close(scaled_dot_product_attention(q, k, v, window=1), v)
    seen = scaled_dot_product_attention(q, k, v, window=3, return_weights=True)[1] > 0
    distance = torch.arange(7)[:, None] - torch.arange(7)
    assert torch.equal(seen[0, 0], distance.abs() < 3)
    seen = scaled_dot_product_attention(q, k, v, window=3, causal=True, return_weights=True)[1] > 0
    assert torch.equal(seen[0, 0], (distance >= 0) & (distance < 3))


@pytest.mark.parametrize("shape", [(), (3,), (2, 3), (1, 2, 3)], ids=str)
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("tile", [2, 256])
def test_any_leading_shape_is_a_batch(shape: tuple[int, ...], masked: bool, tile: int) -> None:
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(*shape, 4, 5, 6, generator=generator) for _ in range(3))
    mask = made_mask("full", (1, 4, 5, 5), 1)[0] if masked else None
    for options in ({}, {"causal": True}, {"softcap": 3.0}):
        found = scaled_dot_product_attention(q, k, v, mask=mask, tile=tile, **options)
        assert found.shape == q.shape
        flat = [x.reshape(-1, 4, 5, 6) for x in (q, k, v)]
        each = [
            plainly(*(x[b] for x in flat), mask=mask, **options)[0] for b in range(len(flat[0]))
        ]
        assert_close(found.reshape(-1, 4, 5, 6).double(), torch.stack(each), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("T", [255, 256, 257, 511, 513, 700])
@pytest.mark.parametrize("window", [None, 1, 200, 300])
def test_borders_of_the_default_tiles_do_not_show(T: int, window: int | None) -> None:
    q, k, v = three(B=1, H=2, T=T, S=T, hd=4)
    real = torch.rand(1, 1, 1, T, generator=torch.Generator().manual_seed(T)) > 0.2
    for causal, softcap in itertools.product((False, True), (None, 5.0)):
        options = {"mask": real, "causal": causal, "window": window, "softcap": softcap}
        tiled = scaled_dot_product_attention(q, k, v, **options)
        eager, _ = scaled_dot_product_attention(q, k, v, **options, return_weights=True)
        assert_close(tiled, eager)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_other_dtypes_stay_what_they_are(dtype: torch.dtype) -> None:
    tensors = [x.to(dtype) for x in three()]
    for options in ({}, {"softcap": 5.0}, {"bias": AlibiBias(alibi_slopes(4)), "causal": True}):
        expected, _ = scaled_dot_product_attention(
            *(x.double() for x in tensors), **options, return_weights=True
        )
        tiled = scaled_dot_product_attention(*tensors, **options, tile=3)
        eager, weights = scaled_dot_product_attention(*tensors, **options, return_weights=True)
        assert tiled.dtype == eager.dtype == weights.dtype == dtype
        for found in (tiled, eager):
            assert (found - expected).abs().max() < (2e-2 if dtype != torch.float64 else 1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_additive_masks_in_float32_go_with_any_dtype(dtype: torch.dtype) -> None:
    tensors = [x.to(dtype) for x in three()]
    mask = made_mask("numbers", (2, 4, 7, 7), 1)
    expected, _ = scaled_dot_product_attention(
        *(x.double() for x in tensors), mask=mask.double(), return_weights=True
    )
    for options in ({}, {"causal": True}, {"window": 9}, {"softcap": 1e4}):
        for tile in (2, 256):
            found = scaled_dot_product_attention(*tensors, mask=mask, tile=tile, **options)
            assert found.dtype == dtype
            if not options.get("causal"):
                assert (found - expected).abs().max() < 3e-2


def test_no_queries_and_no_keys_give_nothing() -> None:
    q, k, v = three(T=3, S=5)
    assert scaled_dot_product_attention(q[:, :, :0], k, v).shape == (2, 4, 0, 8)
    assert scaled_dot_product_attention(q[:, :, :0], k, v, window=2).shape == (2, 4, 0, 8)
    none = scaled_dot_product_attention(q, k[:, :, :0], v[:, :, :0])
    assert torch.equal(none, torch.zeros(2, 4, 3, 8))


# Gradients in float64 against finite differences.

LEARNED = ("t5", "deberta")
GRADIENTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "causal": {"causal": True},
    "causal_mask": {"causal": True, "mask": "keys"},
    "fully_masked_row": {"mask": "nothing"},
    "window": {"causal": True, "window": 2},
    "window_both_sides": {"window": 2},
    "softcap": {"softcap": 1.5, "causal": True},
    "alibi": {"bias": AlibiBias(alibi_slopes(2)), "causal": True},
    "t5": {"bias": "t5"},
    "deberta": {"bias": "deberta"},
    "additive": {"mask": "numbers"},
}


@pytest.mark.parametrize("how", ["tiled", "eager"])
@pytest.mark.parametrize("variant", GRADIENTS)
def test_gradients_are_right_under_gradcheck(variant: str, how: str) -> None:
    options = dict(GRADIENTS[variant])
    q, k, v = (x.double().requires_grad_() for x in three(1, 2, 4, 4, 2, kv=1))
    learned: list[torch.Tensor] = []
    if "mask" in options:
        options["mask"] = made_mask(options["mask"], (1, 2, 4, 4), 4)
        if options["mask"].is_floating_point():
            learned.append(options["mask"].double().requires_grad_())
    if options.get("bias") in LEARNED:
        shapes = {"t5": [(8, 2)], "deberta": [(6, 2, 2), (6, 2, 2)]}[options["bias"]]
        learned += [torch.randn(*s, dtype=torch.float64).requires_grad_() for s in shapes]
        k, v = (x.detach().repeat(1, 2, 1, 1).requires_grad_() for x in (k, v))

    def call(q: Any, k: Any, v: Any, *more: Any) -> Any:
        used = dict(options)
        if more and "mask" in used:
            used["mask"] = more[0]
        elif options.get("bias") == "t5":
            used["bias"] = BucketBias(more[0], max_distance=6, both_sides=True)
        elif options.get("bias") == "deberta":
            used["bias"] = DisentangledBias(*more, span=3, buckets=0, max_distance=3, scale=0.4)
        if how == "tiled":
            return scaled_dot_product_attention(q, k, v, tile=2, **used)
        return scaled_dot_product_attention(q, k, v, return_weights=True, **used)

    assert gradcheck(call, (q, k, v, *learned))


# Mistakes are errors with the shapes, before any arithmetic.


@pytest.mark.parametrize(
    ("shapes", "options", "said"),
    [
        (((4, 5, 8), (3, 5, 8), (3, 5, 8)), {}, "heads"),
        (((4, 5, 8), (4, 5, 7), (4, 5, 7)), {}, "last dimension"),
        (((4, 5, 8), (4, 5, 8), (4, 6, 8)), {}, "tokens"),
        (((5, 8), (5, 8), (5, 8)), {}, "heads, tokens"),
        (((4, 5, 8),) * 3, {"mask": torch.ones(4, 5, 6, dtype=torch.bool)}, "broadcast"),
        (((4, 5, 8),) * 3, {"mask": torch.ones(1, 1, 5, 5, dtype=torch.bool)}, "broadcast"),
        (((4, 5, 8),) * 3, {"mask": torch.ones(5, 5, dtype=torch.long)}, "int64"),
        (((4, 5, 8),) * 3, {"window": 0}, "window"),
        (((4, 5, 8),) * 3, {"softcap": 0.0}, "softcap"),
        (((4, 5, 8),) * 3, {"tile": 0}, "tile"),
        (((2, 4, 5, 8), (3, 4, 5, 8), (3, 4, 5, 8)), {}, "batch"),
    ],
)
def test_shapes_that_do_not_fit_are_named(shapes: Any, options: Any, said: str) -> None:
    with pytest.raises(InputError) as caught:
        scaled_dot_product_attention(*(torch.zeros(shape) for shape in shapes), **options)
    assert said in f"{caught.value.message} {caught.value.hint}"
