"""BERTScore: each token with the most similar one of the other text (Zhang et al., 2020).

    P = sum of w_i max_j cos(x_i, y_j) over the tokens of the text, R the same over the reference's,
    F1 of both; w is the inverse document frequency over references, or the same for all tokens

As bert-score computes it, of one pair at a time: special tokens are there to be matched and count
for nothing themselves. Of several references the best counts, of P, R and F1 each. Not covered: the
encoder, which whoever has the tensors supplies (`TokenEncoder`).

Legend: T tokens, D dimensions of a vector.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from lmstack.core import InputError, check_range
from lmstack.evals.metrics.scoring import average, needed_targets
from lmstack.evals.task import Metric, ModelOutput, Sample

__all__ = [
    "BertScore",
    "EncoderFactory",
    "Similarity",
    "TokenEncoder",
    "TokenIdf",
    "TokenVectors",
    "bert_score",
    "token_idf",
]

Vector = npt.NDArray[np.float64]


@dataclass(frozen=True)
class TokenVectors:
    """Of one text: its ``tokens`` and their ``vectors`` (T, D). ``is_special`` (T,): those that the
    tokenizer adds around every text."""

    tokens: tuple[str, ...]
    vectors: npt.NDArray[np.floating[Any]]
    is_special: tuple[bool, ...]


class TokenEncoder(Protocol):
    """``digest``: of its weights. ``layer``: whose hidden states it gives."""

    @property
    def digest(self) -> str: ...

    @property
    def layer(self) -> int: ...

    def token_vectors(self, texts: Sequence[str]) -> list[TokenVectors]: ...


# Of a model's name and a layer; None: the one that is taken where none is named.
EncoderFactory = Callable[[str | None, int | None], TokenEncoder]


class Similarity(NamedTuple):
    precision: float
    recall: float
    f1: float


@dataclass(frozen=True)
class TokenIdf:
    """``weights``: of each token; ``unseen``: of all others."""

    weights: Mapping[str, float]
    unseen: float

    @property
    def digest(self) -> str:
        rows = json.dumps([sorted(self.weights.items()), self.unseen], ensure_ascii=False)
        return hashlib.sha256(rows.encode()).hexdigest()


def token_idf(encoded: Iterable[TokenVectors]) -> TokenIdf:
    """Of each token over texts (the references of a data set), log((N + 1) / (n + 1)) where n of N
    hold it."""
    counts: Counter[str] = Counter()
    total = 0
    for each in encoded:
        counts.update(set(each.tokens))
        total += 1
    weights = {token: math.log((total + 1) / (n + 1)) for token, n in counts.items()}
    return TokenIdf(weights, math.log(total + 1))


def bert_score(text: TokenVectors, target: TokenVectors, idf: TokenIdf | None = None) -> Similarity:
    """Before any rescaling, in [-1, 1]. 0 where either text is empty, NaN where every token of one
    has the weight 0."""
    if all(text.is_special) or all(target.is_special):
        return Similarity(0.0, 0.0, 0.0)
    cosines = _unit(text.vectors) @ _unit(target.vectors).T
    precision = float(cosines.max(1) @ _weights(text, idf))
    recall = float(cosines.max(0) @ _weights(target, idf))
    total = precision + recall
    f1 = 2 * precision * recall / total if total else 0.0
    return Similarity(precision, recall, f1)


def _unit(vectors: npt.NDArray[np.floating[Any]]) -> Vector:
    table = np.asarray(vectors, np.float64)
    found: Vector = table / np.linalg.norm(table, axis=1, keepdims=True)
    return found


def _weights(text: TokenVectors, idf: TokenIdf | None) -> Vector:
    if idf is None:
        found = 1.0 - np.array(text.is_special)
    else:
        found = np.array([idf.weights.get(token, idf.unseen) for token in text.tokens])
    with np.errstate(invalid="ignore"):
        weights: Vector = found / found.sum()
    return weights


@dataclass(frozen=True)
class BertScore:
    """``idf``: weights by `token_idf`, None for equal ones. ``baseline``: what unrelated texts have
    on average, as P, R and F1; scores are then (x - b) / (1 - b), which spreads them over [0, 1]
    and changes no ranking."""

    encoder: TokenEncoder
    idf: TokenIdf | None = None
    baseline: tuple[float, float, float] | None = None
    name: ClassVar[str] = "bert_score"
    version: ClassVar[int] = 1

    def __post_init__(self) -> None:
        if self.baseline is not None:
            if len(self.baseline) != 3:
                raise InputError(
                    f"a baseline is precision, recall and F1, not {len(self.baseline)} numbers",
                    param="baseline",
                )
            for value in self.baseline:
                check_range("baseline", value, -1, 1, high_open=True)

    @classmethod
    def with_idf(
        cls,
        encoder: TokenEncoder,
        samples: Iterable[Sample],
        baseline: tuple[float, float, float] | None = None,
    ) -> BertScore:
        """Weights over all references of ``samples``."""
        texts = [target for sample in samples for target in needed_targets(sample)]
        return cls(encoder, token_idf(encoder.token_vectors(texts)), baseline)

    @property
    def signature(self) -> str:
        """What must be equal for two scores to be compared: the encoder's digest, the layer, the
        hash of the weights, whether they are rescaled, and the version of this scorer."""
        idf = "no-idf" if self.idf is None else f"idf[{self.idf.digest[:12]}]"
        scale = ""
        if self.baseline is not None:
            scale = f"_rescaled[{','.join(f'{value:g}' for value in self.baseline)}]"
        return f"{self.encoder.digest}_L{self.encoder.layer}_{idf}{scale}_v{self.version}"

    @property
    def protocol(self) -> Mapping[str, Any]:
        return {"name": self.name, "version": self.version, "signature": self.signature}

    @property
    def metrics(self) -> tuple[Metric, ...]:
        sides = ("f1", "precision", "recall")
        return tuple(average(f"bertscore_{side}") for side in sides)

    async def __call__(self, sample: Sample, output: ModelOutput) -> Mapping[str, float]:
        return await asyncio.to_thread(self.score, sample, output)

    def score(self, sample: Sample, output: ModelOutput) -> Mapping[str, float]:
        text, *targets = self.encoder.token_vectors([output.text, *needed_targets(sample)])
        each = np.array([bert_score(text, target, self.idf) for target in targets])
        if self.baseline is not None:
            base = np.array(self.baseline)
            each = (each - base) / (1 - base)
        names = ("bertscore_precision", "bertscore_recall", "bertscore_f1")
        return dict(zip(names, each.max(0).tolist(), strict=True))
