"""The head of an encoder-decoder gets its states in more than 8 bits, which T5 needs."""

from __future__ import annotations

import pytest
import torch

from lmstack.engine import native_problem
from lmstack.engine.cpu.executor import NativeExecutor
from lmstack.registry import load

pytestmark = [
    pytest.mark.weights,
    pytest.mark.skipif(bool(native_problem()), reason="no native ops here"),
]


@pytest.fixture(scope="module")
def module(flan_t5):
    return load(flan_t5, weights="int8").module.eval()


@pytest.fixture(scope="module")
def states(module):
    """As they are in T5: a few channels far larger than the others."""
    torch.manual_seed(0)
    states = torch.randn(5, module.config.hidden_size)
    states[:, ::100] *= 40
    states[3] = 0
    return states


def test_scores_are_those_of_unrounded_states(module, states):
    expected = states @ module.head.weight.T
    found = NativeExecutor(module, 2, 16).logits(states)
    assert float((found - expected).norm() / expected.norm()) < 3e-4


def test_scores_of_a_row_are_bit_equal_in_any_company(module, states):
    executor = NativeExecutor(module, 2, 16)
    together = executor.logits(states)
    for row in range(len(states)):
        assert executor.logits(states[row : row + 1])[0].equal(together[row])
