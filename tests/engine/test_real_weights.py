"""The engine on SmolLM2: the same logits paged or whole, the same model packed or plain.
`test_attention.py` asks the same of tiny ones."""

from __future__ import annotations

import pytest
import torch

from lmstack.engine import PrepackedOps
from lmstack.engine.executor import SequenceSpan
from lmstack.engine.torch.attention import PagedAttention
from lmstack.engine.torch.kvpool import KVPool
from lmstack.model import ForwardContext, load_module

pytestmark = [pytest.mark.weights, pytest.mark.long]


@pytest.fixture(scope="module")
def ids() -> torch.Tensor:
    return torch.randint(3, 40_000, (1, 75), generator=torch.Generator().manual_seed(0))


def test_logits_of_paged_chunks_equal_those_of_the_forward_pass(smollm2, ids) -> None:
    module = load_module(smollm2.path)
    pool = KVPool(module.config, 8, 16, torch.float32)
    table = [5, 2, 7, 0, 3]
    parts = []
    with torch.inference_mode():
        for start, end in [(0, 40), (40, 41), (41, 42), (42, 75)]:
            attend = PagedAttention(pool, module.config, [SequenceSpan(table, start, end)])
            hidden = module.hidden(
                ids[0, start:end], torch.arange(start, end), ForwardContext(attend=attend)
            )
            parts.append(module.logits(hidden))
        torch.testing.assert_close(torch.cat(parts), module(ids).logits[0], rtol=1e-4, atol=1e-4)


def test_packed_weights_give_the_same_distribution_in_bfloat16(smollm2, ids) -> None:
    """Bit-equal on AMD Zen 4; a processor with other kernels may sum in another order."""
    plain = load_module(smollm2.path, torch.bfloat16)
    context = ForwardContext(PrepackedOps())
    with torch.inference_mode():
        for length in (1, 5, 75):
            ours = plain(ids[:, :length], context=context).logits.float().log_softmax(-1)
            reference = plain(ids[:, :length]).logits.float().log_softmax(-1)
            divergence = (reference.exp() * (reference - ours)).sum(-1)
            assert float(divergence.max()) < 1e-3
