"""`lmstack eval run` killed with SIGKILL at several items and given again; two of it at once on one
store; and with a protocol, or data, that changed in between.

    python -m tests.app.cli.eval_killed FOLDER

One object of JSON. Processes are forked from this one, which has imported what the command needs,
so that each costs milliseconds; what they run is the command line itself.
"""

from __future__ import annotations

import importlib
import io
import json
import os
import sys
from contextlib import redirect_stdout
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

from tests.evals.killed import begun, die, ended, forked
from tests.evals.tasks import last_text

from lmstack.app import wiring
from lmstack.app.cli import main
from lmstack.core import Request, ScriptedModel
from lmstack.evals.output_store import OutputStore
from lmstack.evals.results import TaskResult
from lmstack.evals.task import ModelOutput

ITEMS = 8
TASK = """
name: sums
data: sums.jsonl
input: "What is {{n}} + 1?"
targets: sum
solver: generate
sampling: {temperature: 0, max_tokens: 8}
scorer: exact_match
"""
STAGES = [("asking", 0), ("kept", 3), ("keeping", ITEMS - 1)]


def prepared(folder: Path) -> Path:
    folder.mkdir()
    rows = [{"n": n, "sum": str(n + 1)} for n in range(ITEMS)]
    (folder / "sums.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "task.yaml").write_text(TASK)
    return folder


def command(folder: Path, name: str, stage: str = "", item: int = -1) -> None:
    """`lmstack eval run`, which dies at the ``item``-th of a ``stage``; results in ``name``."""
    os.chdir(folder)
    os.environ["LMSTACK_HOME"] = str(folder / "home")
    asked = kept = 0

    def reply(request: Request) -> str:
        nonlocal asked
        if (stage, item) == ("asking", asked):
            die()
        asked += 1
        with (folder / "asked").open("a") as log:
            log.write(f"{last_text(request)}\n")
        n = int(last_text(request).split()[-3])
        return str(n + 1 if n % 2 else n)

    def keep(self: OutputStore, key: str, output: ModelOutput) -> ModelOutput:
        nonlocal kept
        if (stage, item) == ("keeping", kept):
            die()
        found = keep_output(self, key, output)
        if (stage, item) == ("kept", kept):
            die()
        kept += 1
        return found

    keep_output = OutputStore.keep_output
    # For good: this process ends here.
    mock.patch.object(OutputStore, "keep_output", keep).start()
    mock.patch.object(wiring, "generator", return_value=ScriptedModel([reply])).start()
    with (folder / "printed").open("a") as printed:
        os.dup2(printed.fileno(), 1)
        os.dup2(printed.fileno(), 2)
    words = ("eval", "run", "task.yaml", "--at-once", "2", "--output", name, "--json")
    os._exit(main(words))


def result(folder: Path, name: str) -> TaskResult:
    return TaskResult.from_json(json.loads((folder / name / "sums.json").read_text()))


def asked(folder: Path) -> list[str]:
    log = folder / "asked"
    lines = log.read_text().splitlines() if log.exists() else []
    log.write_text("")
    return lines


def killed(folder: Path, stage: str, item: int) -> dict[str, Any]:
    prepared(folder)
    code = forked(lambda: command(folder, "first", stage, item))
    before = asked(folder)
    again = forked(lambda: command(folder, "second"))
    return {
        "stage": stage,
        "item": item,
        "codes": [code, again],
        "before": before,
        "after": asked(folder),
        "digest": result(folder, "second").digest,
    }


def at_once(folder: Path) -> dict[str, Any]:
    prepared(folder)
    children = [begun(partial(command, folder, name)) for name in ("one", "two")]
    codes = [ended(child) for child in children]
    third = forked(lambda: command(folder, "three"))
    found = asked(folder)
    names = ("one", "two", "three")
    digests = [result(folder, name).digest for name in names]
    return {"codes": [*codes, third], "asked": len(found), "digests": digests}


def changed(folder: Path) -> dict[str, Any]:
    """What is asked after each change, and whether the figures' protocol and data are others."""
    prepared(folder)
    found = {}
    edits = {
        "nothing": ("task.yaml", "", ""),
        "the prompt": ("task.yaml", "What is", "How much is"),
        "the sampling": ("task.yaml", "max_tokens: 8", "max_tokens: 9"),
        "the version": ("task.yaml", "name: sums", "name: sums\nversion: 2"),
        "the scorer": ("task.yaml", "exact_match", "{name: exact_match, ignore_case: true}"),
        "a row": ("sums.jsonl", '"sum": "3"', '"sum": "three"'),
    }
    forked(lambda: command(folder, "before"))
    before = result(folder, "before")
    for name, (file, old, new) in edits.items():
        asked(folder)
        text = (folder / file).read_text()
        (folder / file).write_text(text.replace(old, new) if old else text)
        code = forked(lambda: command(folder, "after"))
        after = result(folder, "after")
        found[name] = {
            "code": code,
            "asked": len(asked(folder)),
            "protocol": before.protocol != after.protocol,
            "data": before.dataset_digest != after.dataset_digest,
        }
        (folder / file).write_text(text)
    return found


def load(folder: Path) -> None:
    """Import what a command does, and make its tables, before anything is forked."""
    importlib.import_module("lmstack.serve")
    os.environ["LMSTACK_HOME"] = str(folder / "home")
    with redirect_stdout(io.StringIO()):
        assert main(("eval", "run", "gpqa_generated", "--limit", "1", "--json")) == 0


def run_all(folder: Path) -> None:
    with mock.patch.object(wiring, "generator", return_value=ScriptedModel(["Answer: A"])):
        load(folder)
    whole = prepared(folder / "whole")
    assert forked(lambda: command(whole, "all")) == 0, (whole / "printed").read_text()
    found = {
        "whole": result(whole, "all").digest,
        "killed": [killed(folder / f"{stage}-{item}", stage, item) for stage, item in STAGES],
        "at_once": at_once(folder / "two"),
        "changed": changed(folder / "changed"),
    }
    print(json.dumps(found))


if __name__ == "__main__":
    run_all(Path(sys.argv[1]))
