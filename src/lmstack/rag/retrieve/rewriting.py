"""What to search for: a question that stands alone, variants of it, a hypothetical passage.

Rules: a question is a follow-up when it holds a word that points back ("it", "that", "they")
beyond itself, begins like a continuation ("and", "what about"), or has at most one word of its own
and no name. It is then searched together with the questions before it.

A model may write instead; one that writes nothing usable changes nothing, and what it wrote is
searched for and asked, never cited. Multi-query: Ma et al. 2023 (arXiv:2305.14283); HyDE: Gao
et al. 2022 (arXiv:2212.10496). Search compares words, and vectors of an English model, so a
question in one language hardly finds what another says: a model writes it in the other languages
of the documents, too.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from lmstack.core import ChatModel, Message, Request, SamplingParams, complete_sync
from lmstack.rag.formats.decoding import language_among
from lmstack.rag.words import STOP_WORDS, content_words, name_words

__all__ = [
    "LANGUAGES",
    "Turn",
    "is_follow_up",
    "languages_to_ask",
    "made_up_passage",
    "query_variants",
    "question_language",
    "retrieval_query",
    "standalone_query",
    "translated",
    "turns_of",
]

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


MAX_QUERY_CHARS = 500
MAX_TURN_CHARS = 1000
_NUMBERING = re.compile(r"^\s*(?:\d+[.):]|[-*•])?\s*")


# Earlier questions, a question that follows them, and the same in full.
_IN_FULL: tuple[tuple[tuple[str, ...], str, str], ...] = (
    (
        ("Who repairs the lift in the north wing?",),
        "How often does he check it?",
        "How often does the person who repairs the lift in the north wing check it?",
    ),
    (("When is the pool open in winter?",), "And in summer?", "When is the pool open in summer?"),
    (
        ("What did the Brandt company offer us in May?", "Does it include the delivery?"),
        "When does it expire?",
        "When does the offer of the Brandt company in May expire?",
    ),
    (
        ("What does a ticket for adults cost?",),
        "And for children under six?",
        "What does a ticket for children under six cost?",
    ),
    (
        ("Why was the bridge at Helm closed?",),
        "How long will that take?",
        "How long will the closing of the bridge at Helm take?",
    ),
    (
        ("How do I apply for a parking permit?", "Which papers do I need?"),
        "Do pensioners pay less for that?",
        "Do pensioners pay less for a parking permit?",
    ),
)


def standalone_query(model: ChatModel, question: str, history: Sequence[Turn]) -> str:
    """``question`` as one that can be understood without ``history``. A small model that is shown
    the answers goes on answering, so it is shown the questions alone, and how it is done. What it
    writes has to hold all that ``question`` says; otherwise the rules decide."""
    messages = [
        Message(
            "system",
            "A question follows others. Write the last question in full, so that it can be "
            "understood without the others.",
        )
    ]
    for earlier, last, full in _IN_FULL:
        messages += [Message("user", _asked(earlier, last)), Message("assistant", full)]
    asked = [earlier[:MAX_QUERY_CHARS] for earlier, _ in history]
    messages.append(Message("user", _asked(asked, question[:MAX_TURN_CHARS])))
    lines = _lines(_say(model, messages, max_tokens=100))
    written = lines[0] if lines else question
    says_all = set(content_words(question)) - STOP_WORDS <= set(content_words(written))
    if says_all and (written != question or not is_follow_up(question)):
        return written
    return retrieval_query(question, history, 1)


def _asked(earlier: Sequence[str], last: str) -> str:
    return "\n".join([*(f"Earlier: {question}" for question in earlier), f"Last: {last}"])


def query_variants(model: ChatModel, query: str, count: int) -> list[str]:
    """Up to ``count`` other wordings of ``query``."""
    written = _ask(
        model,
        f"Write {count} other ways to ask the same question, in other words. One on each line, "
        "nothing else.",
        query,
        max_tokens=60 * count,
    )
    others = dict.fromkeys(line for line in _lines(written) if line.lower() != query.lower())
    return list(others)[:count]


def made_up_passage(model: ChatModel, query: str) -> str:
    """A passage that might answer ``query``; what it claims may be false."""
    written = _ask(
        model,
        "Write a short passage of a document that answers the question. Write only the passage.",
        query,
        max_tokens=150,
    )
    return written.strip()


def _ask(model: ChatModel, task: str, text: str, *, max_tokens: int) -> str:
    return _say(model, (Message("system", task), Message("user", text)), max_tokens=max_tokens)


def _say(model: ChatModel, messages: Sequence[Message], *, max_tokens: int) -> str:
    sampling = SamplingParams(temperature=0, max_tokens=max_tokens)
    return complete_sync(model, Request(messages=tuple(messages), sampling=sampling)).text


def _lines(written: str) -> list[str]:
    """What was written line by line, without numbering and quotes."""
    lines = (_NUMBERING.sub("", line, count=1).strip().strip("\"'") for line in written.split("\n"))
    return [line[:MAX_QUERY_CHARS] for line in lines if any(c.isalnum() for c in line)]


# Those that a question is told to be in, and put into.
LANGUAGES: Mapping[str, str] = {
    "de": "German",
    "en": "English",
    "es": "Spanish",
    "fr": "French",
    "it": "Italian",
    "ja": "Japanese",
    "ko": "Korean",
    "nl": "Dutch",
    "pl": "Polish",
    "pt": "Portuguese",
    "ru": "Russian",
    "zh": "Chinese",
}
# Further languages that a question is put into at most: each takes the model a second or so.
MOST = 2
# The share of documents from which on a language is worth that: fewer are often mistaken for it.
LEAST = 0.02
MAX_CHARS = 500


def question_language(question: str) -> str:
    """An ISO 639-1 code, empty where it cannot be told."""
    return language_among(question, LANGUAGES)


def languages_to_ask(question: str, documents: Mapping[str, int]) -> list[str]:
    """Languages of ``documents`` (how many are in each, by its code) other than the question's,
    that of the most documents first. None where the question's cannot be told."""
    own = question_language(question)
    total = sum(documents.values())
    others = [
        code
        for code, count in sorted(documents.items(), key=lambda each: -each[1])
        if code in LANGUAGES and code != own and count >= LEAST * total
    ]
    return others[:MOST] if own else []


def translated(model: ChatModel, question: str, language: str) -> str:
    """``question`` in ``language``, one of `LANGUAGES`; empty where nothing usable was written."""
    messages = (
        Message(
            "system",
            f"Translate the question into {LANGUAGES[language]}. Write only the translation.",
        ),
        Message("user", question[:MAX_CHARS]),
    )
    sampling = SamplingParams(temperature=0, max_tokens=100)
    written = complete_sync(model, Request(messages, sampling=sampling)).text.strip()
    line = written.split("\n")[0].strip("\"' ")[:MAX_CHARS]
    return line if any(map(str.isalnum, line)) else ""
