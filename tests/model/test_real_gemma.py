"""Gemma 3 270M from its GGUF file, beside transformers on weights dequantized by another reader."""

from __future__ import annotations

import gguf
import pytest
import torch
import transformers

from lmstack.model import build_module, load_module, read_gguf

# The other reader takes most of a minute.
pytestmark = [pytest.mark.weights, pytest.mark.long]

_LAYER = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_q_norm": "self_attn.q_norm",
    "attn_k_norm": "self_attn.k_norm",
    "attn_output": "self_attn.o_proj",
    "post_attention_norm": "post_attention_layernorm",
    "ffn_norm": "pre_feedforward_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
    "post_ffw_norm": "post_feedforward_layernorm",
}
_OUTER = {"token_embd": "embed_tokens", "output_norm": "norm"}


def name_of(stored: str) -> str:
    parts = stored.removesuffix(".weight").split(".")
    if parts[0] == "blk":
        return f"model.layers.{parts[1]}.{_LAYER[parts[2]]}.weight"
    return f"model.{_OUTER[parts[0]]}.weight"


@pytest.fixture(scope="module")
def theirs(gemma):
    """Written from the facts of the model's card, not from what we read in the file."""
    config = transformers.Gemma3TextConfig(
        vocab_size=262144,
        hidden_size=640,
        intermediate_size=2048,
        num_hidden_layers=18,
        num_attention_heads=4,
        num_key_value_heads=1,
        head_dim=256,
        query_pre_attn_scalar=256,
        sliding_window=512,
        max_position_embeddings=32768,
    )
    config._attn_implementation = "eager"
    tensors = {}
    for tensor in gguf.GGUFReader(gemma.gguf).tensors:
        values = torch.from_numpy(gguf.dequantize(tensor.data, tensor.tensor_type).copy())
        # llama.cpp adds the 1 of Gemma's norms when it converts.
        tensors[name_of(tensor.name)] = values - 1 if "norm" in tensor.name else values
    tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"]
    with torch.device("meta"):
        model = transformers.Gemma3ForCausalLM(config)
    model.load_state_dict(tensors, assign=True)
    # What is computed and not stored came to be without memory too.
    model.model.rotary_emb = type(model.model.rotary_emb)(config)
    model.model.embed_tokens.embed_scale = torch.tensor(640**0.5)
    return model.eval()


@torch.no_grad()
def test_logits_equal_those_of_transformers_beyond_the_window(gemma, theirs):
    ids = torch.randint(5, 262144, (1, 600), generator=torch.Generator().manual_seed(0))
    ids[0, 0] = 2
    module = load_module(gemma.gguf)
    bare = build_module(
        module.config.replace(head="none", tie_embeddings=False), module.state_dict()
    )
    last = bare(ids, output_hidden_states=False).last_hidden_state[:, -16:]
    # Logits reach 100, and 18 layers round on the way.
    expected = theirs(ids, logits_to_keep=16).logits
    torch.testing.assert_close(module.logits(last), expected, rtol=1e-4, atol=2e-3)


def test_the_file_holds_the_block_types_that_this_reads(gemma):
    with read_gguf(gemma.gguf) as file:
        kinds = {tensor.kind.name for tensor in file.tensors.values()}
    assert {"Q5_0", "Q4_K", "Q8_0", "Q6_K", "F32"} >= kinds
