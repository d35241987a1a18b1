"""Promotion: a candidate and what an alias stands for, measured on the same samples, decided by a
gate, signed, and the alias moved where the gate says PROMOTE.

    1 the rules and the alias are read, before anything slow begins (`promotion_plan`)
    2 both sides run the rules' tasks; outputs that are in the store are not asked for again
    3 the gate decides
    4 under the lock of the alias, looks at the candidate are counted, and of what passed the index
      of documents is copied, so that it stays what passed
    5 the verdict is signed, kept in the model's card, and added to the alias

A process that is killed before the last step leaves the alias as it was, and the next one goes on
from the outputs. Not covered: serving an alias (`releases`), what is printed.
"""

from __future__ import annotations

import json
import platform
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

import lmstack
from lmstack.core import (
    InputError,
    Likelihood,
    LmstackError,
    Message,
    Reranker,
    TextWindows,
    UnsupportedError,
)
from lmstack.core.files import write_atomic
from lmstack.evals.evaluated_index import (
    EvaluatedIndex,
    IndexSettings,
    index_subject,
    unchanged,
)
from lmstack.evals.gate import GateDecision, decide
from lmstack.evals.gate.config import GateRule
from lmstack.evals.gate.scores import TaskScores
from lmstack.evals.gating import comparisons, task_scores
from lmstack.evals.results import TaskResult
from lmstack.evals.run import EvaluationProgress, run_sync
from lmstack.evals.task import Subject, Task
from lmstack.evals.task_data import made, output_store
from lmstack.release import released_documents, releases
from lmstack.release.promotion_plan import Candidate, PromotionPlan
from lmstack.release.releases import generator_folder, is_remote
from lmstack.serve.lazy import LazyModel
from lmstack.train.merged import adapter_folder

if TYPE_CHECKING:
    from lmstack.rag import Index
    from lmstack.registry.aliases import Alias
    from lmstack.registry.releases import Release
    from lmstack.registry.verdicts import GateVerdict
    from lmstack.serve import LocalModel

__all__ = ["Documents", "Promotion", "promoted"]

OnProgress = Callable[[str, str, EvaluationProgress], None]
OpenIndex = Callable[[Path], AbstractContextManager["Index"]]


@dataclass(frozen=True)
class Documents:
    """How documents are answered from here. ``open_folder``: the index of a folder, brought up to
    date; ``open_index``: one at its place, as it is; ``place_of``: where that of a folder is;
    ``reranker``: what chooses passages, and None with a word to whoever is told."""

    open_folder: OpenIndex
    open_index: OpenIndex
    place_of: Callable[[Path], Path]
    reranker: Callable[[Callable[[str], None]], Reranker | None]


@dataclass(frozen=True)
class Promotion:
    """What came out. ``decision``: None where the alias stood for ``release`` before.
    ``recorded``: whether it counts for the alias, and not as a look alone; ``in_card``: in the
    model's card, too."""

    plan: PromotionPlan
    release: Release
    decision: GateDecision | None
    recorded: bool = False
    in_card: bool = False


def promoted(
    plan: PromotionPlan,
    on_progress: OnProgress,
    documents: Documents,
    *,
    dry_run: bool = False,
    note: Callable[[str], None] = lambda _: None,
) -> Promotion:
    """Measure, decide, sign and record; a ``dry_run`` moves nothing, and counts as a look, because
    whoever sees a verdict can go on until he sees another. ``on_progress``: is told
    which side runs which task, and how far it is; ``note`` is told what is done without."""
    with _opened(plan.candidate, documents, note) as side:
        release = side.release
        if release == plan.production:
            if not dry_run:
                _keep_documents(release, documents)  # which somebody may have taken away
            return Promotion(plan, release, None)
        candidate = _results(plan, "candidate", side, plan.tasks, on_progress)
    baseline: dict[str, TaskResult] = {}
    if plan.production is not None and plan.compared:
        tasks = {name: task for name, task in plan.tasks.items() if name in plan.compared}
        with _production(
            plan.production, plan.of_documents & tasks.keys(), documents, note
        ) as side:
            baseline = _results(plan, "production", side, tasks, on_progress)
    decision = _decided(plan, release, candidate, baseline)
    found = Promotion(plan, release, decision)
    return _recorded(found, candidate, baseline, documents, dry_run=dry_run)


@dataclass(frozen=True)
class _Side:
    """A release, its model, and with its documents where tasks ask them."""

    release: Release
    model: Subject
    documents: Subject | None = None


@contextmanager
def _opened(
    candidate: Candidate, documents: Documents, note: Callable[[str], None]
) -> Iterator[_Side]:
    """The candidate as it would be served."""
    release, model = _loaded(candidate)
    with ExitStack() as stack:
        stack.callback(model.close)
        subject = Subject(model.info.name, release.model_digest, model, model)
        if release.docs:
            asked = stack.enter_context(_documents(release, subject, documents, note))
            yield _Side(release, subject, asked)
        elif candidate.docs is None:
            yield _Side(release, subject)
        else:
            docs = candidate.docs
            index = stack.enter_context(documents.open_folder(docs))
            settings = IndexSettings(docs=str(docs))
            asked = index_subject(settings, index, subject, documents.reranker(note))
            found = asked.index
            assert isinstance(found, EvaluatedIndex)
            with unchanged(index, found.content):
                yield _Side(released_documents.with_documents(release, docs, found), subject, asked)


