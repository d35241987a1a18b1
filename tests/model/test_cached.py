"""Token by token over kept keys and values gives what the whole sequence gives at once."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from lmstack.model import (
    ForwardContext,
    LayerKind,
    RopeSpec,
    Transformer,
    TransformerConfig,
    scaled_dot_product_attention,
)

BASE: dict[str, Any] = {
    "vocab_size": 41,
    "hidden_size": 24,
    "intermediate_size": 40,
    "num_layers": 3,
    "num_heads": 4,
    "num_kv_heads": 2,
    "head_dim": 8,
    "max_positions": 64,
}
ENCODER = TransformerConfig(**BASE, causal=False, head="none", bias="t5", kinds=(LayerKind(None),))
VARIANTS: dict[str, dict[str, Any]] = {
    "rope": {},
    "yarn": {"kinds": (LayerKind(RopeSpec(scaling="yarn", factor=4.0, original_positions=8)),)},
    "partial": {"kinds": (LayerKind(RopeSpec(fraction=0.5)),)},
    "no_positions_every_other": {"kinds": (LayerKind(), LayerKind(None)), "pattern": (0, 1, 0)},
    "window": {"kinds": (LayerKind(window=3), LayerKind()), "pattern": (0, 1, 0)},
    "softcap": {"attention_softcap": 2.0, "logit_softcap": 3.0},
    "qk_norm": {"qk_norm": "head"},
    "learned": {"kinds": (LayerKind(None),), "positions": "learned", "position_offset": 2},
    "sinusoidal": {"kinds": (LayerKind(None),), "positions": "sinusoidal"},
    "alibi": {"kinds": (LayerKind(None),), "bias": "alibi"},
    "t5": {"kinds": (LayerKind(None),), "bias": "t5", "bias_buckets": 8, "bias_max_distance": 9},
    "parallel": {"parallel": True},
    "experts": {"num_experts": 4},
    "encoder": {"kinds": (LayerKind(None),), "bias": "t5", "encoder": ENCODER},
}


class Kept:
    """An `Attend` that keeps keys and values, the way a generator does."""

    def __init__(self, config: TransformerConfig, cross: Any = ()) -> None:
        self._config, self._cross = config, cross
        self._kept: dict[int, tuple[Tensor, Tensor]] = {}

    def __call__(self, layer: int, q: Tensor, k: Tensor, v: Tensor, bias: Any = None) -> Tensor:
        if layer in self._kept:
            k, v = (
                torch.cat((old, new), dim=1)
                for old, new in zip(self._kept[layer], (k, v), strict=True)
            )
        self._kept[layer] = k, v
        spec = self._config.layer(layer)
        out = scaled_dot_product_attention(
            *(x.transpose(1, 2) for x in (q, k, v)),
            causal=True,
            window=spec.window,
            scale=spec.scale,
            softcap=spec.softcap,
            bias=bias,
        )
        return out.transpose(1, 2)

    def cross(self, layer: int, q: Tensor) -> Tensor:
        k, v = self._cross[layer]
        scale = self._config.layer(layer).scale
        out = scaled_dot_product_attention(*(x.transpose(1, 2) for x in (q, k, v)), scale=scale)
        return out.transpose(1, 2)


@pytest.mark.parametrize("steps", [(1,) * 13, (6, 1, 1, 5), (12, 1)], ids=["ones", "mixed", "two"])
@pytest.mark.parametrize("variant", VARIANTS)
@torch.no_grad()
def test_cached_equals_uncached(variant: str, steps: tuple[int, ...]) -> None:
    config = TransformerConfig(**(BASE | VARIANTS[variant]))
    torch.manual_seed(0)
    module = Transformer(config).double().eval()
    module.reset_parameters(0.3)
    ids = torch.randint(0, 41, (2, 13))
    if config.encoder is None:
        whole = module(ids).logits
        attend = Kept(config)
    else:
        source = torch.randint(0, 41, (2, 5))
        whole = module(source, decoder_input_ids=ids).logits
        attend = Kept(config, module.cross_states(module.encode(source)))
    parts, at = [], 0
    for count in steps:
        positions = torch.arange(at, at + count)
        hidden = module.hidden(ids[:, at : at + count], positions, ForwardContext(attend=attend))
        parts.append(module.logits(hidden))
        at += count
    assert_close(torch.cat(parts, dim=1), whole)
    assert whole.std() > 0.1
