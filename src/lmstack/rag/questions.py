"""Questions that a language model asks about passages, kept where they stand a round trip.

A model is shown a passage and asks a few questions about it (as InPars and Promptagator do:
Bonifacio et al. 2022, arXiv:2202.05144; Dai et al. 2022, arXiv:2209.11755). A question is kept if
our own search leads back to the passage and whoever decides what answers is certain enough of it.
What the search found besides is what does not answer, the hardest to tell first; what is thought to
answer at least as well as the passage is left out, for it may. Of a share of the questions the
passage's document is taken away, so that nothing answers.

The result is what the training objective ``reader`` reads. Does not cover where rows are kept.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from lmstack.core import ChatModel, Config, Message, Request, SamplingParams, allowed, complete
from lmstack.rag.answer.answerer import Answerer, Found
from lmstack.rag.answer.planning import hits_of
from lmstack.rag.chunk import embedded_text
from lmstack.rag.retrieve.hybrid import Hit
from lmstack.rag.view import IndexView
from lmstack.rag.words import STOP_WORDS

__all__ = ["AskedPassage", "Dropped", "QuestionConfig", "QuestionWriter", "passages_of"]

Dropped = Literal["no question", "asked before", "not found again", "not certain", "nothing beside"]

# One turn each: what a question is, whatever the text; a small model goes on in the same way.
_EXAMPLES = (
    (
        "Lamps > Guarantee\nThe lamp has a guarantee of two years. Keep the receipt: without it we"
        " cannot repair the lamp for free.",
        "How long is the lamp guaranteed?",
    ),
    (
        "Printing\nThe printer stops when a tray is open, so that nobody is hurt. Close the tray"
        " and press the green button to go on.",
        "What do I do when the printer has stopped?",
    ),
    (
        "The heath was bought by the town in 1931, after farmers had begun to drain it.",
        "Why did the town buy the heath?",
    ),
)
_TASK = "Write a question that this text answers."
_WORD = re.compile(r"\w+")


@dataclass(frozen=True)
class QuestionConfig(Config):
    """``questions``: asked of each passage. ``found_within``: the passage has to be among so many
    first ones that are found again. ``min_confidence``: with which it has to answer, where
    anything is known of that. ``unanswerable``: the share of questions of which the document is
    taken away. ``batch``: passages that the model is shown at a time."""

    questions: int = allowed(3, int, 1, 16)
    found_within: int = allowed(3, int, 1, 10)
    min_confidence: float = allowed(0.25, float, 0, 1)
    unanswerable: float = allowed(0.25, float, 0, 1)
    batch: int = allowed(16, int, 1, 1000)
    temperature: float = allowed(0.7, float, 0, 2)
    max_tokens: int = allowed(40, int, 1, 1000)
    seed: int = allowed(0, int, 0, (1 << 63) - 1)


@dataclass(frozen=True)
class AskedPassage:
    """What became of one passage. ``key``: of its text and headings. ``rows``: as JSON, of the
    training format ``choices``. ``dropped``: questions by why they were not kept."""

    key: str
    rows: tuple[dict[str, Any], ...]
    dropped: dict[Dropped, int]


class QuestionWriter:
    """Asks about passages of ``answerer``'s index, which also finds and judges. Questions in the
    same words as one that was kept are asked once; ``asked`` are those of an earlier run."""

    def __init__(
        self,
        answerer: Answerer,
        model: ChatModel,
        config: QuestionConfig | None = None,
        asked: Sequence[str] = (),
    ) -> None:
        self.config = config or QuestionConfig()
        self._answerer, self._model = answerer, model
        self._asked = {_words_of(question) for question in asked}

    async def write(self, passages: Sequence[Hit]) -> AsyncIterator[AskedPassage]:
        """In the order of ``passages``, a batch at a time."""
        size = self.config.batch
        for start in range(0, len(passages), size):
            batch = passages[start : start + size]
            written = await asyncio.gather(*map(self._questions, batch))
            for passage, questions in zip(batch, written, strict=True):
                yield await asyncio.to_thread(self._kept, passage, questions)

    async def _questions(self, passage: Hit) -> list[str]:
        config = self.config
        sampling = SamplingParams(
            temperature=config.temperature,
            max_tokens=config.max_tokens,
            n=config.questions,
            seed=config.seed,
            stop=("\n",),
        )
        request = Request(messages=tuple(_prompt(_text(passage))), sampling=sampling)
        completion = await complete(self._model, request)
        return [choice.text.strip() for choice in completion.choices]

    def _kept(self, passage: Hit, questions: Sequence[str]) -> AskedPassage:
        rows, dropped = list[dict[str, Any]](), Counter[Dropped]()
        for question in questions:
            row = self._round_trip(passage, question)
            if isinstance(row, str):
                dropped[row] += 1
            else:
                self._asked.add(_words_of(question))
                rows.append(row)
        return AskedPassage(key_of(passage), tuple(rows), dict(dropped))

    def _round_trip(self, passage: Hit, question: str) -> dict[str, Any] | Dropped:
        if not question.endswith(("?", "？")) or not _words_of(question):
            return "no question"
        if _words_of(question) in self._asked:
            return "asked before"
        found = self._answerer.find(question)
        first = [hit.chunk_id for hit in found.hits[: self.config.found_within]]
        if passage.chunk_id not in first:
            return "not found again"
        again = next(hit for hit in found.hits if hit.chunk_id == passage.chunk_id)
        confidence = found.certainty(again)
        if confidence is not None and confidence < self.config.min_confidence:
            return "not certain"
        others = _others(found, again)
        if not others:
            return "nothing beside"
        elsewhere = [hit for hit in others if hit.document_id != passage.document_id]
        taken_away = bool(elsewhere) and _share(question) < self.config.unanswerable
        return {
            "query": question,
            "positives": [] if taken_away else [_text(again)],
            "negatives": [_text(hit) for hit in (elsewhere if taken_away else others)],
            "path": again.path,
            "start": again.start,
            "end": again.end,
        }


def passages_of(index: IndexView, most: int | None = None) -> list[Hit]:
    """The passages of all documents, in order; of more than ``most`` those that a hash of their
    text draws, the same every time."""
    found: list[Hit] = []
    for info in index.documents():
        hits, _ = hits_of(index, info.title or info.path, [info])
        found += hits
    if most is None or len(found) <= most:
        return found
    drawn = {key_of(hit) for hit in sorted(found, key=key_of)[:most]}
    return [hit for hit in found if key_of(hit) in drawn]


def key_of(passage: Hit) -> str:
    """The same as long as the passage and its headings are."""
    return hashlib.sha256(_text(passage).encode()).hexdigest()[:24]


def _others(found: Found, passage: Hit) -> list[Hit]:
    """What was found and does not answer, best first."""
    least = found.certainty(passage)
    others = []
    for hit in found.hits:
        certainty = found.certainty(hit)
        is_surer = least is not None and certainty is not None and certainty >= least
        if hit.chunk_id != passage.chunk_id and hit.text != passage.text and not is_surer:
            others.append(hit)
    return others


def _prompt(text: str) -> Iterator[Message]:
    for example, question in _EXAMPLES:
        yield Message("user", f"Text: {example}\n\n{_TASK}")
        yield Message("assistant", question)
    yield Message("user", f"Text: {text}\n\n{_TASK}")


def _text(passage: Hit) -> str:
    return embedded_text(passage.prefix, passage.text)


def _words_of(question: str) -> frozenset[str]:
    return frozenset(_WORD.findall(question.casefold())) - STOP_WORDS


def _share(question: str) -> float:
    """Where a question falls in [0, 1), by its hash."""
    return int.from_bytes(hashlib.sha256(question.encode()).digest()[:8], "big") / 2**64
