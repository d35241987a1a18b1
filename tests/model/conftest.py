"""Tiny random models of transformers, the oracle of this folder."""

from __future__ import annotations

import pytest
import torch
import transformers

LLAMA = {
    "vocab_size": 61,
    "hidden_size": 48,
    "intermediate_size": 80,
    "num_hidden_layers": 3,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
}
BERT = {
    "vocab_size": 61,
    "hidden_size": 48,
    "intermediate_size": 80,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "max_position_embeddings": 40,
}


def randomized(model: torch.nn.Module, seed: int = 0) -> torch.nn.Module:
    """Weights far from their initial zeros and ones, so that a forgotten bias or norm shows."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.copy_(1 + 0.2 * noise if "norm.weight" in name.lower() else 0.15 * noise)
    return model.eval()


@pytest.fixture(scope="session")
def randomize():
    return randomized


@pytest.fixture(scope="session")
def make_llama():
    def make(**changes):
        return randomized(
            transformers.LlamaForCausalLM(transformers.LlamaConfig(**(LLAMA | changes)))
        )

    return make


@pytest.fixture(scope="session")
def make_bert():
    def make(**changes):
        return randomized(transformers.BertModel(transformers.BertConfig(**(BERT | changes))))

    return make


@pytest.fixture
def reloaded(tmp_path):
    """Our module from the folder that transformers writes."""
    from lmstack.model import load_module

    def reload(model):
        model.save_pretrained(tmp_path)
        return load_module(tmp_path)

    return reload
