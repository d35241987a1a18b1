"""What served forms cost on real weights: perplexity on State of the Union addresses.

Each form is computed as an engine computes it, by whatever `open_executor` gives. What it is
compared with is the same file in float32, on the reference ops. Addresses of two centuries, so
that a limit does not hang on one text; none is the one that `lmstack model quantize` measures.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

import pytest
import torch
from tests.packages import package
from torch import Tensor

from lmstack.engine import EngineConfig, native_problem
from lmstack.engine.executor import SequenceSpan
from lmstack.engine.executors import open_executor
from lmstack.model import load_module
from lmstack.registry import load

# `cpu/test_programs.py` holds each form to the passes of tiny models.
pytestmark = [
    pytest.mark.weights,
    pytest.mark.long,
    pytest.mark.skipif(bool(native_problem()), reason="no native ops here"),
]

WINDOW, SLICE = 512, 128  # tokens that see each other; rows of logits at a time
Losses = Callable[..., Tensor]


@pytest.fixture(scope="module")
def rows(weights_store, smollm2) -> Tensor:
    """(32, WINDOW): two windows of each address."""
    tokenizer = load(smollm2).tokenizer
    found = []
    for path in sorted(package(weights_store.root, "speeches").rglob("*.txt")):
        ids = tokenizer.encode(path.read_text(encoding="utf-8"))
        found += [ids[:WINDOW], ids[WINDOW : 2 * WINDOW]]
    return torch.tensor(found)


@pytest.fixture(scope="module")
def losses(smollm2, rows) -> Losses:
    """Negative log-likelihoods in nats, (windows, length - 1): of a form of weights, with a form
    of keys and values, on the first ``length`` tokens of the first ``count`` windows."""
    modules = functools.cache(lambda form: load_module(smollm2.gguf, weights=form))

    @functools.cache
    def measured(
        form: str, kv: str = "bfloat16", count: int = len(rows), length: int = WINDOW
    ) -> Tensor:
        config = EngineConfig(kv_dtype=kv)
        table = range(WINDOW // config.block_size)
        executor, _ = open_executor(modules(form), config.replace(num_blocks=len(table)))
        assert executor.dtype == ("float32" if form == "float32" else "int8")
        found = []
        for ids in rows[:count, :length]:
            hidden = executor.hidden(
                ids.tolist(), range(length), [SequenceSpan(table, 0, length)], None
            )
            targets = ids[1:].split(SLICE)
            for states, chosen in zip(hidden[:-1].split(SLICE), targets, strict=True):
                scores = executor.logits(states).log_softmax(-1)
                found.append(-scores.gather(1, chosen[:, None])[:, 0].double())
        return torch.cat(found).view(count, length - 1)

    return torch.inference_mode()(measured)


def change(losses: Tensor, others: Tensor) -> float:
    """Of the perplexity: 0.01 is one per cent more than that of ``others``."""
    return math.expm1(float(losses.mean() - others.mean()))


@pytest.mark.parametrize(("form", "limit"), [("int8", 0.01), ("file", 0.005)])
def test_a_form_of_weights_keeps_perplexity(losses: Losses, form: str, limit: float) -> None:
    assert losses(form).numel() > 8192
    assert change(losses(form), losses("float32")) < limit


@pytest.mark.parametrize("form", ["int8", "file"])
def test_keys_and_values_in_bytes_keep_perplexity(losses: Losses, form: str) -> None:
    assert change(losses(form, "int8"), losses(form)) < 0.005


def test_blocks_of_the_file_with_keys_and_values_in_bytes_keep_perplexity(losses: Losses) -> None:
    """As they are served unless something else is asked for, both costs together."""
    assert change(losses("file", "int8"), losses("float32")) < 0.005


@pytest.mark.parametrize("form", ["int8", "file"])
def test_hardly_a_token_is_scored_otherwise_than_in_floats(losses: Losses, form: str) -> None:
    """In one window perplexity itself moves by chance; what each token's score moves does not."""
    moved = losses(form, "int8", 1) - losses("float32", count=1)
    assert float(moved.square().mean().sqrt()) < 0.2
