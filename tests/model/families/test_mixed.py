"""What single families do that no table of cases says."""

from __future__ import annotations

import dataclasses
import functools

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from lmstack.core import UnsupportedError
from lmstack.model import load_module
from lmstack.model.families import config_from_json

from .cases import batch
from .decoders import GPT2, LLAMA, MIXTRAL, MPT, NEOX, PHI3


def folder_of(case, tmp_path, variant="plain"):
    case.theirs(variant).save_pretrained(tmp_path)
    return tmp_path


def test_experts_are_read_as_transformers_holds_them_inside(tmp_path):
    """Fused, under the names of the module: what save_original_format=False writes."""
    MIXTRAL.theirs("plain").save_pretrained(tmp_path, save_original_format=False)
    assert any("gate_up_proj" in name for name in load_file(tmp_path / "model.safetensors"))
    expected = MIXTRAL.ours("plain").state_dict()
    found = load_module(tmp_path).state_dict()
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor, rtol=0, atol=0)


def test_masks_that_old_checkpoints_hold_are_passed_over(tmp_path):
    file = folder_of(GPT2, tmp_path) / "model.safetensors"
    tensors = load_file(file)
    tensors["transformer.h.0.attn.bias"] = torch.ones(1, 1, 64, 64)
    tensors["transformer.h.0.attn.masked_bias"] = torch.tensor(-1e4)
    # Old files of GPT-2 have no prefix either.
    save_file({k.removeprefix("transformer."): v for k, v in tensors.items()}, file)
    values = batch(GPT2, "plain", "none")
    expected = GPT2.ours("plain")(**values).logits
    torch.testing.assert_close(load_module(tmp_path)(**values).logits, expected, rtol=0, atol=0)


def test_the_output_layer_of_gpt_neox_has_two_names(tmp_path):
    file = folder_of(NEOX, tmp_path) / "model.safetensors"
    tensors = load_file(file)
    tensors["lm_head.weight"] = tensors.pop("embed_out.weight")
    save_file(tensors, file)
    values = batch(NEOX, "plain", "none")
    expected = NEOX.ours("plain")(**values).logits
    torch.testing.assert_close(load_module(tmp_path)(**values).logits, expected, rtol=0, atol=0)


def test_alibi_bias_max_is_heeded(monkeypatch):
    """transformers reads the setting and computes with 8; StoryWriter was trained with 16."""
    from transformers.models.mpt import modeling_mpt

    config = transformers.MptConfig(**MPT.settings, attn_config={"alibi_bias_max": 16})
    ours = config_from_json(config.to_dict() | {"architectures": None})
    assert ours.alibi_max == 16
    build = functools.partial(modeling_mpt.build_mpt_alibi_tensor, alibi_bias_max=16)
    monkeypatch.setattr(
        modeling_mpt.MptModel,
        "build_mpt_alibi_tensor",
        lambda self, heads, length, device=None: build(heads, length, device=device),
    )
    values = batch(MPT, "plain", "none")
    expected = MPT.theirs("plain")(**values).logits
    module = MPT.ours("plain")
    from lmstack.model import build_module

    steep = build_module(module.config.replace(alibi_max=16.0), module.state_dict())
    torch.testing.assert_close(steep(**values).logits, expected)


@pytest.mark.parametrize(
    ("case", "variant", "changes"),
    [
        (LLAMA, "dynamic", {"max_position_embeddings": 16}),
        (PHI3, "beyond longrope", {"original_max_position_embeddings": 16}),
    ],
    ids=["dynamic", "longrope"],
)
@torch.no_grad()
def test_a_text_that_crosses_the_original_length_is_rotated_anew(case, variant, changes, tmp_path):
    """Each pass over the whole text uses the angles of its length, as transformers without its
    cache does; with one, keys of before the length was crossed keep their old angles there."""
    crossing = dataclasses.replace(
        case, family=f"{case.family} crossing", variants={variant: case.variants[variant] | changes}
    )
    ids = batch(case, "plain", "none")["input_ids"]
    theirs = crossing.theirs(variant)
    written = theirs.generate(
        ids, max_new_tokens=8, do_sample=False, use_cache=False, eos_token_id=None, pad_token_id=0
    )
    ours = crossing.ours(variant)
    for end in range(ids.shape[1], written.shape[1] + 1):  # 13 to 21, across 16
        found = ours(written[:, :end]).logits
        torch.testing.assert_close(found, theirs(written[:, :end], use_cache=False).logits)
        if end < written.shape[1]:
            assert found[0, -1].argmax() == written[0, end]


