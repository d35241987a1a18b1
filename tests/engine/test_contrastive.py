"""Contrastive search against the formula of its paper, written out plainly."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from tests.engine.conftest import EOS, generate

from lmstack.engine import Engine
from lmstack.model import Transformer


def plainly(
    module: Transformer, prompt: list[int], alpha: float, top_k: int, count: int
) -> tuple[list[int], list[int]]:
    """The text, and which of the candidates won at each step."""
    tokens, ranks = list(prompt), []
    for _ in range(count):
        with torch.no_grad():
            now = module(torch.tensor([tokens]))
            assert now.logits is not None
            best = now.logits[0, -1].softmax(-1).topk(top_k)
            scores = []
            for probability, token in zip(best.values, best.indices, strict=True):
                after = module(torch.tensor([[*tokens, int(token)]])).last_hidden_state[0]
                alike = torch.cosine_similarity(after[-1:], after[:-1]).max()
                scores.append((1 - alpha) * probability - alpha * alike)
        ranks.append(int(torch.stack(scores).argmax()))
        tokens.append(int(best.indices[ranks[-1]]))
    return tokens[len(prompt) :], ranks


@pytest.mark.parametrize(("alpha", "top_k"), [(0.2, 2), (0.6, 4), (1.0, 5)])
@pytest.mark.parametrize("prompt", [[7], list(range(30, 53))], ids=["short", "long"])
def test_equals_the_formula(
    module: Transformer,
    make_engine: Callable[..., Engine],
    alpha: float,
    top_k: int,
    prompt: list[int],
) -> None:
    expected, ranks = plainly(module, prompt, alpha, top_k, 12)
    engine = make_engine(max_batch_tokens=8, max_sequences=8)
    options = {"penalty_alpha": alpha, "top_k": top_k, "max_tokens": 12, "ignore_eos": True}
    generate(engine, prompt)  # what is in the prefix cache has no hidden states to compare with
    assert generate(engine, prompt, **options).tokens == expected
    assert alpha < 0.5 or any(ranks), "the penalty never decided"


def test_it_streams_and_ends_at_the_end_token(make_engine: Callable[..., Engine]) -> None:
    options = {"penalty_alpha": 0.5, "top_k": 3, "max_tokens": 40, "logit_bias": {EOS: 3}}
    outcome = generate(make_engine(), [1, 2, 3], logprobs=1, **options)
    assert outcome.last.finish_reason == "stop"
    assert outcome.tokens[-1] == EOS
    assert all(e.score is not None and e.score.token == e.token for e in outcome.events)
