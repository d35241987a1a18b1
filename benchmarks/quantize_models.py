"""`lmstack model quantize` of the models by name, as typed: size, cost in quality, processor time.

    python benchmarks/quantize_models.py        about ten minutes on two quiet cores

Needs the models in the store (`lmstack pull`). Each form is made in a home of its own, so nothing
in the store changes. Seconds are those of the processor (user and system), which other programs
on the machine do not lengthen much. Writes results/quantize_models.json.
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import resource
import subprocess
import sys
import tempfile
from typing import Any

from lmstack.app.inspect.processor import processor
from lmstack.registry import Store

HERE = pathlib.Path(__file__).parent
FORMS = (
    ("smollm2-135m-instruct", "int8"),
    ("smollm2-135m-instruct", "q4"),
    ("smollm2-135m-instruct", "nf4"),
    ("gemma3-270m", "int8"),
    ("gemma3-270m", "q4"),
    ("gemma3-270m", "nf4"),
    ("all-minilm-l6-v2", "int8"),
)
LEFT_OUT = ("name", "path", "digest")


def measured(model: str, form: str) -> dict[str, Any]:
    """What the command says, and the seconds it took. A form past its limit is kept by force,
    so that its figures are known; ``within_limit`` says so."""
    command = pathlib.Path(sys.executable).with_name("lmstack")
    with tempfile.TemporaryDirectory() as home:
        models = pathlib.Path(home) / "models"
        models.mkdir()
        (models / model).symlink_to(Store().resolve(model).path)
        before = _seconds()
        ran = subprocess.run(
            [str(command), "quantize", model, "--to", form, "--force", "--json"],
            env={**os.environ, "LMSTACK_HOME": home},
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
        found: dict[str, Any] = json.loads(ran.stdout)
    seconds = round(_seconds() - before, 1)
    kept = {key: value for key, value in found.items() if key not in LEFT_OUT}
    return {"model": model, **kept, "processor_seconds": seconds}


def _seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", default=str(HERE / "results" / "quantize_models.json"))
    parser.add_argument("--only", action="append", help="a model by its name; repeat it")
    given = parser.parse_args()
    path = pathlib.Path(given.json)
    before = json.loads(path.read_text(encoding="utf-8"))["forms"] if path.exists() else []
    rows = {(row["model"], row["form"]): row for row in before}
    for model, form in FORMS:
        if given.only and model not in given.only:
            continue
        row = rows[model, form] = measured(model, form)
        print(json.dumps(row), flush=True)
        ordered = [rows[key] for key in FORMS if key in rows]
        result = {"machine": str(processor()), "cores": os.cpu_count(), "forms": ordered}
        path.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
