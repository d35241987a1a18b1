"""Rewards that can be verified, raised by GRPO or PPO: the rate of right answers before and after.

    python benchmarks/verifiable.py                        everything, by GRPO
    python benchmarks/verifiable.py --objective ppo        the same by PPO
    python benchmarks/verifiable.py --only json --rates    where a task starts, without training

Three tasks, each judged on problems that neither the base nor the run has seen:

- ``sums``: a small model, trained here on a few sums until it is right now and then, and then on
  the reward `arithmetic`;
- ``json``: the default model with an adapter, on questions and schemas of others
  (`verifiable_data`) and the reward `json-schema`. Answers are not masked to the schema. It is also
  said how many have the right arguments, which the reward does not look at;
- ``loophole``: sums again, with the reward `planted-loophole`, which pays for length as well.
  The report of the run must name it.

Rates have 95 % intervals (Wilson). KL to the base and what was given up are from the run's report.
"""

from __future__ import annotations

import argparse
import json
import math
import pathlib
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import recording
import verifiable_data
from machine import machine

from lmstack.app.wiring.rewards import reward_for
from lmstack.app.wiring.rollouts import OnlineServices
from lmstack.model import load_adapter
from lmstack.registry import load
from lmstack.text import VocabularyConfig, train_tokenizer
from lmstack.train.assembly import check_recipe
from lmstack.train.data.rows import Row
from lmstack.train.objectives.objective import Reading
from lmstack.train.objectives.online import OnlineObjective
from lmstack.train.recipe import Recipe
from lmstack.train.rewards.json_schema import parsed_json
from lmstack.train.rollouts.protocol import RolloutConfig, Sample

Rows = Sequence[dict[str, Any]]
DEFAULT = "smollm2-135m-instruct"
SMALL = {
    "model_type": "llama",
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": 128,
    "intermediate_size": 384,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "max_position_embeddings": 64,
    "tie_word_embeddings": True,
}
# A question and its answer after each other, and the end.
TEMPLATE = (
    "{% for message in messages %}{{ message['content'] }}"
    "{% if message['role'] == 'assistant' %}<|endoftext|>{% endif %}{% endfor %}"
)
# Of the small model's first training: it ends where answers are right now and then.
FIRST = {"batch": 64, "lr": 1e-3, "schedule": "constant", "max_length": 32, "precision": "float32"}
FIRST_STEPS = 900
# An answer has five tokens at most: a space, three digits, the end.
LOOPHOLE = {"name": "planted-loophole", "tokens": 6}


@dataclass
class Task:
    """``reward``: by which answers are judged; ``paid``: what is trained on, where it is another.
    ``settings``: of the recipe."""

    name: str
    base: str
    train: Rows
    held: Rows
    reward: Mapping[str, Any]
    max_tokens: int
    max_length: int
    settings: Mapping[str, Any]
    paid: Mapping[str, Any] | None = None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    recording.add_options(parser, "verifiable")
    parser.add_argument("--only", action="append", choices=("sums", "json", "loophole"))
    parser.add_argument("--objective", default="grpo", choices=("grpo", "ppo"))
    parser.add_argument("--rates", action="store_true", help="where tasks start; trains nothing")
    parser.add_argument("--rows", type=int, help="at most so many rows to test with")
    parser.add_argument("--keep", type=pathlib.Path, help="a folder for models and runs")
    args = parser.parse_args()
    if args.quick:
        args.rows = args.rows or 8
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as scratch:
        folder = args.keep or pathlib.Path(scratch)
        for name in args.only or ("sums", "json", "loophole"):
            task = json_task() if name == "json" else sums_task(name, folder, args.quick)
            found[name] = measured(task, folder, args)
            print(name, json.dumps(found[name]["before"]), json.dumps(found[name].get("after")))
    # A run that trains nothing says where tasks start, and is no result.
    path = recording.result_file(args, f"verifiable_{args.objective}")
    if not args.rates or args.json:
        path.write_text(json.dumps({"machine": machine(), **found}, indent=1) + "\n")
        print(f"written: {path}")


def sums_task(name: str, folder: pathlib.Path, quick: bool) -> Task:
    train, held = verifiable_data.sums(4000, 2)
    base = folder / "small"
    if not base.exists():
        first = [{"prompt": r["prompt"], "completion": f" {r['answer']}"} for r in train]
        tokenizer = folder / "small-tokenizer"
        train_tokenizer(["1 + 1 = 2"], VocabularyConfig(vocab_size=257)).save(tokenizer)
        (tokenizer / "chat_template.jinja").write_text(TEMPLATE)
        steps = 20 if quick else FIRST_STEPS
        data = write(folder / "first.jsonl", first)
        more = {"model": SMALL, "tokenizer": str(tokenizer), "steps": steps, "validation": 0.05}
        run(
            folder,
            "first",
            {"objective": "sft", "data": data, "output": str(base), **FIRST, **more},
        )
    settings = {"lr": 1e-4, "batch": 32, "steps": 400, "precision": "float32"}
    task = Task(name, str(base), train, held, {"name": "arithmetic"}, 6, 32, settings)
    if name == "loophole":
        task.paid, task.max_tokens = LOOPHOLE, 12
    return task


