"""Tiny random models of several families as transformers saves them, to be fine-tuned."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
import transformers
from tests.serve.tasks.conftest import SPECIAL, wordpiece

__all__ = ["BASES", "base_folder", "recipe_for", "write_rows"]

SIZES = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 48,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
}
POSITIONS = {**SIZES, "max_position_embeddings": 66, "pad_token_id": 1}
DECODER = {**SIZES, "num_key_value_heads": 1, "bos_token_id": 2, "eos_token_id": 3}
DEBERTA = {
    **SIZES,
    **{"relative_attention": True, "pos_att_type": ["c2p", "p2c"], "position_buckets": 16},
    **{"norm_rel_ebd": "layer_norm", "share_att_key": True, "position_biased_input": False},
    **{"type_vocab_size": 0, "legacy": True},
}
MODERN = {
    **SIZES,
    **{"cls_token_id": 2, "sep_token_id": 3, "bos_token_id": 2, "eos_token_id": 3},
    **{"local_attention": 16, "global_attn_every_n_layers": 2, "classifier_pooling": "mean"},
}
# Class of the base, its settings, and what the classes for tasks are called.
BASES: Mapping[str, tuple[str, dict[str, Any], str]] = {
    "bert": ("BertModel", SIZES, "Bert"),
    "bert without a pooler": ("BertForMaskedLM", SIZES, "Bert"),
    "roberta": ("RobertaForMaskedLM", POSITIONS, "Roberta"),
    "deberta": ("DebertaV2ForMaskedLM", DEBERTA, "DebertaV2"),
    "modernbert": ("ModernBertForMaskedLM", MODERN, "ModernBert"),
    "llama": ("LlamaForCausalLM", DECODER, "Llama"),
    "qwen2": ("Qwen2ForCausalLM", DECODER, "Qwen2"),
}


def base_folder(name: str, folder: Path, **settings: Any) -> Path:
    """A base of `BASES` with a tokenizer."""
    class_name, sizes, stem = BASES[name]
    tokenizer = wordpiece()
    torch.manual_seed(1)
    config = getattr(transformers, f"{stem}Config")(
        vocab_size=len(tokenizer), **{"initializer_range": 0.3, **sizes, **settings}
    )
    getattr(transformers, class_name)(config).eval().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    assert len(SPECIAL) < len(tokenizer)
    return folder


def write_rows(path: Path, rows: Iterable[Mapping[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def recipe_for(tmp_path: Path, base: Path, objective: Any, data: Path, **changes: Any) -> Path:
    """A recipe of two steps that keeps everything below ``tmp_path``."""
    settings = {
        "objective": objective,
        "base": str(base),
        "data": str(data),
        "output": str(tmp_path / "made"),
        "run": str(tmp_path / "run"),
        "max_length": 32,
        "batch": 4,
        "steps": 2,
        "lr": 1e-3,
    }
    path = tmp_path / "recipe.yaml"
    path.write_text(json.dumps(settings | changes))  # JSON is YAML
    return path
