"""Forks a child that updates the index, as often as it is told to, so that it can be killed.

Importing takes half a second and a kill ends a process, so the imports are done once here.
Usage: python update_on_demand.py INDEX DOCS [warm]. A line ``update E`` or ``reembed E``, where E
names one of `EMBEDDERS`, starts a child and is answered with its id, a line a document, and "end";
the next line is answered with its exit status. ``warm``: the first update of a process imports and
compiles statements for longer than it updates, so one is done before a child is forked.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent.parent))
sys.path.insert(0, str(Path(__file__).parent))

from conftest import HashingEmbedder
from lmstack.rag import Index

EMBEDDERS = {"a": HashingEmbedder(), "b": HashingEmbedder(48, 40, "b")}


def main(index: str, docs: str, warm: str = "") -> None:
    if warm:
        with tempfile.TemporaryDirectory() as folder:
            Path(folder, "a.md").write_text("# Harbour\n\nLanterns.\n")
            with Index.open(f"{folder}/index", EMBEDDERS["a"]) as opened:
                opened.update([f"{folder}/a.md"])
    for line in sys.stdin:
        what, name = line.split()
        child = os.fork()
        if child == 0:
            run(index, docs, what, EMBEDDERS[name])
            say("end")
            os._exit(0)
        say(child)
        sys.stdin.readline()
        say(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))


def say(line: object) -> None:
    """In one write: where output is not buffered, `print` makes two, and a kill comes between."""
    os.write(1, f"{line}\n".encode())


def run(index: str, docs: str, what: str, embedder: HashingEmbedder) -> None:
    def tell(_: object) -> None:
        say("document")

    if what == "update":
        with Index.open(index, embedder) as opened:
            opened.update([docs], progress=tell)
    else:
        with Index.open(index, create=False) as opened:
            opened.reembed(embedder, tell)


if __name__ == "__main__":
    main(*sys.argv[1:])
