"""Forks a child that updates the index, as often as it is told to, so that it can be killed.

Importing takes half a second and a kill ends a process, so the imports are done once here.
Usage: python update_on_demand.py INDEX DOCS. A line starts an update and is answered with the
child's id, a line a document, and "end"; the next line is answered with its exit status.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from conftest import HashingEmbedder
from lmstack.rag import Index


def main(index: str, docs: str) -> None:
    for _ in sys.stdin:
        child = os.fork()
        if child == 0:
            with Index.open(index, HashingEmbedder()) as opened:
                opened.update([docs], progress=lambda _: print("document", flush=True))
            print("end", flush=True)
            os._exit(0)
        print(child, flush=True)
        sys.stdin.readline()
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
