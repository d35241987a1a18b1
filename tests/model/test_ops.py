"""The seam of the ops: a set chosen at construction computes everything, on any kind of weight."""

from __future__ import annotations

from collections import Counter

import torch
from torch.testing import assert_close

from lmstack.model import (
    REFERENCE_OPS,
    ForwardContext,
    LayerSpec,
    ReferenceOps,
    RopeSpec,
    Transformer,
    TransformerConfig,
)
from lmstack.model.layers import Linear

CONFIG = TransformerConfig(
    vocab_size=30,
    hidden_size=16,
    intermediate_size=24,
    num_layers=2,
    num_heads=4,
    num_kv_heads=2,
    head_dim=4,
    max_positions=16,
    qkv_bias=True,
)
IDS = torch.arange(14).view(2, 7)


class CountingOps(ReferenceOps):
    """Notes which op ran, and how often."""

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()

    def __getattribute__(self, name: str):
        found = super().__getattribute__(name)
        if name == "calls" or name.startswith("_"):
            return found

        def counted(*args, **kwargs):
            self.calls[name] += 1
            return found(*args, **kwargs)

        return counted


class RoundedLinear(Linear):
    """A weight kept as int8 and one scale a row; ``weight`` is its dequantized view."""

    def __init__(self, source: Linear) -> None:
        torch.nn.Module.__init__(self)
        self.scale = source.weight.abs().amax(1, keepdim=True) / 127
        self.codes = (source.weight / self.scale).round().to(torch.int8)
        self.bias = source.bias

    @property
    def weight(self):
        return self.codes * self.scale


def test_every_product_norm_and_rotation_goes_through_the_chosen_ops():
    ops = CountingOps()
    Transformer(CONFIG)(IDS, context=ForwardContext(ops))
    # Per layer: qkv, out, up, down; two norms; one rotation of queries and keys together.
    assert ops.calls == {
        "embedding": 1, "linear": 2 * 4 + 1, "norm": 2 * 2 + 1, "rotary": 2, "attention": 2,
        "glu": 2, "activation": 2, "rotary_tables": 1,
    }  # fmt: skip


@torch.no_grad()
def test_a_quantized_weight_takes_the_place_of_a_linear():
    torch.manual_seed(0)
    module = Transformer(CONFIG)
    plain = Transformer(CONFIG)
    plain.load_state_dict(module.state_dict())
    for block, other in zip(module.blocks, plain.blocks, strict=True):
        block.attention.qkv = RoundedLinear(block.attention.qkv)
        block.mlp.down = RoundedLinear(block.mlp.down)
        other.attention.qkv.weight.copy_(block.attention.qkv.weight)
        other.mlp.down.weight.copy_(block.mlp.down.weight)
    assert_close(module(IDS).logits, plain(IDS).logits)


def test_rotation_keeps_lengths_and_depends_on_distance_alone():
    """The property that RoPE is for: scores do not change when both positions move."""
    generator = torch.Generator().manual_seed(0)
    q, k = torch.randn(2, 1, 1, 8, generator=generator)

    def rotated(x, position):
        return REFERENCE_OPS.rotary(
            x, *RopeSpec().tables(torch.tensor([position]), 8, torch.float32)
        )

    assert_close(rotated(q, 5).norm(), q.norm())
    near = (rotated(q, 9) * rotated(k, 4)).sum()
    assert_close(near, (rotated(q, 29) * rotated(k, 24)).sum())
    assert (near - (rotated(q, 9) * rotated(k, 5)).sum()).abs() > 1e-3


def test_tables_first_asked_for_in_inference_serve_training_too():
    spec = RopeSpec(theta=12345.0)
    with torch.inference_mode():
        spec.tables(torch.arange(3), 8, torch.float32)
    x = torch.randn(3, 2, 8, requires_grad=True)
    REFERENCE_OPS.rotary(x, *spec.tables(torch.arange(3), 8, torch.float32)).sum().backward()
    assert x.grad is not None


@torch.no_grad()
def test_token_types_of_an_encoder_decoder_are_its_encoders():
    encoder = CONFIG.replace(causal=False, head="none", tie_embeddings=False, token_types=2)
    module = Transformer(CONFIG.replace(encoder=encoder))
    ids, decoder_ids = torch.arange(10).view(2, 5), torch.arange(6).view(2, 3)
    first, second = (
        module(ids, None, types, decoder_ids).encoder_last_hidden_state
        for types in (torch.zeros_like(ids), torch.ones_like(ids))
    )
    assert not torch.equal(first, second)


@torch.no_grad()
def test_a_query_that_may_look_nowhere_gets_zeros():
    q, k, v = torch.randn(3, 1, 2, 1, 4)
    mask = torch.tensor([[[[True, True], [False, False]]]])
    out = REFERENCE_OPS.attention(q, k, v, LayerSpec(False, 0.5, None), mask)
    assert torch.equal(out[0, 1], torch.zeros(1, 4))
    assert out[0, 0].abs().sum() > 0
