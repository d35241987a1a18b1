"""Packed linear layers against the reference ops."""

from __future__ import annotations

import pytest
import torch

from lmstack.engine.torch import prepacked
from lmstack.engine.torch.prepacked import PrepackedOps, inference_context
from lmstack.model import REFERENCE_OPS, Transformer, TransformerConfig
from lmstack.model.layers import Linear


@pytest.fixture(params=[torch.float32, torch.bfloat16])
def layer(request: pytest.FixtureRequest) -> Linear:
    torch.manual_seed(0)
    layer = Linear(24, 40, bias=True)
    for parameter in layer.parameters():
        torch.nn.init.normal_(parameter)
    return layer.to(request.param)


@pytest.mark.parametrize("shape", [(1, 24), (3, 24), (2, 5, 24), (70, 24)])
def test_equals_the_reference(layer: Linear, shape: tuple[int, ...]) -> None:
    x = torch.randn(shape, dtype=layer.weight.dtype)
    with torch.no_grad():
        out = PrepackedOps().linear(x, layer)
        torch.testing.assert_close(out, REFERENCE_OPS.linear(x, layer))


def test_a_view_with_strides_is_read_right(layer: Linear) -> None:
    x = torch.randn(8, 48, dtype=layer.weight.dtype)[::2, 24:]
    with torch.no_grad():
        out = PrepackedOps().linear(x, layer)
        torch.testing.assert_close(out, REFERENCE_OPS.linear(x, layer))


def test_a_weight_changed_in_place_is_packed_anew(layer: Linear) -> None:
    ops, x = PrepackedOps(), torch.randn(2, 24, dtype=layer.weight.dtype)
    with torch.no_grad():
        ops.linear(x, layer)
        layer.weight.mul_(2)
        torch.testing.assert_close(ops.linear(x, layer), REFERENCE_OPS.linear(x, layer))


def test_a_dtype_that_the_processor_has_no_blocks_for_is_left_to_the_reference(
    layer: Linear, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prepacked, "_can_pack", lambda dtype: dtype != layer.weight.dtype)
    x = torch.randn(2, 24, dtype=layer.weight.dtype)
    with torch.no_grad():
        assert torch.equal(PrepackedOps().linear(x, layer), REFERENCE_OPS.linear(x, layer))


def test_gradients_still_flow(layer: Linear) -> None:
    out = PrepackedOps().linear(torch.randn(2, 24, dtype=layer.weight.dtype), layer)
    out.sum().backward()
    assert layer.weight.grad is not None


def test_weights_of_16_bits_are_prepacked_and_float32_is_the_reference() -> None:
    module = Transformer(TransformerConfig(8, 8, 8, 1, 1, 1, 8, 8))
    assert inference_context(module).ops is REFERENCE_OPS
    narrow = inference_context(module.to(torch.bfloat16)).ops
    assert isinstance(narrow, PrepackedOps) == prepacked._can_pack(torch.bfloat16)
    elsewhere = module.to("meta")  # oneDNN is the CPU's
    assert inference_context(elsewhere).ops is REFERENCE_OPS
