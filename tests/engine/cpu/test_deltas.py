"""What adapters add to products: the two kernels by themselves, then in programs."""

from __future__ import annotations

import ctypes
import functools
import itertools
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.engine.adapters import drawn_terms
from tests.engine.conftest import tiny_config
from tests.engine.cpu.calls import Codes, Weights, on_path, same_bits
from tests.engine.cpu.quantized_models import Form, Rounding, quantized, rounded, rounded_for
from torch import Tensor, nn

from lmstack.core import EngineError, UnsupportedError
from lmstack.engine.cpu.deltas import Deltas
from lmstack.engine.cpu.executor import NativeExecutor
from lmstack.engine.cpu.library import available_paths
from lmstack.engine.cpu.mirrors import MatrixStruct, PathStruct
from lmstack.engine.executor import SequenceSpan
from lmstack.model import ForwardContext, Transformer
from lmstack.model.lora.terms import AdapterTerms, Term
from lmstack.model.quant.matrix import QuantizedMatrix
from lmstack.model.quant.quantize import quantize_int8

FEW = settings(max_examples=25, deadline=None)
SETTINGS: dict[str, dict[str, object]] = {
    "plain": {},
    # Sizes of which no group, panel or tile is full, and a term ends within a panel.
    "odd": {"hidden_size": 40, "intermediate_size": 72, "head_dim": 12, "num_kv_heads": 1}
    | {"qkv_bias": True, "out_bias": True, "mlp_bias": True, "tie_embeddings": False},
}


def matrix_of(rows: int, cols: int, paired: bool) -> QuantizedMatrix:
    return quantize_int8(torch.zeros(rows, cols), 64, paired=paired)


def terms_on(rows: int, cols: int, seed: int) -> list[Term]:
    """On ranges of rows that do not overlap, of ranks of their own."""
    rng = np.random.default_rng(seed)
    cuts = sorted({0, rows, *rng.integers(0, rows, 3).tolist()})
    terms = []
    for start, stop in itertools.pairwise(cuts):
        rank = int(rng.integers(1, 20))
        down, up = (
            torch.from_numpy(rng.standard_normal(shape).astype(np.float32)).bfloat16().float()
            for shape in ((rank, cols), (stop - start, rank))
        )
        gains = torch.from_numpy(rng.uniform(0.5, 2, stop - start).astype(np.float32))
        terms.append(Term(start, stop, down, up, gains if rng.integers(2) else None))
    return terms[:: 1 + seed % 2]


