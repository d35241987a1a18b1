"""What the writer is asked: both go on from the conversation itself, as in the paper, with the
principle's request as the next turn of the user. Does not cover who is asked (`stages`).
"""

from __future__ import annotations

from collections.abc import Sequence

from lmstack.core import Message
from lmstack.pipelines.constitution.principles import Principle

__all__ = ["critique", "revision"]


def critique(prompt: Sequence[Message], answer: str, principle: Principle) -> tuple[Message, ...]:
    """Asks for what is wrong with ``answer``."""
    return (*prompt, Message("assistant", answer), Message("user", principle.critique))


def revision(
    prompt: Sequence[Message], answer: str, criticism: str, principle: Principle
) -> tuple[Message, ...]:
    """Asks for a better ``answer`` in the light of ``criticism``."""
    return (
        *critique(prompt, answer, principle),
        Message("assistant", criticism),
        Message("user", principle.revision),
    )
