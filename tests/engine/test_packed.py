"""Packed linear layers against the reference ops."""

from __future__ import annotations

import pytest
import torch

from lmstack.engine import packed
from lmstack.engine.packed import PackedOps, inference_ops
from lmstack.model import REFERENCE_OPS
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
        out = PackedOps().linear(x, layer)
        torch.testing.assert_close(out, REFERENCE_OPS.linear(x, layer))


def test_a_view_with_strides_is_read_right(layer: Linear) -> None:
    x = torch.randn(8, 48, dtype=layer.weight.dtype)[::2, 24:]
    with torch.no_grad():
        out = PackedOps().linear(x, layer)
        torch.testing.assert_close(out, REFERENCE_OPS.linear(x, layer))


def test_a_weight_changed_in_place_is_packed_anew(layer: Linear) -> None:
    ops, x = PackedOps(), torch.randn(2, 24, dtype=layer.weight.dtype)
    with torch.no_grad():
        ops.linear(x, layer)
        layer.weight.mul_(2)
        torch.testing.assert_close(ops.linear(x, layer), REFERENCE_OPS.linear(x, layer))


def test_a_dtype_that_the_processor_has_no_blocks_for_is_left_to_the_reference(
    layer: Linear, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packed, "_can_pack", lambda dtype: dtype != layer.weight.dtype)
    x = torch.randn(2, 24, dtype=layer.weight.dtype)
    with torch.no_grad():
        assert torch.equal(PackedOps().linear(x, layer), REFERENCE_OPS.linear(x, layer))


def test_gradients_still_flow(layer: Linear) -> None:
    out = PackedOps().linear(torch.randn(2, 24, dtype=layer.weight.dtype), layer)
    out.sum().backward()
    assert layer.weight.grad is not None


def test_this_machine_gets_packed_ops_where_torch_has_onednn() -> None:
    assert isinstance(inference_ops(), PackedOps) == torch.backends.mkldnn.is_available()
