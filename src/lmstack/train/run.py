"""From a recipe to a model in the registry: the base, the data, the loop, the result.

What comes out is a model folder with its lineage: hashes of data and base, recipe, version, and the
values that it reached; or for LoRA an adapter folder in PEFT's layout, with the same in
``training.json``.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from lmstack.core import InputError
from lmstack.core.files import write_atomic
from lmstack.train.assembly import Assembled, assemble, check_recipe
from lmstack.train.checkpoint import Checkpoints
from lmstack.train.compute import ops_for
from lmstack.train.data.report import DataReport
from lmstack.train.loop import Trainer, Watch
from lmstack.train.metrics import MetricsLog
from lmstack.train.objectives.online import OnlineObjective
from lmstack.train.outlook import Outlook
from lmstack.train.parallel import Parallel
from lmstack.train.precision import dtype_of
from lmstack.train.recipe import Recipe
from lmstack.train.reference import with_reference
from lmstack.train.result import keep, training_of
from lmstack.train.rewards.own import OwnReward
from lmstack.train.rewards.reward_model import RewardModel
from lmstack.train.rollouts.protocol import Services, WeightedReward
from lmstack.train.rollouts.source import RolloutSource
from lmstack.train.source import ExampleSource, UpdateSource
from lmstack.train.throughput import matrix_rate
from lmstack.train.tracking import Tracker
from lmstack.train.trained import TrainedModule

__all__ = ["TrainingResult", "train"]


@dataclass(frozen=True)
class TrainingResult:
    """``folder``: of the model, or of the adapter. ``digest``: of a model, on the first process.
    ``values``: of the validation, or of the last step where there is none; ``start``: the same
    before the first update. ``metric``: by which ``kept_step`` was the best; without a validation
    it is the last. ``has_diverged``: the weights are worth nothing (`Trainer.has_diverged`).
    ``flops_per_second``: of its products, all processes together; ``matrix_rate``: what one big
    product reaches in the same precision on as many."""

    name: str
    folder: Path
    digest: str | None
    outlook: Outlook
    metric: str
    start: Mapping[str, float]
    values: Mapping[str, float]
    kept_step: int
    has_diverged: bool
    steps: int
    tokens: int
    trainable: int
    parameters: int
    report: DataReport
    flops_per_second: float
    matrix_rate: float


def train(
    recipe: Recipe,
    *,
    resume: bool = False,
    watch: Watch | None = None,
    services: Services | None = None,
) -> TrainingResult:
    """Run ``recipe``, on every process of a torchrun. ``resume``: go on from the last checkpoint
    in its run folder. `InputError` where the folder holds a run already and that is not asked
    for. ``watch``: of the first process. ``services``: who draws and rewards samples, for an
    objective that learns from its own."""
    parallel = Parallel.from_environment()
    with parallel.as_one():
        watch = watch if watch is not None and parallel.is_first else Watch()
        return _trained(recipe, resume, watch, parallel, services)


def _trained(
    recipe: Recipe, resume: bool, watch: Watch, parallel: Parallel, services: Services | None
) -> TrainingResult:
    checkpoints = Checkpoints(recipe.folder, recipe.keep)
    if checkpoints.steps() and not resume:
        raise InputError(
            f"{recipe.folder} holds a run already, with a checkpoint at step"
            f" {checkpoints.steps()[-1]}",
            hint="--resume goes on with it; run=FOLDER starts another beside it",
            param="run",
        )
    rewards = _rewards(recipe, services)
    report_file = recipe.folder / "data.json"
    before = _files_before(report_file) if resume and checkpoints.steps() else None
    run = assemble(recipe, recipe.folder / "examples", parallel, before=before, told=watch.data)
    run = with_reference(recipe, run, parallel, told=watch.reference)
    module = run.base.module
    with_events = recipe.tensorboard and parallel.is_first
    metrics = MetricsLog(recipe.folder / "metrics.jsonl", tensorboard=with_events)
    outlook = Outlook.of(recipe, run, parallel)
    with ExitStack() as stack:
        ops = ops_for(recipe.precision, module, parallel.device)
        trained = TrainedModule(module, recipe, ops, parallel)
        source = _source(run, trained, services, rewards, stack)
        log = metrics.add if parallel.is_first else lambda _: None
        facts = _facts(run, rewards)
        trainer = Trainer(trained, source, checkpoints, log, watch, facts)
        step = trainer.resume() if resume else 0
        if parallel.is_first:
            counts = {"parameters": run.parameters, "trainable": run.trainable}
            _write_json(recipe.folder / "recipe.json", recipe.to_json())
            _write_json(recipe.folder / "run.json", counts)
            _write_json(report_file, run.prepared.report.to_json())
            metrics.cut(step)
        watch.begins(outlook)
        started = time.perf_counter()
        stack.enter_context(closing(metrics))
        if recipe.track is not None and parallel.is_first:
            settings, note = recipe.to_json(), watch.note
            metrics.tracker = Tracker(
                recipe.track, recipe.folder, settings, resume=step > 0, note=note
            )
        values = trainer.run()
    parallel.unwrapped(module)
    folder, digest = Path(recipe.output), None
    if parallel.is_first:
        training = training_of(
            recipe,
            run.base,
            run.prepared.report,
            run.prepared.fingerprint,
            metrics=values,
            steps=trainer.progress.step,
            tokens=trainer.progress.tokens,
            trainable=run.trainable,
            seconds=time.perf_counter() - started,
            models=_models(facts, run),
        )
        folder, digest = keep(recipe, run.base, training, asdict(run.objective))
    parallel.wait()
    return TrainingResult(
        recipe.output,
        folder,
        digest,
        outlook,
        trainer.metric.name,
        trainer.progress.start,
        values,
        trainer.progress.best_step or trainer.progress.step,
        trainer.has_diverged(values),
        trainer.progress.step,
        trainer.progress.tokens,
        run.trainable,
        run.parameters,
        run.prepared.report,
        trainer.flops / trainer.seconds if trainer.seconds else 0.0,
        parallel.world * matrix_rate(outlook.precision, module.device),
    )


def _write_json(path: Path, values: Mapping[str, Any]) -> None:
    write_atomic(path, (json.dumps(values, indent=2) + "\n").encode())


def _rewards(recipe: Recipe, services: Services | None) -> list[WeightedReward]:
    """Those of an online objective, so that a mistake in them is found before data is read."""
    objective, _ = check_recipe(recipe)
    if not isinstance(objective, OnlineObjective):
        return []
    if services is None:
        raise InputError(
            f"{recipe.objective_name} learns from answers, and nothing here draws any",
            hint="lmstack train RECIPE, or train(recipe, services=...)",
            param="objective",
        )
    return [
        WeightedReward(services.reward(each.name, each.settings), each.weight)
        for each in objective.reward_settings
    ]


def _source(
    run: Assembled,
    trained: TrainedModule,
    services: Services | None,
    rewards: Sequence[WeightedReward],
    stack: ExitStack,
) -> UpdateSource:
    """What ``run`` learns from; ``stack`` closes it, and what draws its answers."""
    if not isinstance(run.objective, OnlineObjective):
        return ExampleSource(trained, run.objective, run.train, run.validation)
    rollouts = run.objective.rollout_config
    held = str(dtype_of(trained.recipe.precision, trained.parallel.device))
    rollouts = replace(rollouts, weights=rollouts.weights or held.removeprefix("torch."))
    assert services is not None, "there are no rewards without"
    sampler = stack.enter_context(closing(services.sampler(run.base, rollouts)))
    source = RolloutSource(trained, run.objective, run.train, run.validation, sampler, rewards)
    return stack.enter_context(closing(source))


def _facts(run: Assembled, rewards: Sequence[WeightedReward]) -> dict[str, str | None]:
    """What a run resumes with the same of."""
    facts: dict[str, str | None] = {
        "data": run.prepared.fingerprint,
        "base": run.base.digest,
        **run.objective.models,
        **run.facts,
    }
    for number, weighted in enumerate(rewards, 1):
        if isinstance(weighted.reward, RewardModel):
            facts[f"model of reward {number}"] = weighted.reward.digest
        if isinstance(weighted.reward, OwnReward):
            facts[f"file of reward {number}"] = weighted.reward.digest
    return facts


def _models(facts: Mapping[str, Any], run: Assembled) -> dict[str, str]:
    """Digests of the models that were learned from, beside the base, by what they were."""
    others = {"data", "base", *run.facts}
    return {name: digest for name, digest in facts.items() if digest and name not in others}


def _files_before(path: Path) -> list[Mapping[str, Any]] | None:
    """What the run read when it began, as its data report says; None where it has none."""
    try:
        return list(json.loads(path.read_text(encoding="utf-8"))["files"])
    except (FileNotFoundError, ValueError, LookupError):
        return None  # the checkpoint's own fingerprint is compared all the same