def added(path: PathStruct, deltas: Deltas, matrix: QuantizedMatrix, x: Any, base: Any = 0) -> Any:
    """All panels of ``matrix``, the one of ``deltas``, whose product is ``base``, with what they
    get, computed in two parts."""
    delta, panels = ctypes.byref(deltas.structs[0]), len(matrix.codes)
    acts = Codes.of(path, x, Weights(None, None, None, matrix, MatrixStruct.of(matrix)))  # type: ignore[arg-type]
    low = np.full((len(x), deltas.low_floats), np.nan, np.float32)
    path.shrink(delta, acts.struct, 0, len(x), low.ctypes.data, low.shape[1])
    out = np.zeros((len(x), panels * 16), np.float32) + base
    for first, end in ((0, panels // 3), (panels // 3, panels)):
        path.expand(
            delta, None, first, end, low.ctypes.data, low.shape[1], len(x),
            out[:, first * 16 :].ctypes.data, out.shape[1],
        )  # fmt: skip
    return out


def in_bytes(term: Term, matrix: Any) -> Term:
    """``term`` as `lm_delta` holds it for ``matrix``: down by groups, up by rows."""
    exponents = torch.frexp(term.down.abs().amax(1)).exponent
    order = torch.arange(term.down.shape[1]) if matrix.order is None else matrix.order.long()
    down = torch.ldexp(term.down, -exponents[:, None])[:, order]
    down = quantize_int8(down, matrix.group).dequantized()[:, order.argsort()]
    up = torch.ldexp(term.up, exponents)
    scales = (up.abs().amax(1, keepdim=True) / 127).bfloat16().float()
    up = (up / scales.where(scales > 0, 1.0)).round().clamp(-127, 127) * scales
    return Term(term.start, term.stop, down, up, term.gains)


class AdaptedRounding(Rounding):
    """With the roundings of adapters: one adapter for all rows."""

    def __init__(self, terms: Mapping[nn.Module, Sequence[Term]]) -> None:
        super().__init__("bfloat16")
        self._terms = terms

    def linear(self, x: Tensor, weight: Any) -> Tensor:
        out = super().linear(x, weight)
        for term in self._terms.get(weight, ()):
            low = rounded_for(x, weight) @ term.down.T
            low = rounded(low, len(term.down))  # as one group
            part = out[:, term.start : term.stop]
            if term.gains is not None:
                bias = 0 if weight.bias is None else weight.bias[term.start : term.stop]
                part.sub_(bias).mul_(term.gains).add_(bias)
            part.add_(low @ term.up.T)
        return out


@pytest.mark.parametrize("paired", [False, True])
@FEW
@given(
    seed=st.integers(0, 2**32 - 1),
    half=st.integers(1, 50),
    cols=st.integers(1, 90),
    count=st.integers(1, 9),
)
def test_added_parts_are_near_the_true_ones_and_equal_on_every_path(
    every: list[PathStruct], paired: bool, seed: int, half: int, cols: int, count: int
) -> None:
    rows = 2 * half
    matrix, terms = matrix_of(rows, cols, paired), terms_on(rows, cols, seed)
    deltas = Deltas([matrix], {0: terms})
    x = np.random.default_rng(seed).standard_normal((count, cols)).astype(np.float32)
    base = torch.from_numpy(x[:, :1] * np.arange(1, len(matrix.codes) * 16 + 1, dtype=np.float32))
    found = [added(path, deltas, matrix, x, base.numpy()) for path in every]
    assert all(same_bits(each, found[-1]) for each in found)
    expected, most = base.double(), base.abs().double() * 1e-6
    for term in terms:
        panel, lane = matrix.places(torch.arange(term.start, term.stop))
        value, error = with_error(torch.from_numpy(x).double(), term)
        expected[:, panel * 16 + lane] *= 1 if term.gains is None else term.gains
        expected[:, panel * 16 + lane] += value
        most[:, panel * 16 + lane] += error
    assert (np.abs(found[0] - expected.numpy()) <= most.numpy()).all()


def with_error(x: Tensor, term: Term) -> tuple[Tensor, Tensor]:
    """What ``term`` adds to rows, and how far bytes may be from it: half a step of each code."""
    step = 1.01 / 254  # float16 and bfloat16 scales included
    down, up = term.down.double(), term.up.double()
    low, size = x @ down.T, x.abs() @ down.abs().T
    by_x = x.abs().amax(1, keepdim=True) * step * down.abs().sum(1)
    by_down = x.abs().sum(1, keepdim=True) * (1 + step) * down.abs().amax(1) * step
    off = by_x + by_down + 1e-6 * size
    off = off + (low.abs() + off).amax(1, keepdim=True) * step
    by_up = (low.abs() + off).sum(1, keepdim=True) * up.abs().amax(1) * step
    return low @ up.T, off @ up.abs().T + by_up + 1e-5 * (size @ up.abs().T)


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_a_row_does_not_depend_on_those_beside_it(path: PathStruct, count: int) -> None:
    matrix, terms = matrix_of(96, 70, False), terms_on(96, 70, 5)
    deltas = Deltas([matrix], {0: terms})
    x = np.random.default_rng(1).standard_normal((8, 70)).astype(np.float32)
    together = added(path, deltas, matrix, x)
    assert same_bits(together[:count], added(path, deltas, matrix, x[:count]))


@pytest.mark.parametrize(
    "term",
    [
        Term(90, 97, torch.zeros(2, 64), torch.zeros(7, 2)),
        Term(-1, 3, torch.zeros(2, 64), torch.zeros(4, 2)),
        Term(0, 3, torch.zeros(2, 63), torch.zeros(3, 2)),
        Term(0, 3, torch.zeros(2, 64), torch.zeros(4, 2)),
        Term(0, 3, torch.zeros(2, 64), torch.zeros(3, 1)),
    ],
)
def test_terms_that_do_not_fit_never_reach_c(term: Term) -> None:
    with pytest.raises(UnsupportedError):
        Deltas([matrix_of(96, 64, False)], {0: [term]})


def test_terms_that_overlap_never_reach_c() -> None:
    one = Term(0, 10, torch.zeros(2, 64), torch.zeros(10, 2))
    two = Term(9, 12, torch.zeros(2, 64), torch.zeros(3, 2))
    with pytest.raises(UnsupportedError, match="rows 9 to 12"):
        Deltas([matrix_of(96, 64, False)], {0: [one, two]})


# -- programs --------------------------------------------------------------------------------------


@functools.cache
def base_of(kind: str, form: Form) -> Transformer:
    torch.manual_seed(17)
    module = Transformer(tiny_config(**SETTINGS[kind]))
    module.reset_parameters(std=0.35)
    return quantized(module, form)


@functools.cache
def drawn(kind: str, form: Form, seed: int) -> AdapterTerms:
    with tempfile.TemporaryDirectory() as folder:
        return drawn_terms(base_of(kind, form), Path(folder), seed)


@functools.cache
def adapted(kind: str, path: str) -> tuple[NativeExecutor, list[Deltas]]:
    """An executor for that path, and four adapters."""
    with on_path(path):
        executor = NativeExecutor(base_of(kind, "int8"), 21, 16)
        return executor, [executor.prepared(drawn(kind, "int8", seed)) for seed in range(4)]


def reference(module: Transformer, ids: Sequence[int], terms: AdapterTerms | None) -> Tensor:
    """Hidden states by the reference ops with the roundings of the native ones."""
    linears = {} if terms is None else {module.get_submodule(p): p for p in terms.matrices}
    held = {
        linear: [in_bytes(term, linear.matrix) for term in terms.matrices[path]]
        for linear, path in linears.items()
        if terms is not None
    }
    context = ForwardContext(AdaptedRounding(held))
    with torch.inference_mode():
        return module.varlen_hidden(torch.tensor(ids), [len(ids)], context=context)


@pytest.mark.parametrize("form", ["int8", "q4", "act-order", "file8"])
@pytest.mark.parametrize("kind", SETTINGS)
def test_a_program_adds_what_the_reference_adds(kind: str, form: Form) -> None:
    """Now and then a code is rounded the other way, but not for all of these."""
    module = base_of(kind, form)
    nearest = []
    with on_path("portable"):
        executor = NativeExecutor(module, 4, 16)
        for seed in range(4):
            terms = drawn(kind, form, seed)
            ids = [(seed * 37 + i * 11) % 250 for i in range(5)]
            span = SequenceSpan([0, 1, 2], 0, len(ids), adapter=executor.prepared(terms))
            found = executor.hidden(ids, range(len(ids)), [span], None)
            expected = reference(module, ids, terms)
            nearest.append(float((found - expected).abs().max() / expected.abs().max()))
            apart = (expected - reference(module, ids, None)).abs().max() / expected.abs().max()
            assert apart > 0.2, "the adapter changes too little for this test to notice anything"
    assert min(nearest) < 1e-5, nearest
    assert max(nearest) < 0.08, nearest


@pytest.mark.parametrize("name", available_paths())
@settings(max_examples=10, deadline=None)
@given(
    kind=st.sampled_from(list(SETTINGS)),
    chosen=st.lists(st.tuples(st.integers(-1, 3), st.integers(1, 40)), min_size=2, max_size=7),
    threads=st.integers(1, 3),
)
def test_a_mixed_batch_has_the_bits_of_each_alone(
    name: str, kind: str, chosen: list[tuple[int, int]], threads: int
) -> None:
    executor, adapters = adapted(kind, name)
    spans, ids = [], []
    for i, (adapter, count) in enumerate(chosen):
        table = [3 * i, 3 * i + 1, 3 * i + 2]
        spans.append(
            SequenceSpan(table, 0, count, adapter=None if adapter < 0 else adapters[adapter])
        )
        ids.append([(7 * i + 3 * place) % 256 for place in range(count)])
    flat = [token for own in ids for token in own]
    places = [place for own in ids for place in range(len(own))]
    before = torch.get_num_threads()
    with on_path(name):
        try:
            torch.set_num_threads(threads)
            together = executor.hidden(flat, places, spans, None).clone()
            torch.set_num_threads(1)
            alone = [
                executor.hidden(own, range(len(own)), [span], None).clone()
                for own, span in zip(ids, spans, strict=True)
            ]
        finally:
            torch.set_num_threads(before)
    assert torch.equal(together, torch.cat(alone))


def test_an_adapter_of_another_program_never_reaches_c(tmp_path: Path) -> None:
    small = Transformer(tiny_config(num_layers=1))
    small.reset_parameters()
    executor, foreign = (
        NativeExecutor(module, 4, 16)
        for module in (base_of("plain", "int8"), quantized(small, "int8"))
    )
    adapter = foreign.prepared(drawn_terms(small, tmp_path, 1))
    with pytest.raises(EngineError, match="another program"):
        executor.hidden([1], [0], [SequenceSpan([0], 0, 1, adapter=adapter)], None)
    with pytest.raises(UnsupportedError, match="of a matrix with"):
        executor.prepared(drawn("odd", "int8", 1))
