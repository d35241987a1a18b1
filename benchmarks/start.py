"""Seconds from Enter to the first word: `lmstack ask` as a new process, cold and warm.

    make bench-start                                       this tree, about two minutes
    python benchmarks/start.py --before OLDER/src          also an older tree, in turns with it

Three states. ``first``: no packed weights are kept and no file is in the page cache, as at the
first question after a boot and `lmstack pull`; ``cold``: packed weights are kept, but no file is
in the page cache; ``warm``: the question after another one. ``served``: warm, while `lmstack up`
serves the same folder. Each figure is the best of several rounds, because whatever else runs on
the machine only adds to it; processor time is that of the process with all its threads.

A file that another process has mapped stays in the page cache, so stop servers for cold figures.
Copies the models of $LMSTACK_HOME and indexes docs/ for itself. Writes results/start.json.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import json
import os
import pathlib
import pty
import re
import select
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from machine import machine
from recording import add_options, result_file

HERE = pathlib.Path(__file__).parent
ROOT = HERE.parent
# The first is answered with a sentence that stands out; of the second's, several are close, so
# that the language model is asked.
QUESTIONS = {"quoted": "How do I open the web page?", "weighed": "What is the default port?"}
# What a person reads first: the first word under this heading.
_ANSWER = re.compile(rb"Answer[^\n]*\n\s*\S")
_MODELS = ("smollm2-135m-instruct", "all-minilm-l6-v2", "ms-marco-minilm-l12")
STATES = ("first", "cold", "warm", "served")


@dataclass(frozen=True)
class Run:
    """Seconds of one process: to the first word, to its end, and of processor time."""

    first_word: float
    end: float
    cpu: float


@dataclass(frozen=True)
class Side:
    """A source tree and a home of its own: models are shared, indexes and packed weights not."""

    source: pathlib.Path
    home: pathlib.Path

    def environment(self) -> dict[str, str]:
        kept = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
        return {**kept, "PYTHONPATH": str(self.source), "LMSTACK_HOME": str(self.home)}

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "lmstack", *arguments]


def ask(side: Side, docs: pathlib.Path, question: str) -> Run:
    """`lmstack ask` on a terminal of its own."""
    leader, follower = pty.openpty()
    started = time.monotonic()
    process = subprocess.Popen(
        side.command("ask", question, "--docs", str(docs)),
        stdin=subprocess.DEVNULL, stdout=follower, stderr=subprocess.DEVNULL,
        env=side.environment(),
    )  # fmt: skip
    os.close(follower)
    seen, first_word = b"", 0.0
    for part in _output(leader):
        seen += part
        if not first_word and _ANSWER.search(seen):
            first_word = time.monotonic() - started
    os.close(leader)
    _, status, used = os.wait4(process.pid, 0)
    end = time.monotonic() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode or not first_word:
        raise SystemExit(f"lmstack ask ended with {process.returncode}: {seen.decode()}")
    return Run(first_word, end, used.ru_utime + used.ru_stime)


def _output(leader: int) -> Iterator[bytes]:
    """What is written to a terminal until its last writer has closed it."""
    while True:
        select.select([leader], [], [])
        try:
            part = os.read(leader, 65536)
        except OSError:  # Linux says EIO where others say nothing is left
            return
        if not part:
            return
        yield part


def libraries(names: Iterable[str]) -> list[pathlib.Path]:
    """The files of these packages and modules, installed ones and Python's own."""
    wanted, found = set(names), []
    for folder in (pathlib.Path(sysconfig.get_path(name)) for name in ("purelib", "stdlib")):
        for path in folder.iterdir():
            if path.is_dir() and path.name.removesuffix(".libs") in wanted:
                found += _files(path)
        for path in [
            *folder.glob("*.*"),
            *folder.glob("__pycache__/*"),
            *folder.glob("lib-dynload/*"),
        ]:
            if path.name.partition(".")[0] in wanted:
                found.append(path)
    return found


def _files(folder: pathlib.Path) -> list[pathlib.Path]:
    return [pathlib.Path(at, name) for at, _, names in os.walk(folder) for name in names]


