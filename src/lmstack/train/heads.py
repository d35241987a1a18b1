"""The model that training starts from: a base with the head that the objective trains.

A base that has that head, for the same labels, keeps it. Any other gets a fresh one, as the class
of its family in transformers has it, so the result loads there with equal logits.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from lmstack.core import UnsupportedError
from lmstack.model import LoraConfig
from lmstack.model.config import TransformerConfig
from lmstack.model.families import Family, config_from_json, config_to_json, family_of, with_head
from lmstack.model.heads import HEAD_PARTS, replace_head
from lmstack.model.lora.slots import names_of
from lmstack.registry import LoadedModel
from lmstack.train.objectives.objective import Objective

__all__ = ["adapted", "with_head_for"]

_STD = 0.02  # of transformers' configs that state none


def with_head_for(objective: Objective, base: LoadedModel) -> tuple[LoadedModel, tuple[str, ...]]:
    """``base``, whose module is changed in place, with the head that ``objective`` trains, and the
    parts of it that are fresh."""
    config, labels = base.module.config, objective.labels(base)
    if not objective.heads or (config.head in objective.heads and labels == base.labels):
        return objective.made_of(base), ()
    if config.encoder is not None:
        raise UnsupportedError(
            f"{base.name} is an encoder-decoder, and a head {objective.heads[0]!r} is trained on"
            " one stack",
            hint="an encoder, such as all-minilm-l6-v2, or a decoder",
            param="base",
        )
    head = objective.heads[0]
    values = with_head(base.config or config_to_json(config)[1], head, labels)
    wanted = config_from_json(values, f"the config of {base.name}")
    if wanted.head not in objective.heads or head == "none":
        wanted = wanted.replace(head="none", transform=None, transform_norm=False)
    kept = _shared(family_of(values), config, wanted)
    std = base.config.get("initializer_range", _STD)
    fresh = replace_head(base.module, wanted, kept, std if isinstance(std, float) else _STD)
    return objective.made_of(replace(base, config=values, labels=labels)), fresh


def adapted(lora: LoraConfig, base: LoadedModel, fresh: Iterable[str]) -> LoraConfig:
    """``lora`` that trains the ``fresh`` parts of the head, and any classifier, whole: a frozen one
    of random numbers would be of no use. As PEFT does for a classification ``task_type``."""
    names = names_of(base.module, model_type=base.config.get("model_type"))
    whole = {*fresh, "classifier"}
    found = {
        slot.name.removeprefix(names.family.prefix).partition(".")[0]: None
        for slot in names.parameters.values()
        if slot.path in whole
    }
    return lora.replace(modules_to_save=tuple({**dict.fromkeys(lora.modules_to_save), **found}))


def _shared(family: Family, old: TransformerConfig, new: TransformerConfig) -> set[str]:
    """The parts of a head but its classifier that have one name in files of both classes."""
    ours, theirs = family.table(old), family.table(new)
    parts = set(HEAD_PARTS) - {"classifier"}
    return {part for part in parts if ours.get(part) is not None and ours[part] == theirs.get(part)}
