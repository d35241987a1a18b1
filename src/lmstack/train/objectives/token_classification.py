"""Token classification: a tag for each word of a sentence (names, parts of speech).

    L = - sum over words of log p(tag of the word | its first token)

Words are joined by spaces and read as the text that they then are, as the tagger that serves reads
it. The first token of a word has its tag and the others none, as in transformers' recipe, to whose
loss this is equal. A sentence longer than ``max_length`` is read through windows that overlap by a
quarter; each word counts in one of them, and windows change where no entity goes on.

Entities are those of conlleval (Tjong Kim Sang and Buchholz, 2000) and seqeval: their F1 counts an
entity where kind, beginning and end are right. Tags without prefixes have no such F1.
"""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from lmstack.core import InputError, shown
from lmstack.model import ForwardContext, Transformer
from lmstack.model.config import Head
from lmstack.registry import LoadedModel
from lmstack.registry.card import Kind
from lmstack.text.windows import Window, encode_windows
from lmstack.train.data.examples import IGNORED, Batch, Example, varlen
from lmstack.train.data.formats import tagged_of
from lmstack.train.data.rows import Row
from lmstack.train.metric import TrainingMetric, rising
from lmstack.train.objectives.objective import AllRows, Loss, Objective, Reading, read_of

__all__ = ["TokenClassification", "entities_of"]

_OUTSIDE = "O"


