"""Faster ops of a training pass against the reference ones: values, gradients, whole steps."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from tests.train import tiny
from torch import Tensor, nn

from lmstack.model import (
    REFERENCE_OPS,
    ForwardContext,
    LoraConfig,
    Ops,
    Transformer,
    add_adapter,
)
from lmstack.model.config import LayerSpec
from lmstack.model.layers import LayerNorm, Linear, RMSNorm
from lmstack.model.lora.layers import LoraLinear, LowRank
from lmstack.model.positions import RopeSpec
from lmstack.model.quant.matrix import QuantizedLinear
from lmstack.model.quant.quantize import quantize_nf4
from lmstack.train import compute, native, precision
from lmstack.train.compute import NativeOps, TrainingOps, ops_for
from lmstack.train.data.examples import padded
from lmstack.train.frozen import (
    DequantizedMatrix,
    FrozenMatrices,
    FrozenMatrix,
    Int8Gradient,
    Int8Matrix,
    RoundedMatrix,
    is_frozen,
)
from lmstack.train.objectives.causal import next_token_batch
from lmstack.train.objectives.objective import token_loss
from lmstack.train.parallel import Parallel
from lmstack.train.short_attention import LONGEST, groups_of, short_attention

# Eight bits of a number are kept: sums of many rounded ones are off by about as much.
NEAR, EXACT = 0.012, 1e-5
ROUNDED_TO_8_BITS = 0.03


@pytest.fixture(params=[torch.bfloat16, torch.float32], ids=["bfloat16", "float32"])
def dtype(request: pytest.FixtureRequest) -> torch.dtype:
    """Of the products."""
    found: torch.dtype = request.param
    return found


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)


def assert_near(found: Tensor, wanted: Tensor, bound: float | None = None) -> None:
    """``bound``: by default what the dtype of ``found`` is worth."""
    bound = bound or (NEAR if found.dtype == torch.bfloat16 else EXACT)
    assert found.shape == wanted.shape
    off = (found.double() - wanted.double()).norm() / wanted.double().norm().clamp(min=1e-9)
    assert off < bound, f"{off:.4f} off"


def compared(
    call: Callable[[Ops, Tensor], Tensor],
    x: Tensor,
    trained: Mapping[str, nn.Parameter],
    ops: Ops,
    bound: float | None = None,
) -> None:
    """``call`` with ``ops`` against the reference ops: outputs, and gradients of all."""
    found = []
    for each in (ops, REFERENCE_OPS):
        seen = x.clone().requires_grad_()
        torch.manual_seed(1)
        out = call(each, seen)
        weights = torch.linspace(-1, 1, out.numel()).view(out.shape)
        grads = torch.autograd.grad((out.float() * weights).sum(), [seen, *trained.values()])
        found.append((out, *grads))
    bound = bound or (NEAR if found[0][0].dtype == torch.bfloat16 else EXACT)
    for name, one, two in zip(("out", "x", *trained), *found, strict=True):
        try:
            assert_near(one, two, bound)
        except AssertionError as error:
            raise AssertionError(f"{name}: {error}") from error


def layer(rows: int, cols: int, *, bias: bool = True, trained: bool = False) -> Linear:
    made = Linear(cols, rows, bias=bias)
    nn.init.normal_(made.weight, std=cols**-0.5)
    if bias:
        nn.init.normal_(made.bias)
    return made.requires_grad_(trained)


@pytest.mark.parametrize("from_one", [False, True])
def test_rms_norm(from_one: bool, dtype: torch.dtype) -> None:
    norm = RMSNorm(48, 1e-6, from_one=from_one)
    nn.init.normal_(norm.weight, 0.5)
    x = torch.randn(7, 48) * 3
    compared(lambda ops, x: ops.norm(x, norm), x, {"weight": norm.weight}, TrainingOps(dtype))


def test_layer_norm_stays_in_the_dtype_of_the_residual_stream(dtype: torch.dtype) -> None:
    norm = LayerNorm(48, 1e-6)
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    assert TrainingOps(dtype).norm(torch.randn(7, 48), norm).dtype == torch.float32


@pytest.mark.parametrize("kind", ["silu", "gelu_tanh"])
def test_gated_activation(kind: Any, dtype: torch.dtype) -> None:
    x = torch.randn(7, 64).bfloat16().float()
    compared(lambda ops, x: ops.glu(x.to(dtype), kind), x, {}, TrainingOps(dtype))


@pytest.mark.parametrize("fraction", [1.0, 0.5])
def test_rotation(fraction: float, dtype: torch.dtype) -> None:
    rope, positions = RopeSpec(theta=100.0, fraction=fraction), torch.arange(9)

    def call(ops: Ops, x: Tensor) -> Tensor:
        tables = ops.rotary_tables(rope, positions, 16, torch.float32)
        return ops.rotary(x.to(dtype) if ops is not REFERENCE_OPS else x, *tables)

    compared(call, torch.randn(9, 3, 16), {}, TrainingOps(dtype))


@pytest.mark.parametrize("held", [None, Int8Gradient, Int8Matrix])
@pytest.mark.parametrize("bias", [False, True])
def test_a_frozen_matrix(held: type[FrozenMatrix] | None, bias: bool, dtype: torch.dtype) -> None:
    linear = layer(48, 40, bias=bias)
    ops = TrainingOps(dtype, {linear: held} if held else {})
    bound = ROUNDED_TO_8_BITS if held else None
    compared(lambda ops, x: ops.linear(x, linear), torch.randn(2, 33, 40), {}, ops, bound)


def test_a_row_of_zeros_and_one_with_an_outlier_in_8_bits(dtype: torch.dtype) -> None:
    linear = layer(48, 40, bias=False)
    x = torch.randn(3, 40)
    x[0], x[1, 5] = 0, 1000.0
    out = TrainingOps(dtype, {linear: Int8Matrix}).linear(x, linear)
    assert not out[0].any()
    assert_near(out, REFERENCE_OPS.linear(x, linear), ROUNDED_TO_8_BITS)


def test_a_trained_matrix(dtype: torch.dtype) -> None:
    linear = layer(48, 40, trained=True)
    trained = dict(linear.named_parameters())
    compared(lambda ops, x: ops.linear(x, linear), torch.randn(33, 40), trained, TrainingOps(dtype))


def test_a_trained_bias_beside_a_frozen_matrix(dtype: torch.dtype) -> None:
    linear = layer(48, 40)
    linear.bias.requires_grad_()
    trained = {"bias": linear.bias}
    compared(lambda ops, x: ops.linear(x, linear), torch.randn(33, 40), trained, TrainingOps(dtype))


def test_a_frozen_matrix_that_changes_is_rounded_again(dtype: torch.dtype) -> None:
    linear, x, ops = layer(48, 40, bias=False), torch.randn(3, 40), TrainingOps(dtype)
    before = ops.linear(x, linear)
    with torch.no_grad():
        linear.weight.mul_(2)
    torch.testing.assert_close(ops.linear(x, linear), before * 2)


def terms(dropout: float) -> list[LowRank]:
    factors = [(torch.randn(4, 40) / 6, torch.randn(n, 4)) for n in (16, 8)]
    spans = ((8, 24), (40, 48))
    return [
        LowRank("q", span, each, scale=2.0, dropout=dropout)
        for span, each in zip(spans, factors, strict=True)
    ]


@pytest.mark.parametrize("form", ["float32", "nf4"])
@pytest.mark.parametrize("held", [None, Int8Matrix])
def test_terms_of_an_adapter(
    form: str, held: type[FrozenMatrix] | None, dtype: torch.dtype
) -> None:
    base = layer(48, 40)
    if form == "nf4":
        base = QuantizedLinear(quantize_nf4(base.weight.detach()), base.bias)
    linear = LoraLinear(base, terms(0.0))
    trained = dict(linear.terms.named_parameters())
    ops = TrainingOps(dtype, {base: held} if held else {})
    bound = ROUNDED_TO_8_BITS if held else None
    compared(lambda ops, x: ops.linear(x, linear), torch.randn(2, 9, 40), trained, ops, bound)


@pytest.mark.parametrize("form", ["float32", "nf4"])
@pytest.mark.parametrize("bias", [True, False])
def test_a_dora_with_dropout_is_about_that_in_float32(
    form: str, bias: bool, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Outputs and gradients, where both drop the same places."""
    kept = (torch.rand(2, 9, 40) > 0.3) / 0.7
    monkeypatch.setattr(nn.functional, "dropout", lambda x, p: x * kept.to(x.dtype))
    base = layer(48, 40, bias=bias)
    if form == "nf4":
        base = QuantizedLinear(quantize_nf4(base.weight.detach()), base.bias)
    dora = terms(0.3)
    for term in dora:
        term.magnitude = nn.Parameter(torch.rand(term.stop - term.start) + 0.5)
    linear = LoraLinear(base, dora).train()
    trained = dict(linear.terms.named_parameters())
    assert sum("magnitude" in name for name in trained) == 2
    compared(
        lambda ops, x: ops.linear(x, linear), torch.randn(2, 9, 40), trained, TrainingOps(dtype)
    )


