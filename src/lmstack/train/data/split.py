"""Which rows are trained on, which are validated with, and which copies are left out.

A row's side follows from a hash of what the first of its group says, so copies, exact and near, are
on one side whatever the order of the files.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt

from lmstack.train.data.copies import Copies, place_of
from lmstack.train.data.report import DataReport

__all__ = ["Split"]

Side = Literal["train", "validation"]


class Split:
    """``keys``: for each row the hash that decides, the same for rows that belong together.
    ``own``: how many rows, the first ones, are of files to train on; all others are validated
    with. ``share``: of the documents of those, which are validated with too."""

    def __init__(
        self,
        copies: Copies,
        keys: npt.NDArray[np.uint64],
        own: int,
        share: float,
        seed: int,
        *,
        deduplicate: bool,
    ) -> None:
        self._copies, self._keys, self._own = copies, keys, own
        self._share, self._seed, self._deduplicate = share, seed, deduplicate
        self._grouped = copies.grouped
        self._held = set(copies.first[own:].tolist())
        self._taken: set[int] = set()

    def side(self, row: int, report: DataReport) -> Side | None:
        """Of the ``row``-th row, whose examples can be used; None: it is left out. Counts copies
        in ``report``. To be asked in the order of the rows."""
        first = int(self._copies.first[row])
        if first != row:
            report.exact_copies += bool(self._copies.exact[row])
            report.near_copies += not self._copies.exact[row]
        is_leak = row < self._own and first in self._held
        report.leaked += is_leak
        if self._deduplicate and (is_leak or first in self._taken):
            report.copies_left_out += 1
            return None
        if first in self._grouped:
            self._taken.add(first)
        return "validation" if row >= self._own or self.place(first) < self._share else "train"

    def place(self, row: int) -> float:
        """Where the document of ``row`` falls in [0, 1)."""
        return place_of(f"{self._seed} {int(self._keys[row])}")
