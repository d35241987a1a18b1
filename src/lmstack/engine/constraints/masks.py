"""Masks of grammars, computed while the model computes logits, and put over them.

What may come next is known before the logits are, so a thread of its own works it out meanwhile.
Does not cover the rows of drafts, whose masks follow from the tokens that are drawn before them.
"""

from __future__ import annotations

from collections.abc import Sequence as Seq
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from lmstack.engine.constraints.grammar import GrammarMatcher, Words, mask_words

__all__ = ["MaskFiller", "apply_masks", "few_allowed"]

# Of so many tokens at most it pays to look at their logits alone.
FEW = 64
# For each byte of a mask, what is added to eight logits.
_BITS = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1, bitorder="little")
_ADDED = np.where(_BITS == 1, 0.0, -np.inf).astype(np.float32)


class MaskFiller:
    """``num_tokens``: of the vocabulary. Used by one thread, that of the engine."""

    def __init__(self, num_tokens: int) -> None:
        self._num_words = mask_words(num_tokens)
        self._pool: ThreadPoolExecutor | None = None

    def begin(self, matchers: Seq[GrammarMatcher]) -> None:
        """Work out what may come next by each, until its mask is asked for."""
        if not matchers:
            return
        for matcher in matchers:
            matcher.settle()
        if self._pool is None:
            self._pool = ThreadPoolExecutor(1, "lmstack-masks")
        words = np.zeros((len(matchers), self._num_words), np.int32)
        done: Future[Words] = self._pool.submit(_filled, list(matchers), words)
        for row, matcher in enumerate(matchers):
            matcher.coming = (done, row)

    def close(self) -> None:
        if self._pool is not None:
            self._pool.shutdown()


def _filled(matchers: Seq[GrammarMatcher], words: Words) -> Words:
    for row, matcher in enumerate(matchers):
        matcher.compute(words, row)
    return words


def apply_masks(logits_SV: Tensor, matchers: Seq[tuple[int, GrammarMatcher]]) -> None:
    """Set to minus infinity what may not come, in each (row, matcher)."""
    if not matchers:
        return
    num_tokens = logits_SV.shape[1]
    added = np.empty((4 * mask_words(num_tokens), 8), np.float32)
    of_tokens = torch.from_numpy(added.reshape(-1)[:num_tokens])
    for row, matcher in matchers:
        # Into its place, every byte in bounds: as an index it takes eight times as long.
        np.take(_ADDED, matcher.mask(num_tokens).view(np.uint8), axis=0, out=added, mode="clip")
        logits_SV[row] += of_tokens.to(logits_SV.device)


def few_allowed(matcher: GrammarMatcher, num_tokens: int) -> npt.NDArray[np.int64] | None:
    """The ids of what may come next, ascending; None where that is nothing or more than `FEW`."""
    words = matcher.mask(num_tokens)
    places = np.flatnonzero(words)
    if not 0 < len(places) <= FEW:
        return None
    chosen = np.ascontiguousarray(words[places]).view(np.uint8).reshape(-1, 4)
    row, bit = np.nonzero(np.unpackbits(chosen, axis=1, bitorder="little"))
    ids = 32 * places[row] + bit
    ids = ids[ids < num_tokens]
    return ids if 0 < len(ids) <= FEW else None
