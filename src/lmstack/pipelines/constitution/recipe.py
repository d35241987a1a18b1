"""The recipe of a constitutional run: prompts, principles, who writes, who judges, both trainings.

``sft`` and ``dpo`` are settings of `lmstack.train.Recipe`; what follows from the run itself (base,
data, output, folder, seed) is set by it. Does not cover what the stages do (`run`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lmstack.core import Config, InputError, allowed, shown
from lmstack.train.recipe import Recipe, check_files
from lmstack.train.settings_file import read_settings

__all__ = ["PIPELINE", "ConstitutionalRecipe", "read_constitutional"]

PIPELINE = "constitutional"
_TEXTS = ("base", "output", "run", "principles", "writer", "judge", "weights")
_OWN = ("base", "data", "output", "run", "seed", "model", "tokenizer")
_MANY = 1 << 40


@dataclass(frozen=True)
class ConstitutionalRecipe(Config):
    """**What.** ``base``: the model that is trained, and that drafts. ``data``: files of prompts
    (column ``prompt``), of which ``prompts`` are used at most, drawn by hash. ``output``: the name
    of the result; the model after SFT is ``output`` with ``-sft``. ``run``: the folder of all
    stages; unless given, ``runs/`` and the output's name. ``seed``: of everything drawn.

    **Principles.** ``principles``: a YAML file; unless given, the ones that ship. ``rounds`` of
    critique and revision, each by another principle. ``labels``: principles that each pair of
    answers is compared by.

    **Who writes.** ``writer`` criticizes and revises, ``judge`` compares: names of models, local or
    remote; unless given, the base. ``weights``: the form in which local models are held while they
    write; of quantized ones an answer has the same bits whatever else is in its batch.
    ``answer_tokens`` and ``critique_tokens``: the longest. ``temperature``: of what is written.
    ``at_once``: items that are written at a time.

    **Training.** ``sft`` and ``dpo``: settings of the two runs. ``min_probability``: pairs whose
    label is less sure are left out of DPO."""

    pipeline: str
    base: str
    data: tuple[str, ...]
    output: str
    run: str | None = None
    principles: str | None = None
    writer: str | None = None
    judge: str | None = None
    weights: str | None = "int8"
    prompts: int | None = allowed(None, int, 1, _MANY)
    rounds: int = allowed(1, int, 1, 16)
    labels: int = allowed(3, int, 1, 1000)
    answer_tokens: int = allowed(256, int, 1, 1 << 20)
    critique_tokens: int = allowed(128, int, 1, 1 << 20)
    temperature: float = allowed(0.7, float, 0, 2)
    at_once: int = allowed(16, int, 1, 64)
    min_probability: float = allowed(0.5, float, 0.5, 1)
    seed: int = allowed(0, int, 0, (1 << 63) - 1)
    sft: Mapping[str, Any] = field(default_factory=dict)
    dpo: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.pipeline != PIPELINE:
            raise InputError(
                f"there is no pipeline {shown(self.pipeline)}", hint=PIPELINE, param="pipeline"
            )
        for name in _TEXTS:
            value = getattr(self, name)
            if not isinstance(value, str) and (value is not None or name in ("base", "output")):
                raise InputError(
                    f"{name} is {shown(value)}, not text", hint=f'{name}: "{value}"', param=name
                )
        check_files("data", self.data)
        if not self.data:
            raise InputError("data is empty", hint="data=FILE", param="data")
        data = (self.data,) if isinstance(self.data, str) else self.data
        object.__setattr__(self, "data", tuple(data))
        _ = self.sft_recipe, self.dpo_recipe

    @property
    def folder(self) -> Path:
        """Where the stages keep their files."""
        return Path(self.run or Path("runs") / Path(self.output).name)

    @property
    def tuned(self) -> str:
        """The name of the model after SFT, from which DPO starts."""
        return f"{self.output}-sft"

    @property
    def sft_recipe(self) -> Recipe:
        """Of an adapter the result is a folder of the run, which is merged into ``tuned``."""
        adapted = self.sft.get("lora") is not None if isinstance(self.sft, Mapping) else False
        output = str(self.folder / "sft" / "adapter") if adapted else self.tuned
        return self._training("sft", "sft", self.base, output)

    @property
    def dpo_recipe(self) -> Recipe:
        return self._training("dpo", "preferences", self.tuned, self.output)

    def _training(self, stage: str, data: str, base: str, output: str) -> Recipe:
        given = getattr(self, stage)
        if not isinstance(given, Mapping):
            raise InputError(
                f"{stage} is {shown(given)}, not settings by name", hint=f"{stage}.lr=1e-5"
            )
        own = next((name for name in _OWN if name in given), None)
        if own is not None:
            raise InputError(
                f"{stage}.{own} follows from the run and cannot be set",
                hint=f"leave it out; {own} of the whole run: {own}=..."
                if own in ("base", "data", "output", "run", "seed")
                else "leave it out",
                param=f"{stage}.{own}",
            )
        settings = {
            "objective": stage,
            **given,
            "base": base,
            "data": str(self.folder / f"{data}.jsonl"),
            "output": output,
            "run": str(self.folder / stage),
            "seed": self.seed,
        }
        try:
            return Recipe.from_mapping(settings)
        except InputError as error:
            raise InputError(
                f"{stage}: {error.message}", hint=error.hint, param=error.param
            ) from error


def read_constitutional(path: Path | str, overrides: Sequence[str] = ()) -> ConstitutionalRecipe:
    """The recipe in the YAML file ``path``, changed by ``overrides`` (``key=value``)."""
    try:
        return ConstitutionalRecipe.from_mapping(read_settings(path, overrides))
    except InputError as error:
        raise InputError(f"{path}: {error.message}", hint=error.hint, param=error.param) from error
