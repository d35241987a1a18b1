"""What adapters add to products: the two kernels by themselves, then in programs."""

from __future__ import annotations

import ctypes
import functools
import itertools
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.engine.adapters import drawn_terms
from tests.engine.conftest import tiny_config
from tests.engine.cpu.calls import on_path, same_bits
from tests.engine.cpu.quantized_models import Form, Rounding, quantized
from torch import Tensor

from lmstack.core import EngineError, UnsupportedError
from lmstack.engine.cpu.deltas import Deltas
from lmstack.engine.cpu.executor import NativeExecutor
from lmstack.engine.cpu.library import available_paths
from lmstack.engine.cpu.mirrors import NativePath
from lmstack.engine.executor import Span
from lmstack.engine.torch.adapted_ops import AdaptedOps
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
        terms.append(Term(start, stop, down, up))
    return terms[:: 1 + seed % 2]


def added(path: NativePath, deltas: Deltas, panels: int, x: Any) -> Any:
    """What all panels of the one matrix of ``deltas`` get, computed in two halves."""
    delta = deltas.structs[0]
    low = np.full((len(x), delta.ranks), np.nan, np.float32)
    path.shrink(
        ctypes.byref(delta), x.ctypes.data, x.shape[1], len(x), low.ctypes.data, low.shape[1]
    )
    out = np.zeros((len(x), panels * 16), np.float32)
    for first, end in ((0, panels // 2), (panels // 2, panels)):
        path.expand(
            ctypes.byref(delta), first, end, low.ctypes.data, low.shape[1], len(x),
            out[:, first * 16 :].ctypes.data, out.shape[1],
        )  # fmt: skip
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
    every: list[NativePath], paired: bool, seed: int, half: int, cols: int, count: int
) -> None:
    rows = 2 * half
    matrix, terms = matrix_of(rows, cols, paired), terms_on(rows, cols, seed)
    deltas = Deltas([matrix], {0: terms})
    x = np.random.default_rng(seed).standard_normal((count, cols)).astype(np.float32)
    panels = matrix.scales.shape[0]
    found = [added(path, deltas, panels, x) for path in every]
    assert all(same_bits(each, found[-1]) for each in found)
    expected = np.zeros((count, panels * 16))
    size = np.zeros_like(expected)
    for term in terms:
        panel, lane = (each.numpy() for each in matrix.places(torch.arange(term.start, term.stop)))
        down, up = term.down.double().numpy(), term.up.double().numpy()
        expected[:, panel * 16 + lane] += x.astype(float) @ down.T @ up.T
        size[:, panel * 16 + lane] += np.abs(x) @ np.abs(down).T @ np.abs(up).T
    assert (np.abs(found[0] - expected) <= 1e-5 * size).all()


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_a_row_does_not_depend_on_those_beside_it(path: NativePath, count: int) -> None:
    matrix, terms = matrix_of(96, 70, False), terms_on(96, 70, 5)
    deltas = Deltas([matrix], {0: terms})
    x = np.random.default_rng(1).standard_normal((8, 70)).astype(np.float32)
    together = added(path, deltas, 6, x)
    assert same_bits(together[:count], added(path, deltas, 6, x[:count]))


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
    adapters = []
    if terms is not None:
        matrices = {
            module.get_submodule(path): [
                Term(t.start, t.stop, t.down.bfloat16().float(), t.up.bfloat16().float())
                for t in found
            ]
            for path, found in terms.matrices.items()
        }
        adapters.append((torch.arange(len(ids)), matrices))
    context = ForwardContext(AdaptedOps(Rounding("bfloat16"), adapters))
    with torch.inference_mode():
        return module.varlen_hidden(torch.tensor(ids), [len(ids)], context=context)


@pytest.mark.parametrize("form", ["int8", "q4", "act-order"])
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
            span = Span([0, 1, 2], 0, len(ids), adapter=executor.prepared(terms))
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
        spans.append(Span(table, 0, count, adapter=None if adapter < 0 else adapters[adapter]))
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
        executor.hidden([1], [0], [Span([0], 0, 1, adapter=adapter)], None)
    with pytest.raises(UnsupportedError, match="of a matrix with"):
        executor.prepared(drawn("odd", "int8", 1))
