"""The picture of `lmstack eval report` in docs/evaluation.md.

    python benchmarks/report_picture.py

Both default models on four benchmarks, with one as the base: what `default_models.py` asked is
taken from its home, and the rest is asked. Needs chromium-headless-shell or chromium.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import tempfile
from pathlib import Path

from default_models import GEMMA, SMALL, prepare, typed
from default_models_page import TASKS
from serving_environments import CACHE

from lmstack.registry import Store

PICTURE = Path(__file__).parents[1] / "docs/pictures/evaluation-report.png"
BROWSERS = ("chromium-headless-shell", "chromium", "chromium-browser")
COMPARED = ("hellaswag", "truthfulqa_mc1", "boolq", "mmlu")
RULES = """\
rules:
  - {task: hellaswag, kind: non-inferior, margin: 0.1}
  - {task: boolq, kind: superior}
"""
SIZE = (1100, 1500)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--output", type=Path, default=PICTURE)
    args = parser.parse_args()
    home = CACHE / "default-models"
    prepare(home)
    models = [Store().resolve(name).path for name in (SMALL, GEMMA)]
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        for model in (SMALL, GEMMA):
            for task in COMPARED:
                into = ("--model", model, "--output", str(folder / model))
                typed(("eval", "run", task, *TASKS[task], *into), home, models)
        (folder / "gate.yaml").write_text(RULES)
        page, gate = folder / "report.html", ("--gate", str(folder / "gate.yaml"))
        sides = (str(folder / GEMMA), "--base", str(folder / SMALL))
        typed(("eval", "report", *sides, *gate, "--output", str(page)), home, models)
        photograph(page, args.output)
    print(f"{args.output}: {args.output.stat().st_size:,} bytes")


def photograph(page: Path, target: Path) -> None:
    """The top of ``page``, as a browser shows it."""
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    assert browser is not None, f"no {BROWSERS[0]}: make chromium"
    width, height = SIZE
    options = ("--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars")
    window = (f"--window-size={width},{height}", f"--screenshot={target}")
    subprocess.run([browser, *options, *window, page.as_uri()], check=True, capture_output=True)


if __name__ == "__main__":
    main()