@pytest.mark.parametrize(
    ("case", "changes", "message"),
    [
        (GPT2, {"add_cross_attention": True}, "add_cross_attention"),
        (MPT, {"attn_config": {"qk_ln": True}}, "qk_ln"),
        (MPT, {"attn_config": {"alibi": False}}, "alibi"),
        (MPT, {"attn_config": {"prefix_lm": True}}, "prefix_lm"),
        (MPT, {"logit_scale": "inv_sqrt_d_model"}, "logit_scale"),
        (LLAMA, {"partial_rotary_factor": 0.5}, "partial"),
        (LLAMA, {"rope_parameters": {"rope_type": "proportional"}}, "proportional"),
    ],
)
def test_a_setting_that_the_config_cannot_express_is_named(case, changes, message):
    settings = case.config("plain").to_dict() | {"architectures": None} | changes
    with pytest.raises(UnsupportedError, match=message):
        config_from_json(settings)


@pytest.mark.parametrize(
    ("model_type", "old", "new"),
    [
        (
            "gpt_neox",
            {"rotary_pct": 0.5, "rotary_emb_base": 7e3},
            {"rope_parameters": {"partial_rotary_factor": 0.5, "rope_theta": 7e3}},
        ),
        (
            "gemma3_text",
            {"rope_theta": 5e5, "rope_local_base_freq": 3e3, "sliding_window_pattern": 2}
            | {"rope_scaling": {"rope_type": "linear", "factor": 8.0}},
            {
                "rope_parameters": {
                    "full_attention": {"rope_type": "linear", "rope_theta": 5e5, "factor": 8.0},
                    "sliding_attention": {"rope_type": "default", "rope_theta": 3e3},
                },
                "layer_types": ["sliding_attention", "full_attention"],
            },
        ),
        (
            "phi3",
            {
                "partial_rotary_factor": 0.5,
                "rope_scaling": {"type": "su", "short_factor": [1.0], "long_factor": [2.0]},
                "original_max_position_embeddings": 16,
            },
            {
                "rope_parameters": {
                    "rope_type": "longrope",
                    "rope_theta": 1e4,
                    "partial_rotary_factor": 0.5,
                    "short_factor": [1.0],
                    "long_factor": [2.0],
                    "original_max_position_embeddings": 16,
                },
                "original_max_position_embeddings": 16,
            },
        ),
        ("bloom", {"n_embed": 8, "num_attention_heads": 2, "hidden_size": None}, {"n_head": 2}),
        (
            "llama",
            {
                "rope_scaling": {"type": "yarn", "factor": 4.0, "mscale": 2.0}
                | {"mscale_all_dim": 1.0}
            },
            {
                "rope_parameters": {
                    "rope_type": "yarn",
                    "rope_theta": 1e4,
                    "factor": 4.0,
                    "attention_factor": 1.2772588722239781 / 1.1386294361119891,
                }
            },
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_old_spellings_mean_the_new(model_type, old, new):
    settings = {
        "model_type": model_type,
        "vocab_size": 9,
        "hidden_size": 8,
        "intermediate_size": 9,
        "num_attention_heads": 2,
        "num_hidden_layers": 2,
        "n_layer": 2,
        "num_key_value_heads": 2,
        "head_dim": 4,
        "max_position_embeddings": 64,
    }
    assert config_from_json(settings | old) == config_from_json(settings | new)
