"""Mutated model folders, many of them: `python -m tests.fuzz.run --seeds 20000 --sanitize`.

Every seed is one mutation of one base. Batches of seeds run in processes that are forked when
everything is imported; each says which seed it begins, so that a crash has its seed. A finding is
a line with the seed, what was changed and what was seen; `--seed N` runs that one again and
`--keep FOLDER` leaves its files there. `--sanitize` builds the native ops with gcc's address and
undefined-behaviour sanitizers first.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import resource
import subprocess
import sys
import sysconfig
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import torch
from tests.fuzz.bases import Base, bases
from tests.fuzz.mutations import mutated
from tests.fuzz.trial import tried

from lmstack.engine.cpu import build, library

__all__ = ["PER_BASE", "Report", "one_seed", "run_seeds"]

ROOT = Path(__file__).parents[2]
SANITIZERS = "LMSTACK_FUZZ_NATIVE"  # the folder of the build that a process is to use
PER_BASE = 25  # seeds that follow one another on one base
BATCH = 100
SECONDS = 30  # of processor time that one seed may take
MEMORY = 6 << 30


@dataclass
class Report:
    """``ends``: how many seeds ended how; ``findings``: what must not be, a line each."""

    ends: Counter[str] = field(default_factory=Counter)
    findings: list[str] = field(default_factory=list)

    @property
    def run(self) -> int:
        return self.ends.total() + len(self.findings)

    def found(self, line: str) -> None:
        self.findings.append(line)
        print(line, flush=True)


def run_seeds(seeds: range, jobs: int = 1, report: Report | None = None) -> Report:
    """All of ``seeds``, ``jobs`` batches at a time, in an order that soon has met every family."""
    report = Report() if report is None else report
    left = [range(s, min(s + BATCH, seeds.stop)) for s in seeds[::BATCH]]
    random.Random(0).shuffle(left)
    running: list[_Batch] = []
    while left or running:
        while left and len(running) < jobs:
            running.append(_Batch(left.pop(0)))
        batch = running.pop(0)
        done = batch.finish(report)
        if done < batch.seeds.stop:  # the rest of a batch that crashed
            left.insert(0, range(done, batch.seeds.stop))
        if len(left) % 10 == 0:
            print(f"{report.run} of {len(seeds)} seeds", file=sys.stderr, flush=True)
    return report


class _Batch:
    """A forked process that runs ``seeds`` and writes a line of how each ended."""

    def __init__(self, seeds: range) -> None:
        self.seeds = seeds
        self._reader, writer = os.pipe()
        self._errors = _unnamed_file()
        sys.stdout.flush()
        self._pid = os.fork()
        if self._pid:
            os.close(writer)
            return
        status = 1
        try:
            os.dup2(self._errors, 2)
            _work(seeds, writer)
            status = 0
        finally:
            os._exit(status)

    def finish(self, report: Report) -> int:
        """Wait for its end; the seed after the last one that ran."""
        with os.fdopen(self._reader, "rb") as lines:
            said = [line.decode().rstrip("\n").split("\t") for line in lines]
        _, status = os.waitpid(self._pid, 0)
        begun = self.seeds.start
        for what, seed, *more in said:
            begun = int(seed) + 1
            if what == "end":
                report.ends[more[0]] += 1
            elif what == "finding":
                report.found(f"seed {seed}: {more[0]}")
        if status == 0:
            os.close(self._errors)
            return self.seeds.stop
        with os.fdopen(self._errors, "rb") as errors:
            errors.seek(0)
            seen = errors.read().decode(errors="replace")[-4000:]
        ended = f"signal {os.WTERMSIG(status)}" if os.WIFSIGNALED(status) else f"exit {status >> 8}"
        report.found(f"seed {begun - 1}: the process ended with {ended}\n{seen}")
        return begun


def _unnamed_file() -> int:
    file, name = tempfile.mkstemp()
    os.unlink(name)
    return file


def _work(seeds: range, writer: int) -> None:
    found = bases()
    for seed in seeds:
        os.write(writer, f"begin\t{seed}\n".encode())
        spent = int(time.process_time()) + SECONDS
        resource.setrlimit(resource.RLIMIT_CPU, (spent, resource.RLIM_INFINITY))
        os.write(writer, one_seed(found, seed).encode())


def one_seed(found: list[Base], seed: int) -> str:
    """A line of how ``seed`` ended."""
    base = found[seed // PER_BASE % len(found)]
    mutant = mutated(base, seed)
    try:
        with _scratch() as folder:
            return f"end\t{seed}\t{tried(base, mutant, folder, seed)}\n"
    except Exception as error:  # whatever it is, it is what this looks for
        frames = traceback.extract_tb(error.__traceback__)
        where = [f"{Path(f.filename).name}:{f.lineno}" for f in frames if "lmstack" in f.filename]
        what = f"{type(error).__name__}: {error}".replace("\n", " ").replace("\t", " ")[:400]
        at = " < ".join(where[:-4:-1])
        return f"finding\t{seed}\t{base.name}, {'; '.join(mutant.changes)}: {what} [{at}]\n"


@contextlib.contextmanager
def _scratch() -> Iterator[Path]:
    shared = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=shared if shared.is_dir() else None) as name:
        yield Path(name)


# -- the command --------------------------------------------------------------------------------


def _sanitized(folder: Path) -> dict[str, str]:
    """Build the native ops with sanitizers; what a process that uses them needs."""
    checks = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-O1", "-g")
    # The last: gcc 12 aligns the stack too little for AVX-512 else (its bug 110027).
    checks = (*checks, "--param", "asan-use-after-return=0")
    name = f"_native{sysconfig.get_config_var('EXT_SUFFIX')}"
    build.build(folder / name, folder / "objects", compiler=["gcc"], extra=checks)
    libraries = [
        subprocess.run(
            ["gcc", f"-print-file-name={name}"], capture_output=True, text=True, check=True
        ).stdout.strip()
        for name in ("libasan.so", "libubsan.so", "libstdc++.so")
    ]
    return {
        SANITIZERS: str(folder),
        "LD_PRELOAD": " ".join(libraries),
        # Python's small objects stay in its own pools: what C reads is numpy's or torch's.
        "ASAN_OPTIONS": "detect_leaks=0:detect_stack_use_after_return=0:malloc_context_size=8:"
        f"allocator_may_return_null=1:max_allocation_size_mb={MEMORY >> 20}",
        "UBSAN_OPTIONS": "print_stacktrace=1",
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=1000)
    parser.add_argument("--start", type=int, default=0)
    parser.add_argument("--seed", type=int, help="this one alone, in this process")
    parser.add_argument("--keep", type=Path, help="leave the files of --seed in this folder")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--sanitize", action="store_true")
    given = parser.parse_args()
    if given.sanitize and SANITIZERS not in os.environ:
        with tempfile.TemporaryDirectory() as folder:
            more = _sanitized(Path(folder))
            command = [sys.executable, "-m", "tests.fuzz.run", *sys.argv[1:]]
            return subprocess.run(command, cwd=ROOT, env=os.environ | more, check=False).returncode
    if SANITIZERS in os.environ:
        library.FOLDER = Path(os.environ[SANITIZERS])
    else:
        resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
    if library.problem():
        sys.exit(f"no native ops to fuzz: {library.problem()}")
    torch.set_num_threads(1)
    if given.seed is not None:
        return _again(given.seed, given.keep)
    began = time.monotonic()
    report = Report()
    with contextlib.suppress(KeyboardInterrupt):
        run_seeds(range(given.start, given.start + given.seeds), given.jobs, report)
    for end, count in report.ends.most_common():
        print(f"{count:7} {end}")
    taken = time.monotonic() - began
    print(f"{report.run} of {given.seeds} seeds, {len(report.findings)} findings, {taken:.0f} s")
    return 1 if report.findings else 0


def _again(seed: int, keep: Path | None) -> int:
    found = bases()
    base = found[seed // PER_BASE % len(found)]
    mutant = mutated(base, seed)
    print(f"seed {seed}: {base.name}, {'; '.join(mutant.changes)}", flush=True)
    if keep is not None:
        keep.mkdir(parents=True, exist_ok=True)
        for name, raw in mutant.files.items():
            (keep / name).write_bytes(raw)
    with _scratch() as folder:
        print(tried(base, mutant, folder, seed))
    return 0


if __name__ == "__main__":
    sys.exit(main())
