"""What may differ from layer to layer of one Transformer."""

from __future__ import annotations

from dataclasses import dataclass, field

from lmstack.core import Config, check_whole
from lmstack.model.positions import RopeSpec

__all__ = ["LayerKind"]


@dataclass(frozen=True)
class LayerKind(Config):
    """``rope``: None for a layer that does not rotate. ``window``: a query sees keys less than
    so many places away, None for all."""

    rope: RopeSpec | None = field(default_factory=RopeSpec)
    window: int | None = None

    def __post_init__(self) -> None:
        if self.window is not None:
            check_whole("window", self.window, 1, (1 << 31) - 1)
