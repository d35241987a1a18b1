"""Golden curves: tiny runs of every objective in two checkouts, compared bit for bit.

    python benchmarks/golden_curves.py ../before .            both checkouts, all runs
    python benchmarks/golden_curves.py ../before . --only grpo,ppo
    python benchmarks/golden_curves.py --save curves.json .   keep those of one checkout
    python benchmarks/golden_curves.py curves.json .          compare with what was kept

A change of the trainer that is none of its mathematics must give the same losses, the same values
of each evaluation and the same weights, for each objective, also of a run that was resumed. Models
are random and have two layers of width 32, torch has one thread, and what a clock says is left out.
The runs go through `lmstack train`, so what they compare is what users run. A checkout needs its
compiled kernels, or neither of the two may have any. Does not cover several processes
(tests/train/test_processes.py).
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

CLOCKS = ("seconds", "tokens_per_second", "flops_per_second")
TEXTS = [f"the cat number {n} sat on the mat. It saw dog number {n + 1}" for n in range(48)]
TEMPLATE = (
    "{% for message in messages %}{{ message['role'] }}<|endoftext|>{{ message['content'] }}"
    "<|endoftext|>{% endfor %}{% if add_generation_prompt %}assistant<|endoftext|>{% endif %}"
)
LLAMA = {
    **{"model_type": "llama", "architectures": ["LlamaForCausalLM"], "tie_word_embeddings": True},
    **{"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2},
    **{"num_attention_heads": 2, "num_key_value_heads": 1, "max_position_embeddings": 64},
}
BERT = {
    **{"model_type": "bert", "architectures": ["BertForMaskedLM"], "hidden_size": 32},
    **{"intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2},
    **{"max_position_embeddings": 64},
}
T5 = {
    **{"model_type": "t5", "architectures": ["T5ForConditionalGeneration"], "d_model": 32},
    **{"d_kv": 8, "d_ff": 48, "num_layers": 2, "num_heads": 4, "feed_forward_proj": "gated-gelu"},
    **{"relative_attention_num_buckets": 8},
}
BART = {
    **{"model_type": "bart", "architectures": ["BartForConditionalGeneration"], "d_model": 32},
    **{"encoder_layers": 2, "decoder_layers": 2, "encoder_ffn_dim": 48, "decoder_ffn_dim": 48},
    **{"encoder_attention_heads": 4, "decoder_attention_heads": 4, "max_position_embeddings": 64},
}
CHAT = {"data": "chat.jsonl", "max_length": 64}
PREFERRED = {"data": "preferences.jsonl", "max_length": 64, "micro_tokens": 64}
ANSWERS = {
    "rewards": [{"name": "markers", "markers": ["e"]}, {"name": "length", "weight": 0.1}],
    **{"samples": 4, "max_tokens": 8},
}
ONLINE = {"data": "prompts.jsonl", "max_length": 48, "micro_tokens": 64, "steps": 4}
MORE = {"epochs": 2, "minibatches": 2}
LORA = {"lora": {"r": 4, "dropout": 0.3}, "dropout": 0.1}
RUNS: Mapping[str, Mapping[str, Any]] = {
    "causal": {"dropout": 0.1, "patience": 1000},
    "causal-passes": {"micro_tokens": 32, "checkpointing": True, "pack": False, "clip": 0.1},
    "causal-muon": {"optimizer": "muon", "schedule": "constant-decay"},
    "causal-ema": {"ema": 0.9, "epochs": 1.7, "steps": None, "pack": False},
    "causal-bfloat16": {"precision": "bfloat16", "schedule": "linear"},
    "causal-unvalidated": {"validation": 0, "deduplicate": True},
    "masked": {"objective": {"name": "masked", "whole_word": True}, "model": BERT},
    "span-corruption": {"objective": "span-corruption", "model": T5},
    "denoising": {"objective": "denoising", "model": BART},
    "translation": {"objective": "translation", "data": "pairs.jsonl", "model": T5},
    "translation-bart": {
        "objective": {"name": "translation", "label_smoothing": 0.1},
        **{"data": "pairs.jsonl", "model": BART, "dropout": 0.1},
    },
    "distillation": {"objective": {"name": "distillation", "teacher": "base"}, "dropout": 0.1},
    "distillation-reverse": {
        "objective": {"name": "distillation", "teacher": "base", "divergence": "reverse"},
        **CHAT,
    },
    "sft": {"objective": "sft", **CHAT},
    "sft-lora": {"objective": "sft", **CHAT, **LORA, "base": "base"},
    "sft-int8": {"objective": "sft", **CHAT, "lora": {"r": 4}, "base": "base", "weights": "int8"},
    "dpo": {"objective": "dpo", **PREFERRED},
    "dpo-lora": {"objective": "dpo", **PREFERRED, **LORA, "base": "base"},
    "ipo": {"objective": "ipo", **PREFERRED},
    "orpo": {"objective": "orpo", **PREFERRED},
    "simpo": {"objective": "simpo", **PREFERRED},
    "kto": {"objective": {"name": "kto", "desirable": 2.0}, **PREFERRED, "dropout": 0.1},
    "reward": {"objective": "reward", **PREFERRED, "metric": "accuracy", "base": "base"},
    "reranking": {"objective": "reranking", "data": "searches.jsonl", "model": BERT},
    "reader": {
        "objective": {"name": "reader", "negatives": 2},
        **{"data": "choices.jsonl", "model": BERT},
    },
    "contrastive": {
        "objective": {"name": "contrastive", "matryoshka": [32, 16]},
        **{"data": "searches.jsonl", "model": BERT, "micro_tokens": 64, "dropout": 0.1},
    },
    "contrastive-scores": {"objective": "contrastive", "data": "scores.jsonl", "model": BERT},
    "classes": {
        "objective": {"name": "sequence-classification", "class_weights": "balanced"},
        **{"data": "labelled.jsonl", "model": BERT, "metric": "f1"},
    },
    "regression": {
        "objective": "sequence-classification",
        **{"data": "numbers.jsonl", "model": BERT},
    },
    "tags": {
        "objective": "token-classification",
        **{"data": "tagged.jsonl", "model": BERT, "metric": "f1"},
    },
    "grpo": {**ONLINE, "objective": {"name": "grpo", **ANSWERS}},
    "grpo-updates": {
        **ONLINE,
        "objective": {
            **{"name": "grpo", **ANSWERS, **MORE, "kl": 0.1, "clip_high": 0.3, "flat": "drop"},
            **{"average": "sequence", "temperature": 0.8},
        },
        "lora": {"r": 4},
        "base": "base",
    },
    "grpo-ahead": {
        **ONLINE,
        "objective": {
            **{"name": "grpo", **ANSWERS, "average": "constant", "learn_cut": False},
            **{"scale": "none", "rollouts": {"ahead": 1, "weights": "int8"}},
        },
        **{"metric": "reward_markers", "ema": 0.9},
    },
    "grpo-reward-model": {
        **ONLINE,
        "objective": {
            **{"name": "grpo", **ANSWERS},
            "rewards": [{"name": "reward-model", "model": "reward"}, {"name": "finished"}],
        },
    },
    "ppo": {**ONLINE, "objective": {"name": "ppo", **ANSWERS, "rollouts": {"ahead": 1}}},
    "ppo-updates": {
        **ONLINE,
        "objective": {
            **{"name": "ppo", **ANSWERS, **MORE, "kl": "k3", "kl_target": 0.1, "bootstrap": True},
            **{"whiten_rewards": True, "entropy_coefficient": 0.01, "kl_horizon": 20},
        },
    },
}
RESUMED = ("causal", "causal-ema", "contrastive", "dpo-lora", "grpo-ahead", "ppo", "ppo-updates")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("checkouts", nargs="+", type=Path, help="folders, or a file of --save")
    parser.add_argument("--only", default=",".join(RUNS), help="names of runs, with commas")
    parser.add_argument("--save", type=Path, help="write the curves of the first checkout here")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    names = given.only.split(",")
    if given.inside:
        print(json.dumps({name: curve(given.checkouts[0], name) for name in names}))
        return 0
    found = [curves(place, names) for place in given.checkouts]
    if given.save is not None:
        given.save.write_text(json.dumps(found[0], indent=1) + "\n")
    before, after = found[0], found[-1]
    differing = [name for name in names if before.get(name) != after[name]]
    for name in differing:
        print(f"{name}: {difference(before.get(name), after[name])}")
    lines = sum(len(each["lines"]) for each in after.values())
    print(f"{len(names) - len(differing)} of {len(names)} runs alike, {lines} lines of metrics")
    return 1 if differing else 0


def curves(place: Path, names: list[str]) -> dict[str, Any]:
    """Those of the checkout ``place``, by a Python process of its own, or of a file."""
    if place.is_file():
        kept: dict[str, Any] = json.loads(place.read_text())
        return kept
    with tempfile.TemporaryDirectory(prefix="golden-") as folder:
        environment = {
            **os.environ,
            "PYTHONPATH": str((place / "src").resolve()),
            "LMSTACK_HOME": str(Path(folder, "home")),
            **{"OMP_NUM_THREADS": "1", "PYTHONHASHSEED": "0", "PYTHONDONTWRITEBYTECODE": "1"},
        }
        command = [sys.executable, __file__, folder, "--inside", "--only", ",".join(names)]
        text = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True).stdout
    found: dict[str, Any] = json.loads(text.splitlines()[-1])
    return found


def curve(folder: Path, name: str) -> dict[str, Any]:
    """The lines of metrics and the digest of the weights of the run ``name``; where it is one of
    `RESUMED`, of one that was stopped in the middle too."""
    os.chdir(folder)
    if not Path("text.jsonl").exists():
        write_data()
    for needed in needs(name):
        if not Path(needed).is_dir():
            trained(needed, RUNS.get(needed, {}), output=needed)
    run = {"objective": "causal", **RUNS[name]}
    found = trained(f"run-{name}", run)
    if name in RESUMED:
        middle = 2 if "prompts" in run.get("data", "") else 5
        trained(f"resumed-{name}", {**run, "steps": middle})
        found["resumed"] = trained(f"resumed-{name}", run, "--resume")
    return found


def needs(name: str) -> list[str]:
    """Models that are trained before it."""
    text = json.dumps(RUNS[name])
    others = [each for each in ("base", "reward") if f'"{each}"' in text and each != name]
    return ["base", *others] if others == ["reward"] else others


def trained(
    run: str, settings: Mapping[str, Any], *options: str, output: str | None = None
) -> dict[str, Any]:
    """What ``lmstack train`` made of it."""
    import torch

    from lmstack.app.cli import main as lmstack

    torch.set_num_threads(1)
    model = {} if "base" in settings else {"model": LLAMA, "tokenizer": "tokenizer"}
    values = {
        **{"objective": "causal", "data": "text.jsonl", "validation": 0.2, "report": False},
        **{"output": f"./{output or f'{run}-made'}", "run": f"runs/{run}", "max_length": 32},
        **{"batch": 4, "steps": 12, "lr": 0.01, "save_every": 3, "eval_every": 4, "keep": 100},
        **model,
        **{k: f"./{v}" if k == "base" else v for k, v in settings.items()},
    }
    text = json.dumps(values).replace('"model": "reward"', '"model": "./reward"')
    Path(f"{run}.yaml").write_text(text.replace('"teacher": "base"', '"teacher": "./base"'))
    shutil.rmtree(f"{run}-made", ignore_errors=True)  # of the run that this one goes on with
    with contextlib.redirect_stdout(io.StringIO()):
        code = lmstack(["--quiet", "train", f"{run}.yaml", *options])
    if code:
        raise SystemExit(f"{run} ended with {code}")
    lines = [
        json.loads(line) for line in Path(f"runs/{run}/metrics.jsonl").read_text().splitlines()
    ]
    kept = [{k: v for k, v in line.items() if not k.startswith(CLOCKS)} for line in lines]
    files = sorted(Path(f"{output or f'{run}-made'}").rglob("*.safetensors"))
    digest = hashlib.sha256(b"".join(file.read_bytes() for file in files))
    return {"lines": kept, "weights": digest.hexdigest()}


def difference(before: Any, after: Any) -> str:
    """Where two curves part."""
    if before is None:
        return "no such run was kept"
    for place, (one, two) in enumerate(zip(before["lines"], after["lines"], strict=False)):
        for key in {**one, **two}:
            if one.get(key) != two.get(key):
                return f"line {place + 1}, {key}: {one.get(key)!r} and {two.get(key)!r}"
    if len(before["lines"]) != len(after["lines"]):
        return f"{len(before['lines'])} and {len(after['lines'])} lines of metrics"
    return "other weights" if before["weights"] != after["weights"] else "the resumed run differs"


def write_data() -> None:
    """A tokenizer with a template, and rows of each format."""
    from lmstack.text import VocabularyConfig, train_tokenizer

    def write(name: str, rows: list[dict[str, Any]]) -> None:
        Path(name).write_text("\n".join(map(json.dumps, rows)))

    sentinels = [f"<extra_id_{n}>" for n in range(20)]
    config = VocabularyConfig(vocab_size=330, special_tokens=("<mask>", *sentinels))
    train_tokenizer(TEXTS, config, roles={"mask_token": "<mask>"}).save(Path("tokenizer"))
    Path("tokenizer/chat_template.jinja").write_text(TEMPLATE)
    numbers = range(len(TEXTS))
    write("text.jsonl", [{"text": text} for text in TEXTS])
    write("pairs.jsonl", [{"source": TEXTS[n], "target": f"dog {n}"} for n in numbers])
    said = [(f"cat {n}?", f"dog {n + 1}.", f"the cat sat on {n}") for n in numbers]
    turns = [
        [{"role": "user", "content": ask}, {"role": "assistant", "content": answer}]
        for ask, answer, _ in said
    ]
    write("chat.jsonl", [{"messages": each} for each in turns])
    write("preferences.jsonl", [{"prompt": p, "chosen": c, "rejected": r} for p, c, r in said])
    write("prompts.jsonl", [{"prompt": f"cat {n}"} for n in range(10)])
    choices = [
        {
            **{"query": f"cat {n}", "positives": [TEXTS[n]] if n % 4 else []},
            "negatives": [TEXTS[(n + k) % len(TEXTS)] for k in (3, 7, 11)],
        }
        for n in numbers
    ]
    write("choices.jsonl", choices)
    searches = [
        {"query": f"cat {n}", "positive": TEXTS[n], "negatives": [TEXTS[(n + 5) % len(TEXTS)]]}
        for n in numbers
    ]
    write("searches.jsonl", searches)
    scores = [
        {"sentence1": f"cat {n}", "sentence2": TEXTS[n - n % 3], "score": n % 3 / 2}
        for n in numbers
    ]
    write("scores.jsonl", scores)
    write("labelled.jsonl", [{"text": TEXTS[n], "label": "abc"[n % 5 % 3]} for n in numbers])
    write("numbers.jsonl", [{"text": TEXTS[n], "label": n / 10} for n in numbers])
    tagged = [
        {"tokens": ["cat", str(n), "sat"], "tags": ["B-A", "I-A" if n % 2 else "B-N", "O"]}
        for n in numbers
    ]
    write("tagged.jsonl", tagged)


if __name__ == "__main__":
    sys.exit(main())
