"""Break the code on purpose, one small fault at a time, and see whether the tests notice.

    make mutants                         360 faults of ten modules
    make mutants MUTANTS=all             all of them, which takes days
    make mutants MODULES="safety serve"  of these modules alone

Faults are sampled (the same ones for the same code) and put into copies under ``build/mutants``,
where mutmut finds the tests that reach each and runs them. Survivors are listed, and the share that
the tests kill is counted: below `LEAST` in any module the exit status is 1. A run that was stopped
goes on where it was, as long as neither code nor tests changed.
Faults in words for people are left out. Those that change nothing stand in ``known.toml``, each
with its reason, and do not count. Not covered: decorated functions and code outside functions,
which mutmut leaves as they are.
"""

from __future__ import annotations

import argparse
import hashlib
import random
import shutil
import subprocess
import sys
import tomllib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from pathlib import Path

from tests.mutants.apart import results_apart
from tests.mutants.faults import Fault, faults_of, put_into, results_of, sites_of

ROOT = Path(__file__).parents[2]
PLACE = ROOT / "build" / "mutants"
KNOWN = Path(__file__).with_name("known.toml")
ORDERED, LAUNCH = (Path(__file__).with_name(f"{name}.py") for name in ("ordered", "launch"))
COPIED = ("src", "tests", "docs", "examples", "benchmarks", "recipes", "pyproject.toml", "setup.py")
COPIED += ("README.md", "LICENSE", "CHANGELOG.md")
# What each process of tests has loaded when it starts. Nothing that is or imports a plugin of
# pytest, such as hypothesis or anyio: pytest has to load those itself, and warns.
PRELOADED = ("torch", "lmstack.engine")
LEAST = 0.9
SEED = 14
OUTCOMES = ("killed", "timeout", "survived", "known")


@dataclass(frozen=True)
class Module:
    """``source``: its folder; ``tests``: those that ought to notice. ``apart``: a folder in it,
    whose code runs in processes without mutmut; its faults ``tests_apart`` ought to notice."""

    source: str
    tests: tuple[str, ...]
    apart: str = ""
    tests_apart: tuple[str, ...] = ()

    def is_apart(self, fault: Fault) -> bool:
        return bool(self.apart) and fault.file.startswith(f"{self.apart}/")


