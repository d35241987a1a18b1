"""What each process of `test_processes` runs: the recipes named on the command line, in turn."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

import torch

from lmstack.app.wiring.training import OnlineServices
from lmstack.train import read_recipe, throughput, train
from lmstack.train.loop import Watch


class Steps(Watch):
    """Writes the numbers of the steps that this process goes through."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "steps"

    def step(self, done: int, total: int, values: Mapping[str, float]) -> None:
        with self.file.open("a") as file:
            file.write(f"{done}\n")


if __name__ == "__main__":
    torch.set_num_threads(1)
    throughput._SIDE = 256  # the rate to compare with is no part of what is tested
    for path in sys.argv[1:]:
        resume = path.startswith("resume:")
        recipe = read_recipe(path.removeprefix("resume:"))
        train(recipe, resume=resume, watch=Steps(recipe.folder), services=OnlineServices())
