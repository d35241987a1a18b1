"""Sentences of the passages, each with its evidence for a question.

Covers splitting passages into quotable sentences with exact offsets, and scoring them. The
scores decide what a model may quote and when there is nothing to answer with.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lmstack.core import Embedder
from lmstack.rag.answers import AnswerConfig
from lmstack.rag.chunk import embedded_text
from lmstack.rag.search import Hit
from lmstack.rag.sentences import sentence_spans
from lmstack.rag.words import covered_share

__all__ = ["Candidate", "choose_candidates", "read_sentences", "weigh_sentences"]


@dataclass(frozen=True, slots=True)
class Candidate:
    """A sentence of a passage. ``number`` is the passage's, counted from 1; ``quote`` is the
    document's text between ``start`` and ``end``; ``shown`` is the quote on one line."""

    number: int
    hit: Hit
    start: int
    end: int
    quote: str
    shown: str
    similarity: float = 0.0
    coverage: float = 0.0
    evidence: float = 0.0


def read_sentences(hits: Sequence[Hit], max_chars: int) -> list[Candidate]:
    """Sentences of ``hits`` in order; a text that occurs twice in a passage counts once.
    Headings are left out: they name an answer and are none."""
    found: list[Candidate] = []
    for number, hit in enumerate(hits, 1):
        seen = {_plain(heading) for heading in hit.section}
        for start, end in sentence_spans(hit.text):
            quote = hit.text[start:end]
            shown = " ".join(quote.split())
            plain = _plain(shown)
            if len(shown) <= max_chars and plain and plain not in seen:
                seen.add(plain)
                place = (hit.start + start, hit.start + end)
                found.append(Candidate(number, hit, *place, quote, shown))
    return found


def _plain(text: str) -> str:
    """Letters and digits alone: equal for a heading with and without its markup."""
    return "".join(c for c in text.casefold() if c.isalnum())


def weigh_sentences(
    sentences: Sequence[Candidate],
    vector: npt.NDArray[np.float32],
    words: Mapping[str, float],
    embedder: Embedder,
    config: AnswerConfig,
) -> list[Candidate]:
    """The same sentences with their evidence for the question with this ``vector`` and these
    weighted ``words``."""
    if not sentences:
        return []
    texts = [
        embedded_text(s.hit.prefix, s.shown) if config.embed_headings else s.shown
        for s in sentences
    ]
    similarities = np.asarray(embedder.embed(texts, "passage"), np.float32) @ vector
    weighed: list[Candidate] = []
    for sentence, cosine in zip(sentences, similarities, strict=True):
        similarity = float(cosine)
        alone = covered_share(words, sentence.shown)
        headed = covered_share(words, embedded_text(sentence.hit.prefix, sentence.shown))
        coverage = alone + config.heading_share * (headed - alone)
        evidence = config.similarity_weight * similarity + config.coverage_weight * coverage
        weighed.append(
            Candidate(
                sentence.number,
                sentence.hit,
                sentence.start,
                sentence.end,
                sentence.quote,
                sentence.shown,
                similarity,
                coverage,
                evidence,
            )
        )
    return weighed


def choose_candidates(sentences: Sequence[Candidate], config: AnswerConfig) -> list[Candidate]:
    """Those with the most evidence, in reading order; `min_evidence` holds for each."""
    ranked = sorted(sentences, key=lambda s: -s.evidence)[: config.candidates]
    if not ranked:
        return []
    floor = max(config.min_evidence, ranked[0].evidence - config.candidate_margin)
    kept = [s for s in ranked if s.evidence >= floor]
    return sorted(kept, key=lambda s: (s.number, s.start))
