"""What of a sequence is in the cache already, what soon will be, and what it adds.

Whole blocks are shared. Of the block after them the beginning may be known from another sequence:
then it is copied, and only the rest is computed. Neither changes a result, since keys and values
depend on the tokens before them alone.

Not covered: the books of blocks (`blocks`), and when to start a sequence (`scheduler`).
"""

from __future__ import annotations

from collections.abc import Iterable

from lmstack.engine.blocks import BlockManager, cross_hashes
from lmstack.engine.config import EngineConfig
from lmstack.engine.sequence import Sequence

__all__ = ["Prefixes"]

# Copying a block takes about as long as computing a quarter of one.
LEAST_PART = 0.25


class Prefixes:
    def __init__(self, config: EngineConfig, blocks: BlockManager) -> None:
        self._config, self._blocks = config, blocks

    def whole(self, sequence: Sequence) -> list[int]:
        """Cached blocks to start from; at least one token is left to compute."""
        return self._blocks.match(sequence.hashes[: self._usable(sequence)])

    def part(self, sequence: Sequence, num_whole: int) -> tuple[int, int]:
        """A cached block that begins as the one after ``num_whole`` must, and how many of its
        tokens are the same; 0 where copying it is not worth it."""
        size = self._config.block_size
        start = num_whole * size
        wanted = sequence.tokens[start : min(start + size, sequence.num_reusable)]
        source, count = self._blocks.match_partly(_parent(sequence, num_whole), wanted)
        return (source, count) if count >= max(1, LEAST_PART * size) else (0, 0)

    def crossed(self, sequence: Sequence, running: Iterable[Sequence]) -> list[int]:
        """Blocks with what an encoder made, or is about to make, of the same input."""
        if not sequence.encoder_ids:
            return []
        for other in running:
            if other.origin == sequence.origin and other.cross_table:
                sequence.is_encoded = other.is_encoded
                return other.cross_table
        count = self._config.blocks_for(len(sequence.encoder_ids))
        found = self._blocks.match(cross_hashes(sequence.origin, count))
        sequence.is_encoded = len(found) == count
        return found if sequence.is_encoded else []

    def coming(self, sequence: Sequence) -> list[bytes]:
        """Names of the blocks that ``sequence`` has yet to compute."""
        if not self._config.prefix_cache:
            return []
        return sequence.hashes[sequence.num_published :]

    def is_coming(self, sequence: Sequence, num_whole: int, coming: set[bytes]) -> bool:
        """Whether a running sequence is computing the very next block that this one needs, so
        that waiting for it is cheaper than computing it twice (several choices of a prompt)."""
        return (
            num_whole < min(self._usable(sequence), len(sequence.hashes))
            and sequence.hashes[num_whole] in coming
        )

    def publish(self, sequence: Sequence) -> None:
        """Let others find the blocks of ``sequence`` that are full by now."""
        size = self._config.block_size
        full = sequence.num_computed // size
        if full == sequence.num_published:
            return
        sequence.hash_blocks(size, sequence.num_computed)
        for i in range(sequence.num_published, full):
            tokens = sequence.tokens[i * size : (i + 1) * size]
            self._blocks.publish(
                sequence.table[i], sequence.hashes[i], _parent(sequence, i), tokens
            )
        sequence.num_published = full

    def publish_crossed(self, sequence: Sequence) -> None:
        """Let others find what the encoder made of the input of ``sequence``."""
        names = cross_hashes(sequence.origin, len(sequence.cross_table))
        for block, name in zip(sequence.cross_table, names, strict=True):
            self._blocks.publish(block, name)

    def _usable(self, sequence: Sequence) -> int:
        return sequence.num_reusable // self._config.block_size


def _parent(sequence: Sequence, index: int) -> bytes:
    """Name of all that comes before block ``index``."""
    return sequence.hashes[index - 1] if index else sequence.origin
