"""Whether PPO and GRPO raise a reward that can be verified: sums, by a model that was taught badly.

    make bench-sums                            both
    python benchmarks/sums.py ppo --steps 20   one of them, shorter

A model of 0.8 M parameters learns to add, and then from a careless teacher, who is right in 15 of
100 sums and otherwise off by up to six, so that few of its answers, drawn at temperature 1, are
right. Then each objective learns from them and the reward `arithmetic` alone. The figures are the
share of right answers before and after, one to each of all 100 prompts, drawn by other seeds than
in training, and the divergence of an answer from where it began, in nats.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import pathlib
import random
import statistics
import tempfile
import time
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from recording import add_options, result_file
from spine import processor

from lmstack.app.wiring.training import OnlineServices
from lmstack.registry import load
from lmstack.text import VocabularyConfig, train_tokenizer
from lmstack.train import Recipe, train
from lmstack.train.metrics import read_metrics
from lmstack.train.rollouts.experience import sample_seed
from lmstack.train.rollouts.protocol import Drawing, RolloutConfig, RolloutPrompt

LARGEST, MOST_OFF = 9, 6
ANSWER_TOKENS = 4
STEPS = {"ppo": 50, "grpo": 30}
TEACHERS = ((1.0, 800), (0.15, 60))  # how often they are right, and steps with each
MODEL = {
    "model_type": "llama",
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": 128,
    "intermediate_size": 384,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 32,
    "tie_word_embeddings": True,
}
OBJECTIVES: Mapping[str, Mapping[str, Any]] = {
    "ppo": {
        "name": "ppo",
        "kl_coefficient": 0.02,
        "kl_target": 3.0,
        "kl_horizon": 5000,
        "value_coefficient": 0.5,
        "entropy_coefficient": 0.01,
    },
    "grpo": {"name": "grpo", "kl": 0.01},
}
SHARED = {
    "rewards": [{"name": "arithmetic"}],
    "max_tokens": ANSWER_TOKENS,
    "samples": 8,
    "epochs": 2,
    "minibatches": 4,
}


def prompts() -> list[dict[str, str]]:
    pairs = itertools.product(range(LARGEST + 1), repeat=2)
    return [{"prompt": f"{a}+{b}=", "answer": str(a + b)} for a, b in pairs]


def lessons(count: int, share: float) -> list[dict[str, str]]:
    """Sums and what a teacher says of them who is right for this ``share``."""
    drawn = random.Random(count)
    found = []
    for row in drawn.choices(prompts(), k=count):
        off = 0
        if drawn.random() > share:
            off = drawn.choice([n for n in range(-MOST_OFF, MOST_OFF + 1) if n])
        found.append({"text": f"{row['prompt']}{max(int(row['answer']) + off, 0)}"})
    return found


def written(path: pathlib.Path, rows: Sequence[Mapping[str, str]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def base(folder: pathlib.Path, seed: int = 0) -> str:
    """The model that can add and was taught carelessness."""
    train_tokenizer(["0"], VocabularyConfig(vocab_size=258)).save(folder / "tokenizer")
    start: dict[str, Any] = {"model": MODEL, "tokenizer": str(folder / "tokenizer")}
    for number, (share, steps) in enumerate(TEACHERS):
        recipe = Recipe(
            **start,
            objective="causal",
            data=(written(folder / f"lessons-{number}.jsonl", lessons(64 * steps, share)),),
            validation=0,
            output=str(folder / f"taught-{number}"),
            run=str(folder / f"taught-{number}-run"),
            max_length=16,
            pack=False,
            batch=64,
            steps=steps,
            lr=1e-3,
            weight_decay=0.0,
            seed=seed,
        )
        train(recipe)
        start = {"base": recipe.output}
    return recipe.output


def right(model: str) -> float:
    """The share of right answers, one drawn to each prompt."""
    loaded = load(model)
    sampler = OnlineServices().sampler(loaded, RolloutConfig(weights="float32"))
    reward = OnlineServices().reward("arithmetic", {})
    sampler.update(loaded.module)
    rows = prompts()
    asked = [
        RolloutPrompt((), tuple(loaded.tokenizer.encode(row["prompt"], special=False)), row)
        for row in rows
    ]
    seeds = [[sample_seed(99, place)] for place in range(len(rows))]
    drawn = sampler.sample(asked, Drawing(ANSWER_TOKENS), seeds)
    sampler.close()
    return statistics.fmean(reward.score([sample for group in drawn for sample in group]))


def learned(name: str, model: str, folder: pathlib.Path, steps: int) -> dict[str, float]:
    recipe = Recipe(
        objective={**OBJECTIVES[name], **SHARED},
        base=model,
        data=(written(folder / "prompts.jsonl", prompts()),),
        validation=0,
        output=str(folder / name),
        run=str(folder / f"{name}-run"),
        max_length=16,
        batch=len(prompts()),
        steps=steps,
        lr=3e-4,
        schedule="cosine",
        weight_decay=0.0,
    )
    before, started = right(model), time.perf_counter()
    train(recipe, services=OnlineServices())
    seconds = time.perf_counter() - started
    lines = read_metrics(folder / f"{name}-run/metrics.jsonl")
    last = {key: [line[key] for line in lines[-5:] if key in line] for key in lines[-1]}
    found = {"before": before, "after": right(recipe.output), "seconds": seconds}
    for key in ("kl_answer", "kl", "kl_coefficient", "entropy", "clipped", "explained_variance"):
        if last.get(key):
            found[key] = statistics.fmean(last[key])
    found["gap_largest"] = max(line["gap_largest"] for line in lines)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("objectives", nargs="*", default=list(OBJECTIVES))
    parser.add_argument("--steps", type=int, help=f"default: {STEPS}")
    add_options(parser, "sums")
    given = parser.parse_args()
    print(f"{processor()}, {torch.get_num_threads()} threads")
    result: dict[str, Any] = {"processor": processor(), "threads": torch.get_num_threads()}
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        os.environ["LMSTACK_HOME"] = str(folder / "home")
        model = base(folder)
        for objective in given.objectives:
            steps = given.steps or (2 if given.quick else STEPS[objective])
            found = learned(objective, model, folder, steps)
            print(objective, " ".join(f"{key} {value:.4g}" for key, value in found.items()))
            result[objective] = {"steps": steps, **found}
    path = result_file(given, "sums")
    path.write_text(json.dumps(result, indent=1) + "\n")
    print(f"written to {path}")


if __name__ == "__main__":
    main()
