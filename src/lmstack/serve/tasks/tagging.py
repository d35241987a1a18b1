"""Token classification: entities in a text, from one label a token to whole names.

Equal to transformers' ``token-classification`` pipeline: each of its aggregation strategies, the
rules for words, the B- and I- prefixes, and what wins where windows overlap; the default,
``whole``, is our own. Does not cover texts that are already split into words.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from lmstack.core import Config, ContextLengthError, allowed
from lmstack.registry import LoadedModel
from lmstack.serve.activations import probabilities
from lmstack.serve.tasks.base import EncoderTask
from lmstack.serve.tasks.results import Entities, Entity
from lmstack.text import Tokenizer, Window

__all__ = ["Aggregation", "NerOptions", "TokenClassification"]

Aggregation = Literal["none", "simple", "first", "average", "max", "whole"]
Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class NerOptions(Config):
    """``aggregation``: ``none`` keeps tokens (transformers' default); ``simple`` joins
    neighbours of one label; ``first``, ``average`` and ``max`` make the tokens of a word agree
    before that, by the first token, the mean of scores, or the surest token. ``whole`` is
    ``first``, and what stands together with punctuation in it stays together: an e-mail address
    is one entity, although the model marks a beginning after its @.
    ``ignore_labels``: left out of the result. ``stride``: tokens by which windows over a long
    text overlap, by default a quarter."""

    aggregation: Aggregation = allowed("whole", str, also=get_args(Aggregation))
    ignore_labels: tuple[str, ...] = ("O",)
    stride: int | None = allowed(None, int, 0, 1 << 20)

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.ignore_labels, str):
            object.__setattr__(self, "ignore_labels", tuple(self.ignore_labels.split(",")))
        object.__setattr__(self, "ignore_labels", tuple(self.ignore_labels))


@dataclass(frozen=True)
class _Token:
    """A token, or a word made of several. ``scores``: (labels,). ``continues``: it goes on with
    the word of the token before."""

    text: str
    start: int
    end: int
    label: str
    score: float
    scores: Floats
    index: int
    continues: bool


class TokenClassification(EncoderTask[str, NerOptions, Entities]):
    """Inputs: texts of any length; long ones are seen through windows that overlap."""

    name = "token-classification"
    options_type = NerOptions

    def __init__(self, loaded: LoadedModel, **options: Any) -> None:
        super().__init__(loaded, **options)
        self._words = _Words(loaded.tokenizer)

    def run(self, items: Sequence[str], options: NerOptions) -> list[Entities]:
        windows = self._windows(items, options)
        flat = [window for each in windows for window in each if len(window)]
        logits = iter(self.encoder.logits(flat))
        results = []
        for text, each in zip(items, windows, strict=True):
            found = [
                self._entities(text, window, next(logits).numpy(), options)
                for window in each
                if len(window)
            ]
            entities = [entity for part in found for entity in part]
            if len(each) > 1:
                entities = without_overlaps(entities)
            results.append(Entities(tuple(entities)))
        return results

    def _windows(self, items: Sequence[str], options: NerOptions) -> list[list[Window]]:
        stride = self.encoder.limit // 4 if options.stride is None else options.stride
        windows = self.encoder.encode(items, cut="first", stride=stride)
        long = next((i for i, each in enumerate(windows) if len(each) > 1), None)
        if long is not None and options.aggregation == "none":
            raise ContextLengthError(
                f"text {long} is longer than the {self.encoder.limit} tokens that the model sees,"
                " and single tokens have no place across windows",
                hint="aggregation='simple', or split the text",
                param="aggregation",
            )
        return windows

    def _entities(
        self, text: str, window: Window, logits: Floats, options: NerOptions
    ) -> list[Entity]:
        labels, words = self.loaded.labels, self._words
        scores = probabilities(logits, "softmax")
        tokens = [
            words.token(text, window, i, scores[i], labels)
            for i in range(len(window))
            if window.sequences[i] is not None
        ]
        if options.aggregation not in ("none", "simple"):
            tokens = [
                words.agreed(group, options.aggregation, labels)
                for group in _grouped(tokens, lambda _, token: token.continues)
            ]
        if options.aggregation == "none":
            found = [Entity(t.label, t.score, t.text, t.start, t.end, t.index) for t in tokens]
        else:
            joined_text = text if options.aggregation == "whole" else None
            found = [_joined(group, words.spelled) for group in _by_label(tokens, joined_text)]
        return [entity for entity in found if entity.label not in options.ignore_labels]


class _Words:
    """What a tokenizer says about words: which tokens go on with one, how pieces are spelled."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        backend = tokenizer.backend
        # With a prefix for pieces inside of words, their own length tells; without one only
        # spaces do.
        self._marks_pieces = bool(getattr(backend.model, "continuing_subword_prefix", None))
        self._decoder = backend.decoder

    def spelled(self, pieces: Sequence[str]) -> str:
        if self._decoder is None:
            return " ".join(pieces)
        return str(self._decoder.decode(list(pieces)))

    def token(
        self, text: str, window: Window, i: int, scores: Floats, labels: Sequence[str]
    ) -> _Token:
        (start, end), piece = window.offsets[i], self._tokenizer.token(window.ids[i])
        if self._marks_pieces:
            continues = len(piece) != end - start
        else:
            continues = start > 0 and " " not in text[start - 1 : start + 1]
        if window.ids[i] == self._tokenizer.unk_id:
            piece, continues = text[start:end], False
        best = int(scores.argmax())
        return _Token(piece, start, end, labels[best], float(scores[best]), scores, i, continues)

    def agreed(
        self, group: Sequence[_Token], aggregation: Aggregation, labels: Sequence[str]
    ) -> _Token:
        """One label for the tokens of a word."""
        if aggregation in ("first", "whole"):
            scores = group[0].scores
        elif aggregation == "max":
            scores = max(group, key=lambda token: float(token.scores.max())).scores
        else:
            scores = np.mean([token.scores for token in group], axis=0)
        best = int(scores.argmax())
        text = self.spelled([token.text for token in group])
        start, end = group[0].start, group[-1].end
        return _Token(
            text, start, end, labels[best], float(scores[best]), scores, group[0].index, False
        )


def _by_label(tokens: Sequence[_Token], text: str | None) -> list[list[_Token]]:
    """Neighbours of one label; a B- begins anew, except where ``text`` is given and the two are
    written together (`is_seam`)."""

    def goes_on(last: _Token, token: _Token) -> bool:
        (prefix, tag), (_, last_tag) = _split(token.label), _split(last.label)
        if tag != last_tag:
            return False
        return prefix != "B" or (text is not None and is_seam(text, last.end, token.start))

    return _grouped(tokens, goes_on)


def is_seam(text: str, end: int, start: int) -> bool:
    """Whether nothing is between ``end`` and ``start`` and one side is punctuation. Two letters
    say nothing: in Chinese two names may touch."""
    return 0 < end == start < len(text) and not (text[end - 1].isalnum() and text[start].isalnum())


def _grouped(
    tokens: Sequence[_Token], goes_on: Callable[[_Token, _Token], bool]
) -> list[list[_Token]]:
    groups: list[list[_Token]] = []
    for token in tokens:
        if groups and goes_on(groups[-1][-1], token):
            groups[-1].append(token)
        else:
            groups.append([token])
    return groups


def _split(label: str) -> tuple[str, str]:
    """``B-PER`` to ("B", "PER"); a label without a prefix goes on with its neighbour."""
    return (label[0], label[2:]) if label.startswith(("B-", "I-")) else ("I", label)


def _joined(group: Sequence[_Token], spelled: Callable[[Sequence[str]], str]) -> Entity:
    return Entity(
        label=group[0].label.split("-", 1)[-1],
        score=float(np.mean([token.score for token in group])),
        word=spelled([token.text for token in group]),
        start=group[0].start,
        end=group[-1].end,
    )


def without_overlaps(entities: Sequence[Entity]) -> list[Entity]:
    """Of entities that overlap, found in neighbouring windows, the longest, then the surest."""
    kept: list[Entity] = []
    for entity in sorted(entities, key=lambda e: e.start):
        if not kept or not kept[-1].start <= entity.start < kept[-1].end:
            kept.append(entity)
        elif _weight(entity) > _weight(kept[-1]):
            kept[-1] = entity
    return kept


def _weight(entity: Entity) -> tuple[int, float]:
    return entity.end - entity.start, entity.score