@contextmanager
def _documents(
    release: Release, subject: Subject, documents: Documents, note: Callable[[str], None]
) -> Iterator[Subject]:
    """The documents of a release, as they passed the gate."""
    released_documents.check_kept(release)
    place = released_documents.place_of(release)
    with documents.open_index(place) as index:
        settings = IndexSettings(docs=release.docs)
        asked = index_subject(settings, index, subject, documents.reranker(note))
        assert isinstance(asked.index, EvaluatedIndex)
        released_documents.check_answers(release, asked.index.how)
        yield asked


def _loaded(candidate: Candidate) -> tuple[Release, LocalModel]:
    """The model, and the release that it is; of an alias with its documents, else without."""
    from lmstack.registry.releases import Release

    if is_remote(candidate.model):
        raise UnsupportedError(
            f"{candidate.model} is not on this machine: nobody can say that what is served later is"
            " what was evaluated",
            hint="promote a model of the store, a folder or a .gguf file",
            param="model",
        )
    release = releases.released(candidate.model)
    if release is not None:
        return release, releases.opened(release)
    from lmstack.registry import Store
    from lmstack.serve import LocalModel

    folder = generator_folder(candidate.model)
    releases.check_files(folder)
    beside = candidate.adapter or adapter_folder(candidate.model)
    places = [str(p.resolve()) if p else "" for p in (beside, candidate.prompt)]
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
def _production(
    release: Release,
    asks_documents: Collection[str],
    documents: Documents,
    note: Callable[[str], None],
) -> Iterator[_Side]:
    """What the alias stands for; loaded when an output of it is missing, and not before."""
    model = _LazyScorer(releases.info_of(release), partial(releases.opened, release))
    subject = Subject(model.info.name, release.model_digest, model, model)
    with ExitStack() as stack:
        stack.callback(model.close)
        asked = None
        if asks_documents:
            _check_comparable(release)
            asked = stack.enter_context(_documents(release, subject, documents, note))
        yield _Side(release, subject, asked)


def _check_comparable(release: Release) -> None:
    try:
        released_documents.check_kept(release)
    except LmstackError as error:
        error.hint = (
            "bring it back, or leave rules that compare answers from documents out of the gate for"
            " once, with --new-rules"
        )
        raise


def _results(
    plan: PromotionPlan,
    name_of_side: str,
    side: _Side,
    tasks: Mapping[str, Task],
    on_progress: OnProgress,
) -> dict[str, TaskResult]:
    found = {}
    with output_store() as store:
        for name, task in tasks.items():
            subject = side.documents if name in plan.of_documents else side.model
            assert subject is not None  # by the plan
            result = run_sync(
                task,
                subject,
                store,
                concurrency=plan.at_once,
                on_progress=partial(on_progress, name_of_side, name),
            )
            found[name] = result
            if plan.results is not None:
                text = json.dumps(result.to_json(), ensure_ascii=False, indent=1) + "\n"
                write_atomic(made(plan.results / name_of_side) / f"{name}.json", text.encode())
    return found


def _decided(
    plan: PromotionPlan,
    release: Release,
    candidate: Mapping[str, TaskResult],
    baseline: Mapping[str, TaskResult],
) -> GateDecision:
    def scores(
        release: Release | None, results: Mapping[str, TaskResult], rule: GateRule
    ) -> TaskScores:
        """Of the release as a whole: a result names its model alone, or that with documents."""
        assert release is not None
        return replace(task_scores(rule, results[rule.task]), digest=release.digest)

    found = comparisons(
        plan.tested,
        partial(scores, release, candidate),
        partial(scores, plan.production, baseline),
    )
    return decide(plan.tested, found)


def _recorded(
    found: Promotion,
    candidate: Mapping[str, TaskResult],
    baseline: Mapping[str, TaskResult],
    documents: Documents,
    *,
    dry_run: bool,
) -> Promotion:
    from lmstack.registry import Store
    from lmstack.registry.aliases import Aliases

    plan, decision, store = found.plan, found.decision, Store()
    assert decision is not None
    verdict = _verdict(found, decision, candidate, baseline)
    folder = releases.folder_of(found.release)  # that was not changed meanwhile
    kept: list[bool] = []

    def check(alias: Alias) -> None:
        _check_looks(plan, verdict, alias)
        if decision.passed and not dry_run:
            _keep_documents(found.release, documents)

    def keep(signed: Mapping[str, object]) -> None:
        if not dry_run:
            kept.append(store.keep_verdict(folder, signed))

    Aliases().record(verdict, keep, check=check, moves=not dry_run)
    return replace(found, recorded=not dry_run, in_card=kept == [True])


def _verdict(
    found: Promotion,
    decision: GateDecision,
    candidate: Mapping[str, TaskResult],
    baseline: Mapping[str, TaskResult],
) -> GateVerdict:
    from lmstack.registry.verdicts import GateVerdict

    plan = found.plan
    return GateVerdict(
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


def _keep_documents(release: Release, documents: Documents) -> None:
    if release.docs:
        released_documents.keep(release, documents.place_of(Path(release.docs)))


def _check_looks(plan: PromotionPlan, verdict: GateVerdict, alias: Alias) -> None:
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
