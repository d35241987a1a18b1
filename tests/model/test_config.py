"""Configs check themselves, and hold every fact that changes the forward pass."""

from __future__ import annotations

import pytest
import torch
import transformers
from hypothesis import given
from hypothesis import strategies as st

from lmstack.core import InputError, UnsupportedError
from lmstack.model import LayerKind, RopeSpec, Transformer, TransformerConfig
from lmstack.model.config import Activation
from lmstack.model.families import config_from_json, config_to_json
from lmstack.model.ops import REFERENCE_OPS

BASE = {
    "vocab_size": 17,
    "hidden_size": 12,
    "intermediate_size": 20,
    "num_layers": 2,
    "num_heads": 2,
    "num_kv_heads": 1,
    "head_dim": 6,
    "max_positions": 32,
}


@pytest.mark.parametrize(
    ("changes", "param"),
    [
        ({"vocab_size": 0}, "vocab_size"),
        ({"hidden_size": 2.0}, "hidden_size"),
        ({"num_layers": True}, "num_layers"),
        ({"max_positions": 1 << 40}, "max_positions"),
        ({"token_types": -1}, "token_types"),
        ({"num_heads": 3, "num_kv_heads": 2}, "num_kv_heads"),
        ({"head_dim": 5}, "head_dim"),
        ({"norm": "batch"}, "norm"),
        ({"norm_place": "between"}, "norm_place"),
        ({"activation": "gelu_new"}, "activation"),
        ({"norm_eps": float("nan")}, "norm_eps"),
        ({"norm_eps": -1e-6}, "norm_eps"),
        ({"head": "none", "tie_embeddings": True}, "tie_embeddings"),
    ],
)
def test_a_setting_that_cannot_be_is_named(changes, param):
    with pytest.raises(InputError) as raised:
        TransformerConfig(**(BASE | changes))
    assert raised.value.param == param


def test_a_misspelt_setting_names_the_nearest():
    with pytest.raises(InputError, match="num_kv_heads"):
        TransformerConfig.from_mapping(BASE | {"n_kv_heads": 1})


@pytest.mark.parametrize(
    "changes",
    [
        {"scaling": "su"},
        {"theta": 0.0},
        {"factor": float("inf")},
        {"low_freq_factor": 4.0, "high_freq_factor": 4.0},
        {"original_positions": 0},
    ],
)
def test_a_rope_that_cannot_be_is_refused(changes):
    with pytest.raises(InputError):
        RopeSpec(**changes)


@given(
    st.fixed_dictionaries(
        {
            "norm_eps": st.sampled_from([1e-6, 1e-5, 1e-12]),
            "kinds": st.sampled_from(
                [
                    RopeSpec(theta=3e5),
                    RopeSpec(scaling="linear", factor=2.0),
                    RopeSpec(scaling="llama3", factor=8.0, original_positions=64),
                ]
            ).map(lambda rope: (LayerKind(rope),)),
            "qkv_bias": st.booleans(),
            "out_bias": st.booleans(),
            "mlp_bias": st.booleans(),
            "head": st.sampled_from(["lm", "none"]),
            "activation": st.sampled_from(["silu", "gelu", "gelu_tanh", "relu"]),
            "head_dim": st.sampled_from([6, 8]),
        }
    )
)
def test_what_a_family_writes_reads_back_the_same_or_is_refused(changes):
    """No setting is lost on the way through config.json."""
    config = TransformerConfig(**(BASE | changes))
    try:
        written = config_to_json(config)[1]
    except UnsupportedError:
        assert config.qkv_bias != config.out_bias
        return
    assert config_from_json(written) == config


def test_a_combination_that_no_family_has_is_refused_on_writing():
    config = TransformerConfig(**BASE, norm="ln")
    with pytest.raises(UnsupportedError, match="no Hugging Face family"):
        config_to_json(config)[1]


@pytest.mark.parametrize("old", [True, False])
def test_both_spellings_of_rope_give_the_same_config(old):
    settings = transformers.LlamaConfig(
        rope_parameters={"rope_type": "linear", "rope_theta": 7e4, "factor": 3.0}
    ).to_dict()
    if old:
        del settings["rope_parameters"]
        settings |= {"rope_theta": 7e4, "rope_scaling": {"type": "linear", "factor": 3.0}}
    expected = RopeSpec(theta=7e4, scaling="linear", factor=3.0)
    assert config_from_json(settings | {"architectures": None}).layer(0).rope == expected


@pytest.mark.parametrize(
    ("window", "expected"), [(64, 64), (None, None), ("absent", 4096)], ids=str
)
def test_mistral_without_the_key_has_the_window_of_transformers(window, expected):
    settings = transformers.MistralConfig().to_dict() | {"sliding_window": window}
    if window == "absent":
        del settings["sliding_window"]
    config = config_from_json(settings | {"architectures": None})
    assert config.layer(0).window == expected


@pytest.mark.parametrize(
    "changes",
    [{"is_decoder": True}, {"add_cross_attention": True}, {"position_embedding_type": "relative"}],
)
def test_a_bert_of_another_kind_is_refused(changes):
    settings = transformers.BertConfig().to_dict() | {"architectures": None} | changes
    with pytest.raises(UnsupportedError):
        config_from_json(settings)


def test_a_layer_that_does_not_exist_is_refused():
    with pytest.raises(InputError, match="layer 2"):
        TransformerConfig(**BASE).layer(2)


def test_fresh_weights_are_finite_and_start_small():
    torch.manual_seed(0)
    config = TransformerConfig(**BASE, qkv_bias=True, norm="ln", tie_embeddings=True)
    module = Transformer(config)
    assert all(p.isfinite().all() for p in module.parameters())
    logits = module(torch.tensor([[1, 2, 3]])).logits
    assert logits.abs().max() < 2


def test_tied_weights_are_one_parameter():
    tied = Transformer(TransformerConfig(**BASE, tie_embeddings=True))
    untied = Transformer(TransformerConfig(**BASE))
    count = [sum(p.numel() for p in m.parameters()) for m in (tied, untied)]
    assert count[1] - count[0] == 17 * 12


def test_the_meta_device_allocates_nothing():
    big = TransformerConfig(**(BASE | {"vocab_size": 1 << 30}))
    with torch.device("meta"):
        assert Transformer(big).embed.weight.is_meta


@pytest.mark.parametrize("kind", Activation.__args__)
def test_activations_are_those_of_transformers(kind):
    names = {"gelu_tanh": "gelu_pytorch_tanh"}
    x = torch.linspace(-6, 6, 101)
    expected = transformers.activations.ACT2FN[names.get(kind, kind)](x)
    torch.testing.assert_close(REFERENCE_OPS.activation(x, kind), expected)
    gated = REFERENCE_OPS.glu(torch.cat((x, x + 1)), kind)
    torch.testing.assert_close(gated, expected * (x + 1))