def test_dropout_of_a_term_is_that_of_what_it_reads(dtype: torch.dtype) -> None:
    """Beside a base of zeros only the terms are left: with A and B known, the mask shows."""
    base = Linear(40, 48, bias=False).requires_grad_(False)
    base.weight.zero_()
    term = LowRank("q", (0, 48), (torch.eye(40), torch.eye(48)[:, :40]), scale=1.0, dropout=0.5)
    x = torch.ones(200, 40, requires_grad=True)
    out = TrainingOps(dtype).linear(x, LoraLinear(base, [term]).train())
    assert set(out.unique().tolist()) == {0.0, 2.0}
    assert 0.45 < float((out[:, :40] > 0).float().mean()) < 0.55
    out.sum().backward()
    torch.testing.assert_close(x.grad, out[:, :40].detach().float())


@settings(max_examples=30, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 40), min_size=1, max_size=8),
    causal=st.booleans(),
    window=st.sampled_from([None, 5, 64]),
    heads=st.sampled_from([(4, 4, 8), (4, 2, 8), (3, 1, 8), (4, 2, 32)]),
    dtype=st.sampled_from([torch.bfloat16, torch.float32, None]),
)
def test_attention_of_sequences_end_to_end(
    lengths: list[int],
    causal: bool,
    window: int | None,
    heads: tuple[int, int, int],
    dtype: torch.dtype | None,
) -> None:
    """``heads``: of queries, of keys, and the channels of one. Without ``dtype``: native ops."""
    assume(dtype is not None or native.available())
    made = NativeOps() if dtype is None else TrainingOps(dtype)
    spec = LayerSpec(causal=causal, window=window, scale=None, softcap=None, rope=None)
    total = sum(lengths)
    keys, values = (nn.Parameter(torch.randn(total, *heads[1:])) for _ in range(2))

    def call(ops: Ops, x: Tensor) -> Tensor:
        return ops.varlen_attention(x, keys, values, lengths, spec, None)

    x = torch.randn(total, heads[0], heads[2])
    # Of a softmax over one key all gradients but that of its value are zero, give or take.
    trained = {"k": keys, "v": values} if min(lengths) > 3 else {}
    if trained:
        compared(call, x, trained, made, 0.03 if dtype == torch.bfloat16 else None)
    else:
        assert_near(call(made, x), call(REFERENCE_OPS, x))


