"""Tiny random models of several families, and examples for them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers

from lmstack.model import REFERENCE_OPS, Transformer, TransformerConfig
from lmstack.model.families import config_from_json
from lmstack.text import Tokenizer, VocabularyConfig, train_tokenizer
from lmstack.train.checkpoint import Checkpoints
from lmstack.train.data.examples import Example
from lmstack.train.loader import Loader
from lmstack.train.loop import Trainer
from lmstack.train.metrics import MetricsLog
from lmstack.train.objectives.causal import CausalLM
from lmstack.train.objectives.objective import Objective, Reading
from lmstack.train.recipe import Recipe
from lmstack.train.source import ExampleSource
from lmstack.train.trained import TrainedModule

VOCAB = 61
_SIZES: dict[str, Any] = {
    "vocab_size": VOCAB,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 64,
}
_GROUPED = {**_SIZES, "num_key_value_heads": 2}
_T5 = {"vocab_size": VOCAB, "d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 2, "num_heads": 4}
CONFIGS: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("LlamaForCausalLM", {**_GROUPED, "tie_word_embeddings": False}),
    "qwen3": ("Qwen3ForCausalLM", {**_GROUPED, "head_dim": 8, "tie_word_embeddings": True}),
    "gemma2": ("Gemma2ForCausalLM", {**_GROUPED, "head_dim": 8, "sliding_window": 4}),
    "mixtral": ("MixtralForCausalLM", {**_GROUPED, "num_local_experts": 4}),
    "gpt2": (
        "GPT2LMHeadModel",
        {"vocab_size": VOCAB, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64},
    ),
    "bert": ("BertForMaskedLM", _SIZES),
    "albert": ("AlbertForMaskedLM", {**_SIZES, "embedding_size": 16}),
    "modernbert": ("ModernBertForMaskedLM", {**_SIZES, "local_attention": 4, "pad_token_id": 0}),
    "deberta": (
        "DebertaV2ForMaskedLM",
        {**_SIZES, "relative_attention": True, "pos_att_type": ["c2p", "p2c"]},
    ),
    "t5": ("T5ForConditionalGeneration", {**_T5, "feed_forward_proj": "gated-gelu"}),
    "bart": (
        "BartForConditionalGeneration",
        {
            **{"vocab_size": VOCAB, "d_model": 32, "encoder_layers": 2, "decoder_layers": 2},
            **{"encoder_attention_heads": 4, "decoder_attention_heads": 4},
            **{"encoder_ffn_dim": 48, "decoder_ffn_dim": 48, "max_position_embeddings": 64},
        },
    ),
}
DECODERS = ("llama", "qwen3", "gemma2", "mixtral", "gpt2")
ENCODERS = ("bert", "albert", "modernbert", "deberta")
ENCODER_DECODERS = ("t5", "bart")


def theirs(family: str) -> tuple[type[transformers.PreTrainedModel], Any]:
    """The class and config of transformers."""
    name, values = CONFIGS[family]
    of_class = getattr(transformers, name)
    return of_class, of_class.config_class(**values)


def config_of(family: str) -> TransformerConfig:
    of_class, config = theirs(family)
    return config_from_json({**config.to_dict(), "architectures": [of_class.__name__]}, family)


def model(family: str, seed: int = 0, dtype: torch.dtype = torch.float64) -> Transformer:
    """Weights far from their initial ones and zeros, so that a forgotten bias or norm shows."""
    torch.manual_seed(seed)
    module = Transformer(config_of(family))
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(torch.randn(parameter.shape) * 0.1)
    return module.to(dtype)


def examples(count: int, longest: int = 20, seed: int = 0) -> list[Example]:
    rng = np.random.default_rng(seed)
    lengths = rng.integers(2, longest + 1, count)
    return [Example((rng.integers(3, VOCAB, n).astype(np.int32),)) for n in lengths]


def reading(max_length: int = 32) -> Reading:
    """For objectives whose examples are made already: ids of a tokenizer of bytes."""
    return Reading(_tokenizer(), None, max_length)


@cache
def _tokenizer() -> Tokenizer:
    return train_tokenizer(["a"], VocabularyConfig(vocab_size=258))


def recipe(**changes: Any) -> Recipe:
    """Settings of a run on examples that are there already."""
    given = {"objective": "causal", "data": "none", "output": "made", "base": "none", "batch": 8}
    return Recipe.from_mapping({**given, "lr": 1e-2, "steps": 4, **changes})


def trainer(
    module: Transformer,
    folder: Path,
    found: Sequence[Example],
    held: Sequence[Example] = (),
    objective: Objective | None = None,
    **changes: Any,
) -> Trainer:
    settings = recipe(**changes)
    objective = objective or CausalLM()
    loaders = [
        Loader(
            some,
            [example.tokens for example in some],
            objective,
            reading(settings.max_length),
            batch=settings.batch,
            micro_tokens=settings.micro_tokens,
            seed=settings.seed,
            packs=settings.pack,
        )
        for some in (found, held)
        if some
    ]
    trained = TrainedModule(module, settings, REFERENCE_OPS)
    source = ExampleSource(trained, objective, loaders[0], loaders[1] if held else None)
    log = MetricsLog(folder / "metrics.jsonl").add
    return Trainer(trained, source, Checkpoints(folder, settings.keep), log)


def weights(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: weight.detach().clone() for name, weight in module.named_parameters()}


def gradients(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {n: p.grad.clone() for n, p in module.named_parameters() if p.grad is not None}
