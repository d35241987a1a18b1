"""What a check of a tokenizer or a chat template found.

Covers one finding and the words in which values are quoted. Does not cover the checks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from lmstack.core import shown

__all__ = ["Finding", "Severity", "apart", "excerpt"]

Severity = Literal["ok", "note", "warn", "fail"]


@dataclass(frozen=True, slots=True)
class Finding:
    """``fail``: the model will be trained or served wrongly. ``warn``: it will be under a
    condition that ``what`` names. ``note``: worth knowing. ``seen``: the value, quoted.
    ``mend``: what to do; None where nothing needs doing."""

    check: str
    severity: Severity
    what: str
    seen: str = ""
    mend: str | None = None

    def to_json(self) -> dict[str, str | None]:
        return {
            "check": self.check,
            "severity": self.severity,
            "what": self.what,
            "seen": self.seen,
            "mend": self.mend,
        }


def excerpt(text: str, limit: int = 70) -> str:
    """``text`` quoted; of a long one the end, where renderings differ."""
    return shown(text) if len(text) <= limit else "…" + shown(text[-limit:], limit + 10)


def apart(first: str, second: str) -> str:
    """Where two texts part, with a little of what stands around."""
    same = 0
    for left, right in zip(first, second, strict=False):
        if left != right:
            break
        same += 1
    start = max(0, same - 16)
    left, right = (shown(text[start : same + 24]) for text in (first, second))
    return f"{left} and {right}, apart at character {same}"