@dataclass(frozen=True)
class TokenClassification(Objective):
    """``tags``: their names in the order of the head, which numbers in the data count from 0;
    unless given, those found in the data, sorted, or where the base has the same ones, its own."""

    tags: tuple[str, ...] = ()

    reads: ClassVar[tuple[str, ...]] = ("tagged",)
    kind: ClassVar[Kind | None] = "token-classify"
    heads: ClassVar[tuple[Head, ...]] = ("token",)

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "tags", tuple(map(str, self.tags)))

    def fitted(self, base: LoadedModel, rows: AllRows) -> Self:
        if self.tags:
            return self
        found = {str(tag) for row in rows() for tag in _tags(row)} - {""}
        if len(found) < 2:
            raise InputError(
                f"the data has {len(found)} tags: {', '.join(sorted(found))}",
                hint="each row needs tokens and as many tags, of two kinds at least",
                param="data",
            )
        if set(base.labels) == found:
            return self.replace(tags=base.labels)
        if all(name.isascii() and name.isdigit() for name in found):
            return self.replace(tags=tuple(sorted(found, key=int)))
        return self.replace(tags=tuple(sorted(found)))

    def metrics(self) -> Sequence[TrainingMetric]:
        of_entities = rising("precision", "recall", "f1")
        return (*super().metrics(), *(of_entities if not self.tags or self._has_entities else ()))

    @property
    def _has_entities(self) -> bool:
        return any(tag[1:2] == "-" for tag in self.tags)

    def labels(self, base: LoadedModel) -> tuple[str, ...]:
        del base
        return self.tags

    def encode(self, row: Row, reading: Reading) -> Iterable[Example]:
        found = tagged_of(row)
        tags = [self._place(tag) for tag in found.tags]
        text, starts = _joined(found.tokens)
        stride = max((reading.max_length - reading.tokenizer.count([""])[0]) // 4, 0)
        (windows,) = encode_windows(
            reading.tokenizer, [text], max_length=reading.max_length, cut="first", stride=stride
        )
        words = [_first_tokens(window, text, starts, i > 0) for i, window in enumerate(windows)]
        bounds = self._bounds(words, tags)
        for window, firsts, (low, high) in zip(windows, words, bounds, strict=True):
            labels = np.full(len(window), IGNORED, np.int32)
            for word, token in firsts.items():
                if low <= word < high:
                    labels[token] = tags[word]
            if (labels != IGNORED).any():
                yield Example((np.array(window.ids, np.int32),), labels)

    def collate(self, examples: Sequence[Example], reading: Reading) -> Batch:
        del reading
        parts = [example.labels for example in examples if example.labels is not None]
        labels = torch.from_numpy(np.concatenate(parts).astype(np.int64))
        tokens = sum(example.tokens for example in examples)
        counts = torch.tensor([int((part != IGNORED).sum()) for part in parts])
        inputs = varlen([example.sequences[0] for example in examples])
        return Batch(inputs, labels, float(counts.sum()), tokens, {"words": counts})

    def loss(self, model: Transformer, batch: Batch, context: ForwardContext) -> Loss:
        places = (batch.labels != IGNORED).nonzero().flatten()

        def readout(hidden: Tensor) -> Tensor:
            return model.logits(hidden[places], context)

        scores = read_of(model, batch, context, readout).float()
        wanted = batch.labels[places]
        total = F.cross_entropy(scores, wanted, reduction="sum")
        predicted = scores.detach().argmax(-1)
        counts = {}
        if self._has_entities:
            counts = self._entities(predicted, wanted, batch.more["words"].tolist())
        return Loss(total, {"accuracy": (predicted == wanted).sum()}, counts)

    def reported(
        self, means: Mapping[str, float], counts: Mapping[str, Tensor]
    ) -> dict[str, float]:
        if not counts:
            return dict(means)
        right, predicted, actual = counts["entities"].tolist()
        return {
            **means,
            "precision": right / predicted if predicted else 0.0,
            "recall": right / actual if actual else 0.0,
            "f1": 2 * right / (predicted + actual) if predicted + actual else 0.0,
        }

    def _entities(
        self, predicted: Tensor, wanted: Tensor, words: Sequence[int]
    ) -> dict[str, Tensor]:
        """How many are right, predicted and there."""
        sums = np.zeros(3)
        parts = (values.cpu().split_with_sizes(list(words)) for values in (predicted, wanted))
        for ours, theirs in zip(*parts, strict=True):
            found, actual = (
                set(entities_of([self.tags[i] for i in part.tolist()])) for part in (ours, theirs)
            )
            sums += (len(found & actual), len(found), len(actual))
        return {"entities": torch.from_numpy(sums)}

    def _place(self, tag: str | int) -> int:
        if isinstance(tag, int) and str(tag) not in self.tags and 0 <= tag < len(self.tags):
            return tag
        if str(tag) not in self.tags:
            raise InputError(
                f"the tag {shown(tag)} is none of the model's", hint=", ".join(self.tags[:20])
            )
        return self.tags.index(str(tag))

    def _bounds(
        self, windows: Sequence[Mapping[int, int]], tags: Sequence[int]
    ) -> list[tuple[int, int]]:
        """The words that count in each window: it changes in the middle of what two share, or
        near it, where a word begins no inner part of an entity."""
        bounds, low = [], 0
        for here, after in itertools.pairwise(windows):
            shared = sorted(set(here) & set(after))
            high = (max(here) + 1) if here else low
            if shared:
                middle = shared[len(shared) // 2]
                free = [w for w in shared if not self._goes_on(tags, w)] or [middle]
                high = min(free, key=lambda word: (abs(word - middle), word))
            bounds.append((low, high))
            low = high
        return [*bounds, (low, len(tags))]

    def _goes_on(self, tags: Sequence[int], word: int) -> bool:
        """Whether an entity has a word on both sides of the beginning of ``word``."""
        if not word:
            return False
        pair = [self.tags[tags[word - 1]], self.tags[tags[word]]]
        return any(first == 0 and last == 1 for _, first, last in entities_of(pair))


def entities_of(tags: Sequence[str]) -> list[tuple[str, int, int]]:
    """Kind, first and last word of each entity in ``tags`` of IOB1, IOB2, IOE or BIOES, as
    seqeval reads them where no scheme is named."""
    found, before, kind_before, start = [], _OUTSIDE, "", 0
    for place, tag in enumerate([*tags, _OUTSIDE]):
        prefix, kind = tag[0], tag[1:].split("-", maxsplit=1)[-1] or "_"
        if _ends(before, prefix, kind_before, kind):
            found.append((kind_before, start, place - 1))
        if _begins(before, prefix, kind_before, kind):
            start = place
        before, kind_before = prefix, kind
    return found


def _ends(before: str, prefix: str, kind_before: str, kind: str) -> bool:
    if before in "ES":
        return True
    if before in "BI" and prefix in "BSO":
        return True
    return before not in (_OUTSIDE, ".") and kind_before != kind


def _begins(before: str, prefix: str, kind_before: str, kind: str) -> bool:
    if prefix in "BS":
        return True
    if before in "ESO" and prefix in "EI":
        return True
    return prefix not in (_OUTSIDE, ".") and kind_before != kind


def _tags(row: Row) -> Iterable[str | int]:
    try:
        return tagged_of(row).tags
    except InputError:  # reported where the row is encoded
        return ()


def _joined(words: Sequence[str]) -> tuple[str, list[int]]:
    """The words with spaces between, and where each begins."""
    starts, at = [], 0
    for word in words:
        starts.append(at)
        at += len(word) + 1
    return " ".join(words), starts


def _first_tokens(
    window: Window, text: str, starts: Sequence[int], is_later: bool
) -> dict[int, int]:
    """Word to its first token in ``window``, which ``is_later`` than the first and may begin in
    the middle of a word."""
    found: dict[int, int] = {}
    cut: int | None = None
    for token, (start, end) in enumerate(window.offsets):
        if window.sequences[token] is None:
            continue
        while start < end and text[start].isspace():  # some count the space to the token
            start += 1
        if start == end:
            continue
        word = bisect.bisect_right(starts, start) - 1
        if is_later and not found and cut is None and start > starts[word]:
            cut = word
        if word != cut:
            found.setdefault(word, token)
    return found