@given(st.lists(st.integers(1, 2 * LONGEST), max_size=30))
def test_groups_are_of_like_length_and_lose_nothing(lengths: list[int]) -> None:
    groups = groups_of(lengths)
    assert [length for group in groups for length in group.lengths] == lengths
    places = [sum(len(g.lengths) and g.tokens for g in groups[:i]) for i in range(len(groups))]
    assert [group.start for group in groups] == places
    for group in groups:
        assert len(group.lengths) == 1 or group.longest <= min(LONGEST, 1.2 * min(group.lengths))


def step(module: Transformer, family: str, ops: Ops, *, checkpoint: bool = False) -> float:
    context = ForwardContext(ops=ops, checkpoint=checkpoint)
    module.zero_grad()
    examples = tiny.examples(12)
    if family in tiny.DECODERS:
        batch = next_token_batch(examples)
        loss = token_loss(module, batch, context).total / batch.weight
    else:
        ids, mask = padded([e.sequences[0] for e in examples], 0)
        given: dict[str, Any] = {"attention_mask": mask}
        if family in tiny.ENCODER_DECODERS:
            given["decoder_input_ids"] = ids[:, :7]
        logits = module(ids, **given, context=context).logits
        logits = logits[mask[:, : logits.shape[1]]].float()
        wanted = ids[:, : mask.shape[1]][:, : given.get("decoder_input_ids", ids).shape[1]]
        loss = nn.functional.cross_entropy(logits, wanted[mask[:, : wanted.shape[1]]])
    loss.backward()
    return float(loss.detach())


