"""Products of grouped matrices: against exact arithmetic, and bit by bit between all paths."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.engine.cpu.calls import (
    FOUR_BITS,
    SCHEMES,
    Codes,
    Floats,
    Weights,
    in_bytes,
    same_bits,
)

from lmstack.engine.cpu.mirrors import PathStruct
from lmstack.model.quant.matrix import GROUPS

Form = tuple[int, int, str]
# Every group plainly, and all else that a matrix may have in a small and a large one.
FORMS: list[Form] = [
    (bits, group, scheme)
    for bits in (4, 8)
    for scheme, parts in SCHEMES.items()
    for group in (GROUPS if scheme in ("plain", "mins") else (32, 128))
    if bits == 4 or not set(FOUR_BITS) & set(parts)
]
seeds = st.integers(0, 2**32 - 1)


def true_product(acts: Codes) -> tuple[Floats, Floats]:
    """In float64, and how far from it float32 may come."""
    w = acts.weights
    rows, group, R = len(w.codes), w.struct.group, acts.rows
    G = w.struct.groups
    padded = np.zeros((rows, G * group))
    padded[:, : w.codes.shape[1]] = w.codes.astype(np.float64) - w.struct.zero
    x = acts.codes.astype(np.float64).reshape(R, G, group)
    sums = np.einsum("rgk,ogk->rog", x, padded.reshape(rows, G, group))
    terms = sums * acts.scales[:, None] * w.scales.astype(np.float64)
    if w.mins is not None:
        terms = np.concatenate((terms, acts.sums[:, None] * w.mins.astype(np.float64)), axis=-1)
    error = (2 * G + 2) * 2.0**-24 * np.abs(terms).sum(-1) + 1e-37
    return terms.sum(-1), error


def drawn(seed: int, form: Form, rows: int) -> Codes:
    """``rows`` of codes of any value for a matrix of any size, of up to some three groups."""
    rng = np.random.default_rng(seed)
    bits, group, scheme = form
    most = max(200, 3 * group)
    outputs = 2 * int(rng.integers(1, 40))
    weights = Weights.drawn(
        rng,
        outputs,
        int(rng.integers(1, most)),
        group,
        bits,
        scheme=scheme,
        paired=bool(rng.integers(2)),
        extreme=bool(rng.integers(2)),
    )
    acts = Codes(weights, rows)
    acts.codes[:] = rng.integers(-127, 128, acts.codes.shape)
    if rng.integers(2):
        acts.codes[:] = rng.choice([-127, 127], acts.codes.shape)
    acts.codes[:, weights.struct.cols :] = 0
    by_group = acts.codes.reshape(rows, -1, group).sum(-1, dtype=np.int32)
    acts.scales[:] = np.abs(rng.standard_normal(acts.scales.shape))
    acts.offsets[:] = -weights.struct.zero * by_group
    acts.sums[:] = acts.scales * by_group.astype(np.float32)
    first, second = acts.codes.reshape(rows, -1, 2, group // 2).sum(-1, dtype=np.int32).T
    acts.halves[:] = (second << 16 | first & 0xFFFF).T
    return acts


@pytest.mark.parametrize("form", FORMS)
@settings(max_examples=25, deadline=None)
@given(seed=seeds, rows=st.integers(1, 20))
def test_the_portable_path_gives_the_product(
    every: list[PathStruct], form: Form, seed: int, rows: int
) -> None:
    acts = drawn(seed, form, rows)
    found = acts.multiplied(every[-1])
    expected, error = true_product(acts)
    order = acts.weights.order
    real = order >= 0
    assert (np.abs(found[:, real] - expected[:, order[real]]) <= error[:, order[real]]).all()
    assert (found[:, ~real] == 0).all()


@pytest.mark.parametrize("form", FORMS)
@settings(max_examples=25, deadline=None)
@given(seed=seeds, rows=st.integers(1, 40))
def test_all_paths_give_the_same_bits(
    every: list[PathStruct], form: Form, seed: int, rows: int
) -> None:
    acts = drawn(seed, form, rows)
    truth = acts.multiplied(every[-1])
    for path in every[:-1]:
        assert same_bits(acts.multiplied(path), truth), path.name


@settings(max_examples=25, deadline=None)
@given(seed=seeds, rows=st.integers(2, 140), data=st.data())
def test_a_row_does_not_depend_on_its_company(
    path: PathStruct, seed: int, rows: int, data: st.DataObject
) -> None:
    acts = drawn(seed, data.draw(st.sampled_from(FORMS)), rows)
    first = data.draw(st.integers(0, rows - 1))
    last = data.draw(st.integers(first + 1, rows))
    together = acts.multiplied(path)
    assert same_bits(acts.multiplied(path, rows=(first, last)), together[first:last])


@settings(max_examples=25, deadline=None)
@given(seed=seeds, rows=st.integers(1, 20), data=st.data())
def test_panels_may_be_computed_apart_into_a_wider_table(
    path: PathStruct, seed: int, rows: int, data: st.DataObject
) -> None:
    acts = drawn(seed, data.draw(st.sampled_from(FORMS)), rows)
    panel = data.draw(st.integers(0, acts.weights.struct.panels - 1))
    end = data.draw(st.integers(panel + 1, acts.weights.struct.panels))
    apart = (end - panel) * 16 + data.draw(st.integers(0, 9))
    part = acts.multiplied(path, panels=(panel, end), apart=apart)
    assert same_bits(part, acts.multiplied(path)[:, panel * 16 : end * 16].copy())


def test_the_largest_sums_do_not_overflow(path: PathStruct) -> None:
    """Codes and activations at their ends, all of one sign: vpmaddubsw would saturate."""
    ends = np.array([0, *[128] * 14, 255], np.uint8)
    for bits, group, scheme in FORMS:
        if scheme not in ("plain", "mins", "codebook"):
            continue
        for code in (0, (1 << bits) - 1):
            codes = np.full((16, 2 * group), code, np.uint8)
            ones = np.ones((16, 2), np.float16)
            mins, table = 0 * ones if scheme == "mins" else None, {}
            if scheme == "codebook":
                table, code = {"codebook": ends}, int(ends[code])
            weights = Weights.of(codes, ones, mins, group, bits, **table)
            acts = Codes(weights, 5)
            for sign in (-127, 127):
                acts.codes[:] = sign
                acts.scales[:], acts.sums[:] = 1, 0
                acts.offsets[:] = -weights.struct.zero * sign * group
                half = np.float32((code - weights.struct.zero) * sign * group)
                expected = half + half
                assert (acts.multiplied(path) == expected).all(), (bits, group, code, sign)


@settings(max_examples=100, deadline=None)
@given(seed=seeds, rows=st.integers(1, 40), group=st.sampled_from(GROUPS))
def test_codes_on_lines_and_those_that_they_stand_for_give_the_same_bits(
    every: list[PathStruct], seed: int, rows: int, group: int
) -> None:
    acts = drawn(seed, (4, group, "lines"), rows)
    rng = np.random.default_rng(seed)
    acts.weights.packed.scales.mul_(torch.from_numpy(rng.choice([-1, 0, 1], 16)))
    truth = None
    for path in every:
        matrix, kept = in_bytes(path, acts.weights)
        out = np.empty((rows, matrix.panels * 16), np.float32)
        end, apart = matrix.panels, out.shape[1]
        path.multiply(matrix, 0, end, acts.struct, 0, rows, out.ctypes.data, apart)
        truth = out if truth is None else truth
        assert same_bits(out, truth), path.name
        for first in range(0, rows if path.line_rows else 0, path.line_rows or 1):
            part = (first, min(rows, first + path.line_rows))
            assert same_bits(acts.multiplied(path, rows=part), truth[slice(*part)]), path.name
        del kept


# Codes - 128 of inputs i, i + 1, i + 4 and i + 5: those whose products with the largest activations
# just fit 16 bits together, and those whose products just do not.
FITTING = [
    *((127, 1, 0, 0), (0, 0, 1, 127), (32, 32, 32, 32), (64, -128, 0, 64), (127, -127, 1, -1)),
    *((-128, 0, 0, 0), (-32, -32, -32, -32), (0, -1, 0, -127), (100, -100, 28, -28)),
]
TOO_LARGE = [(32, 32, 32, 33), (127, 0, 2, 0), (-128, 0, -1, 0), (-32, -32, -33, -32)]


@settings(max_examples=50, deadline=None)
@given(seed=seeds, rows=st.integers(32, 90), group=st.sampled_from(GROUPS))
def test_fours_at_the_edge_of_16_bits_give_the_same_bits(
    every: list[PathStruct], seed: int, rows: int, group: int
) -> None:
    """A path that adds products in 16 bits may do so where they fit, and nowhere else."""
    rng = np.random.default_rng(seed)
    outputs, cols = 16 * int(rng.integers(1, 12)), group * int(rng.integers(1, 4))
    drawn = rng.choice(np.array(FITTING), (outputs, cols // 4))
    for panel in np.flatnonzero(rng.integers(0, 2, outputs // 16)):
        place = rng.integers(16 * panel, 16 * panel + 16), rng.integers(cols // 4)
        drawn[place] = rng.choice(np.array(TOO_LARGE))
    eights = drawn.reshape(outputs, -1, 2, 2, 2).swapaxes(2, 3)
    codes = (eights.reshape(outputs, cols) + 128).astype(np.uint8)
    scales = rng.standard_normal((outputs, cols // group)).astype(np.float16)
    acts = Codes(Weights.of(codes, scales, None, group, 8), rows)
    acts.codes[:] = rng.choice([-127, 127], acts.codes.shape)
    acts.codes[rng.integers(rows)] = 127
    by_group = acts.codes.reshape(rows, -1, group).sum(-1, dtype=np.int32)
    acts.scales[:], acts.sums[:], acts.offsets[:] = 1, 0, -128 * by_group
    truth = acts.multiplied(every[-1])
    for path in every[:-1]:
        assert same_bits(acts.multiplied(path), truth), path.name


def test_every_float16_scale_is_read_as_numpy_does(every: list[PathStruct]) -> None:
    """Subnormal ones too. One code at 1, the others at zero."""
    halves = np.arange(1 << 16, dtype=np.uint16).view(np.float16)
    halves = halves[np.isfinite(halves)].reshape(-1, 1)
    codes = np.full((len(halves), 16), 128, np.uint8)
    codes[:, 0] = 129
    acts = Codes(Weights.of(codes, halves, None, 16, 8), 1)
    acts.codes[:] = 0
    acts.codes[:, 0] = 1
    acts.scales[:], acts.sums[:], acts.offsets[:] = 1, 1, -128
    for path in every:
        found = acts.multiplied(path)[0, : len(halves)]
        assert (found == halves[:, 0].astype(np.float32)).all(), path.name
