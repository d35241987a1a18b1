"""A cross-encoder with random weights and two dozen words, as transformers saves one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import tokenizers
import torch
import transformers
from tokenizers import models, normalizers, pre_tokenizers, processors

__all__ = ["COLOURS", "LIMIT", "THINGS", "save_cross_encoder", "tokenizer"]

THINGS = ("gate", "door", "shed", "wall")
COLOURS = ("red", "blue", "grey")
WORDS = ("the", "is", "what", "colour", "of", "and", "near", *THINGS, *COLOURS)
LIMIT = 32


def tokenizer() -> transformers.PreTrainedTokenizerFast:
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]
    table = {piece: number for number, piece in enumerate(pieces)}
    made = tokenizers.Tokenizer(models.WordPiece(table, unk_token="[UNK]"))
    made.normalizer = normalizers.BertNormalizer(lowercase=True)
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=made,
        **{f"{n}_token": f"[{n.upper()}]" for n in ("pad", "cls", "sep", "mask")},
        unk_token="[UNK]",
        model_max_length=LIMIT,
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
    )


def save_cross_encoder(folder: Path) -> Any:
    """Write it to ``folder``; transformers' model."""
    torch.manual_seed(3)
    config = transformers.BertConfig(
        vocab_size=len(tokenizer()),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=LIMIT,
        num_labels=1,
        initializer_range=0.2,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    model = transformers.BertForSequenceClassification(config).eval()
    model.save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return model
