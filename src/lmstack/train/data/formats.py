"""What the columns of a row mean: the formats that objectives read.

    text           text
    chat           messages: [{role, content}, ...]; or conversations: [{from, value}, ...]
    instruction    instruction, input (optional), output; or prompt, completion
    preference     prompt, chosen, rejected, as texts or messages; or chosen and rejected alone
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
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lmstack.core import InputError, Message, ToolCall, check_text, shown
from lmstack.train.data.rows import Row

__all__ = [
    "Choices",
    "Label",
    "Labelled",
    "Pair",
    "Preference",
    "Tagged",
    "Translation",
    "choices_of",
    "document_of",
    "is_scored",
    "labelled_of",
    "messages_of",
    "pair_of",
    "preference_of",
    "prompt_of",
    "tagged_of",
    "text_of",
    "translation_of",
]

# Columns that hold what a document says; labels, scores, tags and numbers of rows are none.
_SAYING = (
    *("text", "system", "messages", "conversations", "instruction", "input", "output", "prompt"),
    *("completion", "chosen", "rejected", "query", "positive", "positives", "negative"),
    *("negatives", "sentence1", "sentence2", "tokens", "source", "target"),
)
# Names that the field's data sets give the roles of a conversation, ShareGPT's first.
_ROLES = {
    **{"human": "user", "gpt": "assistant", "observation": "tool"},
    **{"bot": "assistant", "model": "assistant", "function_response": "tool"},
}


Label = str | int | float | tuple[str, ...] | tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Preference:
    """Two ways in which a conversation that begins with ``prompt`` may go on, the better one
    ``chosen``. Each is one turn or more."""

    prompt: tuple[Message, ...]
    chosen: tuple[Message, ...]
    rejected: tuple[Message, ...]


@dataclass(frozen=True, slots=True)
class Labelled:
    """A text, or a pair of them, and what it is: the name of a class, its number, a score, or
    the names or numbers of several classes."""

    text: str
    label: Label
    pair: str | None = None


@dataclass(frozen=True, slots=True)
class Pair:
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
class Translation:
    source: str
    target: str


def document_of(row: Row) -> str:
    """All that ``row`` says, whichever format it is of: what copies and the split go by."""
    values = [row.values[column] for column in _SAYING if column in row.values]
    return "\n".join(_said(values or [json.dumps(row.values, sort_keys=True, default=str)]))


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
    if values.get("tools"):
        raise InputError(
            "the row has tools, and no chat template is given any in training",
            hint="write them into the system message, or leave the column out",
        )
    for key in ("messages", "conversations"):
        if key in values:
            return [*_system(row), *_conversation(values[key], key)]
    for asked, answered in (("instruction", "output"), ("prompt", "completion")):
        if asked in values and answered in values:
            return [*_system(row), *_asked(row, asked), *_answer(row, answered)]
    raise _no("conversation", row, "messages; or instruction and output; or prompt and completion")


def preference_of(row: Row) -> Preference:
    """``chosen`` and ``rejected``, and the prompt that they go on from."""
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
    return Preference(tuple(prompt), tuple(chosen), tuple(rejected))


def prompt_of(row: Row) -> list[Message]:
    """The column ``prompt``, a text or messages, to be answered."""
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


def pair_of(row: Row) -> Pair:
    """``query``, ``positive`` and perhaps ``negatives`` (or one ``negative``); or ``sentence1``,
    ``sentence2`` and ``score`` or ``label``, where 1 is a match."""
    values = row.values
    if "query" in values:
        negatives = values.get("negatives", values.get("negative"))
        if isinstance(negatives, str):
            negatives = [negatives]
        name = "negatives" if "negatives" in values else "negative"
        found = _texts(negatives, name) if negatives is not None else ()
        return Pair(_text(row, "query"), _text(row, "positive"), found)
    if "sentence1" not in values:
        raise _no("pair", row, "query and positive; or sentence1, sentence2 and score")
    first, second = _text(row, "sentence1"), _text(row, "sentence2")
    name = "score" if "score" in values else "label"
    if name not in values:
        return Pair(first, second)
    score = values[name]
    if not isinstance(score, int | float) or not math.isfinite(score):
        raise _wrong(row, name, "a number")
    return Pair(first, second, score=float(score))


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
    is_number = isinstance(label, int | float) and math.isfinite(label)
    if not (is_number or (isinstance(label, str) and label)):
        raise _wrong(row, "label", "the name of a class or a number")
    assert isinstance(label, str | int | float)
    return label


def _labels(row: Row) -> tuple[str, ...] | tuple[int, ...]:
    labels = row.values["labels"]
    if not isinstance(labels, list) or not (_all(labels, str) or _all(labels, int)):
        raise _wrong(row, "labels", "a list of names, or of numbers")
    return tuple(labels)


def translation_of(row: Row) -> Translation:
    """``source`` and ``target``."""
    return Translation(_text(row, "source"), _text(row, "target"))


def _system(row: Row) -> list[Message]:
    if not row.values.get("system"):
        return []
    for key in ("messages", "conversations", "prompt"):
        turns = row.values.get(key)
        if isinstance(turns, list) and turns and _role(turns[0]) == "system":
            return []
    return [Message("system", _text(row, "system"))]


def _asked(row: Row, column: str) -> list[Message]:
    value = row.values.get(column)
    if isinstance(value, list):
        return _conversation(value, column)
    question = _text(row, column)
    if column == "instruction" and row.values.get("input"):
        question += "\n\n" + _text(row, "input")
    return [Message("user", question)]


def _answer(row: Row, column: str) -> list[Message]:
    value = row.values.get(column)
    if isinstance(value, list):
        return _conversation(value, column)
    return [Message("assistant", _text(row, column))]


def _after(prompt: Sequence[Message], turns: list[Message]) -> list[Message]:
    """``turns`` without the prompt, which some data sets repeat."""
    own = list(prompt)
    return turns[len(own) :] if turns[: len(own)] == own else turns


def _role(turn: Any) -> Any:
    role = turn.get("role", turn.get("from")) if isinstance(turn, Mapping) else None
    return _ROLES.get(role, role) if isinstance(role, str) else None


def _conversation(turns: Any, column: str) -> list[Message]:
    if not isinstance(turns, list) or not turns:
        raise InputError(f"{column} is {shown(turns)}, not a list of turns")
    return [_message(turn) for turn in turns]


def _message(turn: Any) -> Message:
    if not isinstance(turn, Mapping):
        raise InputError(f"a turn is {shown(turn)}, not an object")
    role = _role(turn)
    calls = _calls(turn.get("tool_calls"))
    content = _content(turn.get("content", turn.get("value")))
    if content is None and calls:
        content = ""
    if role is None or content is None:
        raise InputError(f"a turn is {shown(dict(turn))}", hint="it needs a role and a content")
    name, answers = turn.get("name"), turn.get("tool_call_id")
    return Message(role, content, name=name, tool_calls=calls, tool_call_id=answers)


def _content(value: Any) -> str | None:
    """Text; or as OpenAI's API writes it, parts that are text."""
    if not isinstance(value, list):
        return value if isinstance(value, str) else None
    texts = []
    for part in value:
        text = part.get("text") if isinstance(part, Mapping) else None
        if not isinstance(text, str):
            raise InputError(f"a part of a turn is {shown(part)}, not text")
        texts.append(text)
    return "".join(texts)


def _calls(value: Any) -> tuple[ToolCall, ...]:
    """``tool_calls`` of OpenAI's API; arguments are JSON text, or what such text says."""
    found = []
    if value is not None and not isinstance(value, list):
        raise InputError(f"tool_calls is {shown(value)}, not a list")
    for call in value or ():
        outer = call if isinstance(call, Mapping) else {}
        function = outer.get("function", outer)
        name = function.get("name") if isinstance(function, Mapping) else None
        if not isinstance(name, str):
            raise InputError(
                f"a tool call is {shown(call)}", hint="it needs a function with a name"
            )
        written = function.get("arguments", {})
        if not isinstance(written, str):
            written = json.dumps(written, ensure_ascii=False)
        found.append(ToolCall(str(outer.get("id", "")), name, written))
    return tuple(found)


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
