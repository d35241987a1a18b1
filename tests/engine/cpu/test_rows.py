"""Ops on rows: against float64 and the reference ops, and bit by bit between all paths."""

from __future__ import annotations

import ctypes
import subprocess
from collections.abc import Callable
from ctypes import c_long, c_void_p
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.engine.cpu.calls import ACTIVATIONS, Codes, Floats, Weights, same_bits

from lmstack.engine.cpu import build
from lmstack.engine.cpu.mirrors import AfterStruct, PathStruct
from lmstack.model.ops import REFERENCE_OPS

seeds = st.integers(0, 2**32 - 1)
sizes = st.integers(1, 300)
FEW = settings(max_examples=25, deadline=None)


def drawn(seed: int, *shape: int) -> Floats:
    """Of any magnitude, some of them zero, some very large among small ones."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal(shape) * 10.0 ** rng.integers(-8, 8)
    x *= np.where(rng.random(shape) < 0.02, 100, 1) * (rng.random(shape) < 0.9)
    return x.astype(np.float32)


# -- quantize ------------------------------------------------------------------------------------


def quantized(path: PathStruct, x: Floats, group: int, bits: int = 8) -> Codes:
    codes = np.zeros((2, x.shape[1]), np.uint8)
    scales = np.ones((2, -(-x.shape[1] // group)), np.float16)
    return Codes.of(path, x, Weights.of(codes, scales, None, group, bits))


@pytest.mark.parametrize("group", [16, 32, 64])
@pytest.mark.parametrize("bits", [4, 8])
@FEW
@given(seed=seeds, rows=st.integers(1, 4), cols=sizes)
def test_quantized_groups_are_as_the_contract_says(
    path: PathStruct, group: int, bits: int, seed: int, rows: int, cols: int
) -> None:
    x = drawn(seed, rows, cols)
    found = quantized(path, x, group, bits)
    padded = np.pad(x, ((0, 0), (0, -cols % group))).reshape(rows, -1, group)
    top = np.abs(padded).max(-1)
    inverse = np.divide(np.float32(127), top, out=np.zeros_like(top), where=top > 0)
    codes = np.rint(padded * inverse[..., None]).astype(np.int32)
    zero = 8 if bits == 4 else 128
    assert (found.codes.reshape(padded.shape) == codes).all()
    assert same_bits(found.scales, top / np.float32(127))
    assert (found.offsets == -zero * codes.sum(-1)).all()
    assert same_bits(found.sums, found.scales * codes.sum(-1).astype(np.float32))


@FEW
@given(seed=seeds, cols=sizes)
def test_no_code_is_further_off_than_half_a_step(path: PathStruct, seed: int, cols: int) -> None:
    x = drawn(seed, 1, cols)
    found = quantized(path, x, 32)
    back = found.codes.reshape(1, -1, 32) * found.scales[..., None].astype(np.float64)
    off = np.abs(back.reshape(1, -1)[:, :cols] - x)
    assert (off <= np.repeat(found.scales, 32, 1)[:, :cols] * 0.50002).all()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_spoils_its_group_and_no_other(path: PathStruct, bad: float) -> None:
    x = np.ones((1, 96), np.float32)
    x[0, 40] = bad
    found = quantized(path, x, 32)
    assert np.isnan(found.scales).tolist() == [[False, True, False]]
    assert np.isnan(found.sums).tolist() == [[False, True, False]]
    assert (np.abs(found.codes.astype(np.int32)) <= 127).all()
    assert (found.codes[0, :32] == 127).all()


def test_groups_too_small_to_invert_are_zero(path: PathStruct) -> None:
    x = np.full((1, 64), 1e-39, np.float32)
    x[0, 32:] = 1e-20
    found = quantized(path, x, 32)
    assert found.scales[0, 0] == 0
    assert (found.codes[0, :32] == 0).all()
    assert (found.codes[0, 32:] == 127).all()


# -- norms ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("from_one", [0, 1])
@FEW
@given(seed=seeds, cols=sizes)
def test_rms_norm_is_near_the_true_one(
    path: PathStruct, from_one: int, seed: int, cols: int
) -> None:
    x, weight, out = drawn(seed, cols), drawn(seed + 1, cols), np.empty(cols, np.float32)
    path.rms_norm(x.ctypes.data, weight.ctypes.data, cols, 1e-6, from_one, out.ctypes.data)
    wide = x.astype(np.float64)
    expected = wide / np.sqrt((wide**2).mean() + 1e-6) * (weight.astype(np.float64) + from_one)
    weight_rounded = np.abs(weight) + from_one
    scale = np.abs(wide / np.sqrt((wide**2).mean() + 1e-6)) * weight_rounded
    assert (np.abs(out - expected) <= 2e-6 * scale + 1e-37).all()


@pytest.mark.parametrize("with_bias", [False, True])
@FEW
@given(seed=seeds, cols=sizes)
def test_layer_norm_is_near_the_true_one(
    path: PathStruct, with_bias: bool, seed: int, cols: int
) -> None:
    x, weight, bias = drawn(seed, cols), drawn(seed + 1, cols), drawn(seed + 2, cols)
    out = np.empty(cols, np.float32)
    address = bias.ctypes.data if with_bias else None
    path.layer_norm(x.ctypes.data, weight.ctypes.data, address, cols, 1e-5, out.ctypes.data)
    wide = x.astype(np.float64)
    by = 1 / np.sqrt(wide.var() + 1e-5)
    expected = (wide - wide.mean()) * by * weight + (bias if with_bias else 0)
    scale = (np.abs(wide) + np.abs(wide).mean()) * by * np.abs(weight)
    assert (np.abs(out - expected) <= 4e-6 * scale + np.abs(expected) * 1e-6 + 1e-37).all()


def test_a_norm_may_write_where_it_reads(path: PathStruct) -> None:
    x, weight = drawn(3, 100), drawn(4, 100)
    out, inside = np.empty_like(x), x.copy()
    path.rms_norm(x.ctypes.data, weight.ctypes.data, 100, 1e-6, 0, out.ctypes.data)
    path.rms_norm(inside.ctypes.data, weight.ctypes.data, 100, 1e-6, 0, inside.ctypes.data)
    assert same_bits(out, inside)


# -- activations ---------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ACTIVATIONS)
def test_activations_are_near_the_true_ones(path: PathStruct, kind: str) -> None:
    """Within a millionth of the argument: the terms that cancel far below zero."""
    x = np.concatenate([np.linspace(-30, 30, 60001), [-1e4, 1e4, 1e-30, 0, -0.0]])
    x = x.astype(np.float32)
    out = np.empty_like(x)
    path.activate(ACTIVATIONS.index(kind), x.ctypes.data, len(x), out.ctypes.data)
    expected = REFERENCE_OPS.activation(torch.from_numpy(x).double(), kind).numpy()
    bound = 3e-7 * np.minimum(np.abs(x), 20 if kind == "tanh" else np.inf) + 1e-37
    assert (np.abs(out - expected) <= bound).all()


@pytest.mark.parametrize("kind", ACTIVATIONS)
def test_activations_hand_on_nan(path: PathStruct, kind: str) -> None:
    x = np.array([1, np.nan] * 20, np.float32)
    out = np.empty_like(x)
    path.activate(ACTIVATIONS.index(kind), x.ctypes.data, len(x), out.ctypes.data)
    assert (np.isnan(out) == np.isnan(x)).all()


# -- what follows a product ----------------------------------------------------------------------


def finished(
    path: PathStruct, kind: int, product: Floats, n: int, *, paired: bool, bias: Floats | None,
    base: Floats | None,
) -> Floats:  # fmt: skip
    """``product`` (R, whole panels) to (R, n)."""
    out = np.full((len(product), n + 3), np.nan, np.float32)
    after = AfterStruct(
        bias=None if bias is None else bias.ctypes.data,
        up_bias=None if bias is None else bias.ctypes.data + 4 * n,
        base=None if base is None else base.ctypes.data,
        base_stride=n,
        out=out.ctypes.data,
        out_stride=n + 3,
        act=kind,
        paired=paired,
    )
    path.finish(after, product.ctypes.data, product.shape[1], len(product), n)
    assert np.isnan(out[:, n:]).all()  # the neighbours are left alone
    return out[:, :n].copy()


@FEW
@given(
    seed=seeds,
    n=st.integers(1, 70),
    kind=st.sampled_from([-1, *range(len(ACTIVATIONS))]),
    paired=st.booleans(),
    with_bias=st.booleans(),
    with_base=st.booleans(),
)
def test_what_follows_a_product(
    path: PathStruct, seed: int, n: int, kind: int, paired: bool, with_bias: bool, with_base: bool
) -> None:
    panels, rows = -(-n // 16), 3
    halves = drawn(seed, rows * (1 + paired) * panels * 16).reshape(rows, panels, 1 + paired, 16)
    bias, base = drawn(seed + 1, 2 * n), drawn(seed + 2, rows * n).reshape(rows, n)
    gate, up = (halves[:, :, i % (1 + paired)].reshape(rows, -1)[:, :n].copy() for i in (0, 1))
    if with_bias:
        gate, up = gate + bias[:n], up + bias[n:]
    expected = gate.copy()
    if kind >= 0:
        path.activate(kind, gate.ctypes.data, gate.size, expected.ctypes.data)
    expected = expected * up if paired else expected
    expected = base + expected if with_base else expected
    found = finished(
        path, kind, halves.reshape(rows, -1), n, paired=paired,
        bias=bias if with_bias else None, base=base if with_base else None,
    )  # fmt: skip
    assert same_bits(found, expected)


# -- rotary --------------------------------------------------------------------------------------


@FEW
@given(seed=seeds, half=st.integers(1, 70))
def test_rotary_is_the_reference_to_the_bit(path: PathStruct, seed: int, half: int) -> None:
    x, cos, sin = (drawn(seed + i, 2 * half) for i in range(3))
    expected = REFERENCE_OPS.rotary(*(torch.from_numpy(a.copy()) for a in (x, cos, sin))).numpy()
    path.rotate(x.ctypes.data, cos.ctypes.data, sin.ctypes.data, 2 * half)
    assert same_bits(x, expected)


# -- between paths -------------------------------------------------------------------------------


def results(path: PathStruct, x: Floats, weight: Floats) -> list[Floats]:
    """Of every op on rows."""
    n = len(x)
    out = [np.empty(n, np.float32) for _ in range(3 + len(ACTIVATIONS))]
    xs, ws, at = x.ctypes.data, weight.ctypes.data, [o.ctypes.data for o in out]
    path.rms_norm(xs, ws, n, 1e-6, 1, at[0])
    path.layer_norm(xs, ws, xs, n, 1e-6, at[1])
    out[2][:] = x
    path.rotate(at[2], ws, xs, n // 2 * 2)
    for kind in range(len(ACTIVATIONS)):
        path.activate(kind, xs, n, at[3 + kind])
    acts = quantized(path, x[None], 32)
    return [*out, acts.scales, acts.sums, acts.codes.astype(np.float32)]


@settings(max_examples=60, deadline=None)
@given(seed=seeds, cols=sizes)
def test_all_paths_give_the_same_bits(every: list[PathStruct], seed: int, cols: int) -> None:
    x, weight = drawn(seed, cols), drawn(seed + 1, cols)
    truth = results(every[-1], x, weight)
    for path in every[:-1]:
        found = results(path, x, weight)
        assert all(map(same_bits, found, truth)), path.name


# -- functions of maths.h ------------------------------------------------------------------------

PROBE = """
#define LM_PATH probe
#include "maths.h"
void probe(long which, const float *x, long n, float *out)
{
    for (long i = 0; i < n; i++)
        out[i] = which == 0 ? lm_exp(x[i]) : which == 1 ? lm_tanh(x[i]) : lm_erf(x[i]);
}
void fused(const float *a, const float *b, const float *c, long n, float *out)
{
    for (long i = 0; i < n; i++)
        out[i] = lm_fma(a[i], b[i], c[i]);
}
"""


@pytest.fixture(scope="module")
def maths(paths: list[str], tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    folder = tmp_path_factory.mktemp("maths")
    (folder / "probe.c").write_text(PROBE)
    command = [*build.first_compiler(), *build.FLAGS, f"-I{build.FOLDER}", "-shared"]
    subprocess.run([*command, "probe.c", "-o", "probe.so"], cwd=folder, check=True)
    return ctypes.CDLL(str(folder / "probe.so"))


def call(function: Callable[..., None], *arguments: int | Floats) -> None:
    function(*(c_long(a) if isinstance(a, int) else c_void_p(a.ctypes.data) for a in arguments))


def worst(maths: ctypes.CDLL, name: str, x: Floats) -> float:
    """The largest error, in units in the last place of the true value."""
    out = np.empty_like(x)
    call(maths.probe, list(MATHS).index(name), x, len(x), out)
    expected = getattr(torch, name)(torch.from_numpy(x).double()).numpy()
    return float((np.abs(out - expected) / np.spacing(np.abs(expected).astype(np.float32))).max())


def floats(step: int, low: float, high: float) -> Floats:
    """Every ``step``-th float between two, of either sign."""
    bits = np.arange(0, 0x7F800000, step, dtype=np.int64).astype(np.int32)
    sizes = bits.view(np.float32)
    both = np.concatenate((sizes, -sizes))
    return both[(both >= low) & (both <= high)]


# The range in which each is meant, and its largest error.
MATHS = {"exp": (-87.0, 88.0, 1.5), "tanh": (-1e30, 1e30, 1.5), "erf": (-1e30, 1e30, 6)}


@pytest.mark.parametrize(
    "step", [pytest.param(4099, id="some"), pytest.param(7, id="many", marks=pytest.mark.long)]
)
@pytest.mark.parametrize("name", MATHS)
def test_errors_stay_below_what_maths_h_says(maths: ctypes.CDLL, name: str, step: int) -> None:
    low, high, bound = MATHS[name]
    for part in np.array_split(floats(step, low, high), 1 + 500 // step):
        assert worst(maths, name, part.copy()) < bound


def test_a_fused_product_without_the_instruction_is_rounded_once(maths: ctypes.CDLL) -> None:
    """Against exact fractions, sums near a tie between two floats included."""
    rng = np.random.default_rng(0)
    a = rng.standard_normal(3000).astype(np.float32)
    b = (rng.integers(1, 1 << 24, 3000) * 2.0 ** rng.integers(-40, -20)).astype(np.float32)
    c = (-(a * b) * rng.choice([0, 1, 2, 1 + 2**-20, 2**24], 3000)).astype(np.float32)
    a[:100], b[:100], c[:100] = 1 + 2**-23, 1 + 2**-23, 2**-70 * np.arange(-50, 50)
    a[100:200], b[100:200] = 1 + 2**-12, 1 + 2**-12
    c[100:200] = np.float32(2.0**-60) * np.arange(-50, 50)
    out = np.empty_like(a)
    call(maths.fused, a, b, c, len(a), out)
    for i in range(len(a)):
        exact = Fraction(float(a[i])) * Fraction(float(b[i])) + Fraction(float(c[i]))
        off = abs(Fraction(float(out[i])) - exact)
        for toward in (np.float32(-np.inf), np.float32(np.inf)):
            other = Fraction(float(np.nextafter(out[i], toward)))
            assert off <= abs(other - exact), (a[i], b[i], c[i])
