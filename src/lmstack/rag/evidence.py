"""Sentences of the passages, each with its evidence for a question.

Covers reading passages into quotable sentences with exact offsets, and scoring them. The
scores decide what a model may quote and when there is nothing to answer with.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from lmstack.core import Embedder
from lmstack.rag.answers import AnswerConfig
from lmstack.rag.pieces import read_pieces
from lmstack.rag.search import Hit
from lmstack.rag.words import covered_share, name_words, stem, stems

__all__ = ["Candidate", "choose_candidates", "read_sentences", "unheard_names", "weigh_sentences"]

USUAL = ("prose", "row")
MAX_HEADINGS = 160


@dataclass(frozen=True, slots=True)
class Candidate:
    """A sentence of a passage. ``number`` is the passage's among those read, counted from 1;
    ``quote`` is the document's text between ``start`` and ``end``; ``shown`` is the quote on one
    line, the cells of a table named by its header. ``headings`` stand above it, ``before`` is
    the sentence that it goes on from: a reader has them in mind."""

    number: int
    hit: Hit
    start: int
    end: int
    quote: str
    shown: str
    headings: str = ""
    before: str = ""
    similarity: float = 0.0
    coverage: float = 0.0
    evidence: float = 0.0

    @property
    def in_context(self) -> str:
        """With the headings above and the sentence before, as a reader meets it."""
        sentence = f"{self.before} {self.shown}" if self.before else self.shown
        return f"{self.headings}\n{sentence}" if self.headings else sentence


def read_sentences(
    hits: Sequence[Hit],
    passages: int,
    max_chars: int,
    above: Callable[[Hit], str] = lambda _: "",
) -> tuple[list[Hit], list[Candidate]]:
    """The first ``passages`` of ``hits`` that hold something to quote, and their sentences in
    order; a text that occurs twice in a passage counts once.

    Headings are left out: they name an answer and are none. So are code, titles and lists of
    links, unless no hit holds anything else. ``above`` gives the text of a hit's section before
    it: where a table's header or the start of a fence may be.
    """
    found = [(hit, _sentences_of(hit, max_chars, above(hit))) for hit in hits]
    usual = [
        (hit, kept)
        for hit, sentences in found
        if (kept := [candidate for candidate, is_usual in sentences if is_usual])
    ]
    anything = [(hit, [candidate for candidate, _ in sentences]) for hit, sentences in found]
    read = (usual or anything)[:passages]
    numbered = [
        replace(candidate, number=number)
        for number, (_, sentences) in enumerate(read, 1)
        for candidate in sentences
    ]
    return [hit for hit, _ in read], numbered


def _sentences_of(hit: Hit, max_chars: int, above: str) -> list[tuple[Candidate, bool]]:
    """Candidates, and whether they are of a kind that answers."""
    found: list[tuple[Candidate, bool]] = []
    seen = {_plain(heading) for heading in hit.section}
    names = dict.fromkeys(filter(None, (hit.title, *hit.section)))
    headings = " ".join(" > ".join(names).split())[-MAX_HEADINGS:]
    text = above + hit.text
    offset = hit.start - len(above)
    for piece in read_pieces(text):
        plain = _plain(piece.shown)
        if piece.start < len(above) or len(piece.shown) > max_chars or not plain or plain in seen:
            continue
        seen.add(plain)
        candidate = Candidate(
            0,
            hit,
            offset + piece.start,
            offset + piece.end,
            text[piece.start : piece.end],
            piece.shown,
            headings,
            piece.before,
        )
        found.append((candidate, piece.kind in USUAL))
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
    texts = [s.in_context for s in sentences] + [s.shown for s in sentences]
    cosines = (np.asarray(embedder.embed(texts, "passage"), np.float32) @ vector).tolist()
    weighed: list[Candidate] = []
    for n, sentence in enumerate(sentences):
        within, alone = cosines[n], cosines[len(sentences) + n]
        similarity = within + config.own_share * (max(alone, within) - within)
        own = covered_share(words, sentence.shown)
        coverage = own + config.heading_share * (covered_share(words, sentence.in_context) - own)
        evidence = config.similarity_weight * similarity + config.coverage_weight * coverage
        weighed.append(
            replace(sentence, similarity=similarity, coverage=coverage, evidence=evidence)
        )
    return weighed


def unheard_names(question: str, hits: Sequence[Hit]) -> list[str]:
    """Names and codes in ``question`` that no hit mentions. Search by words would have found a
    passage that does, so most likely none mentions it."""
    heard = {s for hit in hits for s in stems(" ".join((hit.title, *hit.section, hit.text)))}
    return [word for word in name_words(question) if stem(word.lower()) not in heard]


def choose_candidates(sentences: Sequence[Candidate], config: AnswerConfig) -> list[Candidate]:
    """Those with the most evidence, in reading order; `min_evidence` holds for each."""
    ranked = sorted(sentences, key=lambda s: -s.evidence)[: config.candidates]
    if not ranked:
        return []
    floor = max(config.min_evidence, ranked[0].evidence - config.candidate_margin)
    kept = [s for s in ranked if s.evidence >= floor]
    return sorted(kept, key=lambda s: (s.number, s.start))
