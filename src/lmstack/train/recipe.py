"""A recipe: everything that says what a training run does, as a typed config.

A run is a YAML file; ``key=value`` on the command line overrides it, with dots for nested keys
(``lora.r=8``). An unknown key is an error that names the nearest; a value outside the ranges that
people use is a warning. Files are named from the working folder, as on the command line, so
a recipe can be kept anywhere. Does not cover what follows from data and model (`plan`).
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lmstack.core import Config, InputError, check_range, shown
from lmstack.core.config import allowed
from lmstack.train.settings_file import read_settings
from lmstack.train.tracking import tracker_named

__all__ = ["Recipe", "check_files", "read_recipe", "warnings_of"]

SCHEDULES = ("cosine", "linear", "constant", "constant-decay")
PRECISIONS = ("auto", "float32", "bfloat16", "int8")
OPTIMIZERS = ("adamw", "muon")
_MANY = 1 << 40
_RANK = 16  # of an adapter, and an alpha of twice that: what the field begins with


@dataclass(frozen=True)
class Recipe(Config):
    """**What.** ``objective``: a name, or a mapping of its ``name`` and settings. ``base``: the
    model to start from; or ``model``: the config.json of a fresh one, with ``tokenizer``, a folder
    or a model that has one. ``lora``: settings of an adapter (`LoraConfig`); without it all
    weights are trained. ``weights``: the form in which a frozen base is held (``nf4``: QLoRA).
    ``output``: the name of the result in the registry, or a folder. ``run``: where checkpoints and
    metrics go; unless given, ``runs/`` and the output.

    **Data.** ``data``: files, folders, and data sets of Hugging Face (``hf:org/name``).
    ``validation``: a share of the documents, or files. ``max_length``: tokens of a sequence, and of
    a packed row. ``pack``: put short ones together. ``deduplicate``: leave out exact and near
    duplicates. ``strict``: stop at the first bad row.

    **Steps.** ``batch``: rows of a step, over all passes and processes. ``micro_tokens``: tokens
    of one pass. ``epochs``, or ``steps`` where given, beside which epochs may be null. ``lr``: the
    highest; ``schedule`` lowers it to ``final_lr`` of it after ``warmup`` (a share of all steps).
    ``weight_decay``: of matrices only. ``clip``: the longest gradient. ``muon_lr``: of matrices
    under Muon.

    **Compute.** ``precision``: of the products; ``auto`` is bfloat16 where the machine
    multiplies it, else float32; ``int8`` is for frozen matrices, and ``auto`` for the rest.
    ``checkpointing``: blocks are computed again in the backward pass. ``processes`` come from
    torchrun.

    **Keeping.** ``eval_every`` and ``save_every``: steps, None: ten times a run. ``keep``:
    checkpoints. ``ema``: the decay of an average of the weights, which is then what is kept.
    ``patience``: evaluations without a better ``metric`` after which it stops; None: that of the
    objective. ``tensorboard``: write the metrics as its events too. ``track``: send them to
    ``trackio`` or ``wandb``, into a project after a slash (`lmstack.train.tracking`). ``report``:
    settings of the comparison with the base in which a run that aligns a model ends; false:
    none."""

    objective: Any
    data: tuple[str, ...]
    output: str
    base: str | None = None
    model: Mapping[str, Any] | None = None
    tokenizer: str | None = None
    weights: str | None = None
    lora: Mapping[str, Any] | None = None
    run: str | None = None
    validation: Any = 0.05
    max_length: int = allowed(1024, int, 2, 1 << 20)
    pack: bool | None = None
    deduplicate: bool = allowed(False, bool)
    strict: bool = allowed(False, bool)
    batch: int = allowed(16, int, 1, 1 << 20)
    micro_tokens: int = allowed(4096, int, 1, 1 << 24)
    epochs: float = allowed(1.0, float, 0, 1e6, above=True)
    steps: int | None = allowed(None, int, 1, _MANY)
    optimizer: str = allowed("adamw", str, also=OPTIMIZERS)
    lr: float = allowed(2e-4, float, 0, 10, above=True)
    muon_lr: float = allowed(0.02, float, 0, 10, above=True)
    schedule: str = allowed("cosine", str, also=SCHEDULES)
    warmup: float = allowed(0.03, float, 0, 1)
    final_lr: float = allowed(0.1, float, 0, 1)
    weight_decay: float = allowed(0.01, float, 0, 10)
    beta1: float = 0.9
    beta2: float = 0.999
    clip: float = allowed(1.0, float, 0, 1e6, above=True)
    dropout: float = allowed(0.0, float, 0, 0.99)
    precision: str = allowed("float32", str, also=PRECISIONS)
    checkpointing: bool = allowed(False, bool)
    ema: float | None = allowed(None, float, 0, 1)
    seed: int = allowed(0, int, 0, (1 << 63) - 1)
    eval_every: int | None = allowed(None, int, 1, _MANY)
    save_every: int | None = allowed(None, int, 1, _MANY)
    keep: int = allowed(2, int, 1, 1000)
    patience: int | None = allowed(None, int, 1, 1000)
    metric: str | None = None
    tensorboard: bool = allowed(False, bool)
    track: str | None = None
    report: Any = None

    def __post_init__(self) -> None:
        if self.epochs is None and self.steps is not None:  # which says it all
            object.__setattr__(self, "epochs", 1.0)
        super().__post_init__()
        self._check_types()
        data = (self.data,) if isinstance(self.data, str) else self.data
        object.__setattr__(self, "data", tuple(data))
        if not self.data:
            raise InputError("data is empty", hint="data=FILE", param="data")
        if self.lora is not None:
            rank = self.lora.get("r", _RANK)
            usual = {"r": rank, "alpha": 2 * rank} if isinstance(rank, int) else {}
            object.__setattr__(self, "lora", {**usual, **self.lora})
        if (self.base is None) == (self.model is None):
            raise InputError(
                "a recipe names a base or describes a model, one of the two",
                hint="base: smollm2-135m-instruct; or model: and the keys of a config.json",
                param="base",
            )
        if self.model is not None and self.tokenizer is None:
            raise InputError(
                "a fresh model needs a tokenizer", hint="lmstack tokenizer train", param="tokenizer"
            )
        if self.weights is not None and self.lora is None:
            raise InputError(
                f"weights is {shown(self.weights)} and there is no lora",
                hint="quantized weights stay as they are: train an adapter beside them",
                param="weights",
            )

    def _check_types(self) -> None:
        for name in ("output", "base", "tokenizer", "weights", "run", "metric", "track"):
            value = getattr(self, name)
            if not isinstance(value, str) and (value is not None or name == "output"):
                raise InputError(
                    f"{name} is {shown(value)}, not text", hint=f'{name}: "{value}"', param=name
                )
        for name in ("model", "lora"):
            value = getattr(self, name)
            if value is not None and not isinstance(value, Mapping):
                raise InputError(
                    f"{name} is {shown(value)}, not settings by name",
                    hint="lora.r=16" if name == "lora" else "the keys of a config.json",
                    param=name,
                )
        if self.track is not None:
            tracker_named(self.track)
        for name in ("beta1", "beta2"):  # at 1 an average never moves
            check_range(name, getattr(self, name), 0, 1, high_open=True)
        check_files("data", self.data)
        if isinstance(self.validation, int | float):
            check_range("validation", self.validation, 0, 1, high_open=True)
        else:
            check_files("validation", self.validation)
        if not self.objective_name:
            raise InputError(
                f"objective is {shown(self.objective)}, not a name, or a name with settings",
                hint="objective: sft; or objective: {name: masked, rate: 0.15}",
                param="objective",
            )

    @property
    def objective_name(self) -> str:
        given = self.objective
        name = given.get("name") if isinstance(given, Mapping) else given
        return name if isinstance(name, str) else ""

    @property
    def objective_settings(self) -> Mapping[str, Any]:
        given = self.objective
        if not isinstance(given, Mapping):
            return {}
        return {key: value for key, value in given.items() if key != "name"}

    @property
    def folder(self) -> Path:
        """Where the run keeps its files: of outputs in different places never the same."""
        if self.run is not None:
            return Path(self.run)
        output, here = Path(os.path.abspath(self.output)), Path.cwd()
        parts = output.relative_to(here).parts if output.is_relative_to(here) else output.parts[1:]
        return Path("runs", *parts)

    def to_json(self) -> dict[str, Any]:
        """Every setting, as `Recipe.from_mapping` reads it."""
        values = dataclasses.asdict(self)
        return {**values, "data": list(self.data)}


def read_recipe(path: Path | str, overrides: Sequence[str] = ()) -> Recipe:
    """The recipe in the YAML file ``path``, changed by ``overrides`` (``key=value``)."""
    values = read_settings(path, overrides)
    try:
        return Recipe.from_mapping(values)
    except InputError as error:
        raise InputError(f"{path}: {error.message}", hint=error.hint, param=error.param) from error


def check_files(name: str, value: Any) -> None:
    """`InputError` unless ``value`` is a file, or a list of them."""
    files = [value] if isinstance(value, str) else value
    if not isinstance(files, list | tuple) or not all(isinstance(file, str) for file in files):
        share = "a share, or " if name == "validation" else ""
        raise InputError(
            f"{name} is {shown(value)}, not {share}files", hint=f"{name}: [a.jsonl, b]", param=name
        )


@dataclass(frozen=True)
class Usual:
    """A range of the guide's table of hyper-parameters."""

    low: float
    high: float
    why: str


