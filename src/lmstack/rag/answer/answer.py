"""What an answer is made of, the events that bring it, and the settings that suit a model.

Covers the data and its JSON. How answers are found is in `answerer`. Where nobody says whether a
model writes answers or quotes them, `usual_answers` does: a small model that writes says less that
is right than the passages themselves do; a large one writes what no passage says in one place.
Remote models are taken for large ones: whoever names one wants what it can do.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, get_args

from lmstack.core import Config, InputError, ModelInfo, Usage, check_range, shown
from lmstack.rag.retrieve.hybrid import Hit
from lmstack.rag.retrieve.retrieval import Rewrite

__all__ = [
    "MIN_PARAMETERS",
    "TASKS",
    "Answer",
    "AnswerConfig",
    "AnswerDone",
    "AnswerEvent",
    "AnswerSentence",
    "AnswerTimings",
    "AnswerWishes",
    "Citation",
    "CitationFound",
    "Conflict",
    "ConflictFound",
    "DroppedSentence",
    "Outcome",
    "OutcomeKnown",
    "PassagesFound",
    "QuotesFound",
    "ReadingProgress",
    "Relation",
    "SentenceChecked",
    "StrategyName",
    "TaskName",
    "TextDelta",
    "usual_answers",
]

StrategyName = Literal["quote", "write"]
TaskName = Literal["answer", "summarize", "compare", "list", "draft"]
TASKS: tuple[TaskName, ...] = get_args(TaskName)
Outcome = Literal["answer", "closest", "nothing"]
Unsupported = Literal["drop", "mark"]
Relation = Literal["older", "newer", "other"]


@dataclass(frozen=True)
class AnswerWishes(Config):
    """What somebody wants of an answer; None leaves it to the `AnswerConfig`.

    ``answers``: ``quote`` the documents, or let the model ``write``. ``unsure``: where no passage
    is certain to answer, show what comes ``closest`` in any case, or be ``strict`` and show
    nothing. ``task``: what is to be written, from as many passages as that takes; all but
    ``answer`` are written. ``system``: what becomes of a system message where sentences are quoted
    and none follows it: ``refuse`` the request, or answer and ``note`` that it was not applied.
    """

    answers: StrategyName | None = None
    unsure: Literal["closest", "strict"] | None = None
    task: TaskName | None = None
    system: Literal["refuse", "note"] | None = None

    def __post_init__(self) -> None:
        choices = {"answers": get_args(StrategyName), "unsure": ("closest", "strict")}
        choices["system"] = ("refuse", "note")
        for name, known in {**choices, "task": TASKS}.items():
            value = getattr(self, name)
            if value is not None and value not in known:
                raise InputError(
                    f"{name} is {shown(value)}",
                    hint=f"choose one of {', '.join(known)}",
                    param=name,
                )

    @property
    def given(self) -> dict[str, str]:
        """As `lmstack.core.Request.wishes` carries them."""
        named = vars(self)
        return {name: value for name, value in named.items() if value is not None}


@dataclass(frozen=True)
class AnswerConfig(Config):
    """Everything about an answer that can be tuned.

    ``strategy``: ``quote`` shows the part of the best passage that answers; with ``write`` the
    model writes, and each sentence is checked against the passages.

    ``retrieve`` passages are found; the first ``passages`` of them are read: looked through for
    quotations, and the first ``shown`` of them shown to a model that writes an answer. A quotation
    has about ``max_quote_chars`` characters; where the second passage is nearly as likely to answer
    as the first, or nobody knows, both are quoted.

    From ``min_confidence`` on an answer is given; from ``min_closest`` on what is closest in the
    documents is shown, as such; below, nothing. So ``min_closest=1`` refuses whatever is not
    certain enough, and ``min_closest=0`` always shows something. Above ``certain`` the passages
    answer also where a model that writes found nothing in them.

    A sentence that is written is supported if passages bear it out with at least ``min_support``:
    by words and vectors or, with ``judges``, by the probability of the model's own "yes" when it
    is asked about them. ``unsupported`` says what becomes of others. ``max_tokens``: of what is
    written. ``history_turns``: earlier turns that a follow-up question may draw on; ``rewrite``:
    whether the model writes it in full and answers that, or rules join it with the question before
    it, and a model that writes is shown the earlier turns.

    ``task``: what a model that writes is to write; all but an ``answer`` are written from whole
    documents or many passages. None: an answer, unless ``plans``, where the model is asked what a
    question is and which documents it is about. Then ``max_calls`` bounds how often the model is
    asked, and ``window_tokens`` is what it reads at once, or more where that takes too many calls.
    """

    strategy: StrategyName = "quote"
    retrieve: int = 10
    passages: int = 5
    shown: int = 5
    max_quote_chars: int = 800
    min_confidence: float = 0.25
    min_closest: float = 0.1
    certain: float = 1.0
    min_support: float = 0.5
    unsupported: Unsupported = "drop"
    max_tokens: int = 512
    history_turns: int = 1
    rewrite: Rewrite = "rules"
    task: TaskName | None = None
    plans: bool = False
    judges: bool = False
    max_calls: int = 16
    window_tokens: int = 3000

    def __post_init__(self) -> None:
        for name, kinds in (
            ("strategy", StrategyName),
            ("unsupported", Unsupported),
            ("rewrite", Rewrite),
        ):
            if getattr(self, name) not in get_args(kinds):
                raise InputError(
                    f"{name} is {shown(getattr(self, name))}",
                    hint=f"choose one of {', '.join(get_args(kinds))}",
                    param=name,
                )
        check_range("retrieve", self.retrieve, 1, 100)
        check_range("passages", self.passages, 1, self.retrieve)
        check_range("shown", self.shown, 1, 100)
        check_range("max_quote_chars", self.max_quote_chars, 10, 100_000)
        check_range("max_tokens", self.max_tokens, 1, 100_000)
        check_range("history_turns", self.history_turns, 0, 100)
        check_range("max_calls", self.max_calls, 2, 1000)
        check_range("window_tokens", self.window_tokens, 100, 1_000_000)
        AnswerWishes(task=self.task)  # that it is one
        for name in ("min_confidence", "min_closest", "certain", "min_support"):
            check_range(name, getattr(self, name), 0, 1)

    def wished(self, wishes: AnswerWishes) -> AnswerConfig:
        """This, with what somebody wants otherwise."""
        changes: dict[str, Any] = {}
        if wishes.answers is not None:
            changes["strategy"] = wishes.answers
        if wishes.unsure is not None:
            changes["min_closest"] = 1.0 if wishes.unsure == "strict" else 0.0
        if wishes.task is not None:
            changes["task"] = wishes.task
            if wishes.task != "answer":
                changes["strategy"] = "write"
        return self.replace(**changes)


@dataclass(frozen=True, slots=True)
class Citation:
    """``id`` is the number in the answer's text, counted in the order of appearance. ``quote``
    is ``document.text[start:end]``; ``focus`` is where the part of it that bears most on the
    question begins and ends in the document. ``section``: the headings above it. ``passage`` is
    the rank of the hit it lies in."""

    id: int
    path: str
    start: int
    end: int
    quote: str
    focus: tuple[int, int]
    section: tuple[str, ...]
    passage: int
    chunk_id: int
    document_id: int
    page: int | None = None

    @property
    def point(self) -> str:
        """The text of ``focus``."""
        return self.quote[self.focus[0] - self.start : self.focus[1] - self.start]

    def to_json(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "path": self.path,
            "start": self.start,
            "end": self.end,
            "quote": self.quote,
            "focus": list(self.focus),
            "section": list(self.section),
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
    """One sentence or quotation of the answer, without its citation numbers; ``support`` between
    0 and 1 is how far the cited quotes bear it out, ``supported`` whether that is enough."""

    text: str
    citations: tuple[int, ...]
    support: float
    supported: bool


@dataclass(frozen=True, slots=True)
class DroppedSentence:
    """A sentence that the model wrote and that is not shown, for the ``reason``; ``support`` as in
    `AnswerSentence`."""

    text: str
    support: float
    reason: str


@dataclass(frozen=True, slots=True)
class AnswerTimings:
    """Seconds: for retrieval alone, and from the question to the first text and to the end.
    ``writing_s``: from the first token of the model to its last."""

    retrieval_s: float = 0.0
    first_token_s: float = 0.0
    total_s: float = 0.0
    writing_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Answer:
    """``answer`` is the text with citation numbers. ``outcome``: an ``answer``; what is
    ``closest`` in the documents, which may not answer; or ``nothing``. ``confidence``: the
    probability that the best passage answers, None where the models that looked for it have no
    calibration. ``hits`` are the passages found, nearest first. ``truncated``: the model ran into
    its limit of tokens. ``query`` is what was searched for (a follow-up is searched with the
    question before it). ``conflicts``: passages that answer otherwise. ``task``: what was written;
    ``hits`` are then the passages that it was written from, and ``unread`` counts those that were
    left out because there were too many. ``dropped``: what the model wrote besides.
    ``quotes``: what stood there while it wrote, as in `QuotesFound`."""

    answer: str
    outcome: Outcome
    confidence: float | None
    truncated: bool
    citations: tuple[Citation, ...]
    sentences: tuple[AnswerSentence, ...]
    hits: tuple[Hit, ...]
    query: str
    model: ModelInfo
    usage: Usage
    timings: AnswerTimings
    conflicts: tuple[Conflict, ...] = ()
    task: TaskName = "answer"
    unread: int = 0
    dropped: tuple[DroppedSentence, ...] = ()
    quotes: tuple[Citation, ...] = ()

    @property
    def supported(self) -> bool:
        """Whether there is an answer and every sentence of it is borne out by what it cites."""
        return self.outcome == "answer" and all(sentence.supported for sentence in self.sentences)

    def to_json(self) -> dict[str, Any]:
        """The object that ``lmstack ask --json`` prints."""
        return {
            "answer": self.answer,
            "outcome": self.outcome,
            "task": self.task,
            "unread": self.unread,
            "unsupported": sum(not sentence.supported for sentence in self.sentences),
            "confidence": self.confidence,
            "supported": self.supported,
            "citations": [citation.to_json() for citation in self.citations],
            "conflicts": [conflict.to_json() for conflict in self.conflicts],
            "quotes": [quote.to_json() for quote in self.quotes],
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
                "writing_s": self.timings.writing_s,
            },
        }


@dataclass(frozen=True, slots=True)
class PassagesFound:
    """First event. ``read`` are those that are shown to a model or looked through for
    quotations. ``confidence`` as in `Answer`. ``lacking``: names in the question that the document
    of the first lacks, where that makes it another than the one asked for."""

    hits: tuple[Hit, ...]
    query: str
    confidence: float | None
    read: tuple[Hit, ...] = ()
    lacking: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class QuotesFound:
    """What the documents say, while a model is about to write: the quotations that would be the
    answer without it. Their numbers are their own, not those of the answer's citations."""

    quotes: tuple[Citation, ...]


