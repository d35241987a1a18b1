"""Whose turn it is: shares of the machine between clients, and between the prompts of one.

Between clients: the virtual token counter of Sheng et al., "Fairness in Serving Large Language
Models" (OSDI 2024). Each client's service is counted, an output token as two of a prompt; the
least served comes first, and a newcomer starts level with the least served of those here, so that
having been away earns nothing. Between two that both have work the difference stays bounded.

Between prompts of one client: streams that were interrupted first, then by ``priority`` (lower
first, as in vLLM), then the shortest, so that nobody waits behind a book for a line; every few
steps the oldest, so that the book gets read.

From a full queue the heaviest client's latest requests are evicted (`evicted`).

Not covered: whether there is room (`scheduler`).
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from collections.abc import Sequence as Seq

from lmstack.engine.sequence import Sequence

__all__ = ["OUTPUT_TOKEN", "PROMPT_TOKEN", "Shares", "evicted"]

PROMPT_TOKEN, OUTPUT_TOKEN = 1.0, 2.0


class Shares:
    """``weights``: how much of the machine a client may have in proportion to others, 1 if not
    named."""

    def __init__(self, weights: Mapping[str, float]) -> None:
        self._weights = weights
        self._served: dict[str, float] = {}

    def join(self, client: str, active: Collection[str]) -> None:
        """``client`` asks for something; ``active``: those with requests that are not over."""
        if client in active:
            return
        if not active:
            self._served.clear()
        floor = min((self._served[each] for each in active), default=0.0)
        served = max(self._served.get(client, 0.0), floor)
        # Of those who left, only who had more than the others need be remembered.
        self._served = {c: n for c, n in self._served.items() if c in active or n > floor}
        self._served[client] = served

    def charge(self, client: str, tokens: float) -> None:
        self._served[client] += tokens / self._weight(client)

    def in_turn(self, sequences: Iterable[Sequence], *, by_age: bool) -> Iterator[Sequence]:
        """The sequences in the order in which they should be served. What is charged meanwhile
        counts."""

        def rank(s: Sequence) -> tuple[int, ...]:
            size = s.order if by_age else s.num_pending - s.num_found
            return s.num_output == 0, s.priority, size, s.order

        return self._by_client(sequences, rank)

    def in_rotation(self, streams: Iterable[Sequence]) -> Iterator[Sequence]:
        """The same for streams that wait for their next token: of one client those first that
        got their last one longest ago."""
        return self._by_client(streams, lambda s: (s.priority, s.since, s.order))

    def _by_client(
        self, sequences: Iterable[Sequence], rank: Callable[[Sequence], tuple[int, ...]]
    ) -> Iterator[Sequence]:
        """The next by ``rank`` of whoever was served least; of two, of whom has less to compute: a
        newcomer is level with somebody."""
        queues: dict[str, list[tuple[tuple[int, ...], Sequence]]] = {}
        for s in sequences:
            queues.setdefault(s.client, []).append((rank(s), s))
        turns = []
        for number, (client, queue) in enumerate(queues.items()):
            heapq.heapify(queue)
            turns.append((*self._turn(client, queue[0][-1]), number, client))
        heapq.heapify(turns)
        while turns:
            *_, number, client = turns[0]
            queue = queues[client]
            yield heapq.heappop(queue)[-1]
            if queue:
                turn = self._turn(client, queue[0][-1])
                heapq.heapreplace(turns, (*turn, number, client))
            else:
                heapq.heappop(turns)

    def _turn(self, client: str, first: Sequence) -> tuple[float, int]:
        return self._served[client], first.num_pending - first.num_found

    def heaviest(self, streams: Mapping[str, int]) -> str:
        """The client with most of the ``streams`` for its weight; "" where there are none."""
        return max(streams, key=lambda c: streams[c] / self._weight(c), default="")

    def is_behind(self, client: str, other: str) -> bool:
        """Whether ``client`` was served less than ``other``, which may be ""."""
        return self._served[client] < self._served.get(other, 0.0)

    def may_take(self, streams: Mapping[str, int], heaviest: str, client: str) -> bool:
        """Whether ``heaviest`` has no fewer streams than ``client`` after giving it one."""
        left = (streams.get(heaviest, 0) - 1) / self._weight(heaviest)
        return left >= (streams.get(client, 0) + 1) / self._weight(client)

    def _weight(self, client: str) -> float:
        return self._weights.get(client, 1.0)


def evicted(queued: Seq[Sequence], newcomers: Seq[Sequence], count: int) -> list[Sequence]:
    """Up to ``count`` of ``queued`` (in order of arrival) to evict for ``newcomers`` of one client:
    the latest of the client with the most, while that is more than the newcomer has."""
    theirs: dict[str, list[Sequence]] = {}
    for sequence in queued:
        theirs.setdefault(sequence.client, []).append(sequence)
    client = newcomers[0].client
    own = len(theirs.get(client, [])) + len(newcomers)
    victims: list[Sequence] = []
    while len(victims) < count:
        most = max(theirs.values(), key=len, default=[])
        if len(most) <= own:
            break
        victims.append(most.pop())
    return victims
