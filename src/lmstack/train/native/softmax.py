"""What a softmax says of labels, as a native op in float32 (softmax.c).

Legend: n tokens, V vocabulary.
"""

from __future__ import annotations

from ctypes import Structure, c_int64, c_void_p

import torch
from torch import Tensor

from lmstack.core import InputError
from lmstack.train.native.library import available, call, pointer, threads

__all__ = ["softmax", "softmax_backwards", "takes_logits"]


class _Job(Structure):
    """`softmax_job` of softmax.c."""

    _fields_ = (
        *((name, c_int64) for name in ("n", "width", "parts")),
        *((k, c_void_p) for k in ("logits", "labels", "log_probs", "sums", "entropy", "greatest")),
        *((k, c_void_p) for k in ("of_label", "of_entropy", "out")),
    )


def takes_logits(logits: Tensor, labels: Tensor) -> bool:
    """Whether `softmax` can be had of these."""
    plain = logits.dtype == torch.float32 and labels.dtype == torch.int64
    return plain and logits.device.type == "cpu" and available()


def softmax(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Of (n, V): log-probabilities of ``labels``, log sum exp, entropy, and the place of the
    greatest, (n,) each. `InputError` for a label that is none of the V: it would be read, and
    written backwards, from memory that is not the logits'."""
    outside = labels[(labels < 0) | (labels >= logits.shape[-1])]
    if len(outside):
        raise InputError(
            f"a label is the token {int(outside[0])}, and there are {logits.shape[-1]}",
            hint="use the tokenizer that the model was trained with",
            param="tokenizer",
        )
    log_probs, sums, entropy = (logits.new_empty(len(logits)) for _ in range(3))
    greatest = torch.empty_like(labels)
    _run("lmt_softmax", logits, labels, log_probs, sums, entropy, greatest)
    return log_probs, sums, entropy, greatest


def softmax_backwards(
    logits: Tensor,
    labels: Tensor,
    sums: Tensor,
    entropy: Tensor,
    of_label: Tensor | None,
    of_entropy: Tensor | None,
) -> Tensor:
    """The gradient of ``logits``, from that of log-probabilities and of entropies."""
    into = torch.empty_like(logits)
    outer = (each if each is None else each.contiguous() for each in (of_label, of_entropy))
    _run("lmt_softmax_backwards", logits, labels, None, sums, entropy, None, *outer, into)
    return into


def _run(name: str, logits: Tensor, *tensors: Tensor | None) -> None:
    held = [each if each is None else each.contiguous() for each in (logits, *tensors)]
    call(name, _Job(*logits.shape, threads(), *map(pointer, held)))
