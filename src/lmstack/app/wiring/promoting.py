"""Promotion: a candidate and what an alias stands for, measured on the same samples, decided by a
gate, signed, and the alias moved where the gate says PROMOTE.

    1 the rules and the alias are read, before anything slow begins
    2 both sides run the rules' tasks; outputs that are in the store are not asked for again
    3 the gate decides
    4 the verdict is signed, kept in the model's card, and added to the alias

A process that is killed before the last step leaves the alias as it was, and the next one goes on
from the outputs. Not covered: serving an alias (`releases`), what is printed.
"""

from __future__ import annotations

import json
import platform
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

import lmstack
from lmstack.app import wiring
from lmstack.app.wiring import releases
from lmstack.app.wiring.evaluating import made, output_store
from lmstack.app.wiring.gating import comparisons, read_gate, task_scores
from lmstack.app.wiring.lazy import LazyModel
from lmstack.core import (
    InputError,
    Likelihood,
    Message,
    ModelInfo,
    TextWindows,
    UnsupportedError,
)
from lmstack.core.files import write_atomic
from lmstack.evals.gate import Decision, GateConfig, decide
from lmstack.evals.results import TaskResult
from lmstack.evals.run import Progress, run_sync
from lmstack.evals.task import Subject, Task

if TYPE_CHECKING:
    from lmstack.registry.aliases import Alias
    from lmstack.registry.releases import Release
    from lmstack.registry.verdicts import GateVerdict
    from lmstack.serve import LocalModel

__all__ = ["Candidate", "Plan", "Promotion", "planned", "promoted"]

OnProgress = Callable[[str, str, Progress], None]


@dataclass(frozen=True)
class Candidate:
    """What is to be promoted: a name in the store, a path, or an alias, which already says its
    form, adapter and prompt. ``prompt``: the file of a system prompt."""

    model: str
    weights: str | None = None
    adapter: Path | None = None
    prompt: Path | None = None


@dataclass(frozen=True)
class Plan:
    """All that is known before anything is measured. ``production``: what the alias stands for,
    None where it stands for nothing. ``config``: the gate as declared; ``tested``: the rules of it
    that can be tested, all unless there is no production. ``results``: a folder for them."""

    alias: str
    candidate: Candidate
    production: Release | None
    config: GateConfig
    tested: GateConfig
    tasks: Mapping[str, Task]
    results: Path | None = None
    at_once: int = 16

    @property
    def untested(self) -> tuple[str, ...]:
        """Rules of the gate that compare, where there is nothing to compare with."""
        left = [rule for rule in self.config.rules if rule not in self.tested.rules]
        return tuple(f"{rule.title} ({rule.kind})" for rule in left)

    @property
    def compared(self) -> set[str]:
        """The tasks that production runs, too."""
        return {rule.task for rule in self.tested.rules if rule.kind != "at_least"}


@dataclass(frozen=True)
class Promotion:
    """What came out. ``decision``: None where the alias stood for ``release`` before.
    ``recorded``: whether it was signed and kept; ``in_card``: in the model's card, too."""

    plan: Plan
    release: Release
    decision: Decision | None
    recorded: bool = False
    in_card: bool = False


def planned(
    alias: str,
    candidate: Candidate,
    gate: Path,
    tasks: Callable[[Sequence[str]], Mapping[str, Task]],
    *,
    first: bool = False,
    new_rules: bool = False,
    results: Path | None = None,
    at_once: int = 16,
) -> Plan:
    """Checked as far as that can be done without loading a model. ``tasks``: gives those of the
    names. ``first``: there is nothing to compare with yet, which has to be said, so that an alias
    that was lost is not mistaken for one that never was. ``new_rules``: the gate may be another
    than the one by which production passed."""
    from lmstack.registry.aliases import Aliases
    from lmstack.registry.signing import sha256_of

    config, aliases = read_gate(gate), Aliases()
    aliases.check_name(alias)
    known = aliases.read(alias) if aliases.has(alias) else None
    production = None if known is None else known.release
    if known is not None and production is not None:
        before = known.verdict_of(production).rules_digest
        if before != sha256_of(config.to_json()) and not new_rules:
            raise InputError(
                f"{gate} is not the gate by which {production.short} became {alias}",
                hint="use that one, or say --new-rules if it is to be another from now on",
                param="gate",
            )
    tested = _testable(config, alias, gate, production, first=first)
    names = list(dict.fromkeys(rule.task for rule in tested.rules))
    if results is not None:
        made(results)
    return Plan(alias, candidate, production, config, tested, tasks(names), results, at_once)