@dataclass(frozen=True, slots=True)
class ReadingProgress:
    """While many passages are read: ``done`` of ``total``, and ``unread`` are left out because
    there are too many."""

    done: int
    total: int
    unread: int = 0


@dataclass(frozen=True, slots=True)
class OutcomeKnown:
    """Sent before the first text. ``reason``: why it is not an answer, empty for one."""

    outcome: Outcome
    reason: str = ""


@dataclass(frozen=True, slots=True)
class TextDelta:
    """Text to append to what is shown; citation numbers come as ``[1]`` within it. ``digest``: of
    the weights that wrote so far, where the model says so; None of what is quoted."""

    text: str
    digest: str | None = None


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
class AnswerDone:
    """Last event."""

    answer: Answer


AnswerEvent = (
    PassagesFound
    | QuotesFound
    | ReadingProgress
    | OutcomeKnown
    | TextDelta
    | CitationFound
    | SentenceChecked
    | ConflictFound
    | AnswerDone
)


# As few as a model that writes may have. Below, its sentences are checked and dropped so often
# that a quotation says more.
MIN_PARAMETERS = 1_500_000_000
# Passages that a local model is shown: of five a small one more often answers from the wrong one.
FEW = 3
# Above this confidence it says of as many answers as gaps that the documents do not say
# (docs/decisions.md), so its word counts below.
CERTAIN = 0.5
# Questions before a follow-up that a local model is shown to write it in full.
EARLIER = 3


def usual_answers(model: ModelInfo) -> AnswerConfig:
    """The defaults, with the strategy that suits ``model``. One that writes well also says what
    kind of text is asked for, and what its sentences are borne out by; a local one, which takes
    its answer from earlier passages as readily, writes a follow-up in full before."""
    is_remote = model.digest is None
    writes = is_remote or model.parameters >= MIN_PARAMETERS
    rewrites = writes and not is_remote
    return AnswerConfig(
        strategy="write" if writes else "quote",
        shown=AnswerConfig.shown if is_remote else FEW,
        certain=AnswerConfig.certain if is_remote else CERTAIN,
        history_turns=EARLIER if rewrites else AnswerConfig.history_turns,
        rewrite="model" if rewrites else "rules",
        plans=writes,
        judges=writes,
    )
