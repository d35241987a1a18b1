"""Queries that a language model writes: one that stands alone, variants, a made-up passage.

A model that says nothing usable changes nothing. What it wrote is only searched for, never shown
or cited. Multi-query: Ma et al. 2023 (arXiv:2305.14283); HyDE: Gao et al. 2022
(arXiv:2212.10496). The rules that need no model are in `lmstack.rag.retrieve.followup`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from lmstack.core import ChatModel, Message, Request, SamplingParams, complete_sync
from lmstack.rag.retrieve.followup import Turn

__all__ = ["made_up_passage", "query_variants", "standalone_query"]

MAX_QUERY_CHARS = 500
MAX_TURN_CHARS = 1000
_NUMBERING = re.compile(r"^\s*(?:\d+[.):]|[-*•])?\s*")


def standalone_query(model: ChatModel, question: str, history: Sequence[Turn]) -> str:
    """``question`` as one that can be understood without ``history``."""
    said = "\n".join(
        f"User: {asked[:MAX_TURN_CHARS]}\nAssistant: {answer[:MAX_TURN_CHARS]}"
        for asked, answer in history
    )
    written = _ask(
        model,
        "Rewrite the last question so that it can be understood without the conversation. Keep "
        "its meaning; replace words such as 'it' by what they stand for. Write only the question.",
        f"{said}\nLast question: {question}",
        max_tokens=100,
    )
    lines = _lines(written)
    return lines[0] if lines else question


def query_variants(model: ChatModel, query: str, count: int) -> list[str]:
    """Up to ``count`` other wordings of ``query``."""
    written = _ask(
        model,
        f"Write {count} other ways to ask the same question, in other words. One on each line, "
        "nothing else.",
        query,
        max_tokens=60 * count,
    )
    others = dict.fromkeys(line for line in _lines(written) if line.lower() != query.lower())
    return list(others)[:count]


def made_up_passage(model: ChatModel, query: str) -> str:
    """A passage that might answer ``query``; what it claims may be false."""
    written = _ask(
        model,
        "Write a short passage of a document that answers the question. Write only the passage.",
        query,
        max_tokens=150,
    )
    return written.strip()


def _ask(model: ChatModel, task: str, text: str, *, max_tokens: int) -> str:
    messages = (Message("system", task), Message("user", text))
    sampling = SamplingParams(temperature=0, max_tokens=max_tokens)
    return complete_sync(model, Request(messages=messages, sampling=sampling)).text


def _lines(written: str) -> list[str]:
    """What was written line by line, without numbering and quotes."""
    lines = (_NUMBERING.sub("", line, count=1).strip().strip("\"'") for line in written.split("\n"))
    return [line[:MAX_QUERY_CHARS] for line in lines if any(c.isalnum() for c in line)]
