"""A real file served by its blocks, with exact activations, is the file dequantized."""

from __future__ import annotations

import pytest
import torch

from lmstack.model import load_module, read_gguf

pytestmark = pytest.mark.weights


def test_logits_by_the_blocks_are_those_of_the_floats_bit_by_bit(smollm2):
    ids = torch.arange(1000, 1040)[None]
    with torch.inference_mode():
        expected = load_module(smollm2.path)(ids, output_hidden_states=False).logits
        found = load_module(smollm2.path, weights="file")(ids, output_hidden_states=False).logits
    assert torch.equal(found, expected)


def test_blocks_are_kept_in_the_bytes_that_they_had(smollm2):
    module = load_module(smollm2.path, weights="file")
    with read_gguf(smollm2.gguf) as file:
        stored = sum(t.size for t in file.tensors.values() if len(t.shape) == 2)
    held = sum(m.matrix.nbytes for m in module.modules() if hasattr(m, "codes"))
    assert held <= stored * 1.01
