"""Rotary tables and sinusoids against transformers and against their formulas."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS
from transformers.models.gpt_neox.modeling_gpt_neox import GPTNeoXRotaryEmbedding
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding, apply_rotary_pos_emb
from transformers.models.marian.modeling_marian import MarianSinusoidalPositionalEmbedding
from transformers.models.phi3.modeling_phi3 import Phi3RotaryEmbedding

from lmstack.core import InputError
from lmstack.model import REFERENCE_OPS, RopeSpec
from lmstack.model.families import config_from_json
from lmstack.model.positions import sinusoids

HD = 16
LONG = {
    "short_factor": [1.0 + 0.1 * i for i in range(HD // 2)],
    "long_factor": [2.0 + 0.7 * i for i in range(HD // 2)],
}
SCALINGS: dict[str, dict[str, Any]] = {
    "default": {"rope_type": "default"},
    "theta": {"rope_type": "default", "rope_theta": 5e5},
    "linear": {"rope_type": "linear", "factor": 4.0},
    "dynamic": {"rope_type": "dynamic", "factor": 3.0},
    "yarn": {"rope_type": "yarn", "factor": 8.0, "original_max_position_embeddings": 32},
    "yarn_narrow": {
        "rope_type": "yarn",
        "factor": 4.0,
        "original_max_position_embeddings": 256,
        "beta_fast": 8.0,
        "beta_slow": 2.0,
        "truncate": False,
    },
    "yarn_long": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 2**18},
    "yarn_short": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 4},
    "yarn_mscale": {
        "rope_type": "yarn",
        "factor": 40.0,
        "original_max_position_embeddings": 64,
        "mscale": 0.7,
        "mscale_all_dim": 1.3,
    },
    "yarn_stated": {
        "rope_type": "yarn",
        "factor": 8.0,
        "original_max_position_embeddings": 64,
        "attention_factor": 1.25,
    },
    "llama3": {
        "rope_type": "llama3",
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 32,
    },
    "longrope": {"rope_type": "longrope", "original_max_position_embeddings": 32, **LONG},
    "longrope_factor": {
        "rope_type": "longrope",
        "original_max_position_embeddings": 32,
        "factor": 6.0,
        **LONG,
    },
    "longrope_stated": {
        "rope_type": "longrope",
        "original_max_position_embeddings": 32,
        "attention_factor": 1.3,
        **LONG,
    },
}
LONGEST = 128


def theirs_and_ours(scaling: str) -> tuple[Any, RopeSpec]:
    """A config of transformers with this scaling, and how we read its file."""
    # Where Phi-3 keeps the original length, and only there is longrope in use.
    phi = SCALINGS[scaling]["rope_type"] == "longrope"
    kind = transformers.Phi3Config if phi else transformers.LlamaConfig
    config = kind(
        vocab_size=61,
        hidden_size=4 * HD,
        intermediate_size=64,
        num_hidden_layers=1,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=LONGEST,
        rope_parameters={"rope_theta": 1e4, **SCALINGS[scaling]},
        pad_token_id=0,
        **({"original_max_position_embeddings": 32} if phi else {}),
    )
    values = config.to_dict() | {"architectures": [kind.__name__.replace("Config", "ForCausalLM")]}
    rope = config_from_json(values).kinds[0].rope
    assert rope is not None
    return config, rope


@pytest.mark.parametrize("length", [7, 32, 33, LONGEST, LONGEST + 1, 300])
@pytest.mark.parametrize("scaling", SCALINGS)
def test_frequencies_and_magnitude_are_those_of_transformers(scaling: str, length: int) -> None:
    config, rope = theirs_and_ours(scaling)
    kind = SCALINGS[scaling]["rope_type"]
    if kind == "default":
        init = LlamaRotaryEmbedding.compute_default_rope_parameters
        expected, magnitude = init(config)
    else:
        expected, magnitude = ROPE_INIT_FUNCTIONS[kind](config, torch.device("cpu"), length)
    assert_close(rope.inverse_frequencies(HD, length=length), expected)
    assert math.isclose(rope.magnitude, magnitude, rel_tol=1e-9)


@pytest.mark.parametrize("length", [7, 32, 33, LONGEST + 1, 300])
@pytest.mark.parametrize("scaling", SCALINGS)
def test_queries_are_rotated_as_in_transformers(scaling: str, length: int) -> None:
    config, rope = theirs_and_ours(scaling)
    rotary = Phi3RotaryEmbedding if config.model_type == "phi3" else LlamaRotaryEmbedding
    positions = torch.arange(length)
    q = torch.randn(1, length, 2, HD, generator=torch.Generator().manual_seed(0))
    cos, sin = rotary(config)(q, positions[None])
    expected, _ = apply_rotary_pos_emb(q.transpose(1, 2), q.transpose(1, 2), cos, sin)
    found = REFERENCE_OPS.rotary(q, *rope.tables(positions, HD, torch.float32))
    assert_close(found, expected.transpose(1, 2))


@pytest.mark.parametrize("fraction", [0.25, 0.5, 1.0])
def test_only_the_first_channels_rotate(fraction: float) -> None:
    config = transformers.GPTNeoXConfig(
        hidden_size=4 * HD,
        num_attention_heads=4,
        rope_parameters={
            "rope_type": "default",
            "rope_theta": 1e4,
            "partial_rotary_factor": fraction,
        },
    )
    q = torch.randn(1, 9, 2, HD, generator=torch.Generator().manual_seed(0))
    cos, sin = GPTNeoXRotaryEmbedding(config)(q, torch.arange(9)[None])
    rope = RopeSpec(fraction=fraction)
    tables = rope.tables(torch.arange(9), HD, torch.float32)
    width = rope.rotary_dim(HD)
    assert cos.shape[-1] == width == tables[0].shape[-1] == int(HD * fraction)
    found = REFERENCE_OPS.rotary(q, *tables)
    turned, _ = apply_rotary_pos_emb(*(q[..., :width].transpose(1, 2),) * 2, cos, sin)
    assert_close(found[..., :width], turned.transpose(1, 2))
    assert torch.equal(found[..., width:], q[..., width:])


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2000), st.integers(0, 200), st.sampled_from([0.5, 1.0]))
def test_products_of_rotated_vectors_depend_on_their_distance_alone(
    start: int, distance: int, fraction: float
) -> None:
    q, k = torch.randn(2, 1, HD, generator=torch.Generator().manual_seed(start)).double()
    rope = RopeSpec(fraction=fraction)

    def product(at: int) -> float:
        tables = rope.tables(torch.tensor([at, at + distance]), HD, torch.float64)
        (cos_q, cos_k), (sin_q, sin_k) = tables
        turned_q = REFERENCE_OPS.rotary(q, cos_q, sin_q)
        return float((turned_q * REFERENCE_OPS.rotary(k, cos_k, sin_k)).sum())

    # Angles are in float32, as in every checkpoint's own code.
    assert math.isclose(product(start), product(0), abs_tol=3e-3)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("scaling", ["default", "dynamic", "yarn"])
def test_tables_of_few_bits_are_rounded_at_the_end_alone(scaling: str, dtype: torch.dtype) -> None:
    """A position past 256 has no bfloat16 of its own."""
    _, rope = theirs_and_ours(scaling)
    positions = torch.arange(0, 5000, 7)
    exact = rope.tables(positions, HD, torch.float32)
    for found, expected in zip(rope.tables(positions, HD, dtype), exact, strict=True):
        assert torch.equal(found, expected.to(dtype))


def test_positions_may_differ_by_row() -> None:
    rope = RopeSpec()
    rows = torch.tensor([[0, 1, 2], [5, 6, 7]])
    cos, sin = rope.tables(rows, HD, torch.float32)
    flat = rope.tables(rows.flatten(), HD, torch.float32)
    assert cos.shape == (2, 3, 1, HD)
    assert torch.equal(cos.flatten(0, 1), flat[0])
    assert torch.equal(sin.flatten(0, 1), flat[1])


@pytest.mark.parametrize("scaling", ["dynamic", "longrope"])
def test_a_length_that_is_given_counts_and_not_where_positions_reach(scaling: str) -> None:
    _, rope = theirs_and_ours(scaling)
    few = torch.arange(4)
    short, long = (rope.tables(few, HD, torch.float32, length) for length in (4, 300))
    assert torch.equal(short[0], rope.tables(few, HD, torch.float32)[0])
    assert not torch.allclose(short[0], long[0])


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"scaling": "spiral"}, "spiral"),
        ({"scaling": "longrope"}, "short_factors"),
        ({"short_factors": (1.0,)}, "short_factors"),
        ({"fraction": 0.0}, "fraction"),
        ({"fraction": 1.5}, "fraction"),
        ({"scaling": "yarn", "factor": 0.0}, "factor"),
        ({"scaling": "yarn", "beta_fast": math.nan}, "beta_fast"),
        ({"scaling": "llama3", "low_freq_factor": 4.0}, "high_freq_factor"),
        ({"attention_factor": 0.0}, "attention_factor"),
    ],
)
def test_settings_that_cannot_be_are_named(values: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        RopeSpec(**values)


@pytest.mark.parametrize("width", [6, 7, 64])
def test_sinusoids_are_the_formula_in_float64(width: int) -> None:
    positions = [0, 1, 2, 17, 511, 4096]
    found = sinusoids(torch.tensor(positions), width)
    for row, position in zip(found, positions, strict=True):
        for column in range(width):
            angle = position / 10000 ** (2 * (column // 2) / width)
            expected = math.sin(angle) if column % 2 == 0 else math.cos(angle)
            assert abs(float(row[column]) - expected) < 6e-8


@pytest.mark.parametrize("width", [6, 7, 64])
def test_sinusoids_in_halves_are_those_of_marian(width: int) -> None:
    theirs = MarianSinusoidalPositionalEmbedding(50, width)
    theirs.weight.data = theirs.create_weight()
    found = sinusoids(torch.arange(50), width, halves=True)
    assert_close(found, theirs.weight.data, rtol=0, atol=1e-7)
