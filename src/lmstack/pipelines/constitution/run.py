"""A constitutional run from its prompts to the model after DPO.

    drafts -> (critiques-1 -> revisions-1) ... -> sft.jsonl -> sft/
           -> answers -> labels -> preferences.jsonl -> dpo/

Every stage that is whole is read, every other goes on from where it was, so a run that was killed
at any point ends as if it had never stopped: its items follow from seed and key, its trainings
resume bit for bit. (That holds for models that write the same whatever else is in a batch, as
quantized ones do here; a remote model answers as it likes.) Does not cover who provides the models
and what is shown.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lmstack.core import FormatError, InputError, NotFoundError
from lmstack.core.files import write_atomic
from lmstack.model import load_adapter, merge_adapter
from lmstack.pipelines.constitution.datasets import (
    DatasetRows,
    preference_rows,
    sft_rows,
    write_rows,
)
from lmstack.pipelines.constitution.principles import Constitution, read_constitution
from lmstack.pipelines.constitution.prompts import ReadPrompts, read_prompts
from lmstack.pipelines.constitution.recipe import ConstitutionalRecipe
from lmstack.pipelines.constitution.stages import Models, Stages, labels_of, texts_of
from lmstack.registry import Store, load
from lmstack.registry.adapters import TRAINING
from lmstack.registry.lineage import Training
from lmstack.train.assembly import check_recipe
from lmstack.train.checkpoint import Checkpoints
from lmstack.train.loop import Watch
from lmstack.train.recipe import Recipe
from lmstack.train.result import keep
from lmstack.train.run import train

__all__ = ["ConstitutionOutcome", "PipelineWatch", "Trained", "run_constitution"]


class PipelineWatch:
    """What is told of a run while it goes on; a subclass shows it."""

    def stage(self, name: str, done: int, total: int) -> None:
        """Items of a stage that a model writes."""

    def training(self, recipe: Recipe) -> Watch:
        """Who is told of the training that begins now."""
        del recipe
        return Watch()

    def rows(self, name: str, rows: DatasetRows) -> None:
        """A set to train on, as it was made."""

    def finished(self, name: str) -> None:
        """A stage is whole, and its file can be read."""


@dataclass(frozen=True)
class Trained:
    """What a training gave. ``name``: of a model in the registry, or the folder of an adapter.
    ``digest``: of a model."""

    name: str
    folder: str
    digest: str | None
    values: Mapping[str, float]
    steps: int
    tokens: int


@dataclass(frozen=True)
class ConstitutionOutcome:
    sft: Trained
    dpo: Trained
    prompts: int
    conversations: int
    preferences: int


def run_constitution(
    recipe: ConstitutionalRecipe,
    models: Models,
    *,
    resume: bool = False,
    watch: PipelineWatch | None = None,
) -> ConstitutionOutcome:
    """Run every stage of ``recipe`` that is not done. ``resume``: go on with what its folder holds;
    `InputError` where it holds something and that is not asked for."""
    watch = watch or PipelineWatch()
    trainings = {"sft": recipe.sft_recipe, "dpo": recipe.dpo_recipe}
    for stage, settings in trainings.items():
        check_recipe(settings)
        if not (recipe.folder / f"{stage}.json").exists():
            _made(_result(recipe, stage), settings)
    constitution = read_constitution(recipe.principles)
    prompts = read_prompts(recipe.data, recipe.prompts, recipe.seed)
    _begin(recipe, constitution, resume)
    stages = Stages(recipe, constitution, prompts, models, watch.stage)

    conversations = _revised(recipe, prompts, stages, watch)
    _write_set(recipe, "sft", conversations, watch)
    models.release()
    sft = _trained(recipe, "sft", trainings["sft"], watch)

    preferences = _compared(recipe, prompts, stages, watch)
    _write_set(recipe, "preferences", preferences, watch)
    models.release()
    dpo = _trained(recipe, "dpo", trainings["dpo"], watch)
    return ConstitutionOutcome(
        sft, dpo, len(prompts.by_key), len(conversations.rows), len(preferences.rows)
    )


def _revised(
    recipe: ConstitutionalRecipe, prompts: ReadPrompts, stages: Stages, watch: PipelineWatch
) -> DatasetRows:
    """The base's answers, criticized and revised."""
    items = stages.drafts()
    watch.finished("drafts")
    for turn in range(1, recipe.rounds + 1):
        answers = texts_of(items)
        critiques = stages.critiques(turn, answers)
        watch.finished(f"critiques-{turn}")
        items = stages.revisions(turn, answers, critiques)
        watch.finished(f"revisions-{turn}")
    return sft_rows(prompts, items)


