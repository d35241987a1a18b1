"""Fine-tuning beside its peers in one run: transformers' Trainer with PEFT, and TRL.

    make bench-training                                   all of it, in half an hour
    make bench-training QUICK=1                           a few steps; records nothing
    python benchmarks/training.py --only lora,trl         sides of your choice

SmolLM2-135M-Instruct on conversations (`training_data`): every side gets the same tokens, labels
(the assistant's turns) and number of examples a step, makes one epoch in a process of its own, and
leaves an adapter or a model. Its held-out loss is computed by one and the same code, lmstack's
reference operations in float32. *Real tokens* are those of conversations, without padding, seen
after the first step; seconds are those of the wall and, since machines are shared, of the
processor. Peak memory is the process's, its libraries included.
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from typing import Any

import torch
from recording import add_options, picture_file, result_file
from serving import others_busy
from serving_models import quiet_environment, saved
from spine import HERE, processor
from training_data import chat_files
from training_environments import PEER, BuildError, build, versions

from lmstack.model import REFERENCE_OPS, ForwardContext, load_adapter
from lmstack.registry import LoadedModel, load
from lmstack.train.data.examples import Example
from lmstack.train.data.rows import Row
from lmstack.train.objectives import objective_named
from lmstack.train.objectives.objective import Reading
from lmstack.train.precision import products_of

BASE = "smollm2-135m-instruct"
SCRIPTS = HERE / "training_peers"
SECONDS = 5400
TURNS = 4
BATCH = 16
FAST = products_of("auto")  # of a recipe that says nothing, and of the peers but the guide's


@dataclass(frozen=True)
class Side:
    """``steps``: made at most, for sides whose memory alone is asked for."""

    name: str
    title: str
    peer: bool = False
    steps: int | None = None

    @property
    def is_full(self) -> bool:
        return self.name.startswith(("full", "trainer_full"))


SIDES = (
    Side("guide", "the guide's recipe: Trainer + PEFT, padded to 512, float32", peer=True),
    Side("padded", "Trainer + PEFT, padded to the longest, FAST", peer=True),
    Side("trl", "TRL, packed, FAST", peer=True),
    Side("lora", "lmstack, FAST"),
    Side("lora_int8", "lmstack, int8"),
    Side("lora_float32", "lmstack, float32, three steps", steps=3),
    Side("qlora", "lmstack, QLoRA: NF4, checkpointing", steps=8),
    Side("trainer_full", "Trainer, all weights, float32", peer=True, steps=8),
    Side("trainer_full_fast", "Trainer, all weights, FAST", peer=True, steps=8),
    Side("full", "lmstack, all weights, FAST", steps=8),
)
# What the ratios are of: the first side over the second.
RATIOS = {
    "lora / guide": ("lora", "guide"),
    "lora_int8 / guide": ("lora_int8", "guide"),
    "lora / trl": ("lora", "trl"),
    "lora_int8 / trl": ("lora_int8", "trl"),
    "full / trainer_full": ("full", "trainer_full"),
    "full / trainer_full_fast": ("full", "trainer_full_fast"),
}


class Run:
    def __init__(self, args: argparse.Namespace, folder: pathlib.Path) -> None:
        self.args, self.folder, self.start = args, folder, time.monotonic()
        self.steps, held_out = (3, 8) if args.quick else (12, 64)
        self.files = chat_files(folder, turns=TURNS, train=self.steps * BATCH, held_out=held_out)
        self.base = load(BASE, weights="float32")
        self.objective = objective_named("sft", {})
        self.reading = Reading(self.base.tokenizer, self.base.template, 1024)
        self.train, self.held = (self.examples(self.files[part]) for part in self.files)
        self.tokens = [example.tokens for example in self.train]
        self.sides: dict[str, dict[str, Any]] = {}

    def say(self, text: str) -> None:
        seconds = int(time.monotonic() - self.start)
        print(f"[{seconds // 60:>3}:{seconds % 60:02}] {text}", flush=True)

    def examples(self, file: str) -> list[Example]:
        lines = pathlib.Path(file).read_text(encoding="utf-8").splitlines()
        rows = [Row(json.loads(line), file) for line in lines]
        return [example for row in rows for example in self.objective.encode(row, self.reading)]

    def job(self, side: Side) -> pathlib.Path:
        """The file that says what a side does."""
        steps = min(self.steps, side.steps or self.steps)
        examples = self.train[: steps * BATCH]
        rows = self.folder / f"examples-{steps}.jsonl"
        lines = []
        for example in examples:
            assert example.labels is not None
            row = {"input_ids": example.sequences[0].tolist(), "labels": example.labels.tolist()}
            lines.append(json.dumps(row))
        rows.write_text("\n".join(lines) + "\n")
        data = self.folder / f"train-{steps}.jsonl"
        conversations = pathlib.Path(self.files["train"]).read_text().splitlines(keepends=True)
        data.write_text("".join(conversations[: steps * BATCH]))
        path = self.folder / f"{side.name}.json"
        packed = sum(example.tokens for example in examples) / steps / 1024
        job = {
            "model": saved(BASE),
            "examples": str(rows),
            "data": str(data),
            "output": str(self.folder / side.name),
            "steps": steps,
            "batch": BATCH,
            "row": 1024,
            "rows": max(round(packed), 1),  # packed rows that hold a batch of examples
            "threads": self.args.threads,
            "seed": 0,
            "lr": 2e-5 if side.is_full else 2e-4,
            # Of so few steps the guide's .03 is none; Trainer would begin with a rate of 0.
            "warmup_steps": 0,
            "precision": FAST,
            "weight_decay": 0.01,
            "lora": {
                "r": 16,
                "lora_alpha": 32,
                "lora_dropout": 0.05,
                "target_modules": ["q_proj", "v_proj"],
            },
        }
        path.write_text(json.dumps(job))
        return path

    def measure(self, side: Side, python: str) -> None:
        script = SCRIPTS / ("with_trainer.py" if side.peer else "with_lmstack.py")
        command = [python, str(script), side.name.removeprefix("trainer_"), str(self.job(side))]
        with others_busy() as others:
            done = subprocess.run(
                command,
                capture_output=True,
                text=True,
                timeout=SECONDS,
                env=quiet_environment(self.args.threads),
            )
        try:
            found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
        except (IndexError, ValueError):
            said = (done.stderr or done.stdout).strip()[-2000:]
            self.sides[side.name] = {"title": side.title, "error": said}
            self.say(f"{side.name}: {said[-500:]}")
            return
        found["title"], found["others"] = side.title.replace("FAST", FAST), others[0]
        found["tokens_per_second"] = found["tokens"] / found["seconds"]
        # Of all threads together, so that a machine that is shared does not matter.
        found["tokens_per_processor_second"] = found["tokens"] / found["processor_seconds"]
        self.sides[side.name] = found
        folder = pathlib.Path(found.pop("folder", self.folder / side.name))
        if side.steps is None:
            found["held_out_loss"] = self.held_out(side, folder)
        self.say(
            f"{found['title']:58}{found['tokens_per_second']:>8.1f} tokens/s"
            f"{found['tokens_per_processor_second']:>8.1f} a processor second"
            f"{found['peak_bytes'] / 1e9:>7.2f} GB"
            + (f"  held-out {found['held_out_loss']:.4f}" if "held_out_loss" in found else "")
            + (
                f"  {found['flops_per_second'] / found['matrix_rate']:.0%} of the matrix rate"
                if "matrix_rate" in found
                else ""
            )
        )

    def profile(self) -> dict[str, Any]:
        """Where the processor's time of a step goes (`training_step`)."""
        path = self.folder / "step.json"
        command = [sys.executable, str(HERE / "training_step.py"), "--json", str(path)]
        command += ["--threads", str(self.args.threads), "--only", f"{FAST},int8"]
        environment = quiet_environment(self.args.threads)
        done = subprocess.run(command, capture_output=True, text=True, env=environment)
        if done.returncode:
            self.say(f"a step cannot be profiled: {done.stderr[-500:]}")
            return {}
        print(done.stdout)
        found: dict[str, Any] = json.loads(path.read_text())
        return found

    def held_out(self, side: Side | None, folder: pathlib.Path | None) -> float:
        """Mean loss of the assistant's tokens in the held-out conversations."""
        loaded: LoadedModel = load(BASE, weights="float32")
        if side is not None and folder is not None:
            assert not side.is_full
            load_adapter(loaded.module, folder)
        total = weight = 0.0
        examples = sorted(self.held, key=lambda example: example.tokens)
        with torch.no_grad():
            for start in range(0, len(examples), 8):
                batch = self.objective.collate(examples[start : start + 8], self.reading)
                context = ForwardContext(ops=REFERENCE_OPS)
                total += float(self.objective.loss(loaded.module, batch, context).total)
                weight += batch.weight
        return total / weight

    def ratios(self) -> dict[str, dict[str, float]]:
        found = {}
        for name, pair in RATIOS.items():
            one, two = (self.sides.get(side, {}) for side in pair)
            if "tokens" in one and "tokens" in two:
                found[name] = {
                    unit: one[unit] / two[unit]
                    for unit in ("tokens_per_second", "tokens_per_processor_second")
                }
        return found


