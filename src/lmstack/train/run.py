"""From a recipe to a model in the registry: the base, the data, the loop, the result.

What comes out is a model folder with its lineage: hashes of data and base, recipe, version, and the
values that it reached; or for LoRA an adapter folder in PEFT's layout, with the same in
``training.json``.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

import lmstack
from lmstack.core import InputError
from lmstack.core.files import write_atomic
from lmstack.model import (
    LoraConfig,
    Transformer,
    add_adapter,
    count_parameters,
    save_adapter,
)
from lmstack.model.families import config_from_json
from lmstack.registry import LoadedModel, ModelFolder, Store, load, load_text
from lmstack.registry.defaults import GenerationDefaults
from lmstack.registry.describe import Origin
from lmstack.text import Tokenizer
from lmstack.text.windows import has_segments
from lmstack.train.checkpoint import Checkpoints
from lmstack.train.compute import ops_for
from lmstack.train.data.prepare import Prepared, Selection, prepare
from lmstack.train.data.report import DataReport
from lmstack.train.data.rows import Row, Rows, find_data
from lmstack.train.data.store import ExampleStore
from lmstack.train.heads import adapted, with_head_for
from lmstack.train.loader import Loader, Share
from lmstack.train.loop import Trainer, Watch
from lmstack.train.metrics import MetricsLog
from lmstack.train.objectives import objective_named
from lmstack.train.objectives.objective import Objective, Reading
from lmstack.train.parallel import Parallel
from lmstack.train.recipe import Recipe

__all__ = ["Result", "train"]


@dataclass(frozen=True)
class Result:
    """``folder``: of the model, or of the adapter. ``digest``: of a model, on the first process.
    ``values``: of the validation, or of the last step where there is none."""

    name: str
    folder: Path
    digest: str | None
    values: Mapping[str, float]
    steps: int
    tokens: int
    trainable: int
    parameters: int
    report: DataReport


def train(recipe: Recipe, *, resume: bool = False, watch: Watch | None = None) -> Result:
    """Run ``recipe``, on every process of a torchrun. ``resume``: go on from the last checkpoint
    in its run folder. `InputError` where the folder holds a run already and that is not asked
    for. ``watch``: of the first process."""
    parallel = Parallel.from_environment()
    with parallel.as_one():
        watch = watch if watch is not None and parallel.is_first else Watch()
        return _trained(recipe, resume, watch, parallel)


def _trained(recipe: Recipe, resume: bool, watch: Watch, parallel: Parallel) -> Result:
    checkpoints = Checkpoints(recipe.folder, recipe.keep)
    if checkpoints.steps() and not resume:
        raise InputError(
            f"{recipe.folder} holds a run already, with a checkpoint at step"
            f" {checkpoints.steps()[-1]}",
            hint="--resume goes on with it; run=FOLDER starts another beside it",
            param="run",
        )
    torch.manual_seed(recipe.seed)
    base = _base(recipe)
    objective = objective_named(recipe.objective_name, recipe.objective_settings)
    objective = objective.fitted(base, partial(_rows, recipe))
    base, fresh = with_head_for(objective, base)
    module, reading = base.module, _reading(recipe, base)
    report_file = recipe.folder / "data.json"
    with parallel.in_turn():
        prepared = prepare(
            Selection(
                recipe.data, recipe.validation, recipe.seed, recipe.strict, recipe.deduplicate
            ),
            objective,
            reading,
            recipe.folder / "examples",
            before=_files_before(report_file) if resume and checkpoints.steps() else None,
            told=watch.data,
        )
    if recipe.lora is not None:
        settings = {k: tuple(v) if isinstance(v, list) else v for k, v in recipe.lora.items()}
        lora = adapted(LoraConfig.from_mapping(settings), base, fresh)
        add_adapter(module, lora, model_type=base.config.get("model_type"))
    trainable, parameters = count_parameters(module)
    share = Share(parallel.rank, parallel.world)
    metrics = MetricsLog(recipe.folder / "metrics.jsonl")
    trainer = Trainer(
        module,
        objective,
        _loader(prepared.train, objective, reading, recipe, share),
        _loader(prepared.validation, objective, reading, recipe, share)
        if prepared.validation
        else None,
        recipe,
        checkpoints,
        ops_for(recipe.precision, module),
        metrics.add if parallel.is_first else lambda _: None,
        watch,
        parallel,
        {"data": prepared.fingerprint, "base": base.digest},
    )
    step = trainer.resume() if resume else 0
    if parallel.is_first:
        text = json.dumps(recipe.to_json(), indent=2) + "\n"
        write_atomic(recipe.folder / "recipe.json", text.encode())
        facts = {"parameters": parameters, "trainable": trainable, "base": base.digest}
        write_atomic(recipe.folder / "run.json", (json.dumps(facts, indent=2) + "\n").encode())
        text = json.dumps(prepared.report.to_json(), indent=2) + "\n"
        write_atomic(report_file, text.encode())
        metrics.cut(step)
    values = trainer.run()
    parallel.unwrapped(module)
    folder, digest = Path(recipe.output), None
    if parallel.is_first:
        folder, digest = _kept(recipe, base, prepared, trainer, values)
    parallel.wait()
    return Result(
        recipe.output,
        folder,
        digest,
        values,
        trainer.progress.step,
        trainer.progress.tokens,
        trainable,
        parameters,
        prepared.report,
    )


def _base(recipe: Recipe) -> LoadedModel:
    """The model to start from."""
    if recipe.base is not None:
        return load(recipe.base, weights=recipe.weights)
    assert recipe.model is not None
    assert recipe.tokenizer is not None
    text = load_text(recipe.tokenizer)
    values = {"vocab_size": text.tokenizer.vocab_size, **recipe.model}
    config = config_from_json(values, "the recipe's model")
    if config.encoder is not None:
        values = _begun(values, text.tokenizer)
    ends = frozenset({text.tokenizer.eos_id} - {None})
    return LoadedModel(
        recipe.output,
        None,
        Transformer(config),
        text.tokenizer,
        text.template,
        GenerationDefaults(
            ends,  # type: ignore[arg-type]
            decoder_start_id=values.get("decoder_start_token_id"),
        ),
        config=values,
    )


def _begun(values: Mapping[str, Any], tokenizer: Tokenizer) -> dict[str, Any]:
    """A fresh encoder-decoder's config.json with what it leaves open of its tokens. Its decoder
    begins with padding, as T5's and Marian's do, or where there is none with the end."""
    pad, end = tokenizer.pad_id, tokenizer.eos_id
    start = end if pad is None else pad
    ids = {"pad_token_id": pad, "eos_token_id": end, "decoder_start_token_id": start}
    known = {name: index for name, index in ids.items() if index is not None}
    return {**known, **values, "is_encoder_decoder": True}


def _reading(recipe: Recipe, base: LoadedModel) -> Reading:
    """What reads rows for ``base``."""
    config, tokenizer = base.module.config, base.tokenizer
    if tokenizer.vocab_size > config.vocab_size:
        raise InputError(
            f"the tokenizer has {tokenizer.vocab_size} tokens, the model {config.vocab_size}",
            hint="use the tokenizer that the model was trained with",
            param="tokenizer",
        )
    return Reading(
        tokenizer,
        base.template,
        min(recipe.max_length, config.max_positions),
        decoder_start=base.generation.decoder_start_id,
        segments=config.token_types > 1 and has_segments(tokenizer),
    )


def _rows(recipe: Recipe) -> Iterator[Row]:
    """Every row of the recipe's data that can be read."""
    held = [] if isinstance(recipe.validation, int | float) else find_data(recipe.validation)
    rows = Rows([*find_data(recipe.data), *held])
    return (row for row in rows if isinstance(row, Row))


