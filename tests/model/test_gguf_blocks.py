"""Dequantization equals the gguf package bit for bit, on random bytes and so on any scales."""

from __future__ import annotations

import gguf
import numpy as np
import pytest
import torch

from lmstack.model.formats.gguf.blocks import BLOCK_TYPES, TYPE_NAMES, dequantize_into


def random_blocks(kind, count: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, kind.size), dtype=np.uint8)


def bits(values: np.ndarray) -> np.ndarray:
    """Bit patterns, all NaNs alike: which NaN comes of inf - inf is the processor's choice."""
    found = values.view(np.uint32).copy()
    found[np.isnan(values)] = 0x7FC00000
    return found


@pytest.mark.filterwarnings("ignore:(invalid value|overflow):RuntimeWarning")
@pytest.mark.parametrize("number", sorted(set(BLOCK_TYPES) - {28}))
def test_every_type_equals_the_gguf_package(number):
    kind = BLOCK_TYPES[number]
    raw = random_blocks(kind, 700, number)
    out = torch.empty(700, kind.weights)
    dequantize_into(kind, torch.from_numpy(raw.reshape(-1)), out)
    expected = gguf.dequantize(raw, gguf.GGMLQuantizationType(number))
    np.testing.assert_array_equal(bits(out.numpy()), bits(expected.reshape(700, -1)))


def test_doubles_are_rounded_once():
    # The gguf package does not read this type.
    values = np.random.default_rng(0).standard_normal(64)
    out = torch.empty(64)
    dequantize_into(BLOCK_TYPES[28], torch.from_numpy(values.view(np.uint8)), out)
    np.testing.assert_array_equal(out.numpy(), values.astype(np.float32))


@pytest.mark.parametrize("number", [3, 8, 12, 14])
def test_chunks_do_not_show_at_their_seams(number, monkeypatch):
    kind = BLOCK_TYPES[number]
    raw = torch.from_numpy(random_blocks(kind, 50, number).reshape(-1))
    raw[:] &= 0x3F  # finite scales
    whole, chunked = torch.empty(50 * kind.weights), torch.empty(50 * kind.weights)
    dequantize_into(kind, raw, whole)
    monkeypatch.setattr("lmstack.model.formats.gguf.blocks._CHUNK", kind.weights * 7)
    dequantize_into(kind, raw, chunked)
    assert torch.equal(whole, chunked)
    narrow = torch.empty(50 * kind.weights, dtype=torch.bfloat16)
    dequantize_into(kind, raw, narrow)
    assert torch.equal(whole.bfloat16(), narrow)


def test_sizes_and_names_are_those_of_ggml():
    for number, kind in BLOCK_TYPES.items():
        known = gguf.GGMLQuantizationType(number)
        assert kind.name == known.name
        assert (kind.weights, kind.size) == gguf.GGML_QUANT_SIZES[known]
    for number, name in TYPE_NAMES.items():
        assert gguf.GGMLQuantizationType(number).name == name
