"""The default models on benchmarks, and the two questions of the docs, by the clock.

    python benchmarks/default_models.py               what results/default_models.json lacks
    python benchmarks/default_models.py --only boolq  one of them, on both models, anew
    python benchmarks/default_models.py --pages       only the page's tables, from the results
    python benchmarks/default_models.py --quick

Types the page's own commands. Benchmarks: `eval run` on both models, each kept the moment it ends;
one that was stopped goes on, in a home that stays. Questions: `eval compare` of two forms of the
default model, and its promotion in int8, in a home of their own with the data fetched anew.
Reported: figures, what questions print, and seconds.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from default_models_page import SUITES, TASKS, write_page
from machine import machine
from passages import speeches
from recording import add_options, result_file
from serving_environments import CACHE

from lmstack.registry import Store

SMALL, GEMMA = "smollm2-135m-instruct", "gemma3-270m"
GATE = str(Path(__file__).parents[1] / "recipes/gates/laptop.yaml")
PROMOTE = ("release", "promote", SMALL, "--to", "prod", "--gate", GATE, "--fetch")
QUESTIONS = {
    "better": ("eval", "compare", SMALL, SMALL, "--weights", "int8", "--fetch"),
    "first": (*PROMOTE, "--first"),
    "promoted": (*PROMOTE, "--weights", "int8"),
}
# Of the JSON result of a run.
KEPT = ("subject", "date", "dataset", "metrics", "figures", "asked", "failed")
CHATS = ("gsm8k_bpb",)  # not for a model without a chat template


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    add_options(parser, "default_models")
    names = [*QUESTIONS, *TASKS]
    parser.add_argument("--only", action="append", choices=names, help="these, anew")
    parser.add_argument("--pages", action="store_true", help="only write the page's tables")
    args = parser.parse_args()
    file = result_file(args, "default_models")
    if args.quick:
        file.unlink(missing_ok=True)
    found = json.loads(file.read_text()) if file.exists() else {}
    wanted = args.only or (["first"] if args.quick else names)
    if not args.pages:
        models = [Store().resolve(n).path for n in (SMALL, GEMMA)[: 1 if args.quick else 2]]
        for name in wanted:
            anew = args.only is not None
            one = question if name in QUESTIONS else benchmark
            for kept in one(name, models, {} if anew else found.get(name, {})):
                found[name] = kept
                file.write_text(json.dumps(found, indent=1) + "\n")
    if not args.quick:
        write_page(found)


def question(name: str, models: list[Path], kept: dict[str, Any]) -> list[dict[str, Any]]:
    """Asked in a fresh home, after the questions before it that it goes on from."""
    if kept:
        return []
    with tempfile.TemporaryDirectory() as home:
        if name == "promoted":
            typed(QUESTIONS["first"], Path(home), models)
        done = typed(QUESTIONS[name], Path(home), models)
    print(name, done["seconds"], "s\n", done["printed"], flush=True)
    return [{"machine": machine(), **done}]


def benchmark(name: str, models: list[Path], kept: dict[str, Any]) -> Any:
    """After each model, what is known of the task ``name``."""
    home = CACHE / "default-models"
    prepare(home)
    typed(("eval", "fetch", name), home, models)
    results = dict(kept.get("results", {}))
    for model in (SMALL, GEMMA):
        if model in results or (model == GEMMA and name in CHATS):
            continue
        command = ("eval", "run", name, *TASKS[name], "--model", model)
        done = typed(command if name in SUITES else (*command, "--json"), home, models)
        if name in SUITES:
            results[model] = done
        else:
            [said] = json.loads(done["printed"])
            results[model] = {key: said[key] for key in KEPT} | {"seconds": done["seconds"]}
        print(name, model, done["seconds"], "s", flush=True)
        yield {"guessing": guessing(name), "machine": machine(), "results": results}


def prepare(home: Path) -> None:
    """A speech that is younger than both models, a row a paragraph, where commands are typed."""
    home.mkdir(parents=True, exist_ok=True)
    paragraphs = [each for each in speeches()[-1].split("\n\n") if each.strip()]
    rows = [json.dumps({"text": each.strip()}) for each in paragraphs]
    (home / "speech.jsonl").write_text("\n".join(rows) + "\n", encoding="utf-8")


def typed(command: tuple[str, ...], home: Path, models: list[Path]) -> dict[str, Any]:
    (home / "models").mkdir(parents=True, exist_ok=True)
    for model in models:
        link = home / "models" / model.name
        if not link.exists():
            link.symlink_to(model)
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "lmstack", "--quiet", *command],
        cwd=home,
        env={**os.environ, "LMSTACK_HOME": str(home)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return {"seconds": round(time.monotonic() - began, 1), "printed": done.stdout}


def guessing(name: str) -> float | None:
    """What a choice by chance gets, or always the same one where all samples have the same."""
    os.environ["LMSTACK_HOME"] = str(CACHE / "default-models")
    from lmstack.evals.task_data import task_named

    if name in SUITES or name == "perplexity":
        return None
    options = TASKS[name]
    limit = int(options[1]) if options[:1] == ("--limit",) else None
    samples = task_named(name, {}).dataset.samples[:limit]
    if not all(each.choices for each in samples):
        return None
    chance = sum(len(each.gold) / len(each.choices) for each in samples) / len(samples)
    if len({each.choices for each in samples}) > 1:
        return chance
    counts = [
        sum(place in each.gold for each in samples) for place in range(len(samples[0].choices))
    ]
    return max(counts) / len(samples)


if __name__ == "__main__":
    main()
