"""Cut a stretch at the coarsest level that gives pieces that fit, and pack neighbours again.

What LangChain's recursive splitter does, on offsets: pieces that fit are joined up to the budget;
one that does not is cut by the next level on its own; words come last. What is still too large
then (a word beyond the budget) is left to the caller.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from lmstack.rag.chunking.bounds import Cutter, Span
from lmstack.rag.chunking.measure import Ints
from lmstack.rag.chunking.setting import Setting

__all__ = ["Step", "fitting_pieces", "pack", "pack_levels", "repeat_pieces", "repeat_tokens"]

# From the pieces first to last (exclusive) of a chunk: the first piece of the next.
Step = Callable[[int, int, Ints, Ints], int]


def repeat_tokens(overlap: int) -> Step:
    """The next chunk repeats pieces of at most ``overlap`` tokens."""

    def step(first: int, last: int, low: Ints, high: Ints) -> int:
        if not overlap:
            return last
        begin = int(np.searchsorted(low[:last], high[last - 1] - overlap, "left"))
        return max(begin, first + 1)

    return step


def repeat_pieces(overlap: int) -> Step:
    """The next chunk repeats the last ``overlap`` pieces."""
    return lambda first, last, _low, _high: max(last - overlap, first + 1)


def pack(low: Ints, high: Ints, budgets: Ints, step: Step | None = None) -> Iterator[Span]:
    """Groups [first, last) of pieces up to the budget of their first one. Piece ``i`` weighs
    ``high[i] - low[i]``; a piece that is over the budget makes a group alone."""
    count, first, before = len(low), 0, 0
    while first < count:
        # With a repeat, the group must reach beyond the one before.
        while first < before and high[before] - low[first] > budgets[first]:
            first += 1
        last = int(np.searchsorted(high, low[first] + budgets[first], "right"))
        last = min(max(last, first + 1), count)
        yield first, last
        if last == count:
            return
        before, first = last, step(first, last, low, high) if step else last


def pack_levels(
    setting: Setting, span: Span, levels: Sequence[Cutter], step: Step | None = None
) -> Iterator[Span]:
    """Chunks of ``span``, in order."""
    if setting.measure.weight(*span) <= setting.budget(span[0]):
        yield span
        return
    starts, ends, fits, low, high = _pieces(setting, span, levels)
    budgets = setting.budgets(starts)
    if not levels:
        fits[:] = True  # nothing finer than a word
    position = 0
    while position < len(starts):
        if not fits[position]:
            piece = (int(starts[position]), int(ends[position]))
            yield from pack_levels(setting, piece, levels[1:], step)
            position += 1
            continue
        stop = position + int(np.argmin(np.append(fits[position:], False)))
        part = slice(position, stop)
        for first, last in pack(low[part], high[part], budgets[part], step):
            yield int(starts[position + first]), int(ends[position + last - 1])
        position = stop


def fitting_pieces(
    setting: Setting, span: Span, levels: Sequence[Cutter], budget: int
) -> Iterator[Span]:
    """The coarsest pieces of ``span`` that fit ``budget``, not packed."""
    starts, ends, _, low, high = _pieces(setting, span, levels)
    for start, end, weight in zip(starts.tolist(), ends.tolist(), high - low, strict=True):
        if weight <= budget or not levels:
            yield start, end
        else:
            yield from fitting_pieces(setting, (start, end), levels[1:], budget)


def _pieces(
    setting: Setting, span: Span, levels: Sequence[Cutter]
) -> tuple[Ints, Ints, np.ndarray, Ints, Ints]:
    """Starts and ends of the pieces of ``span`` at the first level, whether each fits, and the
    running weights before and up to them."""
    measure = setting.measure
    inside = levels[0](setting.text, *span) if levels else measure.inside(*span)
    bounds = np.concatenate(([span[0]], inside, [span[1]])).astype(np.int64)
    starts, ends = bounds[:-1], bounds[1:]
    low, high = measure.before(starts), measure.upto(ends)
    return starts, ends, high - low <= setting.budgets(starts), low, high
