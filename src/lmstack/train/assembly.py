"""What a recipe stands for, put together: the base with its head and adapter, the data, the
objective, and the loaders. A run trains it; a plan looks at it."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch

from lmstack.core import FormatError, InputError, shown
from lmstack.model import LoraConfig, Transformer, add_adapter, count_parameters
from lmstack.model.families import config_from_json
from lmstack.registry import LoadedModel, Store, load, load_text
from lmstack.registry.defaults import GenerationDefaults
from lmstack.text import Tokenizer, examine
from lmstack.text.windows import has_segments
from lmstack.train.data.prepare import DataSelection, PreparedData, Told, prepare
from lmstack.train.data.report import DataReport
from lmstack.train.data.rows import Row, Rows, find_data
from lmstack.train.data.store import ExampleStore
from lmstack.train.heads import adapted, with_head_for
from lmstack.train.loader import Loader, ProcessShare
from lmstack.train.metric import metric_named
from lmstack.train.objectives import objective_named
from lmstack.train.objectives.objective import Objective, Reading
from lmstack.train.parallel import Parallel
from lmstack.train.recipe import Recipe

__all__ = ["Assembled", "assemble", "data_report"]


@dataclass(frozen=True)
class Assembled:
    """``base``: the model with the head and the adapter that are trained. ``trainable`` and
    ``parameters``: how many. ``facts``: further ones that a run resumes with the same."""

    base: LoadedModel
    objective: Objective
    reading: Reading
    prepared: PreparedData
    train: Loader
    validation: Loader | None
    trainable: int
    parameters: int
    facts: Mapping[str, str] = field(default_factory=dict)


def assemble(
    recipe: Recipe,
    examples: Path,
    parallel: Parallel,
    *,
    before: Sequence[Mapping[str, Any]] | None = None,
    told: Told = lambda _doing, _done, _total: None,
) -> Assembled:
    """Load the base, read the data into the folder ``examples``, add the adapter. ``before`` and
    ``told``: see `prepare`."""
    torch.manual_seed(recipe.seed)
    objective, lora = check_recipe(recipe)
    base = _base(recipe)
    objective = objective.fitted(base, partial(_rows, recipe))
    _check_metric(recipe, objective)  # it may have fewer now
    base, fresh = with_head_for(objective, base)
    module, reading = base.module, _reading(recipe, base)
    with parallel.in_turn():
        prepared = prepare(
            _selection(recipe),
            objective,
            reading,
            examples,
            before=before,
            told=told,
        )
    _check_compared(recipe, len(prepared.validation))
    prepared.report.template = _examined(objective, base)
    if lora is not None:
        lora = adapted(lora, base, fresh)
        add_adapter(module, lora, model_type=base.config.get("model_type"))
    objective.extend(module)
    trainable, parameters = count_parameters(module)
    share = ProcessShare(parallel.rank, parallel.world)
    train = _loader(prepared.train, objective, reading, recipe, share)
    held = prepared.validation
    validation = _loader(held, objective, reading, recipe, share) if held else None
    return Assembled(base, objective, reading, prepared, train, validation, trainable, parameters)


def data_report(recipe: Recipe, *, told: Told = lambda _doing, _done, _total: None) -> DataReport:
    """What a run would make of the recipe's data, which it would keep as data.json."""
    with tempfile.TemporaryDirectory(prefix="lmstack-data-") as folder:
        return assemble(recipe, Path(folder), Parallel(), told=told).prepared.report


def _selection(recipe: Recipe) -> DataSelection:
    return DataSelection(
        recipe.data, recipe.validation, recipe.seed, recipe.strict, recipe.deduplicate
    )


def _examined(objective: Objective, base: LoadedModel) -> list[dict[str, Any]]:
    """What the doctor finds of the template that conversations are read with; empty for an
    objective that reads none."""
    if not {"chat", "preference", "rated", "prompt"} & set(objective.reads):
        return []
    found = examine(
        base.tokenizer,
        base.template,
        eos_ids=base.generation.eos_ids,
        rows=base.module.config.vocab_size,
    )
    return [finding.to_json() for finding in found if finding.severity != "ok"]


def check_recipe(recipe: Recipe) -> tuple[Objective, LoraConfig | None]:
    """The objective and the adapter that ``recipe`` asks for; `InputError` where it has no such
    settings, or its result cannot have its name. Takes no time: nothing is loaded."""
    Store().place(recipe.output)
    try:
        objective = objective_named(recipe.objective_name, recipe.objective_settings)
    except InputError as error:
        raise InputError(
            f"objective: {error.message}", hint=error.hint, param=error.param
        ) from error
    _check_metric(recipe, objective)
    if not recipe.validation:
        _check_compared(recipe, 0)
    if recipe.lora is None:
        return objective, None
    try:
        settings = {k: tuple(v) if isinstance(v, list) else v for k, v in recipe.lora.items()}
        return objective, LoraConfig.from_mapping(settings)
    except InputError as error:
        raise InputError(f"lora: {error.message}", hint=error.hint, param=error.param) from error


def _check_metric(recipe: Recipe, objective: Objective) -> None:
    if recipe.metric is not None:
        metric_named(recipe.metric, objective.metrics(), recipe.objective_name)


def _check_compared(recipe: Recipe, held_out: int) -> None:
    """`InputError` where evaluations are to be compared and there is nothing to compare by."""
    for name in ("patience", "metric"):
        value = getattr(recipe, name)
        if value is not None and held_out < 2:
            how_many = "1 example is" if held_out else "no example is"
            raise InputError(
                f"{name} is {shown(value)}, which compares evaluations, and {how_many} held out",
                hint=f"validation=0.2 or validation=FILE, or do without: {name}=null",
                param=name,
            )


def _base(recipe: Recipe) -> LoadedModel:
    """The model to start from."""
    if recipe.base is not None:
        return load(recipe.base, weights=recipe.weights)
    assert recipe.model is not None
    assert recipe.tokenizer is not None
    text = load_text(recipe.tokenizer)
    values = {"vocab_size": text.tokenizer.vocab_size, **recipe.model}
    try:
        config = config_from_json(values, "the recipe's model")
    except FormatError as error:
        hint = "mend it under model: of the recipe; recipes/pretrain.yaml has a whole one"
        raise InputError(error.message, hint=hint, param="model") from error
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
    rows = Rows([*find_data(recipe.data), *find_data(_selection(recipe).held)])
    return (row for row in rows if isinstance(row, Row))


def _loader(
    examples: ExampleStore,
    objective: Objective,
    reading: Reading,
    recipe: Recipe,
    share: ProcessShare,
) -> Loader:
    return Loader(
        objective.joined(examples),
        examples.lengths,
        objective,
        reading,
        batch=recipe.batch,
        micro_tokens=recipe.micro_tokens,
        seed=recipe.seed,
        share=share,
        packs=recipe.pack,
    )
