"""What is known of a question about documents, and what a system said: both as JSON.

A question (`CitedGold`) is a row of a data file:

    {"question": "How long is the card valid?", "answers": ["two years", "2 years"],
     "evidence": [{"path": "fares.md", "quote": "expires two years after it was bought"}]}
    {"question": "Who designed the card?", "answerable": false}

An output (`CitedFacts`) has in its ``facts``

    abstained    whether it refused to answer
    confidence   how sure it was, 0 to 1, or null where it does not say
    passages     [{source, start, end, text}], as found, best first
    read         how many of them were looked at for an answer
    citations    [{id, source, start, end, quote, text, page, text_page}]: ``quote`` is what the
                 citation says, ``text`` what the source has between the offsets (null: nothing),
                 and likewise the page
    evidence     [[{source, spans}]]: where the evidence of each part stands in the documents

Offsets count characters of the source's text. Not covered: what both are worth together
(`cited_answer`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lmstack.core import InputError, nearest, shown
from lmstack.evals.task import ModelOutput, Sample
from lmstack.evals.task_values import value_text

__all__ = ["CitedFacts", "CitedGold", "FactCitation", "FactEvidence", "FactPassage", "FactSpan"]

Parts = tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class FactEvidence:
    """A statement in a document that answers. ``pattern``: a regular expression of its text."""

    path: str
    pattern: str

    @classmethod
    def of(cls, value: Any) -> FactEvidence:
        """Of ``{path, quote}`` or ``{path, pattern}``. White space in a quote is any."""
        known = ("path", "quote", "pattern")
        if not isinstance(value, Mapping) or not set(value) <= set(known):
            others = (
                [key for key in value if key not in known] if isinstance(value, Mapping) else []
            )
            guess = nearest(str(others[0]), known) if others else None
            raise InputError(
                f"evidence is {shown(value)}",
                hint=f"did you mean {guess!r}?" if guess else "write {path: FILE, quote: TEXT}",
                param="evidence",
            )
        words = [value.get("quote"), value.get("pattern")]
        given = [each for each in words if isinstance(each, str) and each.strip()]
        if not isinstance(value.get("path"), str) or len(given) != 1:
            raise InputError(
                f"evidence is {shown(value)}, without a path and either a quote or a pattern",
                hint="write {path: FILE, quote: TEXT}",
                param="evidence",
            )
        pattern = given[0]
        if words[0] is not None:
            pattern = r"\s+".join(map(re.escape, pattern.split()))
        try:
            re.compile(pattern)
        except re.error as error:
            raise InputError(
                f"evidence has {shown(pattern)}, no regular expression: {error}", param="evidence"
            ) from None
        return cls(value["path"], pattern)


@dataclass(frozen=True)
class CitedGold:
    """``parts``: accepted answers of each thing that is asked for; most questions have one part.
    ``sources``: documents that answer. ``evidence``: the statements, by part of what is asked."""

    answerable: bool
    parts: Parts = ()
    sources: tuple[str, ...] = ()
    evidence: tuple[tuple[FactEvidence, ...], ...] = ()

    @classmethod
    def of_row(cls, row: Mapping[str, Any], answers: str = "answers") -> CitedGold:
        """``answers``: the field with accepted answers, or with a list of them for each part.
        ``answerable`` is what the row says, else whether it has answers, sources or evidence.
        `InputError` where the row contradicts itself."""
        parts = _parts(row, answers)
        evidence = tuple(tuple(map(FactEvidence.of, part)) for part in _lists(row, "evidence"))
        named = row.get("sources")
        if not (named is None or (isinstance(named, list) and all(map(_is_name, named)))):
            raise InputError(
                f"the field sources is {shown(named)}",
                hint="write a list of the documents that answer",
                param="sources",
            )
        sources = named or list(dict.fromkeys(each.path for part in evidence for each in part))
        has_any = bool(parts or sources)
        answerable = row.get("answerable", has_any)
        if not isinstance(answerable, bool):
            raise InputError(
                f"answerable is {shown(answerable)}, not true or false", param="answerable"
            )
        if answerable != has_any:
            has = "an answer or a source" if has_any else "neither answer nor source"
            raise InputError(
                f"answerable is {str(answerable).lower()}, and the row has {has}",
                hint="correct one of the two",
                param="answerable",
            )
        return cls(answerable, parts, tuple(sources), evidence)

    @classmethod
    def of(cls, sample: Sample) -> CitedGold:
        """What `to_json` wrote into the metadata of ``sample``."""
        value = sample.metadata.get("gold")
        if not isinstance(value, Mapping):
            raise InputError(
                f"the sample {sample.id} is no question about documents",
                hint="give the task the solver index",
                param="scorer",
            )
        return cls.of_row(value)

    def to_json(self) -> dict[str, Any]:
        return {
            "answerable": self.answerable,
            "answers": [list(part) for part in self.parts],
            "sources": list(self.sources),
            "evidence": [[vars(each) for each in part] for part in self.evidence],
        }


@dataclass(frozen=True)
class FactSpan:
    source: str
    start: int
    end: int

    def touches(self, others: Sequence[FactSpan]) -> bool:
        return any(
            self.source == other.source and self.start < other.end and other.start < self.end
            for other in others
        )

    def lies_in(self, others: Sequence[FactSpan]) -> bool:
        return any(
            self.source == other.source and other.start <= self.start and self.end <= other.end
            for other in others
        )


@dataclass(frozen=True)
class FactPassage:
    span: FactSpan
    text: str


@dataclass(frozen=True)
class FactCitation:
    """``is_true``: the source has these words there, on the page that is named."""

    id: int
    span: FactSpan
    quote: str
    is_true: bool


@dataclass(frozen=True)
class CitedFacts:
    """``evidence``: by part, where it stands."""

    abstained: bool
    confidence: float | None
    passages: tuple[FactPassage, ...]
    read: int
    citations: tuple[FactCitation, ...]
    evidence: tuple[tuple[FactSpan, ...], ...]

    @classmethod
    def of(cls, sample: Sample, output: ModelOutput) -> CitedFacts:
        facts = output.facts
        try:
            return cls(
                bool(facts["abstained"]),
                None if facts["confidence"] is None else float(facts["confidence"]),
                tuple(FactPassage(_span(each), each["text"]) for each in facts["passages"]),
                int(facts["read"]),
                tuple(map(_citation, facts["citations"])),
                tuple(
                    tuple(
                        FactSpan(each["source"], start, end)
                        for each in part
                        for start, end in each["spans"]
                    )
                    for part in facts["evidence"]
                ),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(
                f"the output of sample {sample.id} says nothing of passages and citations: {error}",
                hint="this scorer needs the solver index",
                param="scorer",
            ) from error

    @property
    def ranking(self) -> list[str]:
        """Sources of the passages, each at its first place."""
        return list(dict.fromkeys(each.span.source for each in self.passages))


def _span(value: Mapping[str, Any]) -> FactSpan:
    return FactSpan(value["source"], value["start"], value["end"])


def _citation(value: Mapping[str, Any]) -> FactCitation:
    is_true = value["text"] is not None and value["quote"] == value["text"]
    is_true = is_true and value.get("page") == value.get("text_page")
    return FactCitation(value["id"], _span(value), value["quote"], is_true)


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and bool(value)


def _lists(row: Mapping[str, Any], name: str) -> list[list[Any]]:
    """A list of items is one list a part; a list of lists is the parts."""
    value = row.get(name)
    if value is None:
        return []
    if not isinstance(value, list):
        raise InputError(f"the field {name} is {shown(value)}, not a list", param=name)
    if all(isinstance(each, list) for each in value):
        return [each for each in value if each]
    return [[each] for each in value]


def _parts(row: Mapping[str, Any], name: str) -> Parts:
    """Text, a list of texts that are as good as each other, or a list of such lists."""
    value = row.get(name)
    if value is None or value == []:
        return ()
    if isinstance(value, list) and all(isinstance(each, list) and each for each in value):
        return tuple(tuple(value_text({name: one}, name) for one in part) for part in value)
    texts = value if isinstance(value, list) else [value]
    return (tuple(value_text({name: each}, name) for each in texts),)
