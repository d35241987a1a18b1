"""The default models on quick benchmarks, and the two questions of the docs, by the clock.

    python benchmarks/default_models.py [--quick]

Types the page's own commands in a home of its own, with the models linked and the data fetched
anew: `eval run` on both models, `eval compare` of two forms of the default one, and its promotion
in int8. Reported: what each prints, and its seconds.
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

from machine import machine
from recording import add_options, result_file

from lmstack.registry import Store

SMALL, GEMMA = "smollm2-135m-instruct", "gemma3-270m"
GATE = str(Path(__file__).parents[1] / "recipes/gates/laptop.yaml")
TASKS = ("hellaswag", "truthfulqa_mc1", "gsm8k_bpb")
PROMOTE = ("promote", SMALL, "--to", "prod", "--gate", GATE, "--fetch")
COMMANDS = {
    "better": ("eval", "compare", SMALL, SMALL, "--weights", "int8", "--fetch"),
    SMALL: ("eval", "run", *TASKS),
    GEMMA: ("eval", "run", *TASKS[:2], "--model", GEMMA),
    "first": (*PROMOTE, "--first"),
    "promoted": (*PROMOTE, "--weights", "int8"),
}
QUICK = ("first",)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    add_options(parser, "default_models")
    args = parser.parse_args()
    found: dict[str, Any] = {"machine": machine()}
    models = [Store().resolve(name).path for name in (SMALL, GEMMA)[: 1 if args.quick else 2]]
    with tempfile.TemporaryDirectory() as scratch:
        for name, command in COMMANDS.items():
            if name in QUICK or not args.quick:
                # The promotion asks everything anew, as a newcomer's would.
                home = Path(scratch, "promoting" if command[0] == "promote" else "evaluating")
                found[name] = typed(command, home, models)
                print(name, found[name]["seconds"], "s\n", found[name]["printed"], flush=True)
    result_file(args, "default_models").write_text(json.dumps(found, indent=1) + "\n")


def typed(command: tuple[str, ...], home: Path, models: list[Path]) -> dict[str, Any]:
    (home / "models").mkdir(parents=True, exist_ok=True)
    for model in models:
        link = home / "models" / model.name
        if not link.exists():
            link.symlink_to(model)
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "lmstack", "--quiet", *command],
        env={**os.environ, "LMSTACK_HOME": str(home)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return {"seconds": round(time.monotonic() - began, 1), "printed": done.stdout}


if __name__ == "__main__":
    main()
