"""Losses over a vocabulary without logits for all tokens at once.

Logits of a chunk of tokens are made, turned into gradients and dropped before those of the next
(as Liger Kernel's fused linear cross-entropy does), so memory is that of one chunk and the output
layer is multiplied three times, not four as with recomputation. Exact: the same sums as
`torch.nn.functional.cross_entropy` of whole logits, up to the order of adding.

What a loss of each token's own log-probability (preferences, policies) is worth is known only after
the last chunk. Where the output layer is frozen, the gradient of each log-probability for its own
state is made with it and weighted in the backward pass; else logits are computed again there.

Over a vocabulary of 49,152 each pass over the logits of a chunk is one through memory, and
`torch.log_softmax` with what follows it makes ten. `distribution` goes through a few rows at a
time, which stay in the cache.

Legend: N tokens that have a label, D width, V vocabulary, K figures.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from lmstack.train.native.softmax import softmax, softmax_backwards, takes_logits

__all__ = [
    "CHUNK",
    "Distribution",
    "chunked_cross_entropy",
    "chunked_log_probs",
    "chunked_loss",
    "distribution",
    "wide",
]

CHUNK = 256
_IN_CACHE = 1 << 19  # logits
LossOf = Callable[[Tensor, slice], tuple[Tensor, Tensor]]


def chunked_cross_entropy(
    hidden: Tensor,
    labels: Tensor,
    logits_of: Callable[[Tensor], Tensor],
    parameters: Sequence[nn.Parameter],
    chunk: int = CHUNK,
    *,
    smoothing: float = 0.0,
) -> tuple[Tensor, Tensor]:
    """Summed cross-entropy of ``labels`` (N,) for ``hidden`` (N, D), and how many labels have the
    greatest logit (no gradient).

    ``logits_of``: (n, D) to (n, V). ``parameters``: those that it uses. Logits and their sum are
    in float32, or in float64 where ``hidden`` is. ``smoothing``: this share of each target is
    spread over the vocabulary (Szegedy et al., 2016).
    """

    def loss_of(states: Tensor, place: slice) -> tuple[Tensor, Tensor]:
        logits, wanted = logits_of(states), labels[place]
        if smoothing:
            logits = wide(logits)
            loss = F.cross_entropy(logits, wanted, reduction="sum", label_smoothing=smoothing)
            return loss, (logits.detach().argmax(-1) == wanted).sum()[None]
        found = distribution(logits, wanted)
        return -found.log_probs.sum(), (found.greatest == wanted).sum()[None]

    total, (correct,) = chunked_loss(hidden, loss_of, parameters, 1, chunk)
    return total, correct


def chunked_loss(
    hidden: Tensor,
    loss_of: LossOf,
    parameters: Sequence[nn.Parameter],
    figures: int,
    chunk: int = CHUNK,
) -> tuple[Tensor, Tensor]:
    """The sum of a loss over chunks of ``hidden`` (N, D), and of ``figures`` that are reported
    beside it, (K,) without a gradient.

    ``loss_of``: both, for states (n, D) that stand at a slice of the N places. ``parameters``:
    those that it uses.
    """
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    if torch.is_grad_enabled() and (trained or hidden.requires_grad):
        found: tuple[Tensor, Tensor] = _Chunked.apply(  # type: ignore[no-untyped-call]
            hidden, loss_of, figures, chunk, *trained
        )
        return found
    total, sums = _zeros(hidden, figures)
    for start in range(0, len(hidden), chunk):
        place = slice(start, start + chunk)
        loss, more = loss_of(hidden[place], place)
        total, sums = total + loss, sums + more
    return total, sums


def chunked_log_probs(
    hidden: Tensor,
    labels: Tensor,
    logits_of: Callable[[Tensor], Tensor],
    parameters: Sequence[nn.Parameter],
    chunk: int = CHUNK,
) -> Tensor:
    """The log-probability of each of ``labels`` (N,) for ``hidden`` (N, D), (N,) with a gradient.
    ``logits_of``: (n, D) to (n, V), each row by itself; what is random in it is drawn alike in both
    passes. ``parameters``: those that it uses."""

    def log_probs(states: Tensor, wanted: Tensor) -> Tensor:
        return distribution(logits_of(states), wanted).log_probs

    places = [slice(start, start + chunk) for start in range(0, len(hidden), chunk)]
    if not places:
        return wide(hidden).sum(-1)
    if not any(weight.requires_grad for weight in parameters):
        found: Tensor = _LogProbs.apply(  # type: ignore[no-untyped-call]
            hidden, labels, log_probs, places
        )
        return found
    return torch.cat(
        [checkpoint(log_probs, hidden[at], labels[at], use_reentrant=False) for at in places]
    )


class Distribution(NamedTuple):
    """Of each of n tokens (n,): the log-probability of its label, the entropy in nats, and the
    token with the greatest logit (no gradient)."""

    log_probs: Tensor
    entropy: Tensor
    greatest: Tensor


def distribution(logits: Tensor, labels: Tensor) -> Distribution:
    """What the softmax of ``logits`` (n, V) says of ``labels`` (n,), in float32, or in float64
    where they are; gradients in the precision of ``logits``."""
    return Distribution(*_Softmax.apply(logits, labels))  # type: ignore[no-untyped-call]


def wide(x: Tensor) -> Tensor:
    """In the precision in which losses are computed."""
    return x if x.dtype == torch.float64 else x.float()


def _zeros(hidden: Tensor, figures: int) -> tuple[Tensor, Tensor]:
    """A sum of losses, in the precision of the logits, and counts, which float32 keeps exact."""
    return wide(hidden.new_zeros(())), hidden.new_zeros(figures, dtype=torch.float32)


class _Chunked(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, loss_of: LossOf, figures: int, chunk: int, *trained: Tensor
    ) -> tuple[Tensor, Tensor]:
        total, sums = _zeros(hidden, figures)
        grads: list[Tensor] = [torch.zeros_like(weight) for weight in trained]
        grad_hidden = torch.empty_like(hidden)
        for start in range(0, len(hidden), chunk):
            place = slice(start, start + chunk)
            with torch.enable_grad():
                states = hidden[place].detach().requires_grad_()
                loss, more = loss_of(states, place)
                found = torch.autograd.grad(loss, [states, *trained])
            grad_hidden[place] = found[0]
            for grad, part in zip(grads, found[1:], strict=True):
                grad += part
            total += loss.detach()
            sums += more
        ctx.save_for_backward(grad_hidden, *grads)
        ctx.mark_non_differentiable(sums)
        return total, sums

    @staticmethod
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor | None, ...]:
        grad_hidden, *grads = ctx.saved_tensors
        scale = outer[0]
        scaled = [grad * scale.to(grad.dtype) for grad in (grad_hidden, *grads)]
        return (scaled[0], None, None, None, *scaled[1:])


class _LogProbs(torch.autograd.Function):
    """Of each place, and its gradient for its own state where one is wanted."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        labels: Tensor,
        log_probs: Callable[[Tensor, Tensor], Tensor],
        places: Sequence[slice],
    ) -> Tensor:
        found: list[Tensor] = []
        slopes: list[Tensor] = []
        wanted = ctx.needs_input_grad[0]
        for at in places:
            with torch.set_grad_enabled(wanted):
                states = hidden[at].detach().requires_grad_(wanted)
                values = log_probs(states, labels[at])
                if wanted:
                    slopes += torch.autograd.grad(values.sum(), states)
            found.append(values.detach())
        ctx.save_for_backward(*slopes)
        return torch.cat(found)

    @staticmethod
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor, None, None, None]:
        slopes = torch.cat(ctx.saved_tensors)
        return slopes * outer[0][:, None].to(slopes.dtype), None, None, None


