"""One file an objective. `OBJECTIVES` names those that recipes may ask for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lmstack.core import InputError, nearest, shown
from lmstack.train.objectives.causal import CausalLM
from lmstack.train.objectives.contrastive import Contrastive
from lmstack.train.objectives.denoising import Denoising
from lmstack.train.objectives.distillation import Distillation
from lmstack.train.objectives.grpo import GroupRelativePolicy
from lmstack.train.objectives.kto import KTO
from lmstack.train.objectives.masked import MaskedLM
from lmstack.train.objectives.objective import Objective
from lmstack.train.objectives.pairwise import DPO, IPO, ORPO, SimPO
from lmstack.train.objectives.ppo import PPO
from lmstack.train.objectives.reader import Reader
from lmstack.train.objectives.reranking import Reranking
from lmstack.train.objectives.reward import RewardModelling
from lmstack.train.objectives.sequence_classification import SequenceClassification
from lmstack.train.objectives.sft import SupervisedFineTuning
from lmstack.train.objectives.span_corruption import SpanCorruption
from lmstack.train.objectives.token_classification import TokenClassification
from lmstack.train.objectives.translation import Translation

__all__ = ["OBJECTIVES", "objective_named"]

OBJECTIVES: Mapping[str, type[Objective]] = {
    "causal": CausalLM,
    "contrastive": Contrastive,
    "reader": Reader,
    "grpo": GroupRelativePolicy,
    "masked": MaskedLM,
    "ppo": PPO,
    "reranking": Reranking,
    "reward": RewardModelling,
    "sequence-classification": SequenceClassification,
    "span-corruption": SpanCorruption,
    "denoising": Denoising,
    "translation": Translation,
    "distillation": Distillation,
    "sft": SupervisedFineTuning,
    "token-classification": TokenClassification,
    "dpo": DPO,
    "ipo": IPO,
    "kto": KTO,
    "orpo": ORPO,
    "simpo": SimPO,
}


def objective_named(name: str, settings: Mapping[str, Any]) -> Objective:
    """The objective of a recipe; an unknown name or setting names the nearest."""
    if name not in OBJECTIVES:
        guess = nearest(name, OBJECTIVES)
        raise InputError(
            f"there is no objective {shown(name)}",
            hint=f"did you mean {guess!r}?" if guess else f"one of {', '.join(OBJECTIVES)}",
            param="objective",
        )
    return OBJECTIVES[name].from_mapping(settings)
