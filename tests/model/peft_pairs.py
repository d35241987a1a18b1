"""A model of transformers with an adapter of PEFT, in folders: the oracle of the adapter tests."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from tests.oracles import peft

from lmstack.model import Transformer, load_module

__all__ = ["KINDS", "LAYERS", "MODELS", "SMALL", "TARGETS", "WARNINGS", "Pair", "make_pair"]

# PEFT asks transformers in words that it will drop, and names what it does itself.
WARNINGS = [
    pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated"),
    pytest.mark.filterwarnings("ignore::UserWarning:peft"),
]
SMALL = {"vocab_size": 61, "hidden_size": 48, "num_attention_heads": 6}
LAYERS = {"num_hidden_layers": 2, "intermediate_size": 80, "max_position_embeddings": 64}
GROUPED = SMALL | LAYERS | {"num_key_value_heads": 2}
GPT2 = {"vocab_size": 61, "n_embd": 48, "n_head": 6, "n_layer": 2, "n_positions": 64}
T5 = {"vocab_size": 61, "d_model": 48, "d_kv": 8, "num_heads": 6, "d_ff": 80, "num_layers": 2}


def _causal(kind: str, settings: dict[str, Any]) -> Any:
    config = getattr(transformers, f"{kind}Config")(**settings)
    return getattr(transformers, f"{kind}ForCausalLM")(config)


MODELS: dict[str, Any] = {
    "llama": lambda: _causal("Llama", GROUPED),
    "qwen2": lambda: _causal("Qwen2", GROUPED),
    "phi3": lambda: _causal("Phi3", GROUPED | {"pad_token_id": 0}),
    "gpt_neox": lambda: _causal("GPTNeoX", SMALL | LAYERS),
    "gpt2": lambda: transformers.GPT2LMHeadModel(transformers.GPT2Config(**GPT2)),
    "bert": lambda: transformers.BertModel(transformers.BertConfig(**SMALL, **LAYERS)),
    "t5": lambda: transformers.T5ForConditionalGeneration(transformers.T5Config(**T5)),
}
# Targets that are parts of what is fused here, and all linear layers.
TARGETS: dict[str, list[Any]] = {
    "llama": [["q_proj", "v_proj"], ["k_proj", "up_proj", "o_proj"], "all-linear"],
    "qwen2": [["q_proj", "k_proj", "gate_proj"], r".*\.1\..*_proj"],
    "phi3": [["qkv_proj", "gate_up_proj"]],
    "gpt_neox": [["query_key_value"], "all-linear"],
    "gpt2": [["c_attn"], "all-linear"],
    "bert": [["query", "dense"], "all-linear"],
    "t5": [["q", "v"], ["k", "wi", "EncDecAttention.o"], "all-linear"],
}
KINDS: dict[str, dict[str, Any]] = {
    "lora": {},
    "rslora": {"use_rslora": True},
    "dora": {"use_dora": True},
    "patterns": {"rank_pattern": {"^.*1.*": 2}, "alpha_pattern": {"^.*0.*": 3}},
}


@dataclass
class Pair:
    """One model with one adapter: PEFT's, and the two folders that it wrote."""

    theirs: Any
    base: Path
    adapter: Path
    ids: torch.Tensor

    def ours(self, dtype: torch.dtype = torch.float32) -> Transformer:
        """Our module of the base, and theirs, in ``dtype``."""
        self.theirs.to(dtype)
        return load_module(self.base, dtype)

    def inputs(self) -> dict[str, torch.Tensor]:
        is_pair = getattr(self.theirs.config, "is_encoder_decoder", False)
        return {"input_ids": self.ids} | ({"decoder_input_ids": self.ids} if is_pair else {})

    def run(self, module: Transformer) -> torch.Tensor:
        with torch.no_grad():
            out = module(**self.inputs())
        return out.last_hidden_state if out.logits is None else out.logits

    def expected(self, model: Any = None) -> torch.Tensor:
        with torch.no_grad():
            out = (model or self.theirs)(**self.inputs())
        return out["last_hidden_state" if "last_hidden_state" in out else "logits"]


def make_pair(
    folder: Path,
    randomize: Callable[[Any], Any],
    family: str,
    targets: Any,
    kind: str = "lora",
    **changes: Any,
) -> Pair:
    """``kind`` of `KINDS`; ``changes`` are further settings of PEFT."""
    model = randomize(MODELS[family]())
    model.save_pretrained(folder / "base")
    settings = {"r": 4, "lora_alpha": 6, "init_lora_weights": False} | KINDS[kind] | changes
    settings |= {"fan_in_fan_out": family == "gpt2"}
    theirs = peft.get_peft_model(model, peft.LoraConfig(target_modules=targets, **settings))
    generator = torch.Generator().manual_seed(1)
    for name, parameter in theirs.named_parameters():
        if "lora_" in name:
            noise = torch.randn(parameter.shape, generator=generator)
            magnitude = "magnitude" in name
            parameter.data = parameter * (1 + 0.3 * noise) if magnitude else 0.3 * noise
    theirs.eval().save_pretrained(folder / "adapter")
    ids = torch.randint(0, 61, (2, 7), generator=generator)
    return Pair(theirs, folder / "base", folder / "adapter", ids)
