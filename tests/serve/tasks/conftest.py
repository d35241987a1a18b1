"""Tiny random models as transformers saves them, loaded here and there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import tokenizers
import torch
import transformers
from tests import byte_tokens
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors

from lmstack.registry import LoadedModel, load

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[unused0]", "[unused1]"]
STEMS = (
    *("the", "a", "ada", "love", "lace", "lon", "don", "works", "in", "at", "acme", "corp"),
    *("is", "are", "was", "it", "who", "where", "green", "fields", "this", "example", "no"),
    *("wrote", "first", "program", "engine", "note", "he", "she", "and", "of", "to", "paris"),
)
ENDINGS = ("lace", "don", "s", "ing", "ed", "a", "e", "i", "o", "n", "t", "r")
TEXTS = (
    "Ada Lovelace works at Acme Corp in London.",
    "It was green",
    "The lovelaces wrote the first engine program, and she works in Paris!",
    "a",
    "London, Paris: who is in London? He was in Paris... and in London",
    "unknownword in the fields of Ada",
)
LIMIT = 64


@dataclass(frozen=True)
class Both:
    """One model, loaded by transformers and by us."""

    model: Any
    tokenizer: Any
    ours: LoadedModel
    folder: Path

    def pipeline(self, task: str, **options: Any) -> Any:
        return transformers.pipeline(
            task, model=self.model, tokenizer=self.tokenizer, device="cpu", **options
        )

    def named(self, **changes: Any) -> LoadedModel:
        return replace(self.ours, **changes)


def wordpiece() -> transformers.PreTrainedTokenizerFast:
    pieces = [*SPECIAL, *STEMS, *(f"##{e}" for e in ENDINGS), *".,!?:'()-", *"abcdefgh"]
    vocabulary = {piece: i for i, piece in enumerate(dict.fromkeys(pieces))}
    made = tokenizers.Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    made.normalizer = normalizers.BertNormalizer(lowercase=True)
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.decoder = decoders.WordPiece()
    made.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=made,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
        model_max_length=LIMIT,
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
    )


def byte_level() -> transformers.PreTrainedTokenizerFast:
    """As RoBERTa's: words begin with a space, and nothing marks the pieces inside of them."""
    names = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    merges = [("Ġ", "i"), ("Ġi", "n"), ("Ġ", "a"), ("o", "n"), ("Ġ", "w"), ("Ġw", "o")]
    made = byte_tokens.byte_level(first=names, merges=[*merges, ("Ġwo", "r")])
    made.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0))
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=made,
        bos_token="<s>",
        eos_token="</s>",
        cls_token="<s>",
        sep_token="</s>",
        pad_token="<pad>",
        unk_token="<unk>",
        mask_token=tokenizers.AddedToken("<mask>", lstrip=True),
        model_max_length=LIMIT,
        model_input_names=["input_ids", "attention_mask"],
    )


Make = Callable[..., Both]


@pytest.fixture(scope="session")
def make(tmp_path_factory: pytest.TempPathFactory) -> Make:
    """``make(architecture, labels=..., **settings)``: a BERT or RoBERTa with any head. Weights
    are large, so that no two answers are nearly alike."""

    def build(architecture: str, labels: tuple[str, ...] = (), **settings: Any) -> Both:
        roberta = architecture.startswith("Roberta")
        tokenizer = byte_level() if roberta else wordpiece()
        kind = transformers.RobertaConfig if roberta else transformers.BertConfig
        names = {"id2label": dict(enumerate(labels))} if labels else {}
        names |= {"label2id": {v: k for k, v in enumerate(labels)}} if labels else {}
        config = kind(
            vocab_size=len(tokenizer),
            hidden_size=32,
            intermediate_size=48,
            num_hidden_layers=2,
            num_attention_heads=4,
            max_position_embeddings=LIMIT + 2 * roberta,
            pad_token_id=tokenizer.pad_token_id,
            initializer_range=0.4,
            **names,
            **settings,
        )
        torch.manual_seed(7)
        model = getattr(transformers, architecture)(config).eval()
        folder = tmp_path_factory.mktemp(architecture)
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        return Both(model, tokenizer, load(folder), folder)

    return build
