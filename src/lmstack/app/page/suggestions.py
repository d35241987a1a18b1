"""Questions to try on an unknown folder, made from its headings and checked against it.

A heading that tells what to do ("Start the server") becomes "How do I start the server?", one
that begins like a question ("When the disk is full") is completed to one, and any other becomes
"What is said about ...?". Nothing is generated, and a question is only suggested if passages
bear on it well enough for an answer.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import aclosing

from lmstack.core import NotFoundError
from lmstack.rag import Answerer, DocumentInfo, IndexView, PassagesFound

__all__ = ["answerable", "candidate_questions", "question_about"]

LOOK_AT = 300
_PLAIN = "What is said about"
_VERBS = (
    "add ask back build change check choose clean compare configure connect convert create debug "
    "deploy download edit enable export find fix get import index install keep load make measure "
    "migrate move open pull read remove replace report reset restore run search secure send serve "
    "set share start stop switch test train tune turn understand update upgrade upload use verify "
    "view write"
)
IMPERATIVES = frozenset(_VERBS.split())
_NUMBERING = re.compile(r"^[\d.)(\s:/·–—-]+")
_MARKUP = re.compile(r"[`*_#]+|\[([^\]]*)\]\([^)]*\)")
_BEGUN = (
    (r"how to (.+)", r"How do I \1?"),
    (r"how (\w*[^\Ws]) (\w+[^\Ws])s( .+)?", r"How does \1 \2\3?"),
    (r"when (.+)", r"What happens when \1?"),
    (r"what (.+) is", r"What is \1?"),
    (r"what (.+) looks like", r"What does \1 look like?"),
    (r"what (.+) can do", r"What can \1 do?"),
    (r"which (.+)", r"Which \1?"),
)
_QUESTION_WORDS = ("what", "when", "where", "which", "who", "why", "how")


def candidate_questions(index: IndexView) -> list[str]:
    """Questions from the documents near the top of the folder, in turns. Those that a heading
    asks come first, plain ones last."""
    by_document = [list(_questions(index, info)) for info in _first(index.documents())]
    found: dict[str, int] = {}
    for turn in range(max(map(len, by_document), default=0)):
        for questions in by_document:
            if turn < len(questions):
                question, is_asked = questions[turn]
                found.setdefault(question, 2 if question.startswith(_PLAIN) else 1 - is_asked)
    return sorted(found, key=lambda question: found[question])


async def answerable(answerer: Answerer, questions: Sequence[str], wanted: int) -> list[str]:
    """The ``wanted`` questions that passages bear on most; asks no language model."""
    found: list[tuple[float, str]] = []
    for question in questions:
        async with aclosing(answerer.stream(question)) as events:
            first = await anext(events)
        if isinstance(first, PassagesFound) and answerer.may_answer(first):
            found.append((first.confidence or 0.0, question))
    found.sort(key=lambda pair: -pair[0])
    return [question for _, question in found[:wanted]]


def _first(documents: list[DocumentInfo]) -> list[DocumentInfo]:
    """Near the top of the folder comes first: that is where the introductions are."""
    return sorted(documents, key=lambda info: (info.path.count("/"), info.path))[:LOOK_AT]


def _questions(index: IndexView, info: DocumentInfo) -> Iterator[tuple[str, bool]]:
    """Each question with whether a heading asks it in so many words."""
    try:
        sections = index.document(info.id).sections
    except NotFoundError:  # changed since it was listed
        return
    for section in sections:
        question = question_about(section.title) if section.level > 1 else None
        if question:
            yield question, section.title.rstrip().endswith("?")


def question_about(heading: str) -> str | None:
    """The question that a passage under ``heading`` answers; None where no good one is seen."""
    title = _MARKUP.sub(lambda match: match.group(1) or "", _NUMBERING.sub("", heading))
    title = " ".join(title.split()).rstrip(".:!")
    words = title.split()
    if not 2 <= len(words) <= 10 or len(title) > 70 or "…" in title or "..." in title:
        return None
    if title.endswith("?"):
        return title
    first, second = (word.lower() for word in words[:2])
    if first in _QUESTION_WORDS:
        return _completed(title)
    # "Search the index" tells what to do, "Search and answers" names two things.
    names_two = second in ("and", "or", "of", "is") or (first, second) == ("back", "to")
    if first in IMPERATIVES and not names_two:
        return f"How do I {first} {' '.join(words[1:])}?"
    return f"{_PLAIN} “{title}”?"


def _completed(title: str) -> str | None:
    for pattern, question in _BEGUN:
        match = re.fullmatch(pattern, title, re.IGNORECASE)
        if match:
            return match.expand(question)
    return None
