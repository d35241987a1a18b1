"""Runs of a task killed with SIGKILL at every item and stage, or stopped with Ctrl-C, and resumed
by another process; and two runs at once on a store that neither of them has made yet.

    python -m tests.evals.killed FOLDER

One object of JSON. Processes are forked from this one, in which nothing runs then, so that each
costs milliseconds.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sqlite3
import sys
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from tests.evals.tasks import arithmetic, last_text, scripted, sums, task_of

from lmstack.core import RemoteError, Request
from lmstack.evals.output_store import OutputStore
from lmstack.evals.run import EvaluationProgress, Patience, run_sync
from lmstack.evals.task import ModelOutput

ITEMS, AT_ONCE, INTERRUPTED = 9, 3, 130
PATIENCE = Patience(retries=1, backoff_s=0.0)


def begun(work: Callable[[], None]) -> int:
    """The id of a process that does ``work``."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            work()
            code = 0
        except KeyboardInterrupt:
            code = INTERRUPTED
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    return pid


def ended(pid: int) -> int:
    """The exit code of a process; minus the signal that killed it."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def forked(work: Callable[[], None]) -> int:
    return ended(begun(work))


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


class DyingStore(OutputStore):
    """Dies before it keeps the output number ``dies_at``, counted from 0."""

    dies_at = -1
    kept = 0

    def keep_output(self, key: str, output: ModelOutput) -> ModelOutput:
        if self.kept == self.dies_at:
            die()
        self.kept += 1
        return super().keep_output(key, output)


def attempt(folder: Path, stage: str = "", item: int = -1) -> None:
    """Run the task, and write its result; or die at the ``item``-th of a ``stage``."""
    asked = 0

    def reply(request: Request) -> str:
        nonlocal asked
        if stage == "asking" and asked == item:
            die()
        if stage == "interrupted" and asked == item:
            os.kill(os.getpid(), signal.SIGINT)
        asked += 1
        text = last_text(request)
        with (folder / "asked").open("a") as log:
            log.write(f"{text}\n")
        if "What is 4 " in text:
            raise RemoteError("the provider has no answer to this")
        return arithmetic(request)

    def look(progress: EvaluationProgress) -> None:
        if stage == "done" and progress.done == item + 1:
            die()

    store = DyingStore(folder / "outputs.sqlite", fsync=False)
    store.dies_at = item if stage == "keeping" else -1
    subject, _ = scripted(reply)
    result = run_sync(
        task_of(sums(ITEMS)),
        subject,
        store,
        concurrency=AT_ONCE,
        patience=PATIENCE,
        on_progress=look,
    )
    (folder / "result.json").write_text(json.dumps(result.to_json(times=False)))


def killed(folder: Path, stage: str, item: int) -> dict[str, Any]:
    folder.mkdir()
    code = forked(lambda: attempt(folder, stage, item))
    stored = 0
    if (folder / "outputs.sqlite").exists():
        with sqlite3.connect(folder / "outputs.sqlite") as connection:
            stored = connection.execute("SELECT count(*) FROM kept").fetchone()[0]
        connection.close()
    before = (folder / "asked").read_text().splitlines() if (folder / "asked").exists() else []
    resumed = forked(lambda: attempt(folder))
    after = (folder / "asked").read_text().splitlines()[len(before) :]
    return {
        "stage": stage,
        "item": item,
        "code": code,
        "stored": stored,
        "resumed": resumed,
        "asked_again": len(set(after)),
        "result": (folder / "result.json").read_text(),
    }


def one_of_two(folder: Path, number: int, items: int, ready: int, start: int) -> None:
    """Says that it is ready, and begins when it may."""
    rng = random.Random(number)
    os.write(ready, b".")
    os.read(start, 1)
    subject, _ = scripted(lambda _request: str(rng.random()))
    with OutputStore(folder / "outputs.sqlite", fsync=False) as store:
        result = run_sync(task_of(sums(items)), subject, store, concurrency=4)
    (folder / f"result-{number}.json").write_text(json.dumps(result.to_json(times=False)))


def at_once(folder: Path, items: int = 120) -> dict[str, Any]:
    """Two processes with one store, whose models never say the same."""
    folder.mkdir()
    ready, start = os.pipe(), os.pipe()
    children = [
        begun(partial(one_of_two, folder, number, items, ready[1], start[0])) for number in (0, 1)
    ]
    for _ in children:
        os.read(ready[0], 1)
    os.write(start[1], b"..")
    codes = [ended(child) for child in children]
    with sqlite3.connect(folder / "outputs.sqlite") as connection:
        check = connection.execute("PRAGMA integrity_check").fetchone()[0]
        stored = connection.execute("SELECT count(*) FROM kept").fetchone()[0]
    connection.close()
    results = [(folder / f"result-{number}.json").read_text() for number in (0, 1)]
    return {"codes": codes, "check": check, "stored": stored, "items": items, "results": results}


def main(folder: Path) -> None:
    # Which a shell has its background processes ignore.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    (folder / "whole").mkdir()
    assert forked(lambda: attempt(folder / "whole")) == 0
    places = [(stage, item) for stage in ("asking", "keeping", "done") for item in range(ITEMS)]
    # One item has no output, and is asked for twice.
    places = [place for place in places if place != ("keeping", ITEMS - 1)]
    places += [("interrupted", 0), ("interrupted", ITEMS // 2)]
    found = [killed(folder / f"{stage}-{item}", stage, item) for stage, item in places]
    whole = (folder / "whole" / "result.json").read_text()
    print(json.dumps({"whole": whole, "killed": found, "at_once": at_once(folder / "two")}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
