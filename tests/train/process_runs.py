"""What each process of `test_processes` runs: the recipes named on the command line, in turn."""

from __future__ import annotations

import sys

import torch

from lmstack.app.wiring.rollouts import OnlineServices
from lmstack.train import read_recipe, throughput, train

if __name__ == "__main__":
    torch.set_num_threads(1)
    throughput._SIDE = 256  # the rate to compare with is no part of what is tested
    for path in sys.argv[1:]:
        resume = path.startswith("resume:")
        recipe = read_recipe(path.removeprefix("resume:"))
        train(recipe, resume=resume, services=OnlineServices())
