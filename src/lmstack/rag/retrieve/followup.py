"""What to search for when a question leans on the one before it.

A heuristic, on purpose small: a question is a follow-up when it holds a word that points back
("it", "that", "they") beyond itself, begins like a continuation ("and", "what about"), or has at
most one word of its own and no name. It is then searched together with the questions before it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from lmstack.core import Message
from lmstack.rag.lexical import STOP_WORDS
from lmstack.rag.words import name_words

__all__ = ["Turn", "is_follow_up", "retrieval_query", "turns_of"]

Turn = tuple[str, str]
_POINTING_WORDS = (
    "it its this that these those they them their he she his her him there one ones former "
    "latter same"
)
_POINTING = frozenset(_POINTING_WORDS.split())
# After so many words of its own, a question points at itself: "start the server and stop it".
OWN_BEFORE = 2
_NAMED = frozenset(("it", "its", "they", "them", "their"))
_BEING = frozenset(("is", "are", "was", "were", "isn", "aren", "be"))
_CONTINUING = re.compile(
    r"\s*(and|but|or|so|then|also|what about|how about|why(?: not)?\W*$)(?!\w)", re.I
)
_WORD = re.compile(r"[^\W_]+")


def is_follow_up(question: str) -> bool:
    words = [word.lower() for word in _WORD.findall(question)]
    own = [word for word in words if word not in STOP_WORDS]
    if _CONTINUING.match(question) or any(_points_back(words, n) for n in range(len(words))):
        return True
    return len(own) <= 1 and not name_words(question)


def _points_back(words: Sequence[str], n: int) -> bool:
    """Whether a word stands for something of an earlier question: not "is there a way", "the
    ferry that leaves", "one of them", and not what the question itself has named."""
    word, before = words[n], words[n - 1] if n else ""
    after = words[n + 1] if n + 1 < len(words) else ""
    own_before = sum(w not in STOP_WORDS for w in words[:n])
    if word not in _POINTING or (word in _NAMED and own_before > OWN_BEFORE):
        return False
    if word == "there":
        return not ({before, after} & _BEING)
    if word == "that":
        return not before or before in STOP_WORDS
    if word in ("one", "ones"):
        return before in STOP_WORDS and before not in ("in", "at", "for", "than", "as")
    return True


def retrieval_query(question: str, history: Sequence[Turn], turns: int) -> str:
    """``question``, after the last ``turns`` questions if it leans on them."""
    if not turns or not history or not is_follow_up(question):
        return question
    earlier = [asked for asked, _ in history[-turns:]]
    return " ".join([*earlier, question])


def turns_of(messages: Sequence[Message]) -> list[Turn]:
    """(question, answer) pairs of a conversation; a question without an answer has an empty
    one, and neighbouring messages of one role are joined."""
    turns: list[Turn] = []
    for message in messages:
        if message.role == "user":
            if turns and not turns[-1][1]:
                turns[-1] = (f"{turns[-1][0]}\n{message.content}", "")
            else:
                turns.append((message.content, ""))
        elif message.role == "assistant" and turns:
            asked, said = turns[-1]
            turns[-1] = (asked, f"{said}\n{message.content}" if said else message.content)
    return turns
