"""What the objectives that read plain text learn from State of the Union in some minutes.

    python benchmarks/objectives.py                        about half an hour on one core
    python benchmarks/objectives.py --only masked denoising
    python benchmarks/objectives.py --quick                four steps each; records nothing

Each runs its recipe through `lmstack train`, from fresh weights, on nine tenths of the speeches,
with a vocabulary of its own, in steps of 8 rows of 256 tokens; the loss is that of the others,
after each quarter of the steps. Beside them the loss of a model that knows nothing, ln(vocabulary).
The student of a distillation is trained a second time without its teacher.
"""

from __future__ import annotations

import argparse
import json
import math
import pathlib
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from typing import Any

from machine import machine
from pretraining import files_of
from recording import add_options, result_file

ROOT = pathlib.Path(__file__).resolve().parents[1]
VOCABULARY = 8192
DENOISING = ("<mask>", "<pad>", "</s>")
SENTINELS = tuple(f"<extra_id_{n}>" for n in range(100))
# Objective: its recipe, its steps, and changes to it.
RUNS: dict[str, tuple[str, int, Sequence[str]]] = {
    "causal": ("pretrain", 200, ()),
    "masked": ("masked-lm", 200, ()),
    "span-corruption": ("span-corruption", 200, ()),
    "denoising": ("denoising", 200, ()),
    "distillation": ("distillation", 60, ()),
    "without its teacher": ("distillation", 60, ("objective=causal",)),
}


def vocabulary(folder: pathlib.Path, objective: str, files: list[str]) -> str:
    """A tokenizer with the tokens that the objective needs; a distillation has its teacher's."""
    from lmstack.text import TextCorpus, VocabularyConfig, find_files, train_tokenizer

    if RUNS[objective][0] == "distillation":
        return "smollm2-135m-instruct"
    special = {"span-corruption": ("<pad>", "</s>", *SENTINELS), "denoising": DENOISING}
    kind = "wordpiece" if objective == "masked" else "bpe"
    tokens = special.get(objective, ())
    config = VocabularyConfig(kind, VOCABULARY, special_tokens=tokens)
    roles = {"pad_token": "<pad>", "eos_token": "</s>", "mask_token": "<mask>"}
    roles = {role: token for role, token in roles.items() if token in tokens}
    train_tokenizer(TextCorpus(find_files(files)), config, roles=roles).save(folder)
    return str(folder)


def trained(folder: pathlib.Path, name: str, steps: int, train: list[str], held: list[str]) -> Any:
    """The loss of the held-out speeches after each quarter, as `lmstack train` reports it."""
    recipe, _, changes = RUNS[name]
    tokenizer = vocabulary(folder / f"{name}-tokenizer", name, train)
    command = [sys.executable, "-m", "lmstack", "train", str(ROOT / "recipes" / f"{recipe}.yaml")]
    command += [f"data={json.dumps(train)}", f"validation={json.dumps(held)}", *changes]
    command += [f"tokenizer={tokenizer}", f"output={folder / name}", f"run={folder / name}.run"]
    command += ["batch=8", "max_length=256", "micro_tokens=2048", f"steps={steps}"]
    command += [f"eval_every={max(steps // 4, 1)}", f"save_every={steps}", "--json", "--quiet"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{name}: {done.stderr[-2000:]}")
    rows = map(json.loads, (folder / f"{name}.run" / "metrics.jsonl").read_text().splitlines())
    rows = list(rows)
    held_out = [row for row in rows if "validation_loss" in row and row["step"]]
    last = [row for row in rows if "seconds" in row][-1]
    size = json.loads((folder / name / "config.json").read_text())["vocab_size"]
    # The loss of a distillation is of both models; what it has learned of the data is its own.
    key = "validation_cross_entropy" if name == "distillation" else "validation_loss"
    return {
        "nothing": math.log(size),
        "steps": [row["step"] for row in held_out],
        "loss": [row[key] for row in held_out],
        "accuracy": held_out[-1].get("validation_accuracy"),
        "tokens": last["tokens"],
        "seconds": last["seconds"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=RUNS, default=list(RUNS))
    add_options(parser, "objectives")
    args = parser.parse_args()
    result: dict[str, Any] = {"machine": machine()}
    with tempfile.TemporaryDirectory() as scratch:
        folder = pathlib.Path(scratch)
        (folder / "texts").mkdir()
        train, held = files_of(folder / "texts")
        if args.quick:
            train, held = train[:4], held[:1]
        for name in args.only:
            # A teacher reads what is held out, too.
            few = held[:3] if RUNS[name][0] == "distillation" else held
            found = trained(folder, name, 4 if args.quick else RUNS[name][1], train, few)
            result[name] = found
            losses = " ".join(f"{loss:.3f}" for loss in found["loss"])
            print(
                f"{name:20} {found['nothing']:.3f} -> {losses}, {found['tokens']:,.0f} tokens"
                f" in {found['seconds']:.0f} s"
                + ("" if found["accuracy"] is None else f", accuracy {found['accuracy']:.3f}"),
                flush=True,
            )
    result_file(args, "objectives").write_text(json.dumps(result, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
