"""Examples for few-shot prompts: the same ones always, or those nearest to what is asked.

An example is never shown for itself: one with the same values, whatever their case and white
space, is left out, so that a set can be tried on the examples that it is made of (leave-one-out).
Nearest examples are found by embeddings, take turns over the labels, and stand with the nearest
last, next to the question (Liu et al. 2022, arXiv:2101.06804). Which they are depends on nothing
but the examples, the question and the embedder. Does not cover how they are written (`template`).
"""

from __future__ import annotations

import threading
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from lmstack.core import Embedder, InputError, check_text, check_whole, shown

__all__ = ["Examples", "FixedExamples", "NearestExamples", "PromptExample"]

_MOST_SHOWN = 256


@dataclass(frozen=True)
class PromptExample:
    """``values`` of the prompt's variables and the ``output`` that is right for them.
    ``reasoning``: what leads to it, for chains of thought. ``label``: its class, over which
    nearest examples are balanced; the output unless given."""

    values: Mapping[str, Any] = field(hash=False)
    output: str
    reasoning: str = ""
    label: str | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.values, Mapping):
            raise InputError(
                f"the values of an example are {shown(self.values)}",
                hint='Example({"text": "..."}, "the output")',
                param="examples",
            )
        for name in ("output", "reasoning"):
            check_text(f"the {name} of an example", getattr(self, name))
        if self.label is not None:
            check_text("the label of an example", self.label)

    @property
    def group(self) -> str:
        return self.output if self.label is None else self.label


Complete = Callable[[PromptExample], Mapping[str, Any]]


class Examples(Protocol):
    """Where a prompt's examples come from."""

    examples: tuple[PromptExample, ...]

    def choose(self, values: Mapping[str, Any]) -> Sequence[PromptExample]:
        """Those to show before ``values``, in the order in which they are shown."""

    def completed(self, complete: Complete) -> Examples:
        """These, each with ``complete`` values: what is left out has its default."""


class FixedExamples:
    """``examples``, always, in their order."""

    def __init__(self, examples: Sequence[PromptExample]) -> None:
        self.examples = tuple(examples)

    def choose(self, values: Mapping[str, Any]) -> Sequence[PromptExample]:
        asked = _key(values) or None
        return [example for example in self.examples if _key(example.values) != asked]

    def completed(self, complete: Complete) -> FixedExamples:
        return FixedExamples(_completed(self.examples, complete))


class NearestExamples:
    """The ``k`` of ``examples`` that are nearest to what is asked, by the cosine of what
    ``embedder`` makes of their values. ``balanced``: labels take turns, so that none has two more
    than another while it has examples left. Thread-safe; examples are embedded once."""

    def __init__(
        self,
        examples: Sequence[PromptExample],
        embedder: Embedder,
        k: int = 4,
        *,
        balanced: bool = True,
    ) -> None:
        check_whole("k", k, 1, _MOST_SHOWN)
        if not examples:
            raise InputError("there are no examples to choose from", param="examples")
        self.examples, self.k, self.balanced = tuple(examples), k, balanced
        self._embedder = embedder
        self._keys = [_key(example.values) for example in self.examples]
        self._vectors: npt.NDArray[np.float32] | None = None
        self._embedding = threading.Lock()

    def choose(self, values: Mapping[str, Any]) -> Sequence[PromptExample]:
        asked = _key(values) or None
        [vector] = self._embedder.embed([_text(values)])
        nearness = self._embedded() @ vector
        others = [n for n, key in enumerate(self._keys) if key != asked]
        # Equally near ones in their own order, whatever the last bits say.
        others.sort(key=lambda n: (-round(float(nearness[n]), 6), n))
        chosen = self._in_turn(others) if self.balanced else others[: self.k]
        return [self.examples[n] for n in sorted(chosen, key=others.index, reverse=True)]

    def completed(self, complete: Complete) -> NearestExamples:
        examples = _completed(self.examples, complete)
        if examples == list(self.examples):
            return self  # what is embedded stays so
        return NearestExamples(examples, self._embedder, self.k, balanced=self.balanced)

    def _in_turn(self, ordered: Sequence[int]) -> list[int]:
        """The first of each label, then the second of each, and so on, ``k`` in all."""
        seen: dict[str, int] = {}
        turns = []
        for place, n in enumerate(ordered):
            group = self.examples[n].group
            turns.append((seen.get(group, 0), place, n))
            seen[group] = seen.get(group, 0) + 1
        return [n for *_, n in sorted(turns)[: self.k]]

    def _embedded(self) -> npt.NDArray[np.float32]:
        with self._embedding:
            if self._vectors is None:
                texts = [_text(example.values) for example in self.examples]
                self._vectors = self._embedder.embed(texts)
            return self._vectors


def _completed(examples: Sequence[PromptExample], complete: Complete) -> list[PromptExample]:
    return [replace(example, values=complete(example)) for example in examples]


def _text(values: Mapping[str, Any]) -> str:
    return "\n".join(str(values[name]) for name in sorted(values))


def _key(values: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    """Equal for values that differ in case and white space alone."""
    folded = (
        (name, unicodedata.normalize("NFKC", str(value)).casefold())
        for name, value in sorted(values.items())
    )
    return tuple((name, " ".join(text.split())) for name, text in folded)