FAMILIES = (*tiny.DECODERS, *tiny.ENCODERS, *tiny.ENCODER_DECODERS)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_step_of_all_weights(family: str) -> None:
    module = tiny.model(family, dtype=torch.float32)
    wanted = step(module, family, REFERENCE_OPS), tiny.gradients(module)
    found = step(module, family, ops_for("bfloat16", module)), tiny.gradients(module)
    assert found[0] == pytest.approx(wanted[0], rel=0.01)
    assert found[1].keys() == wanted[1].keys()
    one, two = (torch.cat([g.flatten() for g in each.values()]) for each in (found[1], wanted[1]))
    assert_near(one, two, 0.08)


@pytest.mark.parametrize("precision", ["bfloat16", "int8"])
@pytest.mark.parametrize("family", ["llama", "gemma2", "gpt2"])
def test_a_step_of_an_adapter(family: str, precision: str) -> None:
    module = tiny.model(family, dtype=torch.float32)
    adapter = add_adapter(module, LoraConfig(r=4, alpha=8, targets="all-linear"))
    with torch.no_grad():
        for _, term in adapter.terms():
            term.B.normal_(std=0.2)
    wanted = step(module, family, REFERENCE_OPS), tiny.gradients(module)
    ops = ops_for(precision, module)
    found = step(module, family, ops), tiny.gradients(module)
    assert found[0] == pytest.approx(wanted[0], rel=0.02)
    one, two = (torch.cat([g.flatten() for g in each.values()]) for each in (found[1], wanted[1]))
    assert_near(one, two, 0.05 if precision == "bfloat16" else 0.15)
    again = step(module, family, ops, checkpoint=True), tiny.gradients(module)
    assert again[0] == found[0]
    torch.testing.assert_close(again[1], found[1])


CONTINUED = [(6, 5, 12, 16, 0.25), (3, 1, 4, 16, None), (2, 40, 2 * LONGEST, 16, 0.25)]


@pytest.mark.parametrize("made", [torch.bfloat16, torch.float32, None], ids=str)
@pytest.mark.parametrize(("heads", "T", "S", "hd", "scale"), [*CONTINUED, (6, 5, 12, 32, None)])
def test_attention_of_what_goes_on_is_near_the_reference(
    heads: int, T: int, S: int, hd: int, scale: float | None, made: torch.dtype | None
) -> None:
    """Without a dtype by native ops."""
    if made is None and not native.available():
        pytest.skip("this processor or this build has no native training ops")
    spec = LayerSpec(causal=True, scale=scale, rope=None)
    few = 2 if heads % 2 == 0 else 1
    given = [torch.randn(3, n, h, hd) for n, h in ((T, heads), (S, few), (S, few))]
    weigh, found = torch.randn(3, T, heads, hd), []
    for ops in (NativeOps() if made is None else TrainingOps(made), REFERENCE_OPS):
        inputs = [x.clone().requires_grad_() for x in given]
        out = ops.attention(*inputs, spec)
        assert out.dtype == (made or torch.float32) or ops is REFERENCE_OPS
        (out.float() * weigh).sum().backward()
        found.append([out.float().detach(), *(x.grad for x in inputs)])
    for one, two in zip(*found, strict=True):
        assert_near(one, two, NEAR if made == torch.bfloat16 else EXACT)


PLAIN: dict[str, Any] = {
    "causal": True,
    "window": None,
    "scale": 0.25,
    "softcap": None,
    "rope": None,
}