class _Softmax(torch.autograd.Function):
    """`Distribution`, a few rows at a time.

    log p = z - log sum exp z,  H = - sum p log p
    d(log p_label) = onehot - p,  dH = - p (log p + H)
    """

    @staticmethod
    def forward(ctx: Any, logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        if takes_logits(logits, labels):
            log_probs, sums, entropy, greatest = softmax(logits, labels)
        else:
            log_probs, sums, entropy, greatest = _softmax(logits, labels)
        ctx.save_for_backward(logits, labels, sums, entropy)
        ctx.mark_non_differentiable(greatest)
        ctx.set_materialize_grads(False)
        return log_probs, entropy, greatest

    @staticmethod
    def backward(ctx: Any, *outer: Tensor | None) -> tuple[Tensor, None]:
        logits, labels, sums, entropy = ctx.saved_tensors
        of_label, of_entropy, _ = outer
        if takes_logits(logits, labels):
            into = softmax_backwards(logits, labels, sums, entropy, of_label, of_entropy)
            return into, None
        into = torch.empty_like(logits)
        for place in _rows(logits):
            log_p = wide(logits[place]) - sums[place, None]
            # The gradient is made where it stays, unless that is in another precision.
            p = torch.exp(log_p, out=into[place]) if into.dtype == log_p.dtype else log_p.exp()
            if of_entropy is not None:
                rises = log_p.add_(entropy[place, None]).mul_(-of_entropy[place, None])
                p.mul_(rises if of_label is None else rises.sub_(of_label[place, None]))
            else:
                assert of_label is not None
                p.mul_(-of_label[place, None])
            if of_label is not None:
                p.scatter_add_(-1, labels[place, None], of_label[place, None])
            if into.dtype != p.dtype:
                into[place] = p
        return into, None


def _softmax(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """As the native op gives them."""
    log_probs, sums, entropy = (wide(logits.new_empty(0)).new_empty(len(logits)) for _ in range(3))
    greatest = torch.empty_like(labels)
    for place in _rows(logits):
        z = wide(logits[place])
        most, greatest[place] = z.max(-1)
        below = z - most[:, None]
        p = below.exp()
        total = p.sum(-1)
        log_total = total.log()
        log_probs[place] = below.gather(-1, labels[place, None])[:, 0] - log_total
        sums[place] = most + log_total
        entropy[place] = log_total - torch.linalg.vecdot(p, below) / total
    return log_probs, sums, entropy, greatest


def _rows(logits: Tensor) -> list[slice]:
    """Of (n, V), as many at a time as the cache holds."""
    count = max(1, _IN_CACHE // logits.shape[-1])
    return [slice(start, start + count) for start in range(0, len(logits), count)]
