"""`lmstack data problems`: arithmetic to learn from a reward."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lmstack.app.cli.command import command
from lmstack.app.cli.output import Output
from lmstack.app.formats import columns, count
from lmstack.core.files import write_atomic
from lmstack.train.data.problems import ProblemConfig, problems

__all__ = ["make_problems"]


@command(
    "data problems",
    """
    --output, -o FILE: JSON Lines, a row a problem.
    --operations SIGNS: Some of + - * /.
    --digits N 1..6: Of the largest numbers.
    --count N 1..: Problems, all told.
    --held-out SHARE 0..1: To test with.
    --form TEXT: The prompt, with {problem} in it.
    --seed N 0..:

    lmstack data problems --operations + --digits 2 --output problems.jsonl
    """,
)
def make_problems(
    out: Output,
    output: Path = Path("problems.jsonl"),
    operations: str = "+-",
    digits: int = 2,
    number: int = 2000,
    held_out: float = 0.2,
    form: str = "What is {problem}?",
    seed: int = 0,
) -> None:
    """Make problems of arithmetic, to train on with the reward `arithmetic`.

    No problem is on both sides of the split: those to test with go to a second file. `lmstack train
    recipes/grpo.yaml` reads both."""
    config = ProblemConfig(tuple(operations.replace(" ", "")), digits, number, held_out, form, seed)
    train, held = problems(config)
    beside = output.with_name(f"{output.stem}.held-out{output.suffix}")
    for path, rows in ((output, train), (beside, held)):
        _write(path, rows)
    if out.as_json:
        out.result({"file": str(output), "held_out": str(beside), "rows": [len(train), len(held)]})
        return
    files = f"data={shlex.quote(str(output))} validation={shlex.quote(str(beside))}"
    table = [
        ("to train on", f"{count(len(train), 'problems')}, in {output}"),
        ("to test with", f"{count(len(held), 'problems')}, in {beside}"),
        ("next", f"lmstack train recipes/grpo.yaml {files}"),
    ]
    out.lines(columns(table))


def _write(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    write_atomic(path, text.encode())
