"""What the columns of a row mean: the formats that objectives read.

    text           text
    chat           messages: [{role, content}, ...]; or conversations: [{from, value}, ...];
                   tools (optional)
    instruction    instruction, input (optional), output; or prompt, completion
    preference     prompt, chosen, rejected, as texts or messages; or chosen and rejected alone;
                   margin, probability (both optional)
    rated          prompt, completion, rating (a number) or label (true or false); or messages and
                   rating; or completions and ratings, lists; rater (optional)
    prompt         prompt: a text or messages
    labelled       text, label (or labels, a list); or sentence1, sentence2, label
    pairs          query, positive, negatives (optional); or sentence1, sentence2, score or label
    choices        query, positives (or none), negatives
    tagged         tokens, tags
    translation    source, target

Further columns are left alone. A row that is of no such format is an `InputError` that names the
column at fault, or the columns that there are. Does not cover files (`rows`).
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeGuard

from lmstack.core import InputError, Message, Tool, check_text, shown
from lmstack.train.data.conversations import conversation, role_of, tools_in
from lmstack.train.data.rows import Row

__all__ = [
    "Choices",
    "Label",
    "Labelled",
    "Preference",
    "Rated",
    "Tagged",
    "TextPair",
    "TranslationPair",
    "choices_of",
    "completions_of",
    "document_of",
    "is_scored",
    "labelled_of",
    "messages_of",
    "pair_of",
    "preference_of",
    "prompt_of",
    "ratings_of",
    "refuse_tools",
    "split_text_of",
    "tagged_of",
    "text_of",
    "tools_of",
    "translation_of",
]

# Columns that hold what a document says; labels, scores, tags and numbers of rows are none.
_SAYING = (
    *("text", "system", "messages", "conversations", "instruction", "input", "output", "prompt"),
    *(
        "completion",
        "completions",
        "chosen",
        "rejected",
        "query",
        "positive",
        "positives",
        "negative",
    ),
    *("negatives", "sentence1", "sentence2", "tokens", "source", "target"),
)


Label = str | int | float | tuple[str, ...] | tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Preference:
    """Two ways in which a conversation that begins with ``prompt`` may go on, the better one
    ``chosen``. Each is one turn or more. ``margin``: by how much it is better, in the raters'
    units; ``probability``: that it is the better one, as a judge sees it. None: nobody said."""

    prompt: tuple[Message, ...]
    chosen: tuple[Message, ...]
    rejected: tuple[Message, ...]
    margin: float | None = None
    probability: float | None = None


@dataclass(frozen=True, slots=True)
class Rated:
    """One way in which a conversation that begins with ``prompt`` may go on, and how good
    ``rater`` finds it: more is better; 1 or 0 where it is good or not."""

    prompt: tuple[Message, ...]
    answer: tuple[Message, ...]
    rating: float
    rater: str = ""


@dataclass(frozen=True, slots=True)
class Labelled:
    """A text, or a pair of them, and what it is: the name of a class, its number, a score, or
    the names or numbers of several classes."""

    text: str
    label: Label
    pair: str | None = None


@dataclass(frozen=True, slots=True)
class TextPair:
    """Two texts that belong together, and some that do not belong to the first. ``score``: how
    much they do, where the row says it; None: they do."""

    first: str
    second: str
    negatives: tuple[str, ...] = ()
    score: float | None = None


@dataclass(frozen=True, slots=True)
class Choices:
    """A question, texts that answer it, which may be none, and others, the hardest to tell from
    them first."""

    query: str
    positives: tuple[str, ...]
    negatives: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Tagged:
    """Words and a tag for each: its name, or its number."""

    tokens: tuple[str, ...]
    tags: tuple[str, ...] | tuple[int, ...]


@dataclass(frozen=True, slots=True)
class TranslationPair:
    source: str
    target: str


def document_of(row: Row) -> str:
    """All that ``row`` says, whichever format it is of: what copies and the split go by."""
    values = [row.values[column] for column in _SAYING if column in row.values]
    return "\n".join(_said(values or [json.dumps(row.values, sort_keys=True, default=str)]))


def split_text_of(row: Row) -> str:
    """What decides to which side of a split ``row`` goes: of preferences and ratings the prompt,
    so that all answers to one are on one side; otherwise all that it says."""
    values = row.values
    is_rated = any(values.get(name) is not None for name in ("rating", "ratings", "label"))
    try:
        if values.get("chosen") is not None and values.get("rejected") is not None:
            return _prompt_text(preference_of(row).prompt)
        if is_rated and ("completion" in values or "completions" in values):
            return _prompt_text(prompt_of(row))
    except InputError:  # reported where the row is encoded
        pass
    return document_of(row)


def _prompt_text(prompt: Sequence[Message]) -> str:
    return "\n".join(message.content for message in prompt)


def _said(values: Iterable[Any]) -> Iterator[str]:
    for value in values:
        if isinstance(value, str):
            yield value
        elif isinstance(value, list):
            yield from _said(value)
        elif isinstance(value, Mapping):
            yield from _said(value.get(key) for key in ("content", "value", "text"))


def text_of(row: Row) -> str:
    """The column ``text``."""
    return _text(row, "text")


def messages_of(row: Row) -> list[Message]:
    """A conversation, from a row of chat or instruction. A column ``system`` is its first message
    where it has none."""
    values = row.values
    for key in ("messages", "conversations"):
        if key in values:
            return [*_system(row), *conversation(values[key], key)]
    for asked, answered in (("instruction", "output"), ("prompt", "completion")):
        if asked in values and answered in values:
            return [*_system(row), *_asked(row, asked), *_answer(row, answered)]
    raise _no("conversation", row, "messages; or instruction and output; or prompt and completion")


def tools_of(row: Row) -> tuple[Tool, ...]:
    """The column ``tools``: what the assistant of a conversation may call; mostly nothing."""
    given = row.values.get("tools")
    return () if given is None or given == "" else tools_in(given)


def refuse_tools(row: Row) -> None:
    """`InputError` where ``row`` has tools, for whoever shows the model none."""
    if row.values.get("tools"):
        raise InputError(
            "the row has tools, which only sft and distillation show the model",
            hint="write them into the system message, or leave the column out",
        )


def preference_of(row: Row) -> Preference:
    """``chosen`` and ``rejected``, and the prompt that they go on from."""
    refuse_tools(row)
    chosen, rejected = _answer(row, "chosen"), _answer(row, "rejected")
    if row.values.get("prompt") is not None:
        prompt = [*_system(row), *_asked(row, "prompt")]
        chosen, rejected = _after(prompt, chosen), _after(prompt, rejected)
    else:
        # As TRL reads it: what both begin with.
        pairs = enumerate(zip(chosen, rejected, strict=False))
        shared = next(
            (n for n, (one, other) in pairs if one != other), min(len(chosen), len(rejected))
        )
        prompt, chosen, rejected = chosen[:shared], chosen[shared:], rejected[shared:]
        if not prompt:
            raise _no(
                "prompt", row, "prompt, chosen and rejected; or two conversations that begin alike"
            )
    if chosen == rejected:
        raise InputError("chosen and rejected are the same", hint="leave the row out")
    for name, turns in (("chosen", chosen), ("rejected", rejected)):
        if not turns or turns[-1].role != "assistant":
            raise InputError(f"{name} does not end with a turn of the assistant")
    return Preference(
        tuple(prompt),
        tuple(chosen),
        tuple(rejected),
        _number(row, "margin", 0.0, math.inf),
        _number(row, "probability", 0.0, 1.0),
    )


def ratings_of(row: Row) -> tuple[Rated, ...]:
    """An answer and its rating, from a row of ``prompt``, ``completion`` and ``rating`` (or
    ``label``), or of ``messages`` and ``rating``; several of a row with lists of both."""
    refuse_tools(row)
    values = row.values
    rater = "" if values.get("rater") is None else str(values["rater"])
    if values.get("messages") is not None:
        turns = messages_of(row)
        if len(turns) < 2 or turns[-1].role != "assistant":
            raise InputError("messages do not end with an answer of the assistant")
        return (Rated(tuple(turns[:-1]), (turns[-1],), _rating(row), rater),)
    prompt = tuple(prompt_of(row))
    if values.get("completions") is None:
        answer = tuple(_after(prompt, _answer(row, "completion")))
        if not answer or answer[-1].role != "assistant":
            raise InputError("completion does not end with a turn of the assistant")
        return (Rated(prompt, answer, _rating(row), rater),)
    (_, answers), ratings = completions_of(row), values.get("ratings")
    if not isinstance(ratings, list) or not all(map(_is_number, ratings)):
        raise _wrong(row, "ratings", "a list of numbers")
    if len(ratings) != len(answers):
        raise InputError(f"there are {len(answers)} completions and {len(ratings)} ratings")
    said = zip(answers, ratings, strict=True)
    return tuple(Rated(prompt, answer, float(rating), rater) for answer, rating in said)


def completions_of(row: Row) -> tuple[tuple[Message, ...], tuple[tuple[Message, ...], ...]]:
    """The column ``prompt`` and several answers to it, texts in ``completions``."""
    texts = _texts(row.values.get("completions"), "completions")
    return tuple(prompt_of(row)), tuple((Message("assistant", text),) for text in texts)


def prompt_of(row: Row) -> list[Message]:
    """The column ``prompt``, a text or messages, to be answered."""
    refuse_tools(row)
    prompt = [*_system(row), *_asked(row, "prompt")]
    if prompt[-1].role == "assistant":
        raise InputError("the prompt ends with a turn of the assistant", hint="end it with another")
    return prompt


def labelled_of(row: Row) -> Labelled:
    """``text``, or ``sentence1`` and ``sentence2``, and ``label``; or ``labels``, a list."""
    label = _labels(row) if "labels" in row.values else _label(row)
    if "sentence1" in row.values:
        return Labelled(_text(row, "sentence1"), label, _text(row, "sentence2"))
    return Labelled(_text(row, "text"), label)


def pair_of(row: Row) -> TextPair:
    """``query``, ``positive`` and perhaps ``negatives`` (or one ``negative``); or ``sentence1``,
    ``sentence2`` and ``score`` or ``label``, where 1 is a match."""
    values = row.values
    if "query" in values:
        negatives = values.get("negatives", values.get("negative"))
        if isinstance(negatives, str):
            negatives = [negatives]
        name = "negatives" if "negatives" in values else "negative"
        found = _texts(negatives, name) if negatives is not None else ()
        return TextPair(_text(row, "query"), _text(row, "positive"), found)
    if "sentence1" not in values:
        raise _no("pair", row, "query and positive; or sentence1, sentence2 and score")
    first, second = _text(row, "sentence1"), _text(row, "sentence2")
    name = "score" if "score" in values else "label"
    if name not in values:
        return TextPair(first, second)
    score = values[name]
    if isinstance(score, bool):
        score = int(score)
    if not _is_number(score):
        raise _wrong(row, name, "a number")
    return TextPair(first, second, score=float(score))


def choices_of(row: Row) -> Choices:
    """``query``, ``positives`` and ``negatives``, one of which may be empty or not there."""
    query = _text(row, "query")
    sides = [_texts(row.values.get(name, []), name) for name in ("positives", "negatives")]
    if not query.strip() or not any(sides):
        raise InputError("the row has no question, or no text", hint="leave it out")
    return Choices(query, *sides)


def is_scored(rows: Iterable[Row]) -> bool:
    """Whether the first pair of ``rows`` has a score."""
    for row in rows:
        try:
            return pair_of(row).score is not None
        except InputError:  # reported where the row is encoded
            continue
    return False


def tagged_of(row: Row) -> Tagged:
    """``tokens`` and ``tags``, as many of each."""
    tokens, tags = _texts(row.values.get("tokens"), "tokens"), row.values.get("tags")
    if not tokens:
        raise InputError("tokens is empty", hint="leave the row out")
    if not isinstance(tags, list) or not (_all(tags, str) or _all(tags, int)):
        raise _wrong(row, "tags", "a list of names, or of numbers")
    if len(tags) != len(tokens):
        raise InputError(
            f"there are {len(tokens)} tokens and {len(tags)} tags", hint="one tag for each token"
        )
    return Tagged(tokens, tuple(tags))


def _label(row: Row) -> str | int | float:
    label = row.values.get("label")
    if isinstance(label, bool):
        label = int(label)
    if not (_is_number(label) or (isinstance(label, str) and label)):
        raise _wrong(row, "label", "the name of a class or a number")
    assert isinstance(label, str | int | float)
    return label


def _labels(row: Row) -> tuple[str, ...] | tuple[int, ...]:
    labels = row.values["labels"]
    if not isinstance(labels, list) or not (_all(labels, str) or _all(labels, int)):
        raise _wrong(row, "labels", "a list of names, or of numbers")
    return tuple(labels)


def translation_of(row: Row) -> TranslationPair:
    """``source`` and ``target``."""
    return TranslationPair(_text(row, "source"), _text(row, "target"))


def _rating(row: Row) -> float:
    name = "rating" if row.values.get("rating") is not None else "label"
    value = row.values.get(name)
    if not (_is_number(value) or (name == "label" and isinstance(value, bool))):
        raise _wrong(row, name if name in row.values else "rating", "a number")
    return float(value)


def _is_number(value: Any) -> TypeGuard[float]:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return is_number and abs(value) <= sys.float_info.max  # JSON has integers beyond it


def _number(row: Row, column: str, least: float, most: float) -> float | None:
    """An optional column."""
    value = row.values.get(column)
    if value is None:
        return None
    if not _is_number(value) or not least <= value <= most:
        raise _wrong(
            row, column, f"a number from {least:g}" + (f" to {most:g}" * (most < math.inf))
        )
    return float(value)


def _system(row: Row) -> list[Message]:
    if not row.values.get("system"):
        return []
    for key in ("messages", "conversations", "prompt"):
        turns = row.values.get(key)
        if isinstance(turns, list) and turns and role_of(turns[0]) == "system":
            return []
    return [Message("system", _text(row, "system"))]


def _asked(row: Row, column: str) -> list[Message]:
    value = row.values.get(column)
    if isinstance(value, list):
        return conversation(value, column)
    question = _text(row, column)
    if column == "instruction" and row.values.get("input"):
        question += "\n\n" + _text(row, "input")
    return [Message("user", question)]


def _answer(row: Row, column: str) -> list[Message]:
    value = row.values.get(column)
    if isinstance(value, list):
        return conversation(value, column)
    return [Message("assistant", _text(row, column))]


def _after(prompt: Sequence[Message], turns: list[Message]) -> list[Message]:
    """``turns`` without the prompt, which some data sets repeat."""
    own = list(prompt)
    return turns[len(own) :] if turns[: len(own)] == own else turns


def _texts(value: Any, column: str) -> tuple[str, ...]:
    if not isinstance(value, list) or not _all(value, str):
        raise InputError(f"{column} is {shown(value)}, not a list of texts")
    for text in value:
        check_text(column, text)
    return tuple(value)


def _all(values: list[Any], kind: type) -> bool:
    return all(isinstance(value, kind) and not isinstance(value, bool) for value in values)


def _text(row: Row, column: str) -> str:
    value = row.values.get(column)
    if not isinstance(value, str):
        raise _wrong(row, column, "text")
    check_text(column, value)
    return value


def _wrong(row: Row, column: str, wanted: str) -> InputError:
    columns = ", ".join(sorted(map(str, row.values)))
    if column not in row.values:
        return InputError(f"the row has no {column}", hint=f"its columns are {columns}")
    return InputError(f"{column} is {shown(row.values[column])}, not {wanted}")


def _no(what: str, row: Row, wanted: str) -> InputError:
    columns = ", ".join(sorted(map(str, row.values)))
    return InputError(f"the row has the columns {shown(columns)}, and no {what}", hint=wanted)