def _files_before(path: Path) -> list[Mapping[str, Any]] | None:
    """What the run read when it began, as its data report says; None where it has none."""
    try:
        return list(json.loads(path.read_text(encoding="utf-8"))["files"])
    except (FileNotFoundError, ValueError, LookupError):
        return None  # the checkpoint's own fingerprint is compared all the same


def _loader(
    examples: ExampleStore, objective: Objective, reading: Reading, recipe: Recipe, share: Share
) -> Loader:
    return Loader(
        examples,
        examples.lengths,
        objective,
        reading,
        batch=recipe.batch,
        micro_tokens=recipe.micro_tokens,
        seed=recipe.seed,
        share=share,
        packs=recipe.pack,
    )


def _kept(
    recipe: Recipe,
    base: LoadedModel,
    prepared: Prepared,
    trainer: Trainer,
    values: Mapping[str, float],
) -> tuple[Path, str | None]:
    """Where the result is, and its digest."""
    facts = {
        "recipe": recipe.to_json(),
        "base": base.digest,
        "data": prepared.fingerprint,
        "steps": trainer.progress.step,
        "tokens": trainer.progress.tokens,
        "values": dict(values),
        "lmstack": lmstack.__version__,
    }
    if recipe.lora is not None:
        folder = Path(recipe.output)
        save_adapter(base.module, folder)
        write_atomic(folder / "training.json", (json.dumps(facts, indent=2) + "\n").encode())
        return folder, None

    def fill(staged: Path) -> Origin:
        base.save(staged)
        return Origin(
            source=f"trained by lmstack {lmstack.__version__}",
            lineage=f"{recipe.objective_name} of {recipe.base or 'fresh weights'}",
            kind=base.kind,
            evaluation=facts,
        )

    kept: ModelFolder = Store().add(recipe.output, fill)
    return kept.path, kept.digest
