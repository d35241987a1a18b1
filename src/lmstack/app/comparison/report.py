"""A comparison with what it was made from: the models and the settings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lmstack.evals.comparison import Comparison, conclusions

__all__ = ["Report"]


@dataclass(frozen=True)
class Report:
    """``base``, ``tuned``: names of the models, with ``digests``. ``settings``: of the drawing, the
    reward, the judge and the texts."""

    base: str
    tuned: str
    comparison: Comparison
    digests: Mapping[str, str | None]
    settings: Mapping[str, Any]

    def to_json(self) -> dict[str, Any]:
        return {
            "base": self.base,
            "tuned": self.tuned,
            "digests": dict(self.digests),
            "settings": dict(self.settings),
            "conclusions": conclusions(self.comparison),
            **self.comparison.to_json(),
        }
