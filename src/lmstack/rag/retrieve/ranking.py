"""The best of many scored rows, ties decided by where the rows stand in the collection.

Rows of a search are numbered in the order in which the index came to hold them; ``places`` says
where each stands among all in the order of paths and of passages. Equal scores go by place, so
that an index which grew and one made afresh rank alike.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["GROUP", "Mask", "Places", "Ranked", "Rows", "Scores", "best_rows", "leading_rows"]

Mask = npt.NDArray[np.bool_]
Places = npt.NDArray[np.int32]
Scores = npt.NDArray[np.float32]
Rows = npt.NDArray[np.int64]
Ranked = tuple[Rows, Scores]
# Rows that `leading_rows` takes together.
GROUP = 64


def best_rows(rows: Rows, scores: Scores, depth: int, places: Places) -> Ranked:
    """The ``depth`` best ``rows`` and their scores, best first; ``scores[i]`` is that of
    ``rows[i]``, ``places[row]`` decides between equals."""
    if len(rows) > depth:
        cut = np.partition(scores, len(scores) - depth)[len(scores) - depth]
        kept = scores >= cut
        rows, scores = rows[kept], scores[kept]
    order = np.lexsort((places[rows], -scores))[:depth]
    return rows[order], scores[order]


def leading_rows(scores: Scores, depth: int) -> Rows:
    """Rows among which the ``depth`` best are, with all that equal the last of them, by
    ``scores`` of all rows, none below 0, as many as `GROUP` divides; a row with 0 is not one.

    The best of each group is found in one pass; the ``depth``-th best of these is a bar that so
    many rows reach, and only groups that reach it are looked into.
    """
    lines = scores.reshape(GROUP, -1)
    groups = lines.shape[1]
    if 0 < 2 * depth <= groups:
        best = np.maximum.reduce(lines, axis=0)
        bar = np.partition(best, groups - depth)[groups - depth]
        if bar > 0:
            reach = (best >= bar).nonzero()[0]
            at = (lines.take(reach, axis=1) >= bar).ravel().nonzero()[0]
            line, group = np.divmod(at, len(reach))
            leading: Rows = line * groups + reach[group]
            return leading
    return scores.nonzero()[0]