@pytest.mark.parametrize(
    ("T", "S", "changes", "is_short"),
    [
        (3, 4, {}, True),
        (4, 4, {}, False),
        (3, 2 * LONGEST, {}, True),
        (3, 2 * LONGEST + 1, {}, False),
        (3, 4, {"window": 4}, True),
        (3, 4, {"window": 3}, False),
        (3, 4, {"softcap": 5.0}, False),
        (3, 4, {"causal": False}, False),
    ],
)
def test_only_plain_attention_of_what_goes_on_is_computed_at_once(
    T: int, S: int, changes: dict[str, Any], is_short: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []

    def continued(q: Tensor, k: Tensor, v: Tensor, *, scale: float) -> Tensor:
        asked.append((q.dtype, k.dtype, v.dtype, scale))
        return torch.zeros_like(q)

    monkeypatch.setattr(compute, "continued_attention", continued)
    spec = LayerSpec(**{**PLAIN, **changes})
    q, k, v = (torch.randn(2, n, 1, 8) for n in (T, S, S))
    out = TrainingOps(torch.bfloat16).attention(q, k, v, spec)
    assert asked == [(*(torch.bfloat16,) * 3, 0.25)] * is_short
    assert out.dtype == torch.bfloat16
    asked.clear()
    mask = torch.ones(1, 1, T, S, dtype=torch.bool)
    TrainingOps(torch.bfloat16).attention(q, k, v, spec, mask)
    assert not asked


@pytest.mark.parametrize(
    ("lengths", "changes", "short"),
    [
        ([3, 4], {}, [[3], [4]]),
        ([5, 6, LONGEST], {}, [[5, 6], [LONGEST]]),
        ([LONGEST + 1, 3], {}, [[3]]),
        ([5, 5], {"window": 5}, [[5, 5]]),
        ([5, 5], {"window": 4}, []),
        ([5, 5], {"softcap": 5.0}, []),
        ([5, 5], {"causal": False}, [[5, 5]]),
    ],
)
def test_only_short_sequences_of_plain_attention_are_computed_together(
    lengths: list[int],
    changes: dict[str, Any],
    short: list[list[int]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[list[int]] = []

    def attention(q: Tensor, k: Tensor, v: Tensor, given: Any, **named: Any) -> Tensor:
        assert named == {"causal": spec.causal, "scale": 8**-0.5}
        asked.append([*given])
        return short_attention(q, k, v, given, **named)

    monkeypatch.setattr(compute, "short_attention", attention)
    spec = LayerSpec(**{**PLAIN, "scale": None, **changes})
    q, k, v = (torch.randn(sum(lengths), heads, 8) for heads in (4, 2, 2))
    out = TrainingOps(torch.bfloat16).varlen_attention(q, k, v, lengths, spec)
    assert asked == short
    assert out.dtype == torch.bfloat16
    assert_near(out, REFERENCE_OPS.varlen_attention(q, k, v, lengths, spec))


def test_native_ops_take_sequences_of_any_lengths_together() -> None:
    if not native.available():
        pytest.skip("this processor or this build has no native training ops")
    ops, lengths = NativeOps(), [3, 90, LONGEST, LONGEST + 1]
    heads = torch.randn(1, 1, 32)
    assert [g.lengths for g in ops._groups(lengths, heads, heads, heads)] == [
        (3, 90, LONGEST),
        (LONGEST + 1,),
    ]
    narrow = torch.randn(1, 1, 16)
    found = ops._groups(lengths, narrow, narrow, narrow)
    assert [g.lengths for g in found] == [g.lengths for g in groups_of(lengths)]
    assert len(found) == 4


def test_a_gain_that_is_trained_gets_its_gradient_from_native_ops_too() -> None:
    for made in (RMSNorm(32, 1e-6), LayerNorm(32, 1e-6), RMSNorm(32, 1e-6, from_one=True)):
        nn.init.normal_(made.weight)
        x = torch.randn(5, 32)
        trained = {"gain": made.weight}
        compared(lambda ops, x, made=made: ops.norm(x, made), x, trained, NativeOps())
        made.requires_grad_(False)
        compared(lambda ops, x, made=made: ops.norm(x, made), x, {}, NativeOps())


@pytest.mark.parametrize("name", ["bfloat16", "int8", "float32"])
def test_precision_decides_what_products_are_computed_in(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(precision, "multiplies_bfloat16", lambda: True)
    monkeypatch.setattr(native, "available", lambda: False)
    monkeypatch.setattr(native, "takes", lambda *_: False)
    module = tiny.model("llama", dtype=torch.float32).requires_grad_(False)
    ops, x = ops_for(name, module), torch.randn(5, 32)
    if name == "float32":
        assert ops is REFERENCE_OPS
        return
    assert type(ops) is TrainingOps
    for frozen in (True, False):
        module.requires_grad_(not frozen)
        for weight in (module.head, module.blocks[0].attention.qkv):
            assert ops.linear(x, weight).dtype == torch.bfloat16
    module.requires_grad_(False)
    block = module.blocks[1]
    held = [ops._frozen.of(each) for each in (block.attention.qkv, block.mlp.up, module.head)]
    eight = [Int8Gradient, Int8Matrix] if name == "int8" else [RoundedMatrix] * 2
    assert [type(each) for each in held] == [*eight, RoundedMatrix]
    assert held[2]._weight.dtype == torch.bfloat16


def test_frozen_matrices_are_made_once_for_each_state_of_their_weights() -> None:
    linear, other = layer(48, 40), layer(48, 40)
    held = FrozenMatrices(torch.bfloat16, {other: Int8Matrix})
    first = held.of(linear)
    assert held.of(linear) is first
    assert (type(first), type(held.of(other))) == (RoundedMatrix, Int8Matrix)
    with torch.no_grad():
        linear.weight.add_(1)
    assert held.of(linear) is not first
    quantized = QuantizedLinear(quantize_nf4(linear.weight.detach()), None)
    assert type(held.of(quantized)) is DequantizedMatrix
    assert is_frozen(quantized)
    assert is_frozen(linear)
    assert not is_frozen(layer(2, 2, trained=True))


def test_small_integers_are_multiplied_a_tile_of_rows_after_another(
    dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    matrix = DequantizedMatrix(QuantizedLinear(quantize_nf4(torch.randn(48, 64)), None))
    x, grad = torch.randn(5, 64).to(dtype), torch.randn(5, 48).to(dtype)
    whole = matrix.forwards(x, None), matrix.backwards(grad)
    monkeypatch.setattr("lmstack.model.quant.matrix._ROWS", 20)
    for found, wanted in zip(
        (matrix.forwards(x, None), matrix.backwards(grad)), whole, strict=True
    ):
        assert_near(found, wanted)


def test_many_rows_in_8_bits_are_those_of_a_few(dtype: torch.dtype) -> None:
    """They go through the cache in parts."""
    matrix, x = Int8Matrix(torch.randn(48, 40), dtype), torch.randn(1100, 40).to(dtype)
    bias = torch.randn(48)
    whole = matrix.product(x, bias)
    assert torch.equal(whole, torch.cat([matrix.product(part, bias) for part in x.split(100)]))
    grad = torch.randn(1100, 48).to(dtype)
    whole = matrix.backwards(grad)
    assert whole.dtype == dtype
    assert torch.equal(whole, torch.cat([matrix.backwards(part) for part in grad.split(100)]))


def test_auto_is_what_the_machine_multiplies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for has_it, name in ((True, "bfloat16"), (False, "float32")):
        monkeypatch.setattr(precision, "multiplies_bfloat16", lambda has_it=has_it: has_it)
        assert precision.products_of("auto") == name
        ops = ops_for("auto", nn.Linear(2, 2))
        if has_it:
            assert type(ops) is TrainingOps
        else:
            assert isinstance(ops, NativeOps) if native.available() else ops is REFERENCE_OPS
        assert precision.dtype_of("int8") == getattr(torch, name)
    assert precision.products_of("int8") == "int8"


def test_a_gpu_that_a_run_does_not_compute_on_decides_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One process trains on the processor; the shards of several are moved to their GPUs."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: True)
    monkeypatch.setattr(precision, "multiplies_bfloat16", lambda: False)
    assert Parallel().device == "cpu"
    assert precision.products_of("auto", Parallel().device) == "float32"
    assert precision.products_of("auto") == "float32"
    assert precision.dtype_of("int8") == torch.float32
    several = Parallel(0, 2).device
    assert several == "cuda"
    assert precision.products_of("auto", several) == "bfloat16"
    module = nn.Linear(2, 2)
    assert not isinstance(ops_for("float32", module, several), NativeOps)
    assert type(ops_for("auto", module, several)) is TrainingOps