def _compared(
    recipe: ConstitutionalRecipe, prompts: ReadPrompts, stages: Stages, watch: PipelineWatch
) -> DatasetRows:
    """The tuned model's answers, compared."""
    answers = stages.answers()
    watch.finished("answers")
    labels = labels_of(stages.verdicts(answers))
    watch.finished("labels")
    return preference_rows(prompts, answers, labels, recipe.min_probability)


def _begin(recipe: ConstitutionalRecipe, constitution: Constitution, resume: bool) -> None:
    """The folder with the recipe and the principles as they are, for whoever reads it."""
    file = recipe.folder / "recipe.json"
    if file.exists() and not resume:
        raise InputError(
            f"{recipe.folder} holds a run already",
            hint="--resume goes on with it; run=FOLDER starts another beside it",
            param="run",
        )
    values = {"recipe": _plain(recipe), "constitution": _plain(constitution)}
    write_atomic(file, (json.dumps(values, indent=2, ensure_ascii=False) + "\n").encode())


def _write_set(
    recipe: ConstitutionalRecipe, name: str, made: DatasetRows, watch: PipelineWatch
) -> None:
    watch.rows(name, made)
    if not made.rows:
        raise InputError(
            f"there is nothing to train on: {made.reasons}",
            hint=f"{recipe.folder} has every item; raise answer_tokens, or use other prompts",
            param="data",
        )
    write_rows(recipe.folder / f"{name}.jsonl", made.rows)
    watch.finished(name)


def _trained(
    recipe: ConstitutionalRecipe, stage: str, settings: Recipe, watch: PipelineWatch
) -> Trained:
    """What the training of ``settings`` gives, or gave."""
    mark = recipe.folder / f"{stage}.json"
    kept = _kept(mark, settings)
    if kept is None:
        name = _result(recipe, stage)
        kept = _made(name, settings) or _train(name, settings, watch)
        text = json.dumps({"result": _plain(kept), "recipe": settings.to_json()}, indent=2)
        write_atomic(mark, (text + "\n").encode())
    watch.finished(stage)
    return kept


def _result(recipe: ConstitutionalRecipe, stage: str) -> str:
    """The name of what a stage's training gives: the model, or the adapter that stays one."""
    return recipe.tuned if stage == "sft" else recipe.output


def _train(name: str, settings: Recipe, watch: PipelineWatch) -> Trained:
    begun = bool(Checkpoints(settings.folder, settings.keep).steps())
    result = train(settings, resume=begun, watch=watch.training(settings))
    folder, digest = result.folder, result.digest
    if settings.output != name:
        folder, digest = _merged(settings, name)
    return Trained(name, str(folder), digest, dict(result.values), result.steps, result.tokens)


def _made(name: str, settings: Recipe) -> Trained | None:
    """The model ``name``, where ``settings`` made it: of a process that was killed after that.
    `InputError` where another run did."""
    if settings.output == name and settings.lora is not None:
        return None  # an adapter's folder is written again
    try:
        found = Store().resolve(name)
    except NotFoundError:
        return None
    training = found.card.training
    if training is None or training.recipe != json.loads(json.dumps(settings.to_json())):
        raise InputError(
            f"there is a model {name} already, which this run did not make",
            hint=f"output=NAME, or lmstack model rm {name}",
            param="output",
        )
    return Trained(
        name,
        str(found.path),
        found.digest,
        dict(training.metrics),
        training.steps,
        training.tokens,
    )


def _kept(mark: Path, settings: Recipe) -> Trained | None:
    try:
        values = json.loads(mark.read_bytes())
        result, made_by = Trained(**values["result"]), values["recipe"]
    except FileNotFoundError:
        return None
    except (ValueError, LookupError, TypeError) as error:
        raise FormatError(f"{mark} is damaged", hint="delete it, and --resume goes on") from error
    if made_by != json.loads(json.dumps(settings.to_json())):
        raise InputError(
            f"{mark} was made with other settings",
            hint="give those again, or run=FOLDER for another run beside it",
            param="settings",
        )
    return result


def _merged(settings: Recipe, name: str) -> tuple[Path, str | None]:
    """The adapter that ``settings`` trained, merged into its base and kept as ``name``."""
    assert settings.base is not None
    base, adapter = load(settings.base), Store().place(settings.output)
    load_adapter(base.module, adapter)
    merge_adapter(base.module, keep=False)
    training = Training.from_json(json.loads((adapter / TRAINING).read_bytes()))
    return keep(settings.replace(lora=None, weights=None, output=name), base, training)


def _plain(value: Any) -> Any:
    """A dataclass as what JSON holds."""
    return json.loads(json.dumps(asdict(value), default=dict))
