"""Union-find: which things belong together, when it is known pair by pair."""

from __future__ import annotations

__all__ = ["DisjointSets"]


class DisjointSets:
    """Of the numbers from 0; the least number of a set stands for it."""

    def __init__(self, size: int) -> None:
        self._parents = list(range(size))

    def root(self, number: int) -> int:
        parents = self._parents
        while parents[number] != number:
            parents[number] = parents[parents[number]]
            number = parents[number]
        return number

    def join(self, one: int, other: int) -> None:
        low, high = sorted((self.root(one), self.root(other)))
        self._parents[high] = low
