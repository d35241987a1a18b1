"""Memory for results that are used up before the next one is computed.

Fresh memory for many rows of logits costs more to get than to fill. Whoever asks for them again
and again therefore owns a `Scratch` and passes it with each call; a call without one returns
memory of its own.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

__all__ = ["Scratch"]


class Scratch:
    """Holds one result at a time: what a call wrote is lost at the next call that is given the
    same scratch. Used by one thread.

    With ``checked`` every result gets memory of its own, and the one before it is filled with
    NaN. The tests set it, so code that keeps a result too long fails there on every executor,
    and not only where the memory is really used again.
    """

    checked: ClassVar[bool] = False

    def __init__(self, device: torch.device | str = "cpu") -> None:
        self._memory = torch.empty(0, device=device)
        self._last: Tensor | None = None

    def rows(self, count: int, width: int) -> Tensor:
        """(count, width) float32, its values undefined."""
        size = count * width
        if self.checked or self._memory.numel() < size:
            # An ordinary tensor also where gradients are off: it outlives the block.
            with torch.inference_mode(False):
                self._memory = self._memory.new_empty(size)
        return self.holding(self._memory[:size].view(count, width))

    def holding(self, result: Tensor) -> Tensor:
        """``result``, which may lie in memory of its own, as what this scratch holds now."""
        if self.checked:
            last, self._last = self._last, result
            if last is not None:
                with torch.inference_mode():
                    last.fill_(torch.nan)
        return result