def drop(files: Iterable[pathlib.Path]) -> None:
    """Take ``files`` out of the page cache."""
    os.sync()  # what is not on disk yet stays
    for path in files:
        with contextlib.suppress(OSError), path.open("rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def prepare(side: Side, state: str, read: Sequence[pathlib.Path]) -> None:
    """``read``: files beside those of the side that a process reads."""
    if state == "first":
        shutil.rmtree(side.home / "packed", ignore_errors=True)
    if state in ("first", "cold"):
        models = [
            path for name in _MODELS for path in _files((side.home / "models" / name).resolve())
        ]
        drop([*read, *_files(side.source), *_files(side.home), *models])


@contextlib.contextmanager
def serving(side: Side, docs: pathlib.Path) -> Iterator[None]:
    """`lmstack up` on a free port, ready."""
    process = subprocess.Popen(
        side.command("up", str(docs), "--port", "0"),
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=side.environment(), text=True,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        if not process.stdout.readline():
            raise SystemExit("lmstack up ended before it was ready")
        yield
    finally:
        process.terminate()
        process.wait(60)


def imports(side: Side, docs: pathlib.Path) -> dict[str, float]:
    """Milliseconds that importing takes for an answer that is quoted, by package."""
    command = [sys.executable, "-X", "importtime", "-m", "lmstack"]
    done = subprocess.run(
        [*command, "ask", QUESTIONS["quoted"], "--docs", str(docs)],
        capture_output=True, text=True, env=side.environment(), check=True,
    )  # fmt: skip
    spent: collections.Counter[str] = collections.Counter()
    for line in done.stderr.splitlines():
        found = re.match(r"import time:\s+(\d+) \|\s+\d+ \|\s*([\w.]+)", line)
        if found:
            spent[found[2].partition(".")[0]] += int(found[1])
    return {name: us / 1000 for name, us in spent.most_common()}


def measure(
    sides: dict[str, Side],
    docs: pathlib.Path,
    rounds: int,
    states: list[str],
    read: Sequence[pathlib.Path],
) -> dict[str, dict[str, Any]]:
    """By side, state and kind of question. Sides take turns, so that what else runs slows both."""
    found: dict[str, dict[str, Any]] = {name: {} for name in sides}
    for state in states:
        for kind, question in QUESTIONS.items():
            runs: dict[str, list[Run]] = {name: [] for name in sides}
            for name, side in sides.items() if state == "served" else ():
                with serving(side, docs):
                    runs[name] = [ask(side, docs, question) for _ in range(rounds)]
            for _ in range(0 if state == "served" else rounds):
                for name, side in sides.items():
                    prepare(side, state, read)
                    runs[name].append(ask(side, docs, question))
            for name, each in runs.items():
                found[name].setdefault(state, {})[kind] = best_of(each)
                print(f"{name:>6} {state:>6} {kind:>7}: {best_of(each)}", flush=True)
    return found


def best_of(runs: list[Run]) -> dict[str, float]:
    return {
        "first_word_s": round(min(run.first_word for run in runs), 3),
        "end_s": round(min(run.end for run in runs), 3),
        "cpu_s": round(min(run.cpu for run in runs), 3),
        "rounds": len(runs),
    }


def commit(source: pathlib.Path) -> str:
    """The commit of a source tree; its folder's name where it is in no repository."""
    command = ["git", "-C", str(source), "rev-parse", "--short", "HEAD"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip() or source.parent.name


def _side(source: pathlib.Path, scratch: pathlib.Path, docs: pathlib.Path) -> Side:
    from lmstack.registry.home import home

    own = scratch / "home"
    (own / "models").mkdir(parents=True)
    for name in _MODELS:
        (own / "models" / name).symlink_to(home() / "models" / name, target_is_directory=True)
    side = Side(source.resolve(), own)
    for question in QUESTIONS.values():  # makes the index and the packed weights
        ask(side, docs, question)
    return side


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--before", type=pathlib.Path, help="the src folder of an older tree")
    parser.add_argument("--before-commit", help="what that tree is called in the results")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--states", default=",".join(STATES), help="some of them, by commas")
    add_options(parser, "start")
    given = parser.parse_args()
    if given.quick:
        given.rounds, given.states = 1, "warm"
    docs = ROOT / "docs"
    results: dict[str, Any] = {"machine": machine(), "questions": QUESTIONS}
    sources = {"after": ROOT / "src"}
    if given.before is not None:
        sources = {"before": given.before, **sources}
    with tempfile.TemporaryDirectory() as scratch:
        sides = {n: _side(s, pathlib.Path(scratch, n), docs) for n, s in sources.items()}
        imported = {name: imports(side, docs) for name, side in sides.items()}
        read = libraries({package for each in imported.values() for package in each})
        found = measure(sides, docs, given.rounds, given.states.split(","), read)
        for name, side in sides.items():
            spent = imported[name]
            most = {package: round(spent[package]) for package in list(spent)[:6]}
            found[name]["imports_ms"] = {"all": round(sum(spent.values())), **most}
            print(f"{name:>6} imports, in ms: {found[name]['imports_ms']}")
            named = given.before_commit if name == "before" else None
            results[name] = {"commit": named or commit(side.source), **found[name]}
    result_file(given, "start").write_text(json.dumps(results, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
