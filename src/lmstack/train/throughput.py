"""What share of the processor's matrix rate a run reaches.

Model FLOPs utilization (Chowdhery et al., PaLM, 2022): the operations that a step's products need
(`flops`), over its seconds, over the rate of one big product in the same precision. What is not a
product, padding and what is computed again count for nothing, so the rest to 1 is what they take.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from lmstack.model import Transformer
from lmstack.model.inputs import places_of
from lmstack.train.data.examples import IGNORED, Batch
from lmstack.train.flops import Load, count_flops

__all__ = ["matrix_rate", "outputs_of", "step_flops"]

_SIDE = 2048
_TRIES = 3


def step_flops(module: Transformer, batches: Sequence[Batch]) -> float:
    """Operations of one step over ``batches``, forwards and backwards."""
    return float(sum(count_flops(module, _load(batch)).total() for batch in batches))


def outputs_of(batch: Batch) -> int:
    """Places that are given to the head: those with a label, where each token may have one, and
    otherwise as many as there are predictions."""
    labels = batch.labels
    by_token = labels.shape == batch.inputs["input_ids"].shape and not labels.is_floating_point()
    return int((labels != IGNORED).sum()) if by_token and batch.weight else int(batch.weight)


def _load(batch: Batch) -> Load:
    inputs, outputs = batch.inputs, outputs_of(batch)
    if "lengths" in inputs:
        lengths, continues = inputs["lengths"], inputs.get("continues", ())
        places = np.asarray(places_of(lengths, continues), np.int64)
        return Load(np.asarray(lengths, np.int64), outputs, places=places)
    read = _lengths(inputs["input_ids"], inputs.get("attention_mask"))
    if "decoder_input_ids" not in inputs:
        return Load(read, outputs)
    mask = inputs.get("decoder_attention_mask")
    return Load(_lengths(inputs["decoder_input_ids"], mask), outputs, read)


def _lengths(ids: Tensor, mask: Tensor | None) -> np.ndarray:
    if mask is not None:
        found: np.ndarray = mask.sum(-1).cpu().numpy().astype(np.int64)
        return found
    return np.full(len(ids), ids.shape[-1])


def matrix_rate(precision: str, device: torch.device) -> float:
    """Operations a second of a square product of 2,048, the best of three, with the threads that
    torch has now."""
    return _rate(precision, device, torch.get_num_threads())


@lru_cache(maxsize=8)
def _rate(precision: str, device: torch.device, threads: int) -> float:
    del threads  # another number has another rate
    one, two = (torch.ones(_SIDE, _SIDE, device=device) for _ in range(2))
    if precision == "int8":
        one, two = one.to(torch.int8), two.to(torch.int8)
    elif precision == "bfloat16":
        one, two = one.bfloat16(), two.bfloat16()
    product = torch._int_mm if precision == "int8" else torch.mm
    product(one, two)
    best = float("inf")
    for _ in range(_TRIES):
        start = _now(device)
        product(one, two)
        best = min(best, _now(device) - start)
    return 2 * _SIDE**3 / best


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()
