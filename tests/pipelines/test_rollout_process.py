"""What travels to the process that draws answers."""

from __future__ import annotations

from multiprocessing.reduction import ForkingPickler
from typing import Any

import pytest
import torch
from tests.train import runs

from lmstack.model import Transformer
from lmstack.model.families import config_from_json
from lmstack.pipelines.rollout_process import ProcessSampler, RolloutWorker
from lmstack.train.rollouts.policy import policy_weights


@pytest.fixture
def module() -> Transformer:
    torch.manual_seed(0)
    return Transformer(config_from_json({**runs.MODEL, "vocab_size": 61}, "a test"))


class Pipe:
    """Pickles what is sent, as a pipe does, and hands it to the worker."""

    def __init__(self, worker: Any) -> None:
        self.worker, self.bytes = worker, 0

    def send(self, request: tuple[Any, ...]) -> None:
        data = bytes(ForkingPickler.dumps(request))
        self.bytes = len(data)
        self.answer = self.worker.answer(*ForkingPickler.loads(data))

    def recv(self) -> Any:
        return self.answer


def test_weights_are_sent_and_none_of_the_trainer_moves_to_shared_memory(
    module: Transformer,
) -> None:
    """Of which a container has 64 MB; a tensor in a pipe is moved there for good."""
    seen: dict[str, torch.Tensor] = {}
    worker = object.__new__(RolloutWorker)
    worker._sampler = type("Replaced", (), {"replace": lambda _, weights: seen.update(weights)})()  # type: ignore[assignment]
    sampler = object.__new__(ProcessSampler)
    sampler._connection = pipe = Pipe(worker)  # type: ignore[assignment]
    sampler.update(module)
    wanted = policy_weights(module, trained=True)
    assert not any(parameter.is_shared() for parameter in module.parameters())
    assert pipe.bytes > sum(weight.nbytes for weight in wanted.values())
    assert seen.keys() == wanted.keys()
    for name, weight in wanted.items():
        assert torch.equal(seen[name], weight)
