"""Answers as a sampler draws them."""

from __future__ import annotations

from typing import Any

from lmstack.core import Message
from lmstack.train.rollouts.protocol import RolloutSample

__all__ = ["drawn"]


def drawn(text: str, *, tokens: int = 3, finish: Any = "stop", **row: Any) -> RolloutSample:
    """The answer ``text`` to a prompt whose data row is ``row``."""
    prompt = (Message("user", "?"),)
    return RolloutSample(prompt, (1,), (2,) * tokens, (-1.0,) * tokens, text, finish, row)
