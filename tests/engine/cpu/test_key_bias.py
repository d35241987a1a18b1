"""Keys with a bias, as Qwen2's: a few channels are far larger than the others."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from tests.engine.cpu.quantized_models import quantized

from lmstack.engine import EngineConfig, native_problem
from lmstack.engine.executor import SequenceSpan
from lmstack.engine.executors import open_executor
from lmstack.model import Transformer, TransformerConfig

pytestmark = pytest.mark.skipif(bool(native_problem()), reason="no native ops here")

CONFIG = TransformerConfig(
    vocab_size=300,
    hidden_size=64,
    intermediate_size=64,
    num_layers=2,
    num_heads=2,
    num_kv_heads=1,
    head_dim=32,
    max_positions=64,
    qkv_bias=True,
)
KEYS = slice(64, 96)


@pytest.fixture(scope="module")
def module() -> Transformer:
    torch.manual_seed(0)
    module = Transformer(CONFIG)
    module.reset_parameters(std=0.2)
    with torch.no_grad():
        for block in module.blocks:
            bias = block.attention.qkv.bias
            bias.zero_()
            bias[KEYS][::8] = 200.0
    return quantized(module.eval(), "int8")


def off(module: Transformer, config: EngineConfig) -> float:
    """How far the scores of a text are from those of the same matrices in float32."""
    ids = torch.randint(0, 300, (40,), generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        expected = module(ids[None]).logits[0]
        executor, _ = open_executor(module, config.replace(num_blocks=4))
        table = range(40 // config.block_size + 1)
        hidden = executor.hidden(ids.tolist(), range(40), [SequenceSpan(table, 0, 40)], None)
        found = executor.logits(hidden)
    return float((found - expected).norm() / expected.norm())


def test_keys_with_a_bias_are_not_rounded_to_8_bits(module: Transformer) -> None:
    usual = off(module, EngineConfig())
    assert usual == off(module, EngineConfig(kv_dtype="bfloat16"))
    assert off(module, EngineConfig(kv_dtype="int8")) > 3 * usual


def test_keys_without_a_bias_are_int8_and_a_form_that_is_named_is_taken() -> None:
    plain = dataclasses.replace(CONFIG, qkv_bias=False)
    assert EngineConfig().kv_of(plain) == "int8"
    assert EngineConfig().kv_of(CONFIG) == "bfloat16"
    assert EngineConfig(kv_dtype="int8").kv_of(CONFIG) == "int8"
