"""What a chunk is, and how chunks are asked for. `lmstack.rag.chunking` makes them.

For every chunk ``document.text[start:end] == text``. Chunks ascend by both start and end; they
overlap only where the configuration says so, and together leave out nothing but white space (a
byte-order mark counts as such). Sizes are tokens of the embedder, prefix and special tokens
included, and never above its limit.

The prefix (title and headings above, a line of context, the header of a table that was cut) is
embedded and indexed with the chunk, so that "it must be enabled first" is found under its
heading; it is never part of the text and never cited.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from lmstack.core import Config, InputError, check_range, check_whole, nearest, shown

__all__ = [
    "CHUNKER_VERSION",
    "Chunk",
    "ChunkConfig",
    "Context",
    "Strategy",
    "embedded_text",
]

# Part of what an indexed document was made with: raise it when the same text cuts differently.
CHUNKER_VERSION = 4
Strategy = Literal["structure", "fixed", "sentence", "recursive", "semantic"]
Context = Literal["title", "model", "none"]
# From the coarsest on, each kept at the end of its piece; between words is always tried last.
SEPARATORS = ("\n\n", "\n", "。", ". ", "! ", "? ", "; ", ", ")


@dataclass(frozen=True)
class ChunkConfig(Config):
    """``strategy``: ``structure`` never mixes sections, but for those that are headings alone, and
    keeps paragraphs, lists, code and tables whole where they fit; ``fixed`` fills windows of words;
    ``sentence`` packs sentences;
    ``recursive`` cuts at ``separators``, the coarsest that helps; ``semantic`` begins a chunk
    where neighbouring sentences are least alike.

    ``target_tokens``: chunks are packed up to this, prefix included (the embedder's own limit
    holds besides). ``overlap``: tokens that a chunk repeats of the one before, for ``fixed`` and
    ``recursive``; sentences, for ``sentence``. ``window``: sentences compared on either side of
    a possible break, which is one where they are less alike than at ``break_percentile`` percent
    of the places. ``context``: what stands before the text for the embedder; ``model`` adds a
    line that a language model writes. ``max_prefix_chars``: longer section paths lose their
    outermost part.
    """

    strategy: Strategy = "structure"
    target_tokens: int = 160
    overlap: int = 0
    separators: tuple[str, ...] = SEPARATORS
    break_percentile: float = 15.0
    window: int = 2
    context: Context = "title"
    max_prefix_chars: int = 160

    def __post_init__(self) -> None:
        check_one_of("strategy", self.strategy, get_args(Strategy))
        check_one_of("context", self.context, get_args(Context))
        check_range("target_tokens", self.target_tokens, 16, 100_000)
        check_range("max_prefix_chars", self.max_prefix_chars, 0, 10_000)
        check_range("break_percentile", self.break_percentile, 0, 100)
        check_whole("window", self.window, 1, 20)
        self._check_overlap()
        if isinstance(self.separators, str) or not all(
            isinstance(s, str) and s for s in self.separators
        ):
            raise InputError(
                f"separators is {shown(self.separators)}",
                hint="give texts that are not empty, the coarsest first",
                param="separators",
            )
        # From JSON they come as a list, which would not compare with the default.
        object.__setattr__(self, "separators", tuple(self.separators))

    def _check_overlap(self) -> None:
        most = {"fixed": self.target_tokens // 2, "recursive": self.target_tokens // 2}
        check_whole("overlap", self.overlap, 0, 100_000)
        limit = most.get(self.strategy, 20 if self.strategy == "sentence" else 0)
        if self.overlap > limit:
            raise InputError(
                f"overlap is {self.overlap} for the strategy {self.strategy}",
                hint=f"at most {limit}" if limit else "this strategy has no overlap: leave it 0",
                param="overlap",
            )


def check_one_of(name: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        guess = nearest(str(value), known)
        raise InputError(
            f"{name} is {shown(value)}",
            hint=f"did you mean {guess!r}?" if guess else f"one of {', '.join(known)}",
            param=name,
        )


@dataclass(frozen=True, slots=True)
class Chunk:
    """``section`` holds the headings it stands under (its start does), outermost first;
    ``tokens`` is the size of `embedded_text` for the embedder."""

    start: int
    end: int
    text: str
    prefix: str
    section: tuple[str, ...]
    tokens: int


def embedded_text(prefix: str, text: str) -> str:
    """What the embedder sees of a chunk."""
    return f"{prefix}\n{text}" if prefix else text