def picture(result: dict[str, Any], path: pathlib.Path) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    rows = [(n, s) for n, s in result["sides"].items() if "tokens" in s]
    figure, (speed, memory) = plt.subplots(1, 2, figsize=(11, 4.5), sharey=True)
    names = [side["title"] for _, side in rows]
    colours = ["#999999" if "lmstack" not in name else "#2060a0" for name in names]
    speed.barh(names, [side["tokens_per_second"] for _, side in rows], color=colours)
    speed.set_xlabel("real tokens a second")
    memory.barh(names, [side["peak_bytes"] / 1e9 for _, side in rows], color=colours)
    memory.set_xlabel("peak memory, GB")
    speed.invert_yaxis()
    figure.suptitle(f"Fine-tuning SmolLM2-135M, {result['machine']}, threads: {result['threads']}")
    figure.tight_layout()
    figure.savefig(path, dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", help="sides, a,b,c", default=",".join(s.name for s in SIDES))
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    add_options(parser, "training")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        run = Run(args, pathlib.Path(scratch))
        run.say("environment of the peers")
        try:
            python = str(build().python)
            peer: dict[str, Any] = {"built": True, "versions": versions(PEER)}
        except BuildError as error:
            python, peer = "", {"built": False, "error": str(error)}
            run.say(f"the peers cannot be built: {str(error)[-300:]}")
        before = run.held_out(None, None)
        run.say(f"held-out loss before: {before:.4f}")
        for side in SIDES:
            is_twice = side.name == "trainer_full_fast" and FAST == "float32"
            if side.name in args.only.split(",") and (python or not side.peer) and not is_twice:
                run.measure(side, python if side.peer else sys.executable)
        profiles = run.profile()
        result = {
            "machine": processor(),
            "cores": os.cpu_count(),
            "threads": args.threads,
            "quick": args.quick,
            "steps": run.steps,
            "examples_a_step": BATCH,
            "tokens_an_example": sum(run.tokens) / len(run.tokens),
            "held_out_loss_before": before,
            "peers": peer,
            "sides": run.sides,
            "time_of_a_step": profiles,
            "ratios": run.ratios(),
        }
    path = result_file(args, "training")
    path.write_text(json.dumps(result, indent=1) + "\n")
    picture(result, picture_file(path, "training-speed.png"))
    memory = run.sides.get("qlora", {}), run.sides.get("lora_float32", {})
    if all("peak_bytes" in side for side in memory):
        shares = memory[0]["peak_bytes"] / memory[1]["peak_bytes"]
        print(f"\npeak memory of QLoRA over that of LoRA in float32: {shares:.2f}")
    print(f"\n{'ratio':34}{'wall':>8}{'processor':>11}")
    for name, ratio in run.ratios().items():
        wall, busy = ratio["tokens_per_second"], ratio["tokens_per_processor_second"]
        print(f"{name:34}{wall:>8.2f}{busy:>11.2f}")
    print(f"written to {path}")


if __name__ == "__main__":
    main()
