"""Results of tasks as people read them in a terminal: aligned, calm, nothing that moves the
cursor. Does not cover JSON: results write that themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from lmstack.app.formats import columns, printable

__all__ = ["result_lines"]

PREVIEW = 72


def result_lines(task: str, result: Any, text: str = "") -> list[str]:
    """``result`` of ``task`` as lines. ``text``: what it was about, to show entities as they
    stand there."""
    if task == "token-classification":
        return _entities(result, text)
    return _WRITERS[task](result)


def _labels(result: Any) -> list[str]:
    return columns([(_flat(label.label), f"{label.score:.4f}") for label in result.labels])


def _entities(result: Any, text: str) -> list[str]:
    rows = [
        (_flat(e.label), _flat(text[e.start : e.end]), f"{e.start}-{e.end}", f"{e.score:.4f}")
        for e in result.entities
    ]
    return columns(rows) or ["no entities"]


def _fills(result: Any) -> list[str]:
    lines: list[str] = []
    for number, fills in enumerate(result.masks, 1):
        if len(result.masks) > 1:
            lines.append(f"mask {number}")
        lines += columns([(_flat(f.token), f"{f.score:.4f}", _preview(f.sequence)) for f in fills])
    return lines


def _answers(result: Any) -> list[str]:
    return columns(
        [
            (_preview(a.answer) or "(no answer)", f"{a.start}-{a.end}", f"{a.score:.4f}")
            for a in result.answers
        ]
    ) or ["(no answer)"]


def _features(result: Any) -> list[str]:
    rows = [
        (_flat(token), *_numbers(vector))
        for token, vector in zip(result.tokens, result.vectors, strict=True)
    ]
    tokens, dimensions = result.vectors.shape
    return [f"{tokens} tokens of {dimensions} dimensions", *columns(rows, indent=2)]


def _embedding(result: Any) -> list[str]:
    numbers = "  ".join(_numbers(result.vector))
    return [f"{len(result.vector)} dimensions: {numbers}"]


def _ranking(result: Any) -> list[str]:
    return columns(
        [
            (f"{place}.", f"{r.score:.4f}", f"[{r.index}]", _preview(r.text))
            for place, r in enumerate(result.results, 1)
        ]
    )


def _text(result: Any) -> list[str]:
    return printable(result.text).splitlines() or [""]


def _generated(result: Any) -> list[str]:
    lines = _text(result)
    for other in result.others or ():
        lines += ["", *printable(other).splitlines()]
    return lines


_WRITERS: dict[str, Callable[[Any], list[str]]] = {
    "text-classification": _labels,
    "zero-shot-classification": _labels,
    "fill-mask": _fills,
    "question-answering": _answers,
    "feature-extraction": _features,
    "sentence-embedding": _embedding,
    "reranking": _ranking,
    "text-generation": _generated,
    "chat": _generated,
    "summarization": _text,
    "translation": _text,
}


def _numbers(vector: Sequence[float]) -> list[str]:
    """The first few, to tell vectors apart by eye; JSON has them all."""
    return [*(f"{value:+.4f}" for value in vector[:6]), *(["..."] if len(vector) > 6 else [])]


def _flat(text: str) -> str:
    return printable(text, one_line=True)


def _preview(text: str) -> str:
    flat = " ".join(printable(text).split())
    return flat if len(flat) <= PREVIEW else flat[:PREVIEW].rsplit(" ", 1)[0] + " …"