def json_task() -> Task:
    train, held = verifiable_data.json_rows()
    adapter = {"r": 16, "targets": "all-linear"}
    settings = {"lr": 1e-4, "batch": 8, "steps": 120, "lora": adapter, "precision": "bfloat16"}
    reward = {"name": "json-schema"}
    paid = {"name": "json-schema", "parsed": 0.2}
    return Task("json", DEFAULT, train, held, reward, 96, 768, settings, paid)


def measured(task: Task, folder: pathlib.Path, args: argparse.Namespace) -> dict[str, Any]:
    held = task.held[: args.rows] if args.rows else task.held
    found: dict[str, Any] = {"train": len(task.train), "held": len(held)}
    found["before"] = rates(task, None, held)
    if args.rates:
        return found
    recipe = {
        "objective": objective(task, args.objective),
        "base": task.base,
        "data": write(folder / f"{task.name}.jsonl", task.train),
        "validation": write(folder / f"{task.name}.held.jsonl", held[:64]),
        "output": str(folder / f"{task.name}-made"),
        "max_length": task.max_length,
        "schedule": "constant",
        "weight_decay": 0.0,
        **task.settings,
    }
    if args.quick:
        recipe |= {"steps": 2, "batch": 2}
    done = run(folder, f"{task.name}-{args.objective}", recipe)
    found["report"], found["values"] = done.get("report"), done["values"]
    found["after"] = rates(task, done["folder"], held)
    return found


def objective(task: Task, name: str) -> dict[str, Any]:
    rewards = [dict(task.paid or task.reward)]
    return {"name": name, "rewards": rewards, "samples": 8, "max_tokens": task.max_tokens}


def rates(task: Task, made: str | None, rows: Rows) -> dict[str, Any]:
    """Of right answers to ``rows``, one each, at temperature 1 and next to none."""
    found: dict[str, Any] = {}
    for label, temperature in (("sampled", 1.0), ("greedy", 0.01)):
        samples = drawn(task, made, rows, temperature)
        settings = {key: value for key, value in task.reward.items() if key != "name"}
        right = sum(reward_for(task.reward["name"], settings).score(samples))
        found[label] = share(right, len(samples))
        if task.name == "json":
            number = sum(map(has_right_arguments, samples))
            found[f"{label}_arguments"] = share(number, len(samples))
            found[f"{label}_texts"] = len({sample.text for sample in samples})
    return found


def drawn(task: Task, made: str | None, rows: Rows, temperature: float) -> list[Sample]:
    """An answer to each of ``rows`` by the base, or by what was ``made`` of it."""
    adapter = made if made is not None and task.settings.get("lora") else None
    base = load(task.base if made is None or adapter else made)
    if adapter:
        load_adapter(base.module, adapter)
    asked = {**objective(task, "grpo"), "temperature": temperature}
    recipe = Recipe(objective=asked, base=task.base, data=("-",), output="-")
    online, _ = check_recipe(recipe)
    assert isinstance(online, OnlineObjective)
    reading = Reading(base.tokenizer, base.template, task.max_length)
    prompts = [
        online.prompt(example)
        for place, row in enumerate(rows)
        for example in online.encode(Row(row, str(place)), reading)
    ]
    sampler = OnlineServices().sampler(base, RolloutConfig(weights="float32"))
    try:
        sampler.update(base.module)
        groups = sampler.sample(prompts, online.drawing, [[n] for n in range(len(prompts))])
    finally:
        sampler.close()
    return [sample for group in groups for sample in group]


def has_right_arguments(sample: Sample) -> bool:
    try:
        value = parsed_json(sample.text)
    except ValueError:
        return False
    return verifiable_data.arguments_right(value, sample.row["accepted"])


def share(right: float, of: int) -> dict[str, float]:
    """With Wilson's 95 % interval."""
    z, p = 1.959964, right / of
    middle = (p + z * z / (2 * of)) / (1 + z * z / of)
    half = z / (1 + z * z / of) * math.sqrt(p * (1 - p) / of + z * z / (4 * of * of))
    return {"rate": round(p, 4), "low": round(middle - half, 4), "high": round(middle + half, 4)}


def write(path: pathlib.Path, rows: Rows) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def run(folder: pathlib.Path, name: str, recipe: Mapping[str, Any]) -> dict[str, Any]:
    """`lmstack train` in a process of its own; what it prints as JSON."""
    path = folder / f"{name}.yaml"
    path.write_text(json.dumps({**recipe, "run": str(folder / "runs" / name)}))  # JSON is YAML
    command = [sys.executable, "-m", "lmstack", "train", str(path), "--json"]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed")
    result: dict[str, Any] = json.loads(done.stdout)
    return result


if __name__ == "__main__":
    main()
