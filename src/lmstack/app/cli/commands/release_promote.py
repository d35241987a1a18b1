"""`lmstack release promote`: a model takes the place of what an alias stands for, if the gate lets
it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lmstack.app import wiring
from lmstack.app.cli.command import command, option
from lmstack.app.cli.commands._eval_data import Fetch, have_data
from lmstack.app.cli.commands._options import ModelOnDisk, Weights, say_if_remote
from lmstack.app.cli.commands.eval import AtOnce, DataFiles, Judge, Seed, data_files
from lmstack.app.cli.output import Output, Progress
from lmstack.app.formats import columns, printable
from lmstack.core import InputError, nearest

if TYPE_CHECKING:
    from lmstack.evals.run import EvaluationProgress as RunProgress
    from lmstack.evals.task import Task
    from lmstack.registry.releases import Release
    from lmstack.release.promotion import Promotion

__all__ = ["promote", "taken_by_servers"]

Documents = Annotated[
    Path | None,
    option("--docs DIR: A folder of documents that is served with the model, as its index is now."),
]


@command(
    "release promote",
    """
    --adapter DIR: A LoRA adapter that is served with the model: its folder, or name in the store.
    --prompt FILE: A text file: the system prompt of conversations that bring none.
    --task FILE: A .yaml file of a task of your own that a rule names; several times.
    --results FOLDER: Also write the results of both sides here.
    --first: The alias stands for nothing yet: test only the rules that are at_least. The verdict
        says that nothing was compared.
    --new-rules: The gate is another than the one that production passed; go by it.
    --dry-run: Measure and say the verdict; move nothing. Counts as a look.
    --to ALIAS: The name that moves: prod.
    --gate FILE: The rules, declared beforehand.

    lmstack release promote smollm2-135m-instruct --to prod --gate gate.yaml --first
    lmstack release promote smollm2-135m-instruct --weights int8 --to prod --gate gate.yaml
    lmstack release promote ./tuned --prompt system.txt --to prod --gate recipes/gates/laptop.yaml
        --new-rules
    lmstack release promote smollm2-135m-instruct --docs notes --to answers --gate documents.yaml
        --task notes.yaml --first
    lmstack release promote staging --to prod --gate gate.yaml
    """,
)
def promote(
    out: Output,
    model: ModelOnDisk,
    weights: Weights = None,
    adapter: Path | None = None,
    prompt: Path | None = None,
    docs: Documents = None,
    task: list[Path] | None = None,
    file: DataFiles = None,
    judge: Judge = None,
    seed: Seed = 0,
    at_once: AtOnce = 16,
    fetch: Fetch = False,
    results: Path | None = None,
    first: bool = False,
    new_rules: bool = False,
    dry_run: bool = False,
    *,
    to: str,
    gate: Path,
) -> None:
    """Let an alias stand for a model, if a gate finds it good enough.

    Runs the tasks that the gate names on the model and on what the alias stands for, on the same
    samples; what was run before is not run again, so that a promotion that was stopped goes on.
    Then says PROMOTE, HOLD (and how many more samples it takes) or REJECT. The verdict is signed,
    and kept in the model's card and the alias's history. Only PROMOTE moves the alias, and only
    then is the exit code 0.

    MODEL may be an alias too: what staging stands for is then promoted. With --docs the gate needs
    a rule for a task that asks documents, and with --prompt one for a task that generates answers
    to chats: what no rule can see is not promoted. `lmstack up` serves the documents as they were
    evaluated, until they are promoted again."""
    from lmstack.app.cli.commands._eval_systems import opened_index
    from lmstack.app.wiring.documents import open_index
    from lmstack.app.wiring.retrieval import answer_reranker
    from lmstack.app.wiring.subjects import opened
    from lmstack.release.promotion import Documents, promoted
    from lmstack.release.promotion_plan import Candidate, planned

    say_if_remote(out, judge)
    if adapter is not None:
        wiring.require_adapter(model, str(adapter))
        adapter = wiring.adapter_folder(str(adapter))
    with ExitStack() as stack:
        rater = None if judge is None else stack.enter_context(opened(judge))
        tasks = _Tasks(out, task or [], data_files(file), seed, rater, fetch)
        plan = planned(
            to,
            Candidate(model, weights, adapter, prompt, docs and wiring.existing_folder(docs)),
            gate,
            tasks,
            first=first,
            new_rules=new_rules,
            results=results,
            at_once=at_once,
        )
        out.interrupted = (f"what was answered is kept, and {to} is as it was", out.again())
        bars = _Bars(out, stack)
        found = promoted(
            plan,
            bars.update,
            Documents(
                lambda folder: opened_index(out, str(folder)),
                lambda place: open_index(place, None, create=False),
                wiring.index_of,
                answer_reranker,
            ),
            dry_run=dry_run,
            note=out.note,
        )
        bars.close()
    if out.as_json:
        out.result(_summary(found))
    else:
        _print(out, found)
    if found.decision is not None and not found.decision.passed:
        raise typer.Exit(1)


class _Tasks:
    """The tasks that rules name: of files, else benchmarks."""

    def __init__(
        self,
        out: Output,
        files: Sequence[Path],
        data: dict[str, Path],
        seed: int,
        judge: Any,
        fetch: bool,
    ) -> None:
        self._files, self._data, self._seed, self._judge = files, data, seed, judge
        self._out, self._fetch = out, fetch

    def __call__(self, names: Sequence[str]) -> Mapping[str, Task]:
        from lmstack.evals.benchmarks import BENCHMARKS
        from lmstack.evals.task_data import task_named
        from lmstack.release.promotion_plan import check_as_served

        own = {}
        for path in self._files:
            found = task_named(str(path), {})
            check_as_served(path)
            own[found.name] = found
            if found.name not in names:
                guess = nearest(found.name, names)
                raise InputError(
                    f"no rule of the gate that can be tested names {found.name}, the task of"
                    f" {path}",
                    hint=f"did you mean {guess!r}?" if guess else f"they name {', '.join(names)}",
                    param="task",
                )
        for name in names:
            if name not in own and name not in BENCHMARKS:
                raise InputError(
                    f"the gate names the task {name}, which is no benchmark",
                    hint=f"--task FILE gives a task of your own: --task {name}.yaml",
                    param="task",
                )
        if not self._data:
            have_data(self._out, [name for name in names if name not in own], fetch=self._fetch)
        options = {"seed": self._seed, "judge": self._judge}
        return {
            name: own[name] if name in own else task_named(name, self._data, **options)
            for name in names
        }


class _Bars:
    """A bar for each task of each side, one after the other."""

    def __init__(self, out: Output, stack: ExitStack) -> None:
        self._out, self._stack = out, stack.enter_context(ExitStack())
        self._title = ""
        self._bar: Progress | None = None

    def update(self, side: str, task: str, progress: RunProgress) -> None:
        title = f"{task}, {side}"
        if title != self._title:
            self.close()
            self._title = title
            self._bar = self._stack.enter_context(self._out.progress(title, "samples"))
        if self._bar is not None:
            label = f"{progress.cached} from before" if progress.cached else ""
            failed = f"{progress.failed} failed" if progress.failed else ""
            told = ", ".join(filter(None, (label, failed)))
            self._bar.update(progress.done, progress.total, told)

    def close(self) -> None:
        self._stack.close()
        self._bar = None


def _summary(found: Promotion) -> dict[str, Any]:
    plan, decision = found.plan, found.decision
    passed = decision is not None and decision.passed
    return {
        "alias": plan.alias,
        "release": found.release.to_json(),
        "production": None if plan.production is None else plan.production.to_json(),
        "verdict": None if decision is None else decision.verdict,
        "untested": list(plan.untested),
        "recorded": found.recorded,
        "in_card": found.in_card,
        "moved": found.recorded and passed,
        "decision": None if decision is None else decision.to_json(),
    }


def _print(out: Output, found: Promotion) -> None:
    plan, decision, release = found.plan, found.decision, found.release
    if decision is None:
        out.line(f"{plan.alias} stands for {release.title} already   {release.short}")
        return
    verdict, *reasons = decision.reasons
    out.line(out.style(printable(verdict, one_line=True), "bold"))
    for reason in reasons:
        out.line(printable(f"  {reason}", one_line=True))
    if plan.untested:
        named = ", ".join(plan.untested)
        out.line(printable(f"  Not tested, as there is nothing to compare with: {named}."))
    rows = [("candidate", release.title, release.short)]
    if plan.production is not None:
        rows.append(("production", plan.production.title, plan.production.short))
    out.lines([out.style(printable(line), "dim") for line in columns(rows, indent=2)])
    out.line(_outcome(found))
    if found.recorded and decision.passed:
        out.note(taken_by_servers(plan.alias, plan.production, release))
    if found.recorded and not found.in_card:
        out.note("the model has no card; the verdict is in the alias's history alone")


def taken_by_servers(alias: str, was: Release | None, now: Release) -> str:
    """What becomes of servers when ``alias`` stands for ``now`` after ``was``."""
    if was is not None and was.documents_digest != now.documents_digest:
        return f"its documents are others: start `lmstack up {alias}` again where it runs"
    return f"a server that runs as `lmstack up {alias}` takes it once it is loaded"


def _outcome(found: Promotion) -> str:
    plan, decision = found.plan, found.decision
    passed = decision is not None and decision.passed
    if not found.recorded:
        return f"Nothing was recorded but this look, and {plan.alias} is as it was."
    if passed:
        back = (
            ""
            if plan.production is None
            else f"   (lmstack release rollback {plan.alias} goes back)"
        )
        return f"{plan.alias} stands for {found.release.short} now{back}"
    if plan.production is None:
        return f"{plan.alias} stands for nothing yet"
    return f"{plan.alias} still stands for {plan.production.short}"
