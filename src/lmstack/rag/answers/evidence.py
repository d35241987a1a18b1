"""Sentences of the passages, each with its evidence for a question.

Covers reading passages into quotable sentences with exact offsets, and scoring them. The
scores decide what a model may quote and when there is nothing to answer with.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from lmstack.core import Embedder, Reranker
from lmstack.rag.answers.answer import AnswerConfig
from lmstack.rag.answers.asked import fits_kind, is_of_another
from lmstack.rag.answers.pieces import read_pieces
from lmstack.rag.search.hybrid import Hit
from lmstack.rag.search.lexical import content_words
from lmstack.rag.search.words import covered_share, name_words, stem, stems, without_words

__all__ = [
    "Candidate",
    "choose_candidates",
    "questions_to_embed",
    "read_sentences",
    "reread_sentences",
    "texts_to_embed",
    "unheard_names",
    "weigh_sentences",
]

_ORDINAL = re.compile(r"(?<=\d)(?:st|nd|rd|th)$")
USUAL = ("prose", "row")
MAX_HEADINGS = 160
_NUMBERING = re.compile(r"^[\d.)(\s:§-]+")
_ASIDE = re.compile(r"(?:see\b|cf\.)(?: also\b)?", re.I)
# A heading asks a question if so much of it is in the question, and so much of that in it.
HEADING_IN_QUESTION, QUESTION_IN_HEADING = 0.8, 0.4


@dataclass(frozen=True, slots=True)
class Candidate:
    """A sentence of a passage. ``number`` is the passage's among those read, counted from 1;
    ``quote`` is the document's text between ``start`` and ``end``; ``shown`` is the quote on one
    line, the cells of a table named by its header; ``bare`` is that without the header where a
    row is a name and its value. ``headings`` stand above it, ``before`` is the sentence that it
    goes on from: a reader has them in mind. ``bearing`` is the evidence that it has whatever the
    edition of its document, ``superseded`` whether another edition stands before that. ``opens``:
    it is the first under its heading. ``merit`` is what candidates are ordered by: evidence, what
    the heading has to do with the question, and what a reranker thinks of it."""

    number: int
    hit: Hit
    start: int
    end: int
    quote: str
    shown: str
    headings: str = ""
    before: str = ""
    bare: str = ""
    page: int | None = None
    opens: bool = False
    similarity: float = 0.0
    coverage: float = 0.0
    bearing: float = 0.0
    evidence: float = 0.0
    merit: float = 0.0
    superseded: bool = False

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
    seen = {_plain(name) for heading in hit.section for name in (heading, _heading_name(heading))}
    names = dict.fromkeys(filter(None, (hit.title, *hit.section)))
    headings = " ".join(" > ".join(names).split())[-MAX_HEADINGS:]
    text = above + hit.text
    offset = hit.start - len(above)
    for piece in read_pieces(text):
        plain = _plain(piece.shown)
        if piece.start < len(above) or len(piece.shown) > max_chars or not plain or plain in seen:
            continue
        if _is_signature(piece.shown, hit) or _NUMBERING.fullmatch(piece.shown):
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
            piece.bare,
            hit.page,
        )
        answers = not (_ASIDE.match(piece.shown) or piece.shown.rstrip(" .").endswith("?"))
        found.append((candidate, piece.kind in USUAL and answers))
    first = next((n for n, (_, usual) in enumerate(found) if usual), None)
    if first is not None and _begins_with_heading(hit):
        candidate, usual = found[first]
        found[first] = replace(candidate, opens=True), usual
    return found


def _heading_name(heading: str) -> str:
    """Without its number, and without the brackets of a function."""
    return _NUMBERING.sub("", heading).removesuffix("()")


def _is_signature(text: str, hit: Hit) -> bool:
    """Whether a line of an API reference that names what its section describes."""
    last = hit.section[-1] if hit.section else ""
    return last.endswith("()") and f"{last[:-2]}(" in text[: len(last) + 12]


def _begins_with_heading(hit: Hit) -> bool:
    name = _plain(_heading_name(hit.section[-1])) if hit.section else ""
    return bool(name) and name[-12:] in _plain(hit.text[: len(hit.section[-1]) + 30])


def _plain(text: str) -> str:
    """Letters and digits alone: equal for a heading with and without its markup."""
    return "".join(c for c in text.casefold() if c.isalnum())


def weigh_sentences(
    sentences: Sequence[Candidate],
    question: str,
    words: Mapping[str, float],
    embedder: Embedder,
    config: AnswerConfig,
    superseded: Collection[int] = (),
) -> list[Candidate]:
    """The ``config.weighed`` sentences that hold most of the weighted ``words`` of ``question``,
    in order, with their evidence for it. ``superseded``: documents that have a later edition, or
    one that is asked for."""
    covered = [(_coverage(words, s, config), s) for s in sentences]
    best = sorted(range(len(covered)), key=lambda n: -covered[n][0])[: config.weighed]
    kept = [covered[n] for n in sorted(best)]
    if not kept:
        return []
    names = name_words(question)
    terms = set(content_words(question))
    asked = embedder.embed(questions_to_embed(question), "query")
    texts = texts_to_embed([s for _, s in kept], question)
    vectors = np.asarray(embedder.embed(texts, "passage"), np.float32)
    cosines = (vectors[: 2 * len(kept)] @ asked[0]).tolist()
    topical = (vectors[2 * len(kept) :] @ asked[1]).tolist()
    weighed: list[Candidate] = []
    for n, (coverage, sentence) in enumerate(kept):
        within, alone = cosines[n], cosines[len(kept) + n]
        similarity = within + config.own_share * (max(alone, within) - within)
        bearing = (
            config.similarity_weight * similarity
            + config.topic_weight * topical[n]
            + config.coverage_weight * coverage
            - _missing(question, names, sentence, config)
            - config.kind_penalty * (not fits_kind(question, sentence.bare or sentence.shown))
        )
        behind = sentence.hit.document_id in superseded
        evidence = bearing - config.edition_penalty * behind
        opens = sentence.opens and _heading_asks(sentence.hit, terms, words)
        weighed.append(
            replace(
                sentence,
                similarity=similarity,
                coverage=coverage,
                bearing=bearing,
                evidence=evidence,
                merit=evidence + config.opening_bonus * opens,
                superseded=behind,
            )
        )
    return weighed


def questions_to_embed(question: str) -> list[str]:
    """What sentences are compared with by meaning: the question, and that without its names."""
    topics = {stem(name.lower()) for name in name_words(question)}
    return [question, without_words(question, topics) or question]


def texts_to_embed(sentences: Sequence[Candidate], question: str) -> list[str]:
    """What is compared with a question by meaning: the sentences in their context, then alone,
    then without the names in the question."""
    topics = {stem(name.lower()) for name in name_words(question)}
    texts = [s.in_context for s in sentences] + [s.bare or s.shown for s in sentences]
    texts += [without_words(_topic(s), topics) for s in sentences]
    return [text or " " for text in texts]


def reread_sentences(
    sentences: Sequence[Candidate], question: str, reranker: Reranker, config: AnswerConfig
) -> list[Candidate]:
    """With the merit that ``reranker`` adds for the ``config.reread`` with the most so far; the
    others count as the worst of those. Their evidence stays as it is: a cross-encoder knows which
    of two sentences answers, but takes a sentence about another attribute of the same thing for
    an answer too."""
    most = sorted(range(len(sentences)), key=lambda n: -sentences[n].merit)[: config.reread]
    if not most:
        return list(sentences)
    scores = reranker.score(question, [sentences[n].in_context for n in most]).tolist()
    scored = dict(zip(most, scores, strict=True))
    least = min(scores)
    return [
        replace(s, merit=s.merit + config.reread_weight * scored.get(n, least))
        for n, s in enumerate(sentences)
    ]


def _topic(sentence: Candidate) -> str:
    """What names the thing said: of a name and its value the name."""
    if sentence.bare and sentence.bare != sentence.shown:
        return sentence.bare.partition(": ")[0]
    return sentence.shown


def _heading_asks(hit: Hit, terms: Collection[str], words: Mapping[str, float]) -> bool:
    """Whether the heading that a passage begins with is what is asked, as in glossaries, lists of
    questions and references: the first sentence under it is the answer, and seldom says so."""
    name = _heading_name(hit.section[-1]) if hit.section else ""
    said = set(content_words(name))
    return (
        bool(said)
        and len(said.intersection(terms)) >= HEADING_IN_QUESTION * len(said)
        and covered_share(words, name) >= QUESTION_IN_HEADING
    )


def _coverage(words: Mapping[str, float], sentence: Candidate, config: AnswerConfig) -> float:
    own = covered_share(words, sentence.shown)
    return own + config.heading_share * (covered_share(words, sentence.in_context) - own)


def _missing(
    question: str, names: Sequence[str], sentence: Candidate, config: AnswerConfig
) -> float:
    """What names and numbers of the question that a reader of ``sentence`` does not meet take
    off: another year, another model."""
    if not names:
        return 0.0
    heard = _heard(f"{sentence.in_context} {sentence.hit.title}")
    absent = [name for name in names if _plain_name(name) not in heard]
    near = _heard(sentence.hit.text) if absent else heard
    # A name elsewhere in the passage may be meant all the same, unless another stands in its place.
    shapes = {_shape(word) for word in name_words(f"x {sentence.shown}") if word not in names}
    weight = sum(0.5 if _plain_name(name) in near else 1.0 for name in absent)
    other = is_of_another(question, sentence.bare or sentence.shown) or any(
        _has_digit(name)
        and (name.isdigit() or _plain_name(name) not in near or _shape(name) in shapes)
        for name in absent
    )
    return config.name_penalty * weight / len(names) + config.number_penalty * other


def _heard(text: str) -> set[str]:
    return stems(text) | {_plain_name(word) for word in name_words(f"x {text}")}


def _plain_name(name: str) -> str:
    """The stem of a name; of "25th" the number."""
    return stem(_ORDINAL.sub("", name.lower()))


def _shape(name: str) -> str:
    """The same for E3 and E4, and for 2019 and 2020."""
    return re.sub(r"[^\W\d_]+", "a", re.sub(r"\d+", "0", name))


def _has_digit(text: str) -> bool:
    return any(c.isdigit() for c in text)


def unheard_names(question: str, hits: Sequence[Hit]) -> list[str]:
    """Names and codes in ``question`` that no hit mentions. Search by words would have found a
    passage that does, so most likely none mentions it."""
    heard = {s for hit in hits for s in stems(" ".join((hit.title, *hit.section, hit.text)))}
    return [word for word in name_words(question) if stem(word.lower()) not in heard]


def choose_candidates(sentences: Sequence[Candidate], config: AnswerConfig) -> list[Candidate]:
    """Those with the most merit, in reading order; `min_evidence` holds for each."""
    enough = [s for s in sentences if s.evidence >= config.min_evidence]
    ranked = sorted(enough, key=lambda s: -s.merit)[: config.candidates]
    kept = [s for s in ranked if s.merit >= ranked[0].merit - config.candidate_margin]
    return sorted(kept, key=lambda s: (s.number, s.start))
