"""Native ops of training passes against the same in torch, and against float64."""

from __future__ import annotations

import ctypes
import itertools
import subprocess
import sys
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.train import tiny
from torch import Tensor

from lmstack.model.config import LayerSpec
from lmstack.model.layers import Linear, RMSNorm
from lmstack.model.lora.layers import LowRank
from lmstack.train import native
from lmstack.train.compute import NativeOps, ops_for
from lmstack.train.cross_entropy import distribution
from lmstack.train.frozen import FrozenMatrix, Int8Gradient, Int8Matrix
from lmstack.train.native import attention, library, products
from lmstack.train.native.softmax import takes_logits

pytestmark = pytest.mark.skipif(
    not native.available(), reason="this processor or this build has no native training ops"
)


def close(found: Tensor, wanted: Tensor, bound: float = 3e-6) -> None:
    one, two = found.detach().double(), wanted.detach().double()
    off = float((one - two).norm() / two.norm().clamp(min=1e-9))
    assert off < bound, f"{off:.2e} off"


def gradients(
    call: Callable[[Tensor], Tensor], x: Tensor, trained: Sequence[Tensor] = ()
) -> list[Tensor]:
    """What ``call`` gives for ``x``, and gradients of x and of ``trained``."""
    seen = x.clone().requires_grad_()
    out = call(seen)
    weights = torch.linspace(-1, 1, out.numel(), dtype=out.dtype).view(out.shape)
    return [out.detach(), *torch.autograd.grad((out * weights).sum(), [seen, *trained])]


