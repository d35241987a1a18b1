"""Cross-entropy over a vocabulary without logits for all tokens at once.

Logits of a chunk of tokens are made, turned into gradients and dropped before those of the next
(as Liger Kernel's fused linear cross-entropy does), so memory is that of one chunk and the output
layer is multiplied three times, not four as with recomputation. Exact: the same sums as
`torch.nn.functional.cross_entropy` of whole logits, up to the order of adding.

Legend: N tokens that have a label, D width, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["CHUNK", "chunked_cross_entropy"]

CHUNK = 256


def chunked_cross_entropy(
    hidden: Tensor,
    labels: Tensor,
    logits_of: Callable[[Tensor], Tensor],
    parameters: Sequence[nn.Parameter],
    chunk: int = CHUNK,
) -> tuple[Tensor, Tensor]:
    """Summed cross-entropy of ``labels`` (N,) for ``hidden`` (N, D), and how many labels have the
    greatest logit (no gradient).

    ``logits_of``: (n, D) to (n, V). ``parameters``: those that it uses. Logits and their sum are
    in float32, or in float64 where ``hidden`` is.
    """
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    if not torch.is_grad_enabled() or not (trained or hidden.requires_grad):
        total, correct = _zeros(hidden)
        for start in range(0, len(hidden), chunk):
            wanted = labels[start : start + chunk]
            logits = _wide(logits_of(hidden[start : start + chunk]))
            total = total + F.cross_entropy(logits, wanted, reduction="sum")
            correct = correct + (logits.argmax(-1) == wanted).sum()
        return total, correct
    found: tuple[Tensor, Tensor] = _Chunked.apply(  # type: ignore[no-untyped-call]
        hidden, labels, logits_of, chunk, *trained
    )
    return found


def _zeros(hidden: Tensor) -> tuple[Tensor, Tensor]:
    """A sum of losses, in the precision of the logits, and a count, which float32 keeps exact."""
    return _wide(hidden.new_zeros(())), hidden.new_zeros((), dtype=torch.float32)


def _wide(x: Tensor) -> Tensor:
    return x if x.dtype == torch.float64 else x.float()


class _Chunked(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        labels: Tensor,
        logits_of: Callable[[Tensor], Tensor],
        chunk: int,
        *trained: Tensor,
    ) -> tuple[Tensor, Tensor]:
        total, correct = _zeros(hidden)
        grads: list[Tensor] = [torch.zeros_like(weight) for weight in trained]
        grad_hidden = torch.empty_like(hidden)
        for start in range(0, len(hidden), chunk):
            part = slice(start, start + chunk)
            with torch.enable_grad():
                states = hidden[part].detach().requires_grad_()
                logits = _wide(logits_of(states))
                loss = F.cross_entropy(logits, labels[part], reduction="sum")
                found = torch.autograd.grad(loss, [states, *trained])
            grad_hidden[part] = found[0]
            for grad, more in zip(grads, found[1:], strict=True):
                grad += more
            total += loss.detach()
            correct += (logits.detach().argmax(-1) == labels[part]).sum()
        ctx.save_for_backward(grad_hidden, *grads)
        ctx.mark_non_differentiable(correct)
        return total, correct

    @staticmethod
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor | None, ...]:
        grad_hidden, *grads = ctx.saved_tensors
        scale = outer[0]
        scaled = [grad * scale.to(grad.dtype) for grad in (grad_hidden, *grads)]
        return (scaled[0], None, None, None, *scaled[1:])
