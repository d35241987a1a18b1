"""What an answer is made of, and the events that bring it.

Covers the data and its JSON. How answers are found is in `answerer` and `strategies`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from lmstack.core import Config, InputError, ModelInfo, Usage, check_range, shown
from lmstack.rag.search.hybrid import Hit

__all__ = [
    "Abstained",
    "Answer",
    "AnswerConfig",
    "AnswerDone",
    "AnswerEvent",
    "AnswerSentence",
    "AnswerTimings",
    "Citation",
    "CitationFound",
    "Conflict",
    "ConflictFound",
    "PassagesFound",
    "Relation",
    "SentenceChecked",
    "StrategyName",
    "TextDelta",
]

StrategyName = Literal["likelihood", "extractive", "similarity", "generative"]
Unsupported = Literal["drop", "mark", "abstain"]
Relation = Literal["older", "newer", "other"]


@dataclass(frozen=True)
class AnswerConfig(Config):
    """Everything about an answer that can be tuned.

    ``strategy``: ``likelihood`` quotes the sentences after which the model finds the question
    likeliest; ``extractive`` lets it write, masked to sentences of the passages; ``similarity``
    takes the sentences with the most evidence without a model; ``generative`` lets the model
    write and checks each sentence.

    Retrieval: ``retrieve`` passages are found and shown, the first ``passages`` of them that hold
    something to quote are read.

    Evidence of a sentence for a question, about 0 to 1: ``similarity_weight`` times the cosine
    of their vectors plus ``coverage_weight`` times the share of the question's words (weighted
    by rarity) found in it. A sentence is read in its context, the headings above and the
    sentence before: its cosine is moved by ``own_share`` towards that of the sentence alone if
    that is higher, and a word found only in the context counts for ``heading_share``.
    ``topic_weight`` times the cosine of question and sentence without the names in the question
    says whether they are about the same thing of it. What is taken off: ``name_penalty`` times
    the share of the question's names that are not in the context, ``number_penalty`` if one of
    them is a number or the sentence names a like thing instead, ``kind_penalty`` if the sentence
    holds nothing of the kind that is asked for (an amount, a date, a person),
    ``edition_penalty`` in an edition that another stands before, and ``unheard_penalty`` from all
    if no passage mentions a name in the question. Below
    ``min_evidence`` for the best sentence the answer is an abstention. ``weighed``: how many
    sentences, those with the most words of the question, are looked at so closely.

    Their order (not ``min_evidence``) looks at more: ``opening_bonus`` is added to the first
    sentence under a heading that asks the question, and where there is a reranker, it reads the
    ``reread`` best, and ``reread_weight`` times its score is added.
    ``candidates`` sentences may be chosen, the first in that order, of those within
    ``candidate_margin`` of the best. Where there are several, ``likelihood_weight`` times the
    mean log-probability of a token of the question is added to the evidence. Longer sentences
    than ``max_sentence_chars`` are not quoted.

    Generation: at most ``max_sentences``; ``max_tokens`` for ``generative``. ``fence_each``
    delimits every passage by itself rather than all together. ``prompt_sentences`` puts only
    the candidates before an extractive model instead of whole passages (fewer tokens).
    ``model_may_abstain`` lets the model itself say that the passages do not answer.
    ``finish_early`` completes a quotation as soon as the model has left one choice (the model's
    own count of tokens is lost).

    Checking: a sentence whose support by its passage is below ``min_support``, or that the
    passage makes less than ``min_lift`` likelier (mean log-probability of a token; None: not
    asked), is dropped or marked as ``unsupported`` says; ``abstain`` gives up the answer for it.

    ``history_turns``: earlier turns that a follow-up question may draw on.
    """

    strategy: StrategyName = "likelihood"
    retrieve: int = 12
    passages: int = 10
    similarity_weight: float = 0.5
    coverage_weight: float = 0.3
    heading_share: float = 0.5
    own_share: float = 0.5
    topic_weight: float = 0.25
    name_penalty: float = 0.3
    number_penalty: float = 0.25
    kind_penalty: float = 0.2
    edition_penalty: float = 0.25
    weighed: int = 32
    unheard_penalty: float = 0.2
    min_evidence: float = 0.43
    opening_bonus: float = 0.3
    reread: int = 12
    reread_weight: float = 0.04
    candidates: int = 4
    candidate_margin: float = 0.1
    likelihood_weight: float = 0.05
    max_sentence_chars: int = 500
    max_sentences: int = 1
    max_tokens: int = 256
    fence_each: bool = False
    prompt_sentences: bool = False
    model_may_abstain: bool = False
    finish_early: bool = False
    min_support: float = 0.5
    min_lift: float | None = None
    unsupported: Unsupported = "drop"
    history_turns: int = 1

    def __post_init__(self) -> None:
        for name, kinds in (("strategy", StrategyName), ("unsupported", Unsupported)):
            if getattr(self, name) not in get_args(kinds):
                raise InputError(
                    f"{name} is {shown(getattr(self, name))}",
                    hint=f"choose one of {', '.join(get_args(kinds))}",
                    param=name,
                )
        check_range("retrieve", self.retrieve, 1, 100)
        check_range("passages", self.passages, 1, self.retrieve)
        check_range("weighed", self.weighed, 1, 10_000)
        check_range("reread", self.reread, 1, 1000)
        check_range("candidates", self.candidates, 1, 1000)
        check_range("max_sentence_chars", self.max_sentence_chars, 10, 100_000)
        check_range("max_sentences", self.max_sentences, 1, 100)
        check_range("max_tokens", self.max_tokens, 1, 100_000)
        check_range("history_turns", self.history_turns, 0, 100)
        for name in (
            "similarity_weight",
            "coverage_weight",
            "topic_weight",
            "name_penalty",
            "number_penalty",
            "kind_penalty",
            "edition_penalty",
            "unheard_penalty",
            "opening_bonus",
            "reread_weight",
            "candidate_margin",
            "likelihood_weight",
            "min_support",
        ):
            check_range(name, getattr(self, name), 0, 10)
        for name in ("heading_share", "own_share"):
            check_range(name, getattr(self, name), 0, 1)
        check_range("min_evidence", self.min_evidence, -1, 10)


@dataclass(frozen=True, slots=True)
class Citation:
    """``id`` is the number in the answer's text, counted in the order of appearance. ``quote``
    is ``document.text[start:end]``. ``passage`` is the rank of the hit it lies in."""

    id: int
    path: str
    start: int
    end: int
    quote: str
    passage: int
    chunk_id: int
    document_id: int
    page: int | None = None

    def to_json(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "path": self.path,
            "start": self.start,
            "end": self.end,
            "quote": self.quote,
            "page": self.page,
        }


@dataclass(frozen=True, slots=True)
class Conflict:
    """A passage that answers otherwise than citation ``citation`` does: ``quote`` is its
    document's text between ``start`` and ``end``. ``relation``: it is of an ``older`` or ``newer``
    edition of the cited document, or of ``other``. ``date`` and ``cited_date``: what the two
    documents state, ISO 8601, empty where they state none."""

    citation: int
    relation: Relation
    path: str
    start: int
    end: int
    quote: str
    page: int | None
    document_id: int
    date: str
    cited_date: str

    def to_json(self) -> dict[str, Any]:
        return {
            "citation": self.citation,
            "relation": self.relation,
            "path": self.path,
            "start": self.start,
            "end": self.end,
            "quote": self.quote,
            "page": self.page,
            "date": self.date,
            "cited_date": self.cited_date,
        }


@dataclass(frozen=True, slots=True)
class AnswerSentence:
    """One sentence of the answer, without its citation numbers; ``support`` between 0 and 1 is
    how far the cited quotes bear it out, ``supported`` whether that is enough. ``evidence`` is
    how far it bears on the question."""

    text: str
    citations: tuple[int, ...]
    support: float
    supported: bool
    evidence: float


@dataclass(frozen=True, slots=True)
class AnswerTimings:
    """Seconds: for retrieval alone, and from the question to the first text and to the end."""

    retrieval_s: float = 0.0
    first_token_s: float = 0.0
    total_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Answer:
    """``answer`` is the text with citation numbers. ``hits`` are the passages found, nearest
    first: what an abstention shows instead. ``truncated``: the model ran into its limit of
    tokens. ``query`` is what was searched for (a follow-up is searched with the question before
    it); ``evidence`` that of the best sentence. ``conflicts``: passages that answer otherwise;
    ``unanswered``: parts of the question that no passage answers, where others are answered."""

    answer: str
    abstained: bool
    truncated: bool
    citations: tuple[Citation, ...]
    sentences: tuple[AnswerSentence, ...]
    hits: tuple[Hit, ...]
    query: str
    evidence: float
    model: ModelInfo
    usage: Usage
    timings: AnswerTimings
    conflicts: tuple[Conflict, ...] = ()
    unanswered: tuple[str, ...] = ()

    @property
    def supported(self) -> bool:
        """Whether there is an answer and every sentence of it is borne out by what it cites."""
        return not self.abstained and all(sentence.supported for sentence in self.sentences)

    def to_json(self) -> dict[str, Any]:
        """The object that ``lmstack ask --json`` prints."""
        return {
            "answer": self.answer,
            "abstained": self.abstained,
            "supported": self.supported,
            "citations": [citation.to_json() for citation in self.citations],
            "conflicts": [conflict.to_json() for conflict in self.conflicts],
            "unanswered": list(self.unanswered),
            "model": {"name": self.model.name, "digest": self.model.digest},
            "usage": {
                "prompt_tokens": self.usage.prompt_tokens,
                "completion_tokens": self.usage.completion_tokens,
                "cached_tokens": self.usage.cached_tokens,
                "total_tokens": self.usage.total_tokens,
            },
            "timings": {
                "retrieval_s": self.timings.retrieval_s,
                "first_token_s": self.timings.first_token_s,
                "total_s": self.timings.total_s,
            },
        }


@dataclass(frozen=True, slots=True)
class PassagesFound:
    """First event. ``evidence`` is that of the best sentence in them; ``read`` are those whose
    sentences were weighed."""

    hits: tuple[Hit, ...]
    query: str
    evidence: float
    read: tuple[Hit, ...] = ()


@dataclass(frozen=True, slots=True)
class TextDelta:
    """Text to append to what is shown; citation numbers come as ``[1]`` within it."""

    text: str


@dataclass(frozen=True, slots=True)
class CitationFound:
    """Sent before the text that holds its number."""

    citation: Citation


@dataclass(frozen=True, slots=True)
class SentenceChecked:
    """A sentence that has just been completed; ``index`` counts from 0."""

    index: int
    sentence: AnswerSentence


@dataclass(frozen=True, slots=True)
class ConflictFound:
    """Another passage answers otherwise; sent before `AnswerDone`."""

    conflict: Conflict


@dataclass(frozen=True, slots=True)
class Abstained:
    """The documents do not answer; ``nearest`` passages are shown instead."""

    reason: str
    nearest: tuple[Hit, ...] = field(default=())


@dataclass(frozen=True, slots=True)
class AnswerDone:
    """Last event."""

    answer: Answer


AnswerEvent = (
    PassagesFound
    | TextDelta
    | CitationFound
    | SentenceChecked
    | ConflictFound
    | Abstained
    | AnswerDone
)
