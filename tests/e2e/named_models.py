"""The models that the pages call the reader's own: random ones with heads, and converted ones."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import Any

import torch
import transformers

from lmstack.model import LoraConfig, add_adapter, save_adapter
from lmstack.registry import ModelFolder, Store, load

__all__ = ["write_models"]

SIZES = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
}
HEADS: dict[str, tuple[str, tuple[str, ...]]] = {
    "my-squad-model": ("QuestionAnswering", ()),
    "my-sentiment-model": ("SequenceClassification", ("negative", "positive")),
    "my-nli-model": ("SequenceClassification", ("contradiction", "neutral", "entailment")),
}


def write_models(work: Path, store: Store, minilm: ModelFolder, smollm2: ModelFolder) -> None:
    """Into ``work``. ``minilm`` lends its tokenizer, ``smollm2`` its weights."""
    for name, (head, labels) in HEADS.items():
        _write_classifier(work / name, head, labels, minilm)
    _write_export(work / "export", work / "my-sentiment-model")
    for path in smollm2.path.glob("*.gguf"):
        os.link(path, work / "model.gguf")
    (work / "tokenizer.json").write_bytes((minilm.path / "tokenizer.json").read_bytes())
    model = load(smollm2, store)
    model.save(work / "my-model")
    _write_reward(work / "my-reward", work / "my-model")
    for other in ("base", "tuned"):
        (work / other).symlink_to("my-model")
    add_adapter(model.module, LoraConfig(r=4, alpha=8, targets=("q_proj", "v_proj")))
    for folder in ("my-adapter", "adapters/sql", "adapters/legal", "adapters/mails"):
        save_adapter(model.module, work / folder, base=smollm2.name)


def _write_classifier(
    folder: Path, head: str, labels: tuple[str, ...], lender: ModelFolder
) -> None:
    torch.manual_seed(0)
    names = {"id2label": dict(enumerate(labels))} if labels else {}
    tokenizer = transformers.AutoTokenizer.from_pretrained(lender.path)
    config = transformers.BertConfig(vocab_size=len(tokenizer), **SIZES, **names)
    model: Any = getattr(transformers, f"BertFor{head}")(config)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _write_reward(folder: Path, lender: Path) -> None:
    torch.manual_seed(0)
    tokenizer = transformers.AutoTokenizer.from_pretrained(lender)
    config = transformers.LlamaConfig(vocab_size=len(tokenizer), num_labels=1, **SIZES)
    transformers.LlamaForSequenceClassification(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _write_export(folder: Path, source: Path) -> None:
    """As optimum writes it, with the graph and what belongs to it in one folder."""
    model = transformers.AutoModelForSequenceClassification.from_pretrained(
        source, attn_implementation="eager"
    ).eval()
    folder.mkdir()
    names = ["input_ids", "attention_mask"]
    ids = torch.ones(1, 8, dtype=torch.int64)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            model,
            (ids, ids),
            str(folder / "model.onnx"),
            dynamo=False,
            input_names=names,
            dynamic_axes={name: {0: "batch", 1: "tokens"} for name in names},
        )
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        (folder / name).write_bytes((source / name).read_bytes())
