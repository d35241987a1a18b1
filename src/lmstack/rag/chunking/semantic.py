"""Begin a chunk where the subject changes: neighbouring windows of sentences are embedded, and the
places where they are least alike are breaks (as in Kamradt's semantic chunking). What is longer
than the budget is packed by sentences; what is very short joins what follows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from lmstack.rag.chunking.bounds import Span, line_bounds, sentence_bounds
from lmstack.rag.chunking.packing import pack_levels
from lmstack.rag.chunking.setting import Setting

__all__ = ["Embed", "cut_semantic"]

Embed = Callable[[Sequence[str]], npt.NDArray[np.float32]]
# A segment of less than this share of the budget is not worth a chunk.
_LEAST = 8


def cut_semantic(setting: Setting, embed: Embed) -> Iterator[Span]:
    """Chunks in order; ``embed`` gives unit vectors of texts."""
    bounds = [0, *sentence_bounds(setting.text, 0, len(setting.text)).tolist(), len(setting.text)]
    bounds = _with_text(setting, bounds)
    levels = (sentence_bounds, line_bounds)
    for start, end in _joined(setting, _segments(setting, bounds, embed)):
        yield from pack_levels(setting, (start, end), levels)


def _with_text(setting: Setting, bounds: list[int]) -> list[int]:
    """Bounds between which there is something to embed."""
    kept = [bounds[0]]
    for bound in bounds[1:]:
        if setting.text[kept[-1] : bound].strip():
            kept.append(bound)
    kept[-1] = bounds[-1] if len(kept) > 1 else kept[-1]
    return kept if len(kept) > 1 else [0, bounds[-1]]


def _segments(setting: Setting, bounds: list[int], embed: Embed) -> list[Span]:
    config, places = setting.config, range(1, len(bounds) - 1)
    if not places:
        return [(bounds[0], bounds[-1])]
    width = config.window
    windows = {(max(place - width, 0), place): 0 for place in places} | {
        (place, min(place + width, len(bounds) - 1)): 0 for place in places
    }
    texts = [setting.text[bounds[a] : bounds[b]].strip() for a, b in windows]
    vectors = embed(texts)
    row = {window: number for number, window in enumerate(windows)}
    left = vectors[[row[max(p - width, 0), p] for p in places]]
    right = vectors[[row[p, min(p + width, len(bounds) - 1)] for p in places]]
    alike = np.einsum("nd,nd->n", left, right)
    threshold = np.percentile(alike, config.break_percentile)
    breaks = [bounds[p] for p, value in zip(places, alike, strict=True) if value < threshold]
    edges = [bounds[0], *breaks, bounds[-1]]
    return list(pairwise(edges))


def _joined(setting: Setting, segments: Sequence[Span]) -> Iterator[Span]:
    """A segment that is too short joins the next one, the last the one before."""
    waiting: list[Span] = []
    for start, end in segments:
        least = setting.budget(start) // _LEAST
        if waiting and setting.measure.weight(*waiting[-1]) < least:
            waiting[-1] = (waiting[-1][0], end)
        else:
            waiting.append((start, end))
    yield from waiting
