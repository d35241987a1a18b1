"""Three questions to try on an unknown folder, made from its headings.

A heading that is a question is taken as it is, one that tells what to do ("Start the server")
becomes "How do I start the server?", and any other "What is said about ...?". Nothing is
generated, so every suggestion has a passage behind it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from lmstack.core import NotFoundError
from lmstack.rag import DocumentInfo, Index

__all__ = ["question_about", "suggested_questions"]

WANTED = 3
LOOK_AT = 30
IMPERATIVES = frozenset(
    [
        "add",
        "ask",
        "back",
        "build",
        "change",
        "check",
        "choose",
        "clean",
        "compare",
        "configure",
        "connect",
        "convert",
        "create",
        "debug",
        "deploy",
        "download",
        "edit",
        "enable",
        "export",
        "find",
        "fix",
        "get",
        "import",
        "index",
        "install",
        "keep",
        "load",
        "make",
        "measure",
        "migrate",
        "move",
        "open",
        "pull",
        "read",
        "remove",
        "replace",
        "report",
        "reset",
        "restore",
        "run",
        "search",
        "secure",
        "send",
        "serve",
        "set",
        "share",
        "start",
        "stop",
        "switch",
        "test",
        "train",
        "tune",
        "turn",
        "understand",
        "update",
        "upgrade",
        "upload",
        "use",
        "verify",
        "view",
        "write",
    ]
)
_NUMBERING = re.compile(r"^[\d.)(\s:/·–—-]+")
_MARKUP = re.compile(r"[`*_#]+|\[([^\]]*)\]\([^)]*\)")


def suggested_questions(index: Index) -> list[str]:
    """Up to three, from different documents where there are enough."""
    by_document = [list(_questions(index, info)) for info in _first(index.documents())]
    found: list[str] = []
    for turn in range(max(map(len, by_document), default=0)):
        for questions in by_document:
            if turn < len(questions) and questions[turn] not in found:
                found.append(questions[turn])
    best = sorted(found, key=lambda question: not question.startswith("How do I"))
    return best[:WANTED]


def _first(documents: list[DocumentInfo]) -> list[DocumentInfo]:
    """Near the top of the folder comes first: that is where the introductions are."""
    return sorted(documents, key=lambda info: (info.path.count("/"), info.path))[:LOOK_AT]


def _questions(index: Index, info: DocumentInfo) -> Iterator[str]:
    try:
        sections = index.document(info.id).sections
    except NotFoundError:  # changed since it was listed
        return
    for section in sections:
        question = question_about(section.title) if section.level > 1 else None
        if question:
            yield question


def question_about(heading: str) -> str | None:
    """The question that a passage under ``heading`` answers; None where no good one is seen."""
    title = _MARKUP.sub(lambda match: match.group(1) or "", _NUMBERING.sub("", heading))
    title = " ".join(title.split()).rstrip(".:!")
    words = title.split()
    if not 2 <= len(words) <= 10 or len(title) > 70:
        return None
    if title.endswith("?"):
        return title
    first, second = (word.lower() for word in words[:2])
    # "Search the index" tells what to do, "Search and answers" names two things.
    if first in IMPERATIVES and second not in ("and", "or", "of", "is"):
        return f"How do I {first} {' '.join(words[1:])}?"
    if first == "how" and second == "to" and len(words) > 2:
        return f"How do I {' '.join(words[2:])}?"
    if first in ("what", "when", "where", "which", "who", "why", "how"):
        return None
    return f"What is said about “{title}”?"
