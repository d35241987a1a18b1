"""How a text that is longer than a model's window is cut for its perplexity: as data, not tokens.

    rolling    lm-evaluation-harness: windows that predict different tokens, each token once; the
               first token after a prefix token
    strided    Hugging Face: windows that overlap, each scoring only what no earlier one did; the
               first token of all is not scored
    Windows    either of them, as a task's YAML asks for it

Both score each token once; with a shorter stride tokens have more context, and the text costs more.
Not covered: the forward pass, and sums of what it gives (`perplexity`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

from lmstack.core import Config, InputError, allowed, check_whole

__all__ = ["ScoredWindow", "Windows", "rolling_windows", "strided_windows"]

_MOST = 2**40
KINDS = ("rolling", "strided")


class ScoredWindow(NamedTuple):
    """Token places of a text: the model reads from ``context`` up to ``end`` and is scored on those
    from ``start`` up to ``end``. The place -1 is the prefix token that stands before the text."""

    context: int
    start: int
    end: int

    @property
    def num_scored(self) -> int:
        return self.end - self.start


@dataclass(frozen=True)
class Windows(Config):
    """``max_length``: tokens that the model reads at once; None: as many as it was made to.
    ``stride``: of strided windows; None: half of that. ``context``: of rolling windows."""

    kind: str = allowed("rolling", str, also=KINDS)
    max_length: int | None = allowed(None, int, 2, _MOST)
    stride: int | None = allowed(None, int, 1, _MOST)
    context: int = allowed(1, int, 1, _MOST)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.stride is not None and not self.is_strided:
            raise InputError(
                "stride is of strided windows, and these are rolling",
                hint="set kind: strided, or leave stride out",
                param="stride",
            )
        if self.context != 1 and self.is_strided:
            raise InputError(
                "context is of rolling windows, and these are strided",
                hint="set stride, or leave context out",
                param="context",
            )
        if self.max_length is not None:
            self.of(self.max_length, self.max_length)  # which checks one against the other

    @property
    def is_strided(self) -> bool:
        return self.kind == "strided"

    @property
    def protocol(self) -> dict[str, Any]:
        found: dict[str, Any] = {"kind": self.kind, "max_length": self.max_length}
        return found | ({"stride": self.stride} if self.is_strided else {"context": self.context})

    def of(self, num_tokens: int, model_length: int) -> list[ScoredWindow]:
        """Of a text. ``model_length``: what takes the place of a ``max_length`` of None."""
        length = model_length if self.max_length is None else self.max_length
        if self.is_strided:
            stride = max(1, length // 2) if self.stride is None else self.stride
            return strided_windows(num_tokens, length, stride)
        return rolling_windows(num_tokens, length, self.context)


def rolling_windows(num_tokens: int, max_length: int, context: int = 1) -> list[ScoredWindow]:
    """What lm-evaluation-harness cuts by ``make_disjoint_window(get_rolling_token_windows(...))``.
    ``max_length``: tokens that one forward pass reads, the last scored one not among them.
    ``context``: how many of them at least precede what is scored."""
    check_whole("num_tokens", num_tokens, 0, _MOST)
    check_whole("max_length", max_length, 1, _MOST)
    check_whole("context", context, 1, max_length)
    if not num_tokens:
        return []
    found = [ScoredWindow(-1, 0, min(max_length, num_tokens))]
    while (start := found[-1].end) < num_tokens:
        end = min(start + max_length - context + 1, num_tokens)
        found.append(ScoredWindow(end - max_length - 1, start, end))
    return found


def strided_windows(num_tokens: int, max_length: int, stride: int) -> list[ScoredWindow]:
    """What Hugging Face's guide to perplexity cuts. ``max_length``: tokens of a window, those that
    are scored among them. Where windows do not overlap (a stride of ``max_length``), the first
    token of each has no context and is not scored. The guide weights each window's mean by one
    token too few; a sum over `num_scored` has no such error."""
    check_whole("num_tokens", num_tokens, 0, _MOST)
    check_whole("max_length", max_length, 2, _MOST)
    check_whole("stride", stride, 1, _MOST)
    if stride > max_length:
        raise InputError(
            f"stride {stride} is more than the window of {max_length} tokens, which would leave"
            " tokens out",
            hint=f"choose a stride of at most {max_length}",
            param="stride",
        )
    found = []
    scored = 0
    for begin in range(0, num_tokens, stride):
        end = min(begin + max_length, num_tokens)
        start = max(scored, begin + 1)
        if start < end:
            found.append(ScoredWindow(begin, start, end))
        scored = end
        if end == num_tokens:
            break
    return found
