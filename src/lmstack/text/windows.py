"""One text or two as the input of an encoder, cut to its limit or seen through windows.

What `Tokenizer.encode_batch` leaves out: pairs (premise and hypothesis, question and document),
segment ids, which token belongs to which text and word, and long texts as windows that overlap.
Equal to the ``tokenizers`` library's truncation. Does not cover padding: models here see no
padding that the caller did not make.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import tokenizers

from lmstack.core import ContextLengthError, InputError, check_text, shown
from lmstack.text.tokenizer import Tokenizer

__all__ = [
    "Cut",
    "Window",
    "count_window_tokens",
    "encode_windows",
    "has_segments",
    "model_limit",
    "numbered_words",
]

Cut = Literal["error", "longest", "first", "second"]


@dataclass(frozen=True, slots=True)
class Window:
    """Each tuple has one entry a token. ``types``: segment ids. ``sequences``: 0 or 1 for the
    text it comes from, None for a token that the tokenizer added. ``words``: the word of that
    text, as the tokenizer split it. ``offsets``: characters of that text."""

    ids: tuple[int, ...]
    types: tuple[int, ...]
    offsets: tuple[tuple[int, int], ...]
    sequences: tuple[int | None, ...]
    words: tuple[int | None, ...]

    def __len__(self) -> int:
        return len(self.ids)

    def word_span(self, token: int) -> tuple[int, int] | None:
        """Characters of the whole word that ``token`` is part of, as far as this window has it;
        None for a token that belongs to no word."""
        word, sequence = self.words[token], self.sequences[token]
        if word is None:
            return None
        parts = [
            self.offsets[i]
            for i in range(len(self.ids))
            if self.words[i] == word and self.sequences[i] == sequence
        ]
        return parts[0][0], parts[-1][1]


def encode_windows(
    tokenizer: Tokenizer,
    first: Sequence[str],
    second: Sequence[str] | None = None,
    *,
    max_length: int | None = None,
    cut: Cut = "error",
    stride: int | None = None,
    special: bool = True,
) -> list[list[Window]]:
    """The windows of each text, or of each pair ``first[i]``, ``second[i]``.

    ``max_length``: tokens of a window, added ones included. ``cut``: what gives way where a
    text is longer; ``error`` is a `ContextLengthError`, ``longest`` cuts the longer of the two
    first. ``stride``: instead of dropping what is cut, go on in another window, of which this
    many tokens repeat the one before; with pairs only for ``first`` and ``second``.
    ``special=False`` is for texts that others wrote: a control token spelled there is text.
    """
    if second is not None and len(second) != len(first):
        raise InputError(
            f"there are {len(first)} first texts and {len(second)} second ones",
            hint="give pairs",
        )
    for name, texts in (("texts", first), ("pairs", second or ())):
        for index, text in enumerate(texts):
            check_text(f"{name}[{index}]", text)
    room = _room(tokenizer, second is not None, max_length)
    lefts = _unfinished(tokenizer, first, special)
    rights: list[Any] = [None] * len(lefts)
    if second is not None:
        rights = _unfinished(tokenizer, second, special)
    windows = []
    for index, (left, right) in enumerate(zip(lefts, rights, strict=True)):
        total = len(left.ids) + (len(right.ids) if right is not None else 0)
        over = room is not None and total > room
        if over and cut == "error":
            raise ContextLengthError(
                f"text {index} has {total + (max_length or 0) - (room or 0)} tokens, the model"
                f" sees {max_length}",
                hint="split the text, or ask for it to be cut",
                param="max_length",
            )
        parts = _parts(left, right, room, cut, stride) if over and room is not None else None
        windows.append(
            [_window(tokenizer, *pair) for pair in (parts if parts else [(left, right)])]
        )
    return windows


def count_window_tokens(
    tokenizer: Tokenizer,
    first: Sequence[str],
    second: Sequence[str] | None = None,
    *,
    special: bool = True,
) -> list[int]:
    """Tokens of each text or pair, added ones included, before any cut: as long as windows
    without ``max_length`` are, without making them."""
    added = int(tokenizer.backend.num_special_tokens_to_add(second is not None))
    lengths = [len(encoding.ids) for encoding in _unfinished(tokenizer, first, special)]
    more = [0] * len(lengths)
    if second is not None:
        more = [len(encoding.ids) for encoding in _unfinished(tokenizer, second, special)]
    return [left + right + added for left, right in zip(lengths, more, strict=True)]


def numbered_words(window: Window, text: str) -> list[int | None]:
    """The word that each token of a ``window`` of ``text`` belongs to, counted from 0; None for
    tokens that the tokenizer added. Words are those that the tokenizer cuts text into before it
    looks for tokens; where it does not cut at all, they begin at white space."""
    found: list[int | None] = []
    number, before = -1, None
    for word, (start, _) in zip(window.words, window.offsets, strict=True):
        if word is not None and (word != before or text[start : start + 1].isspace()):
            number += 1
        found.append(None if word is None else number)
        before = word
    return found


def model_limit(tokenizer: Tokenizer, positions: int) -> int:
    """Tokens of one text, added ones included, that a model with so many positions can see."""
    stated = tokenizer.config.get("model_max_length")
    # transformers writes 1e30 for "no limit".
    if isinstance(stated, int | float) and 0 < stated < 1e9:
        return min(positions, int(stated))
    return positions


def has_segments(tokenizer: Tokenizer) -> bool:
    """Whether segment ids are for the model to read: some have a table that their tokenizer never
    fills."""
    names = tokenizer.config.get("model_input_names")
    return not isinstance(names, list) or "token_type_ids" in names


def _unfinished(tokenizer: Tokenizer, texts: Sequence[str], special: bool) -> list[Any]:
    """One that comes often, as a query beside each of its documents, is encoded once: a long
    query with ten thousand documents would keep a server busy for hours."""
    distinct = list(dict.fromkeys(texts))
    encodings = dict(zip(distinct, tokenizer.unfinished(distinct, special=special), strict=True))
    return [encodings[text] for text in texts]


def _room(tokenizer: Tokenizer, pair: bool, max_length: int | None) -> int | None:
    """Tokens left for texts."""
    if max_length is None:
        return None
    added = tokenizer.backend.num_special_tokens_to_add(pair)
    if max_length <= added:
        raise InputError(
            f"max_length is {max_length}, and the tokenizer itself adds {added} tokens",
            hint="give a larger one",
            param="max_length",
        )
    return int(max_length - added)


def _parts(left: Any, right: Any, room: int, cut: Cut, stride: int | None) -> list[tuple[Any, Any]]:
    # Cut in place, and other pairs may share them.
    left, right = (
        e and tokenizers.Encoding.merge([e], growing_offsets=False) for e in (left, right)
    )
    if right is None:
        return [(part, None) for part in _slices(left, room, stride)]
    if cut == "longest":
        if stride is not None:
            raise InputError(
                "a stride goes through one text, and cut is 'longest'",
                hint="cut='first' or cut='second'",
                param="stride",
            )
        for encoding, length in zip(
            (left, right), _shares(len(left.ids), len(right.ids), room), strict=True
        ):
            encoding.truncate(length)
        return [(left, right)]
    kept, walked = (right, left) if cut == "first" else (left, right)
    rest = room - len(kept.ids)
    if rest <= 0:
        raise ContextLengthError(
            f"the {'second' if cut == 'first' else 'first'} text alone has {len(kept.ids)}"
            f" tokens, and {room} fit",
            hint="shorten it",
            param="max_length",
        )
    return [
        (part, kept) if cut == "first" else (kept, part) for part in _slices(walked, rest, stride)
    ]


def _slices(encoding: Any, length: int, stride: int | None) -> list[Any]:
    if stride is None:
        encoding.truncate(length)
        return [encoding]
    if not 0 <= stride < length:
        raise InputError(
            f"the stride is {shown(stride)}, and a window has room for {length} tokens",
            hint="a stride below that",
            param="stride",
        )
    encoding.truncate(length, stride=stride)
    return [encoding, *encoding.overflowing]


def _shares(left: int, right: int, room: int) -> tuple[int, int]:
    """How many tokens of each stay: the longer gives way until both are equal."""
    short, long = sorted((left, right))
    long = short if short > room else max(short, room - short)
    if short + long > room:
        short, long = room // 2, room - room // 2
    return (short, long) if left <= right else (long, short)


def _window(tokenizer: Tokenizer, left: Any, right: Any) -> Window:
    count = len(left.ids)
    whole = tokenizer.backend.post_process(left, right, True)
    # The library loses its own account of sequences where the second text is empty.
    places = [place for place, added in enumerate(whole.special_tokens_mask) if not added]
    sequences: list[int | None] = [None] * len(whole.ids)
    for rank, place in enumerate(places):
        sequences[place] = int(rank >= count)
    return Window(
        ids=tuple(whole.ids),
        types=tuple(whole.type_ids),
        offsets=tuple(whole.offsets),
        sequences=tuple(sequences),
        words=tuple(whole.word_ids),
    )
