"""A real judge: what the engine says under a grammar is what the model's forward pass gives."""

from __future__ import annotations

import asyncio

import pytest
import torch

from lmstack.core import Message
from lmstack.evals.judging.options import OptionReader
from lmstack.registry import ModelFolder, load
from lmstack.serve import LocalModel

pytestmark = pytest.mark.weights


@pytest.mark.parametrize(
    "options", [("A", "B"), pytest.param(("1", "2", "3", "4", "5"), marks=pytest.mark.long)]
)
def test_odds_are_those_of_the_forward_pass(smollm2: ModelFolder, options: tuple[str, ...]) -> None:
    prompt = (Message("user", f"Which is the best? Reply with one of {', '.join(options)}."),)
    loaded = load(smollm2)
    assert loaded.template is not None
    ids = loaded.template.encode(prompt, loaded.tokenizer)
    with torch.inference_mode():
        logits = loaded.module(torch.tensor([ids])).logits[0, -1].double()
    tokens = [loaded.tokenizer.encode(option)[0] for option in options]
    with LocalModel.load(smollm2, weights="float32") as model:
        replies = asyncio.run(OptionReader(model, options).ask(prompt))
    assert replies.logprobs is not None
    found = torch.tensor([replies.logprobs[option] for option in options], dtype=torch.float64)
    # Tokens that differ in white space are one reply, so a letter may have a little more.
    expected = logits[tokens].log_softmax(-1)
    assert torch.allclose(found, expected, atol=0.02)
