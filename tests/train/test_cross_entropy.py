"""Log-probabilities and entropies a few rows at a time, beside torch's softmax."""

from __future__ import annotations

import pytest
import torch
from tests.errors import about
from torch import Tensor

from lmstack.core import InputError
from lmstack.train import cross_entropy, native
from lmstack.train.cross_entropy import distribution


@pytest.fixture(autouse=True)
def _small_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cross_entropy, "_IN_CACHE", 40)  # three rows of 13


def drawn(dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    """Logits of eight tokens over 13, and labels."""
    generator = torch.Generator().manual_seed(3)
    logits = 6 * torch.randn(8, 13, generator=generator, dtype=torch.float64)
    return logits.to(dtype), torch.randint(13, (8,), generator=generator)


def by_softmax(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    log_p = logits.log_softmax(-1)
    entropy = -(log_p.exp() * log_p).sum(-1)
    return log_p.gather(-1, labels[:, None])[:, 0], entropy, log_p.argmax(-1)


def test_it_is_the_softmax() -> None:
    logits, labels = drawn()
    for found, wanted in zip(distribution(logits, labels), by_softmax(logits, labels), strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("weights", [(1.0, 0.0), (0.0, 1.0), (1.0, -0.3)])
def test_gradients_are_those_of_the_softmax(weights: tuple[float, float]) -> None:
    logits, labels = drawn()
    tokens = torch.linspace(-1, 2, 8, dtype=torch.float64)

    def gradient(log_probs: Tensor, entropy: Tensor) -> Tensor:
        parts = zip(weights, (log_probs, entropy), strict=True)
        loss = sum(((weight * tokens * part).sum() for weight, part in parts if weight), tokens[0])
        return torch.autograd.grad(loss, logits)[0]

    logits.requires_grad_()
    found = distribution(logits, labels)
    assert not found.greatest.requires_grad
    wanted = by_softmax(logits, labels)
    torch.testing.assert_close(
        gradient(found.log_probs, found.entropy), gradient(*wanted[:2]), rtol=1e-10, atol=1e-12
    )


def test_logits_of_bfloat16_are_summed_in_float32() -> None:
    logits, labels = drawn(torch.bfloat16)
    logits.requires_grad_()
    found = distribution(logits, labels)
    exact = logits.detach().double().requires_grad_()
    wanted = by_softmax(exact, labels)
    assert found.log_probs.dtype == found.entropy.dtype == torch.float32
    torch.testing.assert_close(found.log_probs.double(), wanted[0], rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(found.entropy.double(), wanted[1], rtol=1e-5, atol=1e-6)
    found.log_probs.sum().backward()
    wanted[0].sum().backward()
    assert logits.grad is not None
    assert exact.grad is not None
    torch.testing.assert_close(logits.grad.double(), exact.grad, rtol=2**-8, atol=1e-6)


def test_no_tokens_have_no_gradient_and_no_error() -> None:
    logits = torch.zeros(0, 13, requires_grad=True)
    found = distribution(logits, torch.zeros(0, dtype=torch.long))
    found.log_probs.sum().backward()
    assert logits.grad is not None
    assert found.entropy.shape == (0,)


@pytest.mark.skipif(not native.available(), reason="torch checks its own indices")
@pytest.mark.parametrize("label", [-100, -1, 13])
def test_a_label_outside_of_the_logits_is_refused_and_nothing_is_read_there(label: int) -> None:
    """The native op would read other memory, and write to it backwards."""
    logits, labels = drawn(torch.float32)
    labels[5] = label
    with pytest.raises(
        InputError,
        match=f"a label is the token {label}, and there are 13",
        check=about("tokenizer"),
    ):
        distribution(logits, labels)
    labels[5] = 12
    assert bool(distribution(logits, labels).log_probs.isfinite().all())