MODULES = {
    "engine": Module("src/lmstack/engine", ("tests/engine",)),
    "safety": Module("src/lmstack/safety", ("tests/safety",)),
    "updating": Module(
        "src/lmstack/rag/ingest",
        ("tests/rag/ingest", "tests/rag/test_index.py", "tests/rag/ingest/test_bulk.py"),
    ),
    "serve": Module("src/lmstack/serve", ("tests/serve",)),
    "train": Module("src/lmstack/train", ("tests/train",)),
    "pipelines": Module("src/lmstack/pipelines", ("tests/pipelines",)),
    "evals": Module("src/lmstack/evals", ("tests/evals",)),
    "agents": Module(
        "src/lmstack/agents",
        ("tests/agents",),
        "src/lmstack/agents/sandbox/inside",
        (
            *(
                f"tests/agents/test_{name}.py"
                for name in ("folder", "landlock", "seccomp", "code_tests", "sandbox", "session")
            ),
            "tests/agents/test_calls.py",
            "tests/agents/inside",
            "tests/agents/test_hostile_sessions.py",
            "tests/agents/tools/test_python.py",
        ),
    ),
    "registry": Module("src/lmstack/registry", ("tests/registry",)),
    "prompting": Module("src/lmstack/prompting", ("tests/prompting",)),
}
# mutmut stops the tests of a fault after multiplier * (the time that they took + constant) by the
# clock, or twice that in processor time. The time leaves out imports and fixtures, which take ten
# seconds, and other programs may have the processors meanwhile, so the constant is large: stopped
# too early, a fault that lives would count as noticed. One worker a fault, started from a process
# in which torch computes nothing yet and pytest has collected nothing: collected again in the same
# process, ids with a backslash change, and are not found.
SETTINGS = """[mutmut]
source_paths = src
only_mutate =
    {files}
track_dependencies = false
pytest_add_cli_args_test_selection =
    {tests}
pytest_add_cli_args =
    -m
    not long and not weights and not browser
    -p
    no:cacheprovider
    -p
    no:randomly
    --hypothesis-seed=14
also_copy =
    docs
    examples
    benchmarks
    recipes
    README.md
    LICENSE
    CHANGELOG.md
    setup.py
    conftest.py
process_isolation = forkserver
forkserver_warmup = import
preload_modules_file = preloaded.txt
timeout_multiplier = 3.0
timeout_constant = 60.0
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("modules", nargs="*", default=list(MODULES), help=", ".join(MODULES))
    parser.add_argument("--mutants", default="360", help="how many in all, or `all`")
    parser.add_argument("--seed", type=int, default=SEED, help="of the sample")
    parser.add_argument("--jobs", type=int, default=2, help="processes at a time")
    given = parser.parse_args()
    unknown = sorted({*given.modules} - {*MODULES})
    if unknown or not (given.mutants == "all" or given.mutants.isdigit()):
        parser.error(f"no module {unknown[0]!r}" if unknown else "--mutants is a number or `all`")
    each = None if given.mutants == "all" else -(-int(given.mutants) // len(given.modules))
    known = read_known(KNOWN)
    table: dict[str, Counter[str]] = {}
    for name in given.modules:
        sample = sampled(MODULES[name], each, given.seed)
        results = run(name, sample, given.jobs)
        table[name] = counted(sample, results, known)
        for fault in sample:
            if results[fault.name] == "survived" and fault.key not in known:
                print(f"\n{fault.shown()}")
    print(f"\n{shown(table)}")
    return int(any(share(row) < LEAST for row in table.values()))


def sampled(module: Module, count: int | None, seed: int = SEED) -> list[Fault]:
    """``count`` faults of a module, all if None. ``seed``: which."""
    paths = sorted((ROOT / module.source).rglob("*.py"))
    if count is None:
        return [fault for path in paths for fault in faults_of(path, ROOT)]
    sites = [(path, *site) for path in paths for site in sites_of(path, ROOT)]
    random.Random(seed).shuffle(sites)
    found: list[Fault] = []
    while sites and len(found) < count:
        # Some are of words alone, which only shows once they are written out.
        drawn, sites = sites[: 2 * count], sites[2 * count :]
        functions = grouped((path, function) for path, function, _ in drawn)
        faults = {f.name: f for path in functions for f in faults_of(path, ROOT, functions[path])}
        found += (faults[name] for _, _, name in drawn if name in faults)
    return sorted(found[:count], key=lambda f: (f.file, f.line))


def grouped(pairs: Iterable[tuple[Path, str]]) -> dict[Path, set[str]]:
    """The functions of each file."""
    found: dict[Path, set[str]] = {}
    for path, function in pairs:
        found.setdefault(path, set()).add(function)
    return found


def read_known(path: Path) -> set[tuple[object, ...]]:
    """The keys of faults that change nothing."""
    found = tomllib.loads(path.read_text(encoding="utf-8")).get("fault", [])
    for each in found:
        if not each["why"].strip():
            raise SystemExit(f"{path.name}: a fault in {each['file']} has no reason")
    return {(each["file"], tuple(each["was"]), tuple(each["now"])) for each in found}


def run(name: str, sample: Sequence[Fault], jobs: int) -> dict[str, str]:
    """What became of each fault, by its name."""
    module = MODULES[name]
    through = [fault for fault in sample if not module.is_apart(fault)]
    place = prepared(name, grouped((ROOT / each.file, each.function) for each in through))
    results = results_of(place)
    left = [fault.name for fault in through if fault.name not in results]
    print(f"{name}: {len(through)} faults, {len(through) - len(left)} of them done before")
    if left:
        command = [sys.executable, "-P", str(LAUNCH), "run", "--max-children"]
        # A second time: on a busy machine a test that waits for something may fail by itself.
        if all(
            subprocess.run([*command, str(jobs), *left], cwd=place, check=False).returncode
            for _ in range(2)
        ):
            failed = place / "mutants" / "failed.txt"
            said = failed.read_text(encoding="utf-8") if failed.is_file() else ""
            raise SystemExit(f"{said}{name}: its tests must pass before any fault")
    apart = [fault for fault in sample if module.is_apart(fault)]
    results = results_of(place) | results_apart(place, apart, module.tests_apart)
    # What was stopped or never reached by a test was not noticed.
    return {fault.name: results.get(fault.name, "survived") for fault in sample}


def prepared(name: str, functions: Mapping[Path, AbstractSet[str]]) -> Path:
    """The copy of code and tests for a module, with all faults of ``functions``, and with what is
    left of a run on the very same."""
    place, module = PLACE / name, MODULES[name]
    settings = SETTINGS.format(
        files="\n    ".join(sorted(str(path.relative_to(ROOT)) for path in functions)),
        tests="\n    ".join(module.tests),
    )
    stamp = hashlib.sha256(settings.encode())
    stamp.update(repr(sorted((str(path), sorted(functions[path])) for path in functions)).encode())
    for path in sorted(p for top in ("src", "tests") for p in (ROOT / top).rglob("*.py")):
        stamp.update(path.read_bytes())
    if (place / "stamp").is_file() and (place / "stamp").read_text() == stamp.hexdigest():
        return place
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    for top in COPIED:
        if (ROOT / top).is_dir():
            ignored = shutil.ignore_patterns("__pycache__", ".envs")
            shutil.copytree(ROOT / top, place / top, ignore=ignored)
        else:
            shutil.copy(ROOT / top, place / top)
    for path, chosen in functions.items():
        put_into(place, path, ROOT, chosen)
    shutil.copy(ORDERED, place / "conftest.py")
    (place / "preloaded.txt").write_text("\n".join(PRELOADED))
    (place / "setup.cfg").write_text(settings)
    (place / "stamp").write_text(stamp.hexdigest())
    return place


def counted(
    sample: Sequence[Fault], results: Mapping[str, str], known: set[tuple[object, ...]]
) -> Counter[str]:
    return Counter(
        "known" if fault.key in known and results[fault.name] == "survived"
        else results[fault.name]
        for fault in sample
    )  # fmt: skip


def share(row: Counter[str]) -> float:
    """Of the faults that change something, those that were noticed."""
    total = row.total() - row["known"]
    return (row["killed"] + row["timeout"]) / total if total else 1.0


def shown(table: Mapping[str, Counter[str]]) -> str:
    head = f"{'module':10}{'faults':>8}" + "".join(f"{name:>10}" for name in OUTCOMES)
    lines = [f"{head}{'share':>8}"]
    for name, row in table.items():
        cells = "".join(f"{row[outcome]:10}" for outcome in OUTCOMES)
        mark = "" if share(row) >= LEAST else f"  below {LEAST:.0%}"
        lines.append(f"{name:10}{row.total():8}{cells}{share(row):8.1%}{mark}")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
