"""Fills an index on two processes of Ray, away from the process that runs the tests.

Usage: python bulk_on_demand.py INDEX DOCS, with the folder of this file in PYTHONPATH, for the
processes of Ray. Prints JSON.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from conftest import HashingEmbedder
from lmstack.rag import Index
from lmstack.rag.catalogue.spaces import identity_of
from lmstack.rag.ingest.bulk import RayConfig, RayMachines


def make(folder: str) -> HashingEmbedder:
    (Path(folder) / str(os.getpid())).touch()
    return HashingEmbedder()


def main(folder: str, docs: str) -> None:
    from functools import partial

    marks = Path(folder + ".processes")
    marks.mkdir()
    embedder = HashingEmbedder()
    machines = RayMachines(
        partial(make, str(marks)),
        identity_of(embedder),
        RayConfig(processors=2, copies=2, files=4),
    )
    with Index.open(folder, embedder) as index:
        result = index.add([docs], executor=machines)
        found = {
            "digest": index.content_digest(),
            "processes": len(list(marks.iterdir())),
            "problems": [problem.kind for problem in result.problems],
            "again": index.update().plan.up_to_date,
        }
    print(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