USUAL: Mapping[str, Usual] = {
    "lr": Usual(1e-5, 5e-4, "1e-4 to 3e-4 for LoRA, less for all weights"),
    "batch": Usual(16, 256, "smaller ones are noisy"),
    "epochs": Usual(1, 5, "language models overfit soon"),
    "warmup": Usual(0.03, 0.1, "keeps the first steps stable"),
    "weight_decay": Usual(0.01, 0.1, "regularization"),
    "max_length": Usual(512, 4096, "memory grows with it"),
    "lora.r": Usual(8, 64, "more is more capacity"),
}

# The guide's table is of fine-tuning. From fresh weights models of 7 to 65 billion were trained at
# 1.5e-4 to 3e-4 (Touvron et al., 2023), those of 70 million to 12 billion at 1.2e-4 to 1e-3
# (Biderman et al., 2023), and recipes/pretrain.yaml, of 10 million, has 3e-3.
_FRESH: Mapping[str, Usual] = {"lr": Usual(1e-4, 3e-3, "smaller models take more")}


def warnings_of(recipe: Recipe) -> list[str]:
    """What is unusual about ``recipe``, a sentence each."""
    lora = recipe.lora or {}
    usual = USUAL if recipe.model is None else {**USUAL, **_FRESH}
    values = {key: getattr(recipe, key) for key in USUAL if "." not in key}
    if recipe.steps is not None:
        del values["epochs"]
    rank, alpha = lora.get("r"), lora.get("alpha")
    values["lora.r"] = rank
    found = [
        f"{key} is {value:g}; usual is {known.low:g} to {known.high:g} ({known.why})"
        for key, value in values.items()
        if isinstance(value, int | float) and not (known := usual[key]).low <= value <= known.high
    ]
    if isinstance(rank, int) and alpha != 2 * rank:
        found.append(f"lora.alpha is {alpha}; usual is twice lora.r")
    return found
