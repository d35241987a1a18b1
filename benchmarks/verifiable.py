"""JSON by schema, raised by GRPO or PPO: the rate of valid answers before and after.

    make bench-verifiable                                 by GRPO
    python benchmarks/verifiable.py --objective ppo       by PPO
    python benchmarks/verifiable.py --rates               where it starts, without training

The default model with an adapter, on questions and schemas of others (`verifiable_data`) and the
reward `json-schema`, judged on those that the run has not seen. Answers are not masked to the
schema. It is also said how many have the right arguments, which the reward does not look at. Rates
have 95 % intervals (Wilson). KL to the base and what was given up are from the run's report. Sums
are in `sums.py`, a reward with a loophole in tests/app/cli/test_loophole.py.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from typing import Any

import recording
import verifiable_data
from machine import machine

from lmstack.app.wiring.training import OnlineServices, reward_for
from lmstack.evals.statistics import wilson
from lmstack.model import load_adapter
from lmstack.registry import load
from lmstack.train.assembly import check_recipe
from lmstack.train.data.rows import Row
from lmstack.train.objectives.objective import Reading
from lmstack.train.objectives.online import OnlineObjective
from lmstack.train.recipe import Recipe
from lmstack.train.rewards.json_schema import parsed_json
from lmstack.train.rollouts.protocol import RolloutConfig, RolloutSample

Rows = Sequence[dict[str, Any]]
BASE = "smollm2-135m-instruct"
REWARD = "json-schema"
# What is JSON and not by the schema is worth a little, so that there is a way up.
PAID = {"name": REWARD, "parsed": 0.2}
MAX_TOKENS, MAX_LENGTH = 96, 768
# Of each objective, beside what both share. The value head knows nothing at first, so PPO looks to
# the reward itself and not to what the head expects to follow (`decay` 1); an answer is paid at
# most 1, and a divergence of 20 nats, as GRPO's is, should not cost more than a tenth of that.
SPECIAL: Mapping[str, Mapping[str, Any]] = {
    "grpo": {},
    "ppo": {
        "epochs": 2,
        "minibatches": 4,
        "decay": 1.0,
        "kl_coefficient": 0.005,
        "value_coefficient": 0.5,
    },
}
REPORTED = ("answers", "figures", "divergence", "wins", "reward_hacking", "conclusions")
SETTINGS = {
    "lr": 1e-4,
    "batch": 8,
    "steps": 200,
    "lora": {"r": 16, "targets": "all-linear"},
    "precision": "int8",
    "schedule": "constant",
    "weight_decay": 0.0,
    "max_length": MAX_LENGTH,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    recording.add_options(parser, "verifiable")
    parser.add_argument("--objective", default="grpo", choices=SPECIAL)
    parser.add_argument("--rates", action="store_true", help="where it starts; trains nothing")
    parser.add_argument("--rows", type=int, help="at most so many rows to test with")
    parser.add_argument("--steps", type=int, default=SETTINGS["steps"])
    parser.add_argument("--keep", type=pathlib.Path, help="a folder for the run; it goes on there")
    args = parser.parse_args()
    if args.quick:
        args.rows, args.steps = args.rows or 8, 2
    train, held = verifiable_data.json_rows()
    held = held[: args.rows]
    found: dict[str, Any] = {"train": len(train), "held": len(held), "steps": args.steps}
    with tempfile.TemporaryDirectory() as scratch:
        folder = args.keep or pathlib.Path(scratch)
        found["before"] = told("before", rates(None, held))
        if not args.rates:
            done = trained(folder, args, train, held)
            found["report"] = {part: done["report"][part] for part in REPORTED}
            found["values"] = done["values"]
            found["after"] = told("after", rates(done["folder"], held))
    # A run that trains nothing says where it starts, and is no result.
    path = recording.result_file(args, f"verifiable_{args.objective}")
    if not args.rates or args.json:
        path.write_text(json.dumps({"machine": machine(), **found}, indent=1) + "\n")
        print(f"written: {path}")


def told(when: str, found: dict[str, Any]) -> dict[str, Any]:
    print(when, json.dumps(found), flush=True)
    return found


def trained(folder: pathlib.Path, args: argparse.Namespace, train: Rows, held: Rows) -> Any:
    recipe = {
        "objective": objective(args.objective),
        "base": BASE,
        "data": write(folder / "train.jsonl", train),
        "validation": write(folder / "held.jsonl", held[:64]),
        "output": str(folder / "made"),
        "run": str(folder / "run"),
        **SETTINGS,
        "steps": args.steps,
    }
    if args.quick:
        recipe["batch"] = 2
    path = folder / f"{args.objective}.yaml"
    path.write_text(json.dumps(recipe))  # JSON is YAML
    command = [sys.executable, "-m", "lmstack", "train", str(path), "--json"]
    if (folder / "run").exists():  # of the same folder, stopped or to be longer
        command.append("--resume")
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed")
    return json.loads(done.stdout)


def objective(name: str) -> dict[str, Any]:
    settings = {"samples": 8, "max_tokens": MAX_TOKENS, "rollouts": {"weights": "int8"}}
    return {"name": name, "rewards": [PAID], **settings, **SPECIAL[name]}


def rates(made: str | None, rows: Rows) -> dict[str, Any]:
    """Of valid answers to ``rows``, one each, at temperature 1 and next to none."""
    found: dict[str, Any] = {}
    for label, temperature in (("sampled", 1.0), ("greedy", 0.01)):
        samples = drawn(made, rows, temperature)
        found[label] = share(sum(reward_for(REWARD, {}).score(samples)), len(samples))
        number = sum(map(has_right_arguments, samples))
        found[f"{label}_arguments"] = share(number, len(samples))
        found[f"{label}_texts"] = len({sample.text for sample in samples})
    return found


def drawn(made: str | None, rows: Rows, temperature: float) -> list[RolloutSample]:
    """An answer to each of ``rows`` by the base, with the adapter ``made`` where there is one."""
    base = load(BASE)
    if made is not None:
        load_adapter(base.module, made)
    asked = {**objective("grpo"), "temperature": temperature}
    online, _ = check_recipe(Recipe(objective=asked, base=BASE, data=("-",), output="-"))
    assert isinstance(online, OnlineObjective)
    reading = Reading(base.tokenizer, base.template, MAX_LENGTH)
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


def has_right_arguments(sample: RolloutSample) -> bool:
    try:
        value = parsed_json(sample.text)
    except ValueError:
        return False
    return verifiable_data.arguments_right(value, sample.row["accepted"])


def share(right: float, of: int) -> dict[str, float]:
    found = wilson(right, of)
    return {"rate": round(found.value, 4), "low": round(found.low, 4), "high": round(found.high, 4)}


def write(path: pathlib.Path, rows: Rows) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


if __name__ == "__main__":
    main()
