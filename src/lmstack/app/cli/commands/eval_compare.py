"""`lmstack eval compare`: is this model better? Two models, or two results, on the same samples."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lmstack.app.cli.command import command
from lmstack.app.cli.commands._eval_data import Fetch, have_data
from lmstack.app.cli.commands._eval_forms import number_text
from lmstack.app.cli.commands._options import say_if_remote
from lmstack.app.cli.output import Output
from lmstack.app.cli.output import Progress as Bar
from lmstack.app.formats import columns, printable, short_digest
from lmstack.core import InputError, shown

if TYPE_CHECKING:
    from lmstack.evals.run import EvaluationProgress
    from lmstack.evals.task_comparison import MetricComparison, TaskComparison

__all__ = ["compare"]

_FLIPS = 3  # samples that are named on each side of a comparison
# Quick, from one package of 0.3 MB, and unlike each other: answers to a chat, how texts go on,
# falsehoods that people repeat.
DEFAULT_TASKS = ("gsm8k_bpb", "hellaswag", "truthfulqa_mc1")


@command(
    "eval compare",
    f"""
    BASE: A model, or a result that `eval run -o` wrote.
    OTHER: Another of the same kind.
    --task TASK: A benchmark or a .yaml file of your own; several times. [default:
        {", ".join(DEFAULT_TASKS)}]
    --adapter DIR: OTHER's LoRA adapter: its folder, or name in the store.
    --weights FORM: The form in which OTHER is held.
    --limit N 1..: Only the first N samples.
    --at-once N 1..4096: Samples at the same time.
    --output, -o FOLDER: Of results: base/TASK.json and other/TASK.json.

    lmstack eval compare smollm2-135m-instruct ./tuned --fetch
    lmstack eval compare smollm2-135m-instruct smollm2-135m-instruct --weights q4
    lmstack eval compare smollm2-135m-instruct my-adapter --task gpqa_generated --limit 4
    lmstack eval compare before/hellaswag.json after/hellaswag.json
    """,
)
def compare(
    out: Output,
    base: str,
    other: str,
    task: list[str] | None = None,
    adapter: str | None = None,
    weights: str | None = None,
    fetch: Fetch = False,
    limit: int | None = None,
    at_once: int = 16,
    output: Path | None = None,
) -> None:
    """Say whether a model is better than another, on the same samples.

    Two models are run on the tasks, each sample asked once and kept, so that a run that was stopped
    goes on; two results are compared as they are. A share is tested by McNemar's exact test, other
    figures by signs or swaps of whole clusters; p is adjusted over tasks (Holm). Each task also
    says how large a difference its samples would have shown. Results of other samples, data or
    protocols are refused: their figures say nothing about each other."""
    from lmstack.evals.gating import read_result
    from lmstack.evals.task_comparison import adjusted, compare_results, conclusions

    are_files = [Path(each).suffix == ".json" for each in (base, other)]
    if all(are_files):
        for_models = {"task": task, "adapter": adapter, "weights": weights, "limit": limit}
        for name, value in for_models.items():
            if value:
                raise InputError(
                    f"--{name} is for models, and {shown(base)} is a result",
                    hint="leave it out, or name two models",
                    param=name,
                )
        found = [compare_results(read_result(Path(base)), read_result(Path(other)))]
    elif any(are_files):
        raise InputError(
            f"{shown(base)} and {shown(other)} are a result and a model",
            hint="name two models, or two results of `lmstack eval run --output FOLDER`",
            param="other",
        )
    else:
        wanted = list(dict.fromkeys(task or DEFAULT_TASKS))
        sides = ((base, None, None), (other, adapter, weights))
        found = adjusted(_run(out, sides, wanted, fetch, limit, at_once, output))
    if out.as_json:
        out.result(found[0].to_json() if all(are_files) else [each.to_json() for each in found])
        return
    for each in found:
        _print(out, each)
    for line in conclusions(found):
        out.line(printable(line, one_line=True))


def _run(
    out: Output,
    models: Sequence[tuple[str, str | None, str | None]],
    names: Sequence[str],
    fetch: bool,
    limit: int | None,
    at_once: int,
    output: Path | None,
) -> list[TaskComparison]:
    """Both models on every task, one model after the other: two may not fit into memory. Each with
    its adapter, if it has one, and the form of its weights."""
    from lmstack.app.wiring.subjects import checked, side_of
    from lmstack.evals.task_comparison import compare_results
    from lmstack.evals.task_data import kept, task_named

    for name, _, _ in models:
        say_if_remote(out, name)
    checked([name for name, _, _ in models], models[-1][1])
    have_data(out, names, fetch=fetch)
    tasks = [task_named(name, {}) for name in names]
    out.interrupted = ("what was answered is kept", out.again())
    sides = []
    for side, (name, adapter, form) in zip(("base", "other"), models, strict=True):
        with ExitStack() as stack:
            bars = _Bars(out, side, stack)
            how: dict[str, Any] = {"adapter": adapter, "limit": limit, "at_once": at_once}
            results = side_of(name, form, tasks, bars.update, **how)
        if output is not None:
            kept(results, output / side)
        sides.append(results)
    return [compare_results(one, two) for one, two in zip(*sides, strict=True)]


class _Bars:
    """One bar after the other, one for each task of a side."""

    def __init__(self, out: Output, side: str, stack: ExitStack) -> None:
        self._out, self._side, self._stack = out, side, stack
        self._bars: dict[str, Bar] = {}

    def update(self, task: str, found: EvaluationProgress) -> None:
        if task not in self._bars:
            self._stack.close()  # the bar of the task before
            title = f"{self._side}: {task}"
            self._bars[task] = self._stack.enter_context(self._out.progress(title, "samples"))
        label = f"{found.cached} from before" if found.cached else ""
        self._bars[task].update(found.done, found.total, label)


def _print(out: Output, found: TaskComparison) -> None:
    out.line(out.style(printable(found.task, one_line=True), "bold"))
    sides = (("base", found.base), ("other", found.other))
    named = [
        (n, printable(s.subject, one_line=True), short_digest(s.subject_digest)) for n, s in sides
    ]
    out.lines(columns(named, indent=2))
    rows = [("METRIC", "BASE", "OTHER", "DIFFERENCE", "P", "TEST")]
    rows += [_row(each) for each in found.metrics]
    out.lines(columns(rows, indent=2))
    first = found.first
    for word, ids in (("better", first.gained), ("worse", first.lost)):
        if ids:
            named_ids = ", ".join(ids[:_FLIPS]) + (", ..." if len(ids) > _FLIPS else "")
            out.line(printable(f"  {word} on {len(ids):,}: {named_ids}", one_line=True))
    out.line()


def _row(each: MetricComparison) -> tuple[str, str, str, str, str, str]:
    p = each.difference.p
    return (
        each.metric.name,
        number_text(each.metric, each.base.value),
        number_text(each.metric, each.other.value),
        f"{each.difference.value:+z.3f} {each.difference.between('+z.3f')}",
        "-" if p is None else f"{p:.3g}",
        f"{each.test}, {each.samples:,} samples",
    )
