"""The default model in float32: the engine that draws gives the trainer's log-probabilities."""

from __future__ import annotations

import pytest
import torch

from lmstack.app.wiring.training import OnlineServices
from lmstack.core import Message
from lmstack.registry import ModelFolder, load
from lmstack.train.cross_entropy import distribution
from lmstack.train.rollouts.protocol import Drawing, RolloutConfig, RolloutPrompt

pytestmark = [pytest.mark.weights, pytest.mark.long]


def test_log_probabilities_agree_to_1e5(smollm2: ModelFolder) -> None:
    base = load(smollm2)
    assert base.template is not None
    prompts = []
    for a, b in ((3, 4), (52, 31), (9, 9), (77, 12)):
        turns = (Message("user", f"What is {a} + {b}?"),)
        prompts.append(RolloutPrompt(turns, tuple(base.template.encode(turns, base.tokenizer))))
    sampler = OnlineServices().sampler(base, RolloutConfig(weights="float32"))
    try:
        sampler.update(base.module)
        groups = sampler.sample(prompts, Drawing(64, 1.0, ()), [range(4)] * len(prompts))
    finally:
        sampler.close()
    for sample in (sample for group in groups for sample in group):
        ids, start = torch.tensor([*sample.prompt_ids, *sample.ids]), len(sample.prompt_ids)
        with torch.inference_mode():
            logits = base.module(ids[None]).logits[0, start - 1 : -1]
        found = distribution(logits, ids[start:]).log_probs
        drawn = torch.tensor(sample.logprobs)
        torch.testing.assert_close(drawn, found, rtol=1e-5, atol=1e-5)
