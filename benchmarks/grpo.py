"""Samples a second of a GRPO step, beside TRL's GRPOTrainer in one run.

    make bench-grpo                        all sides, in some ten minutes
    make bench-grpo QUICK=1                a step each of less; records nothing
    python benchmarks/grpo.py --only float32,trl_float32

SmolLM2-135M-Instruct with LoRA on sums: every side draws as many answers to the same prompts, of
the same length at most, at temperature 1, scores them by their last number and their length, and
makes one update. Sides run one after the other, in processes of their own with the same threads.
The first step warms up and does not count. Answers are drawn by chance, so their mean length is
printed too: *tokens a second* are those of answers. *flat*: the share of prompts whose answers have
one reward; lmstack does not read those again, because they have no gradient. TRL draws with
transformers' `generate`; lmstack with the engine that serves. Seconds are those of the wall, and of
the processor.
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import random
import subprocess
import sys
import tempfile
from typing import Any

from recording import add_options, result_file
from serving_models import LANGUAGE, quiet_environment, saved
from spine import HERE, processor
from training_environments import PEER, BuildError, build, versions

SCRIPTS = HERE / "training_peers"
SECONDS = 1200
SIDES = (
    "trl_float32",
    "float32",
    "trl_bfloat16",
    "bfloat16",
    "bfloat16+int8",
    "int8+int8",
)
RATIOS = (
    ("float32", "trl_float32"),
    ("bfloat16", "trl_bfloat16"),
    ("bfloat16+int8", "trl_bfloat16"),
    ("int8+int8", "trl_bfloat16"),
)


def sums(path: pathlib.Path, count: int) -> None:
    """Rows of sums of two numbers."""
    drawn = random.Random(0)
    rows = []
    for _ in range(count):
        one, two = drawn.randint(2, 99), drawn.randint(2, 99)
        rows.append({"prompt": f"What is {one} + {two}?", "answer": str(one + two)})
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def measured(
    side: str, python: str, job: dict[str, Any], folder: pathlib.Path, threads: int
) -> dict[str, Any]:
    peer = side.startswith("trl_")
    path = folder / f"{side}.json"
    path.write_text(json.dumps({**job, "output": str(folder / side)}))
    script = SCRIPTS / ("grpo_trl.py" if peer else "grpo_lmstack.py")
    command = [python if peer else sys.executable, str(script), side.removeprefix("trl_")]
    done = subprocess.run(
        [*command, str(path)],
        capture_output=True,
        text=True,
        timeout=SECONDS,
        env=quiet_environment(threads),
    )
    try:
        found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    except (IndexError, ValueError):
        said = (done.stderr or done.stdout).strip()[-2000:]
        print(f"{side}: {said[-700:]}", flush=True)
        return {"error": said}
    stamps = found.pop("stamps")
    steps = len(stamps) - 1
    samples = steps * job["batch"] * job["samples"]
    wall, busy = (stamps[-1][n] - stamps[0][n] for n in (0, 1))
    found |= {
        "steps": steps,
        "samples": samples,
        "seconds": wall,
        "samples_per_second": samples / wall,
        "samples_per_processor_second": samples / busy,
        "tokens_per_second": samples * found["answer_tokens"] / wall,
    }
    parts = found.get("seconds_of", {})
    shares = ", ".join(f"{part} {spent / wall:.0%}" for part, spent in parts.items())
    print(
        f"{side:16}{found['samples_per_second']:8.2f} samples/s"
        f"{found['samples_per_processor_second']:8.2f} a processor second"
        f"{found['answer_tokens']:7.1f} tokens each{found['tokens_per_second']:8.1f} tokens/s"
        f"{found['peak_bytes'] / 1e9:6.2f} GB  {shares}"
        + (f", flat {found['flat_groups']:.0%}" if "flat_groups" in found else ""),
        flush=True,
    )
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", help="sides, a,b,c", default=",".join(SIDES))
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--steps", type=int, default=3, help="that count, after one to warm up")
    parser.add_argument("--max-tokens", type=int, default=64)
    add_options(parser, "grpo")
    args = parser.parse_args()
    job: dict[str, Any] = {
        "steps": 1 + (1 if args.quick else args.steps),
        "batch": 2 if args.quick else 4,
        "samples": 4 if args.quick else 8,
        "pass": 8,  # answers of one pass of TRL's
        "max_tokens": 24 if args.quick else args.max_tokens,
        "threads": args.threads,
        "lr": 1e-5,
        "seed": 0,
        "model": saved(LANGUAGE),
        "lora": {"r": 16, "alpha": 32, "targets": ["q_proj", "v_proj"]},
    }
    sides: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as scratch:
        folder = pathlib.Path(scratch)
        sums(folder / "sums.jsonl", job["batch"] * job["steps"])
        job["data"] = str(folder / "sums.jsonl")
        try:
            python = str(build().python)
            peer: dict[str, Any] = {"built": True, "versions": versions(PEER)}
        except BuildError as error:
            python, peer = "", {"built": False, "error": str(error)}
            print(f"the peer cannot be built: {str(error)[-300:]}")
        for side in args.only.split(","):
            if python or not side.startswith("trl_"):
                sides[side] = measured(side, python, job, folder, args.threads)
    ratios = {
        f"{one} / {two}": {
            unit: sides[one][unit] / sides[two][unit]
            for unit in ("samples_per_second", "samples_per_processor_second", "tokens_per_second")
        }
        for one, two in RATIOS
        if "samples" in sides.get(one, {}) and "samples" in sides.get(two, {})
    }
    for name, ratio in ratios.items():
        print(f"{name:32}" + "".join(f"{unit} x{value:.2f}  " for unit, value in ratio.items()))
    del job["model"], job["data"]
    facts = {"machine": processor(), "cores": os.cpu_count(), "threads": args.threads}
    path = result_file(args, "grpo")
    result = {**facts, "job": job, "peers": peer, "sides": sides, "ratios": ratios}
    path.write_text(json.dumps(result, indent=1) + "\n")
    print(f"written to {path}")


if __name__ == "__main__":
    main()
