"""Codes on lines in programs: the same bits whether those of 8 bits are held beside them or not."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.engine.cpu.calls import on_path
from tests.engine.cpu.quantized_models import generated_natively
from tests.engine.cpu.test_native_invariance import model_of, threads

from lmstack.engine.cpu import expanding
from lmstack.engine.cpu.executor import NativeExecutor
from lmstack.engine.cpu.expanding import Expanded, expanded_bytes, has_room
from lmstack.engine.cpu.library import available_paths
from lmstack.model.quant.matrix import QuantizedMatrix, held_weights


@pytest.mark.parametrize("name", available_paths())
@settings(max_examples=6, deadline=None)
@given(
    kind=st.sampled_from(["plain", "odd", "gemma"]),
    chunks=st.lists(st.integers(1, 30), min_size=1, max_size=4),
    count=st.integers(1, 3),
)
def test_bits_do_not_depend_on_what_is_held(
    name: str, kind: str, chunks: list[int], count: int
) -> None:
    module = model_of(kind, "file8")
    ids = [(7 * i + kind.count("a")) % 250 for i in range(min(80, sum(chunks)))]
    cut = [min(n, max(0, 80 - sum(chunks[:i]))) for i, n in enumerate(chunks)]
    cut = [n for n in cut if n]
    found = []
    with on_path(name), torch.inference_mode(), pytest.MonkeyPatch.context() as patch:
        for held in (True, False):
            patch.setattr(expanding, "has_room", lambda _size, held=held: held)
            for parts, number in ((cut, count), ((), 1)):
                with threads(number):
                    found.append(generated_natively(module, ids, "int8", chunks=parts))
    for hidden, logits in found[1:]:
        assert torch.equal(hidden, found[0][0])
        assert torch.equal(logits, found[0][1])


def test_what_is_held_is_each_code_once_and_kept_by_its_owner() -> None:
    module = model_of("plain", "file8")
    made = NativeExecutor(module, 8, 16)
    codes = made._expanded._codes
    assert sum(tensor.nbytes for tensor in codes.values()) == expanded_bytes(module)
    before = {at: tensor.data_ptr() for at, tensor in codes.items()}
    made.reload()
    assert {at: tensor.data_ptr() for at, tensor in made._expanded._codes.items()} == before


def test_other_codes_in_the_same_memory_are_unpacked_anew() -> None:
    weights = held_weights(model_of("plain", "file8"))
    matrix = next(w for w in weights.values() if isinstance(w, QuantizedMatrix))
    assert matrix.lines is not None
    size, kept = 2 * matrix.codes.nbytes, matrix.lines.clone()
    owner = Expanded(size)
    try:
        first = owner.of(matrix)
        assert first is not None
        before = first.clone()
        matrix.lines[..., 32:] ^= 1
        again = owner.of(matrix)
        assert again is not None
        assert again.data_ptr() == first.data_ptr()
        fresh = Expanded(size).of(matrix)
        assert fresh is not None
        assert torch.equal(again, fresh)
        assert not torch.equal(again, before)
    finally:
        matrix.lines.copy_(kept)


@pytest.mark.parametrize(("free", "fits"), [(2000, True), (1999, False), (None, True)])
def test_as_much_again_has_to_stay_free(
    free: int | None, fits: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(expanding, "free_memory", lambda: (free, free))
    assert has_room(1000) is fits


def test_matrices_without_lines_take_nothing() -> None:
    module = model_of("plain", "int8")
    assert expanded_bytes(module) == 0
    assert not NativeExecutor(module, 8, 16)._expanded._codes