@st.composite
def layers(draw: st.DrawFn) -> tuple[Tensor, Tensor | None, list[LowRank], int]:
    """A matrix, a bias, terms on rows that do not overlap, and a number of rows."""
    torch.manual_seed(draw(st.integers(0, 1 << 16)))
    inputs, outputs = (32 * draw(st.integers(1, 6)) for _ in range(2))
    cuts = sorted(draw(st.sets(st.integers(0, outputs // 32), max_size=4)))
    rank = draw(st.sampled_from([1, 3, 8, 16, 20, 40]))
    terms = [
        LowRank(
            "x",
            (32 * start, 32 * stop),
            (torch.randn(rank, inputs) / 8, torch.randn(32 * (stop - start), rank) / 8),
            scale=1.5,
        )
        for start, stop in itertools.pairwise(cuts)
    ]
    bias = torch.randn(outputs) if draw(st.booleans()) else None
    return torch.randn(outputs, inputs) / 8, bias, terms, draw(st.integers(1, 130))


@given(layer=layers(), by_floats=st.booleans())
def test_a_product_and_its_gradients_are_those_of_torch(layer: Any, by_floats: bool) -> None:
    weight, bias, terms, rows = layer
    kinds = (
        (native.PackedInt8Gradient, Int8Gradient) if by_floats else (native.PackedInt8, Int8Matrix)
    )
    trained = [factor for term in terms for factor in (term.A, term.B)]
    x = torch.randn(rows, weight.shape[1])
    x[0] = 0

    def product(kind: type[FrozenMatrix]) -> list[Tensor]:
        matrix = kind(weight, torch.float32)
        return gradients(lambda x: matrix.product(x, bias, terms), x, trained)

    found, wanted = map(product, kinds)
    for one, two in zip(found, wanted, strict=True):
        # A code that lies between two numbers may fall on either side: one step of 126 of a row.
        close(one, two, 1e-2)
        assert torch.quantile((one - two).abs().flatten()[:1000], 0.5) < 1e-5


@pytest.mark.parametrize("shape", [(32, 32), (96, 64), (160, 96), (576, 128)])
@pytest.mark.parametrize("rows", [1, 12, 29, 100])
def test_tiles_give_the_same_numbers(shape: tuple[int, int], rows: int) -> None:
    held = library._library()
    assert held is not None
    if not held.lmt_has_tiles():
        pytest.skip("this processor has no AMX")
    torch.manual_seed(rows)
    outputs, inputs = shape
    matrix = native.PackedInt8(torch.randn(outputs, inputs) / 8, torch.float32)
    x, term = torch.randn(rows, inputs), (torch.randn(8, inputs), torch.randn(32, 8))
    was, found = ctypes.c_int.in_dll(held, "lmt_with_tiles").value, []
    try:
        for wanted in (1, 0):
            assert held.lmt_use_tiles(wanted) == wanted
            low = [LowRank("x", (0, 32), term, scale=2.0)]
            found.append(gradients(lambda x, low=low: matrix.product(x, None, low), x))
    finally:
        held.lmt_use_tiles(was)
    for one, two in zip(*found, strict=True):
        assert torch.equal(one, two)


def test_what_dropout_drops_reaches_neither_the_terms_nor_their_gradients() -> None:
    torch.manual_seed(0)
    weight, x = torch.randn(64, 96) / 8, torch.randn(50, 96)
    term = LowRank("x", (32, 64), (torch.randn(8, 96), torch.randn(32, 8)), scale=2.0, dropout=0.25)
    matrix = native.PackedInt8(weight, torch.float32)
    torch.manual_seed(5)
    words = products._kept(x, 0.25)
    bits = (words.view(torch.int16)[:, None].int() >> torch.arange(16)) & 1
    kept = bits.flatten().view(x.shape).bool()
    torch.manual_seed(5)
    found = gradients(lambda x: matrix.product(x, None, [term]), x, [term.A, term.B])

    def masked(x: Tensor) -> Tensor:
        added = (x * kept) @ term.A.T @ term.B.T * (2.0 / 0.75)
        return matrix.product(x) + torch.nn.functional.pad(added, (32, 0))

    for one, two in zip(found, gradients(masked, x, [term.A, term.B]), strict=True):
        close(one, two)
    term.eval()
    without = matrix.product(x) + torch.nn.functional.pad(x @ term.A.T @ term.B.T * 2, (32, 0))
    close(matrix.product(x, None, [term]), without)


@pytest.mark.parametrize("rate", [0.05, 0.5])
def test_dropout_drops_its_share_anywhere_and_anew_each_time(rate: float) -> None:
    torch.manual_seed(0)
    x = torch.empty(1000, 320)
    draws = torch.stack(
        [
            ((products._kept(x, rate)[:, None].int() >> torch.arange(16)) & 1).flatten()
            for _ in range(4)
        ]
    ).double()
    dropped = 1 - draws
    error = (rate * (1 - rate) / x.numel()) ** 0.5
    assert (dropped.mean(1) - rate).abs().max() < 5 * error
    by_column = dropped.view(4, 1000, 320).mean(1)
    assert (by_column - rate).abs().max() < 5.5 * (rate * (1 - rate) / 1000) ** 0.5
    # Neighbours, rows and draws know nothing of each other.
    centred = dropped - rate
    for one, two in (
        (centred[:, 1:], centred[:, :-1]),
        (centred[:, 320:], centred[:, :-320]),
        (centred[1:], centred[:-1]),
    ):
        assert abs(float((one * two).mean())) < 5 * rate * (1 - rate) / one.numel() ** 0.5


def test_results_do_not_depend_on_the_threads() -> None:
    torch.manual_seed(0)
    x, matrix = torch.randn(101, 64), native.PackedInt8(torch.randn(96, 64), torch.float32)
    before, found = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 5):
            torch.set_num_threads(threads)
            found.append([*gradients(matrix.product, x), *gradients(native.gated, x)])
    finally:
        torch.set_num_threads(before)
    for others in found[1:]:
        assert all(torch.equal(*each) for each in zip(found[0], others, strict=True))


@given(
    lengths=st.lists(st.tuples(st.integers(1, 70), st.integers(0, 40)), min_size=1, max_size=4),
    heads=st.sampled_from([(1, 1), (1, 3), (2, 2)]),
    causal=st.booleans(),
)
def test_attention_is_that_of_float64(
    lengths: list[tuple[int, int]], heads: tuple[int, int], causal: bool
) -> None:
    """Queries may be those of the last tokens alone."""
    torch.manual_seed(0)
    queries, keys = [T for T, _ in lengths], [T + more for T, more in lengths]
    (kv_heads, group), hd = heads, 32
    q, k, v = (
        torch.randn(sum(n), count, hd)
        for n, count in ((queries, kv_heads * group), (keys, kv_heads), (keys, kv_heads))
    )

    def reference(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        parts = []
        for one, two, three in zip(q.split(queries), k.split(keys), v.split(keys), strict=True):
            T, S = len(one), len(two)
            scores = torch.einsum("tkgc,skc->kgts", one.view(T, kv_heads, group, hd), two) * 0.3
            if causal:
                scores = scores.masked_fill(torch.ones(T, S).triu(S - T + 1).bool(), -torch.inf)
            out = torch.einsum("kgts,skc->tkgc", scores.softmax(-1), three)
            parts.append(out.reshape(T, -1, hd))
        return torch.cat(parts)

    def ours(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return native.attended(q, k, v, queries, keys, causal=causal, scale=0.3)

    wide = [x.double().requires_grad_() for x in (k, v)]
    narrow = [x.clone().requires_grad_() for x in (k, v)]
    wanted = gradients(lambda q: reference(q, *wide), q.double(), wide)
    for one, two in zip(gradients(lambda q: ours(q, *narrow), q, narrow), wanted, strict=True):
        close(one, two)


def test_heads_may_lie_in_wider_rows() -> None:
    torch.manual_seed(0)
    qkv, sizes = torch.randn(40, 4, 32), [15, 25]

    def call(x: Tensor) -> Tensor:
        q, k, v = x.split((2, 1, 1), dim=-2)
        return native.attended(q, k, v, sizes, sizes, causal=True, scale=0.2)

    def copied(x: Tensor) -> Tensor:
        q, k, v = (part.contiguous() for part in x.split((2, 1, 1), dim=-2))
        return native.attended(q, k, v, sizes, sizes, causal=True, scale=0.2)

    for one, two in zip(gradients(call, qkv), gradients(copied, qkv), strict=True):
        assert torch.equal(one, two)


@pytest.mark.parametrize("size", [1e-20, 1.0, 60.0])
def test_rows_are_those_of_float64(size: float) -> None:
    torch.manual_seed(0)
    x, gain = torch.randn(5, 3, 96) * size, torch.randn(96)

    def norm(x: Tensor) -> Tensor:
        scale = (x.square().mean(-1, keepdim=True) + 1e-6).rsqrt()
        return x * scale * gain.to(x.dtype)

    def silu(x: Tensor) -> Tensor:
        gate, up = x.chunk(2, dim=-1)
        return torch.nn.functional.silu(gate) * up

    for ours, theirs in ((lambda x: native.normed(x, gain, 1e-6), norm), (native.gated, silu)):
        for one, two in zip(gradients(ours, x), gradients(theirs, x.double()), strict=True):
            close(one, two)


@pytest.mark.parametrize("tables", [(7, 1, 32), (1, 1, 32), (2, 7, 1, 32)])
def test_a_rotation_is_that_of_the_reference(tables: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    x, angles = torch.randn(2, 7, 5, 32), torch.randn(*tables[:-1], 16)
    cos = torch.cat((angles.cos(), angles.cos()), dim=-1)
    sin = torch.cat((-angles.sin(), angles.sin()), dim=-1)

    def reference(x: Tensor) -> Tensor:
        one, two = x.chunk(2, dim=-1)
        return x * cos + torch.cat((two, one), dim=-1) * sin

    def ours(x: Tensor) -> Tensor:
        return native.rotated(x[..., :4, :], cos, sin)

    assert native.takes_rotation(x, cos, sin)
    wanted = gradients(lambda x: reference(x)[..., :4, :], x)
    for one, two in zip(gradients(ours, x), wanted, strict=True):
        close(one, two, 1e-6)


@settings(deadline=None)
@given(
    size=st.tuples(st.integers(1, 9), st.integers(1, 90)),
    wanted=st.sampled_from([(True, True), (True, False), (False, True)]),
)
def test_a_softmax_is_that_of_float64(size: tuple[int, int], wanted: tuple[bool, bool]) -> None:
    """Some tokens have no probability at all."""
    torch.manual_seed(size[0])
    logits, labels = torch.randn(size) * 9, torch.randint(size[1], size[:1])
    logits[torch.rand(size) < 0.1] = -1e4
    logits[range(size[0]), labels] = torch.randn(size[0])

    def weighted(logits: Tensor) -> Tensor:
        found = distribution(logits, labels)
        parts = [x for x, is_wanted in zip(found[:2], wanted, strict=True) if is_wanted]
        return torch.cat(parts)

    found, reference = gradients(weighted, logits), gradients(weighted, logits.double())
    for one, two in zip(found, reference, strict=True):
        torch.testing.assert_close(one.double(), two, rtol=1e-5, atol=1e-5)
    likeliest = distribution(logits, labels).greatest
    assert torch.equal(likeliest, logits.max(-1).indices)


def test_a_softmax_of_what_is_no_number_is_none() -> None:
    logits = torch.zeros(3, 40)
    logits[1, 7], logits[2, 7] = torch.nan, -torch.inf
    found = distribution(logits, torch.tensor([1, 2, 3]))
    assert found.log_probs.isnan().tolist() == [False, True, False]
    assert found.entropy.isnan().tolist() == [False, True, False]


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_what_is_no_number_stays_none(value: float) -> None:
    """A run that diverges has to be seen: no op may lose it."""
    torch.manual_seed(0)
    x = torch.randn(14, 96)
    x[5, 3] = value
    matrix = native.PackedInt8(torch.randn(64, 96), torch.float32)
    heads = x.view(14, 3, 32)
    q, k, v = heads.unbind(1)
    sizes = [14]
    attended = native.attended(
        *(each[:, None] for each in (q, k, v)), sizes, sizes, causal=True, scale=1.0
    )
    found = (
        matrix.product(x),
        native.normed(x, torch.ones(96), 1e-6),
        native.gated(x),
        attended.flatten(1),
    )
    for out in found:
        bad = ~out.isfinite().all(-1)
        assert bad[5]
        assert not bad[:5].any()


@pytest.mark.parametrize("fast", [False, True])
def test_int8_training_uses_them_with_what_is_left_in_the_fast_precision(
    monkeypatch: pytest.MonkeyPatch, fast: bool
) -> None:
    module = tiny.model("llama", dtype=torch.float32)
    for weight in module.parameters():
        weight.requires_grad_(False)
    monkeypatch.setattr("lmstack.train.precision.multiplies_bfloat16", lambda: fast)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    ops, x = ops_for("int8", module), torch.randn(7, 32)
    assert isinstance(ops, NativeOps)
    assert isinstance(module.head, Linear)
    dtype = torch.bfloat16 if fast else torch.float32
    weight = module.head.weight.to(dtype)
    found, of_x = gradients(lambda x: ops.linear(x, module.head), x)
    assert torch.equal(found, (x.to(dtype) @ weight.T).float())
    weights = torch.linspace(-1, 1, found.numel()).view(found.shape)
    assert torch.equal(of_x, (weights.to(dtype) @ weight).float())
    assert isinstance(ops_for("bfloat16", module), NativeOps) is False


def test_the_variable_that_does_without_native_ops_does_without_these() -> None:
    command = "from lmstack.train import native; print(native.available())"
    done = subprocess.run(
        [sys.executable, "-c", command],
        env={"LMSTACK_KERNELS": "none"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "False\n"


LAID: dict[str, Callable[[Tensor], Tensor]] = {
    "expanded": lambda grad: grad[:1, :1, :1].expand_as(grad),
    "transposed": lambda grad: grad.transpose(0, 2).contiguous().transpose(0, 2),
    "strided": lambda grad: torch.stack([grad, -grad], -1)[..., 0],
}


@pytest.mark.parametrize("laid", LAID)
@pytest.mark.parametrize("op", ["normed", "gated", "rotated"])
def test_a_gradient_may_lie_in_memory_as_it_likes(op: str, laid: str) -> None:
    """One number for all places, or numbers in another order than the rows, or far apart."""
    torch.manual_seed(0)
    x, gain, angles = torch.randn(6, 4, 64), torch.randn(64), torch.randn(6, 1, 32)
    cos = torch.cat((angles.cos(), angles.cos()), dim=-1)
    sin = torch.cat((-angles.sin(), angles.sin()), dim=-1)

    def norm(x: Tensor) -> Tensor:
        return x * (x.square().mean(-1, keepdim=True) + 1e-6).rsqrt() * gain

    def silu(x: Tensor) -> Tensor:
        gate, up = x.chunk(2, dim=-1)
        return torch.nn.functional.silu(gate) * up

    def turned(x: Tensor) -> Tensor:
        one, two = x.chunk(2, dim=-1)
        return x * cos + torch.cat((two, one), dim=-1) * sin

    ours, theirs = {
        "normed": (lambda x: native.normed(x, gain, 1e-6), norm),
        "gated": (native.gated, silu),
        "rotated": (lambda x: native.rotated(x, cos, sin), turned),
    }[op]
    grad = LAID[laid](torch.randn_like(theirs(x)))
    assert not grad.is_contiguous()
    found = []
    for call in (ours, theirs):
        seen = x.clone().requires_grad_()
        found += torch.autograd.grad(call(seen), seen, grad)
    close(*found)


def test_logits_in_float32_on_the_processor_are_taken_and_no_others() -> None:
    """Both ways end alike, so that nothing else would show which was gone."""
    logits, labels = torch.randn(3, 40), torch.tensor([1, 2, 3])
    assert takes_logits(logits, labels)
    assert not takes_logits(logits.bfloat16(), labels)
    assert not takes_logits(logits, labels.int())
    assert not takes_logits(logits.to("meta"), labels)


@pytest.mark.parametrize("laid", LAID)
@pytest.mark.parametrize("op", ["attended", "product"])
def test_a_scattered_gradient_is_the_one_that_lies_in_rows(op: str, laid: str) -> None:
    torch.manual_seed(0)
    x, matrix = torch.randn(6, 4, 32), native.PackedInt8(torch.randn(64, 32) / 8, torch.float32)
    calls: dict[str, Callable[[Tensor], Tensor]] = {
        "attended": lambda x: native.attended(
            x, x[:, :2], x[:, 2:], [6], [6], causal=True, scale=0.3
        ),
        "product": matrix.product,
    }
    seen = x.clone().requires_grad_()
    out = calls[op](seen)
    grad = LAID[laid](torch.randn(*out.shape, 1, 1)[..., 0, 0])
    found = [
        torch.autograd.grad(out, seen, each, retain_graph=True)[0]
        for each in (grad, grad.contiguous())
    ]
    assert torch.equal(*found)


def test_native_ops_take_whole_lines_of_floats_in_the_memory_of_the_processor() -> None:
    """What they are not made for goes to the reference ops."""
    row, head = torch.zeros(2, 64), torch.zeros(2, 1, 32)
    assert native.takes_rows(row)
    assert native.takes_rows(row[:, :32])
    for other in (row.double(), row[:, :48], row[:, :33], row.to("meta")):
        assert not native.takes_rows(other)
    assert native.takes_heads(head, head, head)
    for other in (head.double(), head.to("meta")):
        for place in range(3):
            assert not native.takes_heads(*(other if n == place else head for n in range(3)))
    assert not native.takes_heads(*(head[..., :16],) * 3)
    assert not native.takes_heads(head, head, torch.zeros(2, 1, 64))


def test_matrices_are_packed_by_whole_panels_in_the_memory_of_the_processor() -> None:
    whole = torch.zeros(64, 32)

    def term(start: int, stop: int) -> LowRank:
        factors = torch.zeros(2, 32), torch.zeros(stop - start, 2)
        return LowRank("x", (start, stop), factors, scale=1.0)

    assert native.takes(whole, [])
    assert native.takes(whole, [term(32, 64)])
    assert not native.takes(whole.to("meta"), [])
    assert not native.takes(whole[:48], [])
    assert not native.takes(whole[:, :16], [])
    assert not native.takes(whole, [term(16, 64)])
    assert not native.takes(whole, [term(0, 48)])


def test_what_native_ops_take_is_computed_by_them() -> None:
    ops, norm = NativeOps(), RMSNorm(64, 1e-6).requires_grad_(False)

    def computed(out: Tensor) -> str:
        return str(type(out.grad_fn)._forward_cls.__module__).rpartition(".")[2]

    x = torch.randn(3, 64, requires_grad=True)
    heads = x.view(3, 2, 32)
    tables = torch.ones(3, 1, 32), torch.zeros(3, 1, 32)
    assert computed(ops.glu(x, "silu")) == computed(ops.norm(x, norm)) == "rows"
    assert computed(ops.rotary(heads, *tables)) == "rows"
    spec = LayerSpec(causal=True, scale=1.0, rope=None)
    assert computed(ops.varlen_attention(heads, heads, heads, [2, 1], spec)) == "attention"
    wide = torch.randn(3, 48, requires_grad=True)
    assert computed(ops.glu(wide[:, :36], "silu")) == "compute"


def test_attention_writes_to_nothing_of_another_size_or_in_pieces() -> None:
    q = torch.randn(4, 2, 32)
    given = [q, q[:, :1].contiguous(), q[:, :1].contiguous(), [4], [4], True, 1.0]
    sums = torch.empty(4, 2)
    for out in (torch.empty(3, 2, 32), torch.empty(4, 32, 2).transpose(1, 2)):
        with pytest.raises(ValueError, match=r"out is .*, not \(4, 2, 32\) in one piece"):
            attention._run("lmt_attention", *given, out=out, sums=sums)
    with pytest.raises(ValueError, match=r"sums is .*, not \(4, 2\) in one piece"):
        attention._run("lmt_attention", *given, out=torch.empty(4, 2, 32), sums=torch.empty(4))
