"""A question in the other languages of the documents, for who asks in one and has files in many.

Search compares words, and vectors of an English model, so a question in one language hardly finds
what another says. A model writes it in the languages that the documents are in; what it wrote is
only searched for and read for, never shown. Does not cover the language of an answer (`answer`).
"""

from __future__ import annotations

from collections.abc import Mapping

from lmstack.core import ChatModel, Message, Request, SamplingParams, complete_sync
from lmstack.rag.formats.decoding import language_among

__all__ = ["LANGUAGES", "languages_to_ask", "question_language", "translated"]

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
