"""The picture of `lmstack eval report` in docs/evaluation.md.

    python benchmarks/report_picture.py

Types the page's own commands: the default model as it is and in int8 on two benchmarks, and the
report on both with a gate. Answers are kept in a home that stays, and asked for once. Needs
chromium-headless-shell or chromium.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import tempfile
from pathlib import Path

from default_models import SMALL, typed
from serving_environments import CACHE

from lmstack.registry import Store

PICTURE = Path(__file__).parents[1] / "docs/pictures/evaluation-report.png"
BROWSERS = ("chromium-headless-shell", "chromium", "chromium-browser")
TASKS = ("hellaswag", "truthfulqa_mc1")
RULES = "rules:\n" + "".join(
    f"  - {{task: {task}, kind: non-inferior, margin: 0.1}}\n" for task in TASKS
)
SIZE = (1000, 1180)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--output", type=Path, default=PICTURE)
    args = parser.parse_args()
    home, models = CACHE / "report-picture", [Store().resolve(SMALL).path]
    home.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        base, int8, gate, page = (
            Path(scratch, name) for name in ("base", "int8", "gate.yaml", "report.html")
        )
        gate.write_text(RULES)
        sides = (str(int8), "--base", str(base), "--gate", str(gate))
        for command in (
            ("fetch", *TASKS),
            ("run", *TASKS, "--output", str(base)),
            ("run", *TASKS, "--weights", "int8", "--output", str(int8)),
            ("report", *sides, "--output", str(page)),
        ):
            typed(("eval", *command), home, models)
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
