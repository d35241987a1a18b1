"""The field's benchmarks by their exact protocol, by name.

    task = benchmark_named("boolq", {"test": Path("dev.jsonl")})

Each says which files it reads (`Benchmark.files`) and, where a package carries one, which: whoever
may use the network fetches them (`packages.PACKAGES`). Not covered: running a task.
"""

from __future__ import annotations

from collections.abc import Mapping

from lmstack.core import ChatModel, InputError, nearest
from lmstack.evals.benchmarks.catalog import BENCHMARKS, Benchmark, FileNeed, Materials
from lmstack.evals.benchmarks.data_files import DataFile
from lmstack.evals.benchmarks.humaneval import CodeJudge
from lmstack.evals.benchmarks.packages import PACKAGES, PackagedFile
from lmstack.evals.task import Task

__all__ = [
    "BENCHMARKS",
    "PACKAGES",
    "Benchmark",
    "FileNeed",
    "PackagedFile",
    "benchmark_named",
]


def benchmark_named(
    name: str,
    files: Mapping[str, DataFile] | None = None,
    *,
    chat: bool | None = None,
    seed: int = 0,
    code_judge: CodeJudge | None = None,
    judge: ChatModel | None = None,
) -> Task:
    """The task ``name``. ``files``: by the roles that it names. ``chat``: whether its prompts go
    through the chat template, where both are possible; None is the benchmark's own way. ``seed``:
    of what is generated; data that are not generated have none. ``code_judge``: runs programs.
    ``judge``: rates answers.

    `InputError` with the nearest name where there is no such benchmark, and with the role where a
    file or a judge is missing."""
    if name not in BENCHMARKS:
        guess = nearest(name, BENCHMARKS)
        hint = f"did you mean {guess}?" if guess else f"there are {', '.join(BENCHMARKS)}"
        raise InputError(f"there is no benchmark {name}", hint=hint, param="name")
    benchmark, given = BENCHMARKS[name], dict(files or {})
    if chat is not None and not benchmark.can_chat:
        able = [other for other in BENCHMARKS if BENCHMARKS[other].can_chat]
        raise InputError(
            f"{name} has one way to send its prompts, and chat would not change it",
            hint=f"leave chat out, or choose {', '.join(able)}",
            param="chat",
        )
    _check_files(benchmark, given)
    return benchmark.build(Materials(name, given, chat, seed, code_judge, judge))


def _check_files(benchmark: Benchmark, given: Mapping[str, DataFile]) -> None:
    roles = {need.role for need in benchmark.files}
    unknown = sorted(set(given) - roles)
    if unknown and not benchmark.takes_subtasks:
        raise InputError(
            f"{benchmark.name} reads no file with the role {unknown[0]}",
            hint=f"its files are {', '.join(sorted(roles)) or 'none'}",
            param="files",
        )
    for need in benchmark.files:
        if need.role not in given and not need.optional:
            raise InputError(
                f"{benchmark.name} needs a file: {need.role}, {need.about}",
                hint=need.where,
                param="files",
            )