def _testable(
    config: GateConfig, alias: str, gate: Path, production: Release | None, *, first: bool
) -> GateConfig:
    """``config``, or of the first release of an alias its rules that compare with nothing."""
    if production is not None:
        if first:
            raise InputError(
                f"{alias} stands for {production.short} already",
                hint="leave --first out: the candidate is compared with that",
                param="first",
            )
        return config
    if not first:
        raise InputError(
            f"{alias} stands for nothing yet, so that there is nothing to compare with",
            hint="say --first: then only rules with a threshold are tested, and the verdict says"
            " so",
            param="first",
        )
    alone = tuple(rule for rule in config.rules if rule.kind == "at_least")
    if not alone:
        raise InputError(
            f"{gate} has no rule that is at_least, so that nothing could be tested of a first"
            " release",
            hint="declare what a first release must reach, by a rule with a threshold",
            param="gate",
        )
    return config.replace(rules=alone)


def promoted(plan: Plan, on_progress: OnProgress, *, dry_run: bool = False) -> Promotion:
    """Measure, decide, and unless it is a ``dry_run`` sign and record. ``on_progress``: is told
    which side runs which task, and how far it is."""
    with _opened(plan.candidate) as (release, subject):
        if release == plan.production:
            return Promotion(plan, release, None)
        candidate = _results(plan, "candidate", subject, plan.tasks, on_progress)
    baseline: dict[str, TaskResult] = {}
    if plan.production is not None and plan.compared:
        tasks = {name: task for name, task in plan.tasks.items() if name in plan.compared}
        with _production(plan.production) as subject:
            baseline = _results(plan, "production", subject, tasks, on_progress)
    decision = _decided(plan.tested, candidate, baseline)
    found = Promotion(plan, release, decision)
    return found if dry_run else _recorded(found, candidate, baseline)


@contextmanager
def _opened(candidate: Candidate) -> Iterator[tuple[Release, Subject]]:
    """The candidate as it would be served, and the release that it is."""
    release, model = _loaded(candidate)
    try:
        yield release, Subject(model.info.name, release.digest, model, model)
    finally:
        model.close()


def _loaded(candidate: Candidate) -> tuple[Release, LocalModel]:
    from lmstack.registry.releases import Release

    if wiring.is_remote(candidate.model):
        raise UnsupportedError(
            f"{candidate.model} is not on this machine: nobody can say that what is served later is"
            " what was evaluated",
            hint="promote a model of the store, a folder or a .gguf file",
            param="model",
        )
    release = releases.released(candidate.model)
    if release is not None:
        given = {name: value for name, value in vars(candidate).items() if name != "model"}
        releases.check_options(candidate.model, release, **given)
        return release, releases.opened(release)
    from lmstack.registry import Store
    from lmstack.serve import LocalModel

    folder = wiring.generator_folder(candidate.model)
    releases.check_files(folder)
    places = [str(p.resolve()) if p else "" for p in (candidate.adapter, candidate.prompt)]
    if candidate.prompt is not None:
        releases.read_prompt(candidate.prompt)  # before anything slow begins
    model = releases.adapted(LocalModel.load(folder, weights=candidate.weights), *places)
    in_store = folder.path.parent == Store().folder
    name = folder.path.name if in_store else str(folder.path.resolve())
    return Release(name, model.info.digest or "", model.loaded.form, *places), model


