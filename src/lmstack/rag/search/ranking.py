"""The best of many scored rows, ties decided by where the rows stand in the collection.

Rows of a search are numbered in the order in which the index came to hold them; ``places`` says
where each stands among all in the order of paths and of passages. Equal scores go by place, so
that an index which grew and one made afresh rank alike.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["Mask", "Places", "Ranked", "Scores", "best_rows"]

Mask = npt.NDArray[np.bool_]
Places = npt.NDArray[np.int32]
Scores = npt.NDArray[np.float32]
Rows = npt.NDArray[np.int64]
Ranked = tuple[Rows, Scores]


def best_rows(rows: Rows, scores: Scores, depth: int, places: Places) -> Ranked:
    """The ``depth`` best ``rows`` and their scores, best first; ``scores[i]`` is that of
    ``rows[i]``, ``places[row]`` decides between equals."""
    if len(rows) > depth:
        cut = np.partition(scores, len(scores) - depth)[len(scores) - depth]
        kept = scores >= cut
        rows, scores = rows[kept], scores[kept]
    order = np.lexsort((places[rows], -scores))[:depth]
    return rows[order], scores[order]
