"""The adapters that `lmstack up` serves beside its language model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from lmstack.core import ChatModel

if TYPE_CHECKING:
    from lmstack.serve.http.state import AppState

__all__ = ["Adapters"]


@dataclass(frozen=True)
class Adapters:
    """``named``: folders by the names under which they are served. ``source``: where the operator
    may load more from while the server runs."""

    named: Mapping[str, Path] = field(default_factory=dict)
    source: Path | None = None

    def __bool__(self) -> bool:
        return bool(self.named) or self.source is not None

    def open(
        self, state: AppState, model: ChatModel, wrapped: Callable[[ChatModel], ChatModel]
    ) -> None:
        """Serve them, each ``wrapped``, beside ``model``, which is on this machine."""
        from lmstack.serve.http.adapters import ServedAdapters
        from lmstack.serve.local import LocalModel

        assert isinstance(model, LocalModel)
        served = ServedAdapters(state, model, wrapped, self.source)
        for name, folder in self.named.items():
            served.load(name, folder)
        state.adapters = served
