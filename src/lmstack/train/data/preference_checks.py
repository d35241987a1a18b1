"""What is wrong with preference pairs: copies, contradictions, pairs that are hardly two, leaks.

Two pairs are exact copies where prompt and answers differ in nothing but case, forms of letters and
white space, near copies where each part is at least a near copy of the other's (`copies`). A pair
is contradicted where the preferences among the answers to its prompt lead from the answer that it
rejects back to the one that it chooses: the same two the other way round, or A over B, B over C and
C over A. No scores of answers can agree with all pairs of such a circle.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from lmstack.train.data.copies import CopyFinder
from lmstack.train.data.leaks import EvaluationSet
from lmstack.train.data.preferences import PlacedPair, text_of_turns

__all__ = ["PairChecks", "check_pairs"]

Flags = npt.NDArray[np.bool_]
Keys = npt.NDArray[np.uint64]


@dataclass(frozen=True)
class PairChecks:
    """Of each pair: whether it is an exact or a near copy of an earlier one, is contradicted by
    others (``opposed``: only by near copies), has answers that are near copies of each other, and
    where an evaluation set has the same. ``prompts``: the place of the first prompt that is its
    prompt or a near copy. ``chosen``, ``rejected``: characters of the answers."""

    exact: Flags
    near: Flags
    contradicted: Flags
    opposed: Flags
    alike: Flags
    leaks: Sequence[str | None]
    prompts: npt.NDArray[np.int64]
    hashes: Keys
    chosen: Sequence[int]
    rejected: Sequence[int]

    @property
    def leaked(self) -> Flags:
        return np.array([place is not None for place in self.leaks], np.bool_)


def check_pairs(
    pairs: Sequence[PlacedPair],
    folder: Path,
    against: EvaluationSet,
    *,
    told: Callable[[int], None] = lambda _done: None,
) -> PairChecks:
    """``folder``: for files, which may go afterwards. ``against``: what will be evaluated on.
    ``told``: called with how many pairs are done."""
    finder = CopyFinder(folder)
    leaks: list[str | None] = []
    lengths: list[tuple[int, int]] = []
    for place, placed in enumerate(pairs):
        told(place)
        pair = placed.pair
        texts = [text_of_turns(turns) for turns in (pair.prompt, pair.chosen, pair.rejected)]
        for text in texts:
            finder.add(text)
        lengths.append((len(texts[1]), len(texts[2])))
        leaks.append(next(filter(None, map(against.leak, texts)), None))
    copies = finder.copies()
    keys, groups = copies.hashes.reshape(-1, 3), copies.first.reshape(-1, 3)
    contradicted = _contradicted(keys)
    alike = groups[:, 1] == groups[:, 2]
    exact = _repeats(keys)
    return PairChecks(
        exact=exact,
        near=_repeats(groups) & ~exact,
        contradicted=contradicted,
        opposed=_opposed(groups) & ~alike & ~contradicted,
        alike=alike,
        leaks=leaks,
        prompts=groups[:, 0],
        hashes=copies.hashes[groups[:, 0]],
        chosen=[chosen for chosen, _ in lengths],
        rejected=[rejected for _, rejected in lengths],
    )


def _repeats(keys: npt.NDArray[np.uint64] | npt.NDArray[np.int64]) -> Flags:
    """Whether a row of ``keys`` is there before."""
    seen: set[tuple[int, ...]] = set()
    flags = np.zeros(len(keys), np.bool_)
    for place, key in enumerate(map(tuple, keys.tolist())):
        flags[place] = key in seen
        seen.add(key)
    return flags


def _opposed(groups: npt.NDArray[np.int64]) -> Flags:
    there = set(map(tuple, groups.tolist()))
    return np.array([(p, r, c) in there for p, c, r in groups.tolist()], np.bool_)


def _contradicted(keys: Keys) -> Flags:
    """A pair is on a circle if both answers are in one strongly connected component of the graph
    of the prompt's preferences."""
    graphs: dict[int, dict[int, set[int]]] = defaultdict(lambda: defaultdict(set))
    for prompt, chosen, rejected in keys.tolist():
        if chosen != rejected:
            graphs[prompt][chosen].add(rejected)
    component = {prompt: _components(graph) for prompt, graph in graphs.items()}
    return np.array(
        [c != r and component[p][c] == component[p][r] for p, c, r in keys.tolist()], np.bool_
    )


def _components(graph: Mapping[int, set[int]]) -> dict[int, int]:
    """The strongly connected component of each node (Kosaraju's algorithm): of those in the order
    in which they are left, the last first, all that lead to it and have none yet."""
    backwards: dict[int, set[int]] = defaultdict(set)
    for node, below in graph.items():
        for other in below:
            backwards[other].add(node)
    order: list[int] = []
    seen: set[int] = set()
    for start in {*graph, *backwards}:
        _visit(start, graph, seen, order)
    component: dict[int, int] = {}
    taken: set[int] = set()
    for start in reversed(order):
        members: list[int] = []
        _visit(start, backwards, taken, members)
        component.update(dict.fromkeys(members, start))
    return component


def _visit(start: int, graph: Mapping[int, set[int]], seen: set[int], left: list[int]) -> None:
    """Depth first from ``start``; nodes are appended to ``left`` as they are left."""
    if start in seen:
        return
    seen.add(start)
    stack = [(start, iter(graph.get(start, ())))]
    while stack:
        node, rest = stack[-1]
        following = next((other for other in rest if other not in seen), None)
        if following is None:
            left.append(node)
            stack.pop()
        else:
            seen.add(following)
            stack.append((following, iter(graph.get(following, ()))))