class _LazyScorer(LazyModel):
    """`LazyModel` with all that a `LocalModel` says of likelihoods."""

    def _local(self) -> LocalModel:
        from lmstack.serve import LocalModel

        model = self.load()
        assert isinstance(model, LocalModel)
        return model

    async def likelihoods(self, pairs: Sequence[tuple[str, str]]) -> list[Likelihood]:
        return await self._local().likelihoods(pairs)

    async def text_likelihoods(
        self, text: str, windows: TextWindows, *, add_special_tokens: bool = False
    ) -> list[Likelihood]:
        model = self._local()
        return await model.text_likelihoods(text, windows, add_special_tokens=add_special_tokens)

    def render_chat(self, messages: Sequence[Message]) -> str:
        return self._local().render_chat(messages)


@contextmanager
def _production(release: Release) -> Iterator[Subject]:
    """What the alias stands for; loaded when an output of it is missing, and not before."""
    name = Path(release.adapter or release.model).name
    model = _LazyScorer(ModelInfo(name, release.digest), partial(releases.opened, release))
    try:
        yield Subject(name, release.digest, model, model)
    finally:
        model.close()


def _results(
    plan: Plan,
    side: str,
    subject: Subject,
    tasks: Mapping[str, Task],
    on_progress: OnProgress,
) -> dict[str, TaskResult]:
    found = {}
    with output_store() as store:
        for name, task in tasks.items():
            result = run_sync(
                task,
                subject,
                store,
                concurrency=plan.at_once,
                on_progress=partial(on_progress, side, name),
            )
            found[name] = result
            if plan.results is not None:
                text = json.dumps(result.to_json(), ensure_ascii=False, indent=1) + "\n"
                write_atomic(made(plan.results / side) / f"{name}.json", text.encode())
    return found


def _decided(
    config: GateConfig, candidate: Mapping[str, TaskResult], baseline: Mapping[str, TaskResult]
) -> Decision:
    found = comparisons(
        config,
        lambda rule: task_scores(rule, candidate[rule.task]),
        lambda rule: task_scores(rule, baseline[rule.task]),
    )
    return decide(config, found)


def _recorded(
    found: Promotion, candidate: Mapping[str, TaskResult], baseline: Mapping[str, TaskResult]
) -> Promotion:
    from lmstack.registry import Store
    from lmstack.registry.aliases import Aliases
    from lmstack.registry.verdicts import GateVerdict

    plan, decision, aliases, store = found.plan, found.decision, Aliases(), Store()
    assert decision is not None
    verdict = GateVerdict(
        alias=plan.alias,
        release=found.release,
        baseline=None if plan.production is None else plan.production.digest,
        decision=decision.verdict,
        reasons=decision.reasons,
        rules=plan.config.to_json(),
        results={
            **{f"candidate/{name}": result.digest for name, result in candidate.items()},
            **{f"production/{name}": result.digest for name, result in baseline.items()},
        },
        date=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        versions={
            "lmstack": lmstack.__version__,
            "numpy": np.__version__,
            "python": platform.python_version(),
        },
        untested=plan.untested,
        measured=tuple(result.to_json() for result in decision.results),
    )
    if aliases.has(plan.alias):
        _check_looks(plan, verdict, aliases.read(plan.alias))
    folder = releases.folder_of(found.release)  # that was not changed meanwhile
    kept = []
    aliases.record(verdict, lambda signed: kept.append(store.keep_verdict(folder, signed)))
    return replace(found, recorded=True, in_card=kept == [True])


def _check_looks(plan: Plan, verdict: GateVerdict, alias: Alias) -> None:
    """`InputError` where the gate was asked about this candidate, with other samples each time, as
    often as it allows."""
    looks = plan.config.looks
    if isinstance(looks, str):
        return
    same = [
        each.results
        for each in alias.verdicts()
        if (each.release.digest, each.baseline, each.rules_digest)
        == (verdict.release.digest, verdict.baseline, verdict.rules_digest)
    ]
    taken: list[Mapping[str, str]] = []
    for results in (*same, verdict.results):
        if results not in taken:
            taken.append(results)
    if len(taken) > looks:
        raise InputError(
            f"the gate allows {looks} look{'s' if looks > 1 else ''} at a candidate, and this would"
            f" be number {len(taken)} at {verdict.release.short}",
            hint="looks are declared beforehand, and a gate with more of them asks for more",
            param="gate",
        )
