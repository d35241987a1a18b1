"""Adapters of tiny models, drawn at random and written as PEFT writes them."""

from __future__ import annotations

from pathlib import Path

import torch

from lmstack.model import LoraConfig, Transformer, add_adapter, save_adapter
from lmstack.model.lora.terms import AdapterTerms, read_terms

__all__ = ["drawn_terms", "write_drawn"]

TARGETS = ("all-linear", ("q_proj", "v_proj"), ("up_proj", "o_proj"), ("k_proj", "down_proj"))


def write_drawn(module: Transformer, folder: Path, seed: int) -> Path:
    """Of any rank; every fourth has terms on all layers, others on some; every third is DoRA."""
    torch.manual_seed(seed)
    base = Transformer(module.config)
    base.reset_parameters()
    config = LoraConfig(r=2 + seed % 17, alpha=6, targets=TARGETS[seed % 4], dora=seed % 3 == 2)
    add_adapter(base, config)
    for name, parameter in base.named_parameters():
        if ".terms." in name:
            about = 2.0 if "magnitude" in name else 0.0
            parameter.data = torch.randn_like(parameter) * 0.3 + about
    save_adapter(base, folder)
    return folder


def drawn_terms(module: Transformer, folder: Path, seed: int) -> AdapterTerms:
    return read_terms(module, write_drawn(module, folder, seed))
