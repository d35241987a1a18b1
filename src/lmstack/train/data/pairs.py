"""One text or two as what an encoder reads, and batches of them.

A pair is kept as two arrays, cut where the tokenizer's segments change: what stands in the second
is of segment 1. A single text, or a model without segments, has nothing in the second.

Legend: N tokens of a varlen batch.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch

from lmstack.text import Tokenizer
from lmstack.text.windows import Window, count_window_tokens, encode_windows
from lmstack.train.data.examples import Example, Ints, varlen

__all__ = ["cut_tokens", "encode_pairs", "pair_inputs", "pairs_of", "segments_of"]

Pair = tuple[Ints, Ints]


def encode_pairs(
    tokenizer: Tokenizer,
    texts: Sequence[str],
    seconds: Sequence[str] | None,
    max_length: int,
    *,
    segments: bool,
    special: bool = True,
) -> list[Pair]:
    """What is too long is cut, of a pair the longer text first, as for the tasks that serve.
    ``special``: control tokens spelled in a text count as such."""
    found = encode_windows(
        tokenizer, texts, seconds, max_length=max_length, cut="longest", special=special
    )
    return [segments_of(window, segments=segments) for (window,) in found]


def cut_tokens(
    tokenizer: Tokenizer,
    texts: Sequence[str],
    seconds: Sequence[str] | None,
    lengths: Iterable[int],
    max_length: int,
    *,
    special: bool = True,
) -> int:
    """How many tokens were cut from all of these texts or pairs, which have ``lengths`` now."""
    if all(length < max_length for length in lengths):
        return 0
    whole = count_window_tokens(tokenizer, texts, seconds, special=special)
    return sum(max(length - max_length, 0) for length in whole)


def pairs_of(examples: Iterable[Example]) -> list[Pair]:
    """Those of all examples, whose sequences are the two parts of a pair and then the next's."""
    parts = [part for example in examples for part in example.sequences]
    return [(parts[at], parts[at + 1]) for at in range(0, len(parts), 2)]


def segments_of(window: Window, *, segments: bool) -> Pair:
    """The tokens of segment 0 and of segment 1."""
    ids = np.array(window.ids, np.int32)
    first = sum(kind == 0 for kind in window.types) if segments else len(ids)
    return ids[:first], ids[first:]


def pair_inputs(pairs: Sequence[Pair], *, segments: bool) -> dict[str, Any]:
    """Arguments of `Transformer.forward`: a varlen batch, a sequence a pair."""
    inputs = varlen([np.concatenate(pair) for pair in pairs])
    if segments:
        kinds = [np.repeat([0, 1], [len(a), len(b)]) for a, b in pairs]
        inputs["token_type_ids"] = torch.from_numpy(np.concatenate(kinds))
    return inputs
