"""A task that a tiny model learns in seconds, and runs of it: answers of some letters."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.train import runs

from lmstack.app.wiring.training import OnlineServices
from lmstack.registry import LoadedModel
from lmstack.train import Recipe, train
from lmstack.train.rollouts.protocol import Reward, RolloutConfig, RolloutSample, RolloutSampler

__all__ = ["Letters", "Services", "prepare_folder", "recipe", "run"]


class Letters:
    """The share of an answer's characters that are among the row's ``letters``."""

    name = "letters"

    def score(self, samples: Sequence[RolloutSample]) -> list[float]:
        return [
            sum(character in s.row["letters"] for character in s.text) / max(len(s.text), 1)
            for s in samples
        ]


class Same:
    """The same for every answer."""

    name = "same"

    def score(self, samples: Sequence[RolloutSample]) -> list[float]:
        return [1.0] * len(samples)


class Services(OnlineServices):
    def __init__(self) -> None:
        self.samplers: list[RolloutSampler] = []

    def sampler(self, base: LoadedModel, config: RolloutConfig) -> RolloutSampler:
        self.samplers.append(super().sampler(base, config))
        return self.samplers[-1]

    def reward(self, name: str, settings: Mapping[str, Any]) -> Reward:
        assert not settings
        return {"letters": Letters, "same": Same}[name]()


def prepare_folder(folder: Path) -> None:
    runs.prepare_folder(folder)
    rows = [{"prompt": f"cat {n}", "letters": "abcdefghijklm"} for n in range(24)]
    (folder / "prompts.jsonl").write_text("\n".join(map(json.dumps, rows)))


def recipe(folder: Path, name: str, objective: Mapping[str, Any] = {}, **changes: Any) -> Recipe:
    asked = {"name": "grpo", "rewards": ["letters"], "samples": 4, "max_tokens": 8, **objective}
    settings = {
        "objective": asked,
        "data": "prompts.jsonl",
        "max_length": 48,
        "batch": 4,
        "dropout": 0,
    }
    return runs.recipe(folder, name, **{**settings, "steps": 6, "lr": 0.03, **changes})


def run(recipe: Recipe, **more: Any) -> Any:
    return train(recipe, services=Services(), **more)
