"""Runs a task on two processes of Ray, away from the process that runs the tests.

    python -m tests.app.wiring.evaluation_on_demand FOLDER

with the root of the repository in PYTHONPATH, for the processes of Ray. Prints JSON.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from tests.evals.tasks import arithmetic, last_text, scripted, sums, task_of

from lmstack.core import LmstackError, RemoteError, Request
from lmstack.evals.evaluation_ray import evaluation_cluster
from lmstack.evals.output_store import OutputStore
from lmstack.evals.run import Patience, run_sync
from lmstack.evals.task import Subject

HASTY = Patience(retries=0)
ITEMS = 60


def reply(marks: Path, request: Request) -> str:
    (marks / str(os.getpid())).touch()
    with (marks / "asked").open("a") as log:
        log.write(f"{last_text(request)}\n")
    if "What is 4 " in last_text(request):
        raise RemoteError("the provider has no answer to this")
    return arithmetic(request)


@contextmanager
def opened(folder: str, *, name: str = "sha256:" + "0" * 64) -> Iterator[Subject]:
    yield scripted(partial(reply, Path(folder)), digest=name)[0]


@contextmanager
def opened_differently(folder: str) -> Iterator[Subject]:
    """Another model in each process."""
    with opened(folder, name=f"sha256:{os.getpid():064x}") as found:
        yield found


def main(folder: Path) -> None:
    marks = folder / "marks"
    marks.mkdir()
    task, options = task_of(sums(ITEMS)), {"patience": HASTY, "concurrency": 4}
    with opened(str(folder)) as local:
        want = run_sync(task, local, None, **options)
    with OutputStore(folder / "outputs.sqlite") as store:
        with evaluation_cluster("local", partial(opened, str(marks)), 2) as cluster:
            part = cluster.run(task, cluster.subject, store, limit=20, **options)
            first = len((marks / "asked").read_text().splitlines())
            whole = cluster.run(task, cluster.subject, store, **options)
            rest = len((marks / "asked").read_text().splitlines()) - first
        refused = ""
        with evaluation_cluster("local", partial(opened_differently, str(marks)), 2) as cluster:
            try:
                cluster.run(task, cluster.subject, store, limit=4)
            except LmstackError as error:
                refused = f"{type(error).__name__}: {error.message}"
    print(
        json.dumps(
            {
                "equal": whole.digest == want.digest,
                "failures": [each.failed for each in whole.failures],
                "part": len(part.samples),
                "asked": [first, rest],
                "processes": len([each for each in marks.iterdir() if each.name.isdigit()]),
                "refused": refused,
            }
        )
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
