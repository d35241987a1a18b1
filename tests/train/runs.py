"""Whole runs on a tiny model: a folder with tokenizer, template, base and data, and recipes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from lmstack.app.wiring.training import OnlineServices
from lmstack.text import VocabularyConfig, train_tokenizer
from lmstack.train import Recipe, read_recipe
from lmstack.train import train as run_recipe
from lmstack.train.loop import Watch
from lmstack.train.run import TrainingResult

TEXTS = [f"the cat number {n} sat on the mat and saw dog number {n + 1}" for n in range(60)]
TEMPLATE = (
    "{% for message in messages %}{{ message['role'] }}<|endoftext|>{{ message['content'] }}"
    "<|endoftext|>{% endfor %}{% if add_generation_prompt %}assistant<|endoftext|>{% endif %}"
)
MODEL = {
    "model_type": "llama",
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "max_position_embeddings": 64,
    "tie_word_embeddings": True,
}
ANSWERS = {
    "rewards": [{"name": "markers", "markers": ["e"]}],
    **{"samples": 4, "max_tokens": 8, "epochs": 2},
}
ONLINE = {"data": "prompts.jsonl", "max_length": 48, "micro_tokens": 64}
KINDS: Mapping[str, Mapping[str, Any]] = {
    "causal": {"dropout": 0.1, "patience": 1000},
    "muon": {"optimizer": "muon"},
    "ema": {"ema": 0.9, "epochs": 1.7, "steps": None, "pack": False},
    "translation": {
        "objective": "translation",
        "data": "pairs.jsonl",
        "model": {
            **{"model_type": "t5", "architectures": ["T5ForConditionalGeneration"]},
            **{"d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 2, "num_heads": 4},
            **{"feed_forward_proj": "gated-gelu", "relative_attention_num_buckets": 8},
        },
    },
    "sft-lora": {
        "objective": "sft",
        "data": "chat.jsonl",
        "lora": {"r": 4, "dropout": 0.3},
        "max_length": 64,
        "dropout": 0.1,
    },
    "dpo-lora": {
        "objective": "dpo",
        "data": "preferences.jsonl",
        "lora": {"r": 4, "dropout": 0.3},
        "max_length": 64,
    },
    "kto": {
        "objective": {"name": "kto", "desirable": 2.0},
        "data": "preferences.jsonl",
        "max_length": 64,
        "micro_tokens": 64,
        "dropout": 0.1,
    },
    "grpo": {**ONLINE, "objective": {"name": "grpo", **ANSWERS, "kl": 0.1, "minibatches": 2}},
    "ppo": {**ONLINE, "objective": {"name": "ppo", **ANSWERS, "rollouts": {"ahead": 1}}},
}


def prepare_folder(folder: Path) -> None:
    """``folder`` with a tokenizer that has a template, texts and conversations."""
    train_tokenizer(TEXTS, VocabularyConfig(vocab_size=300)).save(folder / "tokenizer")
    (folder / "tokenizer" / "chat_template.jinja").write_text(TEMPLATE)
    rows = [json.dumps({"text": text}) for text in TEXTS]
    (folder / "text.jsonl").write_text("\n".join(rows))
    chats = [
        {
            "messages": [
                {"role": "user", "content": f"cat {n}?"},
                {"role": "assistant", "content": f"dog {n + 1}."},
            ]
        }
        for n in range(60)
    ]
    pairs = [{"source": text, "target": f"dog {n}"} for n, text in enumerate(TEXTS)]
    (folder / "pairs.jsonl").write_text("\n".join(map(json.dumps, pairs)))
    (folder / "chat.jsonl").write_text("\n".join(map(json.dumps, chats)))
    better = [
        {"prompt": f"cat {n}?", "chosen": f"dog {n + 1}.", "rejected": f"the cat sat on {n}"}
        for n in range(40)
    ]
    (folder / "preferences.jsonl").write_text("\n".join(map(json.dumps, better)))
    prompts = [{"prompt": f"cat {n}"} for n in range(10)]
    (folder / "prompts.jsonl").write_text("\n".join(map(json.dumps, prompts)))


def train(recipe: Recipe, **more: Any) -> TrainingResult:
    """`lmstack.train.train`, of online objectives as well."""
    return run_recipe(recipe, services=OnlineServices(), **more)


def recipe_file(folder: Path, name: str = "run", kind: str = "causal", **changes: Any) -> Path:
    """A recipe for a run in ``folder / name``."""
    settings = {
        "objective": "causal",
        "model": MODEL,
        "tokenizer": str(folder / "tokenizer"),
        "data": "text.jsonl",
        "validation": 0.2,
        "output": str(folder / f"{name}-made"),
        "run": str(folder / name),
        "max_length": 32,
        "batch": 4,
        "steps": 20,
        "lr": 0.01,
        "save_every": 3,
        "eval_every": 5,
        **KINDS[kind],
        **changes,
    }
    if not settings["validation"]:  # nothing to be patient about
        settings.pop("patience", None)
    settings["data"] = str(folder / settings["data"])
    path = folder / f"{name}.yaml"
    path.write_text(json.dumps(settings))  # JSON is YAML
    return path


def recipe(folder: Path, name: str = "run", kind: str = "causal", **changes: Any) -> Recipe:
    return read_recipe(recipe_file(folder, name, kind, **changes))


class Stop(Watch):
    """Ends the process, as far as the run can tell, after step ``at``."""

    def __init__(self, at: int) -> None:
        self.at, self.notes = at, list[str]()

    def step(self, done: int, total: int, values: Mapping[str, float]) -> None:
        if done == self.at:
            raise Killed

    def note(self, text: str) -> None:
        self.notes.append(text)


class Killed(BaseException):
    pass


def lines(folder: Path, name: str = "run") -> list[dict[str, Any]]:
    """metrics.jsonl without what a clock says."""
    text = (folder / name / "metrics.jsonl").read_text()
    found = [json.loads(line) for line in text.splitlines()]
    clocks = ("seconds", "tokens_per_second", "flops_per_second")
    return [{k: v for k, v in line.items() if not k.startswith(clocks)} for line in found]


def assert_same_end(folder: Path, one: str, two: str) -> None:
    """Two runs have the same weights, bit for bit, and the same metrics."""
    assert lines(folder, one) == lines(folder, two)
    files = [sorted((folder / f"{name}-made").rglob("*.safetensors"))[0] for name in (one, two)]
    first, second = (load_file(file) for file in files)
    assert first.keys() == second.keys()
    for key, value in first.items():
        assert torch.equal(value, second[key]), key


__all__ = [
    "Killed",
    "Stop",
    "assert_same_end",
    "lines",
    "prepare_folder",
    "recipe",
    "recipe_file",
    "train",
]
