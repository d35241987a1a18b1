"""Sentence embeddings: texts that belong together are brought together, others apart.

    pairs           L_i = log(sum over passages p of the step of e^(s c(q_i, p))) - s c(q_i, p_i)
    scored, cosent  L = log(1 + sum over y_i > y_j of e^(s (c_j - c_i)))
    scored, mse     L_i = (c_i - y_i)^2

c: cosine; s: ``scale``; q: queries; p: their positives and given negatives. Henderson et al. 2017
(arXiv:1705.00652), Su 2022 (CoSENT); equal to sentence-transformers' MultipleNegativesRankingLoss,
CoSENTLoss and CosineSimilarityLoss. A passage that is a positive of the same query, or a copy of
one, is no negative. Matryoshka (Kusupati et al. 2022, arXiv:2205.13147): the losses of the first
dimensions alone are added.

All rows of a step are compared, however they are cut into passes and dealt to processes: vectors
are computed first without a gradient, then the loss and its gradient for each vector, and passes
bring that gradient to the weights (GradCache, Gao et al. 2021, arXiv:2101.06983).

Legend: S sequences, R rows, P passages, D width.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Self, get_args

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from lmstack.core import InputError, allowed, shown
from lmstack.model import ForwardContext, Transformer
from lmstack.model.config import Head
from lmstack.model.pooling import SequencePooling, pool_varlen
from lmstack.registry import LoadedModel
from lmstack.registry.card import Kind
from lmstack.registry.defaults import PROMPT_NAMES, Pooling, PoolingMode
from lmstack.train.data.examples import Batch, Example, Ints, by_length, varlen
from lmstack.train.data.formats import is_scored, pair_of
from lmstack.train.data.pairs import cut_tokens
from lmstack.train.data.rows import Row
from lmstack.train.measures import correlation, moments
from lmstack.train.metric import ACCURACY, LOSS, TrainingMetric, rising
from lmstack.train.objectives.objective import (
    AllRows,
    Embed,
    Gather,
    Loss,
    Objective,
    Reading,
    read_of,
)

__all__ = ["Contrastive", "cosent", "in_batch_losses"]

PAIRS, SCORED = "pairs", "scored"
# What is known of a row beside its vectors.
_KNOWN = ("counts", "keys", "scores")


@dataclass(frozen=True)
class Contrastive(Objective):
    """``rows``: ``pairs`` or ``scored``; unless given, what the first row is. ``scored_loss``: of
    scored rows. ``matryoshka``: further widths that vectors are to be of use at. ``pooling``,
    ``query_prompt``, ``passage_prompt``, ``max_tokens``: unless given, those of the base; one that
    is no embedder pools the mean, a decoder the last token."""

    scale: float = allowed(20.0, float, 0, 1000, above=True)
    rows: str | None = allowed(None, str, also=(PAIRS, SCORED))
    scored_loss: str = allowed("cosent", str, also=("cosent", "mse"))
    matryoshka: tuple[int, ...] = ()
    pooling: PoolingMode | None = allowed(None, str, also=get_args(PoolingMode))
    query_prompt: str | None = None
    passage_prompt: str | None = None
    max_tokens: int | None = allowed(None, int, 1, 1 << 20)

    reads: ClassVar[tuple[str, ...]] = ("pairs",)
    kind: ClassVar[Kind | None] = "embed"
    heads: ClassVar[tuple[Head, ...]] = ("none", "pool")

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "matryoshka", tuple(self.matryoshka))

    def fitted(self, base: LoadedModel, rows: AllRows) -> Self:
        width, causal = base.module.config.hidden_size, base.module.config.causal
        for size in self.matryoshka:
            if not isinstance(size, int) or not 0 < size <= width:
                raise InputError(
                    f"matryoshka has {shown(size)}, the vectors have {width} dimensions",
                    param="matryoshka",
                )
        plain = Pooling("last" if causal else "mean", True, None, {})
        known = base.pooling or plain
        query, passage = self.query_prompt, self.passage_prompt
        return self.replace(
            rows=self.rows or (SCORED if is_scored(rows()) else PAIRS),
            pooling=self.pooling or known.mode,
            query_prompt=known.prompt("query") if query is None else query,
            passage_prompt=known.prompt("passage") if passage is None else passage,
            max_tokens=self.max_tokens or known.max_length,
        )

    def labels(self, base: LoadedModel) -> tuple[str, ...]:
        del base
        return ()

    def made_of(self, base: LoadedModel) -> LoadedModel:
        before = base.pooling
        names = {name for names in PROMPT_NAMES.values() for name in names}
        prompts = {k: v for k, v in (before.prompts if before else {}).items() if k not in names}
        prompts |= {"query": self.query_prompt or "", "document": self.passage_prompt or ""}
        assert self.pooling is not None
        normalize = before.normalize if before else True
        pooling = Pooling(self.pooling, normalize, self.max_tokens, prompts)
        return dataclasses.replace(base, kind="embed", labels=(), pooling=pooling)

    def encode(self, row: Row, reading: Reading) -> Iterable[Example]:
        pair = pair_of(row)
        if (pair.score is None) != (self.rows == PAIRS):
            has = "no score" if pair.score is None else "a score"
            raise InputError(
                f"the row has {has}, and the others are {self.rows}",
                hint="train on one kind of rows; rows=pairs or rows=scored of the objective",
            )
        first = self.query_prompt if pair.score is None else self.passage_prompt
        texts = [(first or "") + pair.first]
        texts += [(self.passage_prompt or "") + text for text in (pair.second, *pair.negatives)]
        length = min(reading.max_length, self.max_tokens or reading.max_length)
        ids = reading.tokenizer.encode_ids(texts, max_length=length)
        if not all(ids):
            raise InputError(f"{shown(texts[ids.index([])])} has no tokens")
        scores = None if pair.score is None else np.array([pair.score], np.float32)
        cut = cut_tokens(reading.tokenizer, texts, None, map(len, ids), length)
        yield Example(tuple(np.array(tokens, np.int32) for tokens in ids), scores, cut)

    def collate(self, examples: Sequence[Example], reading: Reading) -> Batch:
        """Sequences by their length; ``more["places"]`` (S,): where each row's stand, row by row:
        ``counts`` (R,) of each. ``keys`` (S,): equal for equal texts."""
        del reading
        sequences = [ids for example in examples for ids in example.sequences]
        order, places = by_length(list(map(len, sequences)))
        scores = np.array([0.0 if e.labels is None else e.labels[0] for e in examples], np.float32)
        more = {
            "places": places,
            "counts": torch.tensor([len(example.sequences) for example in examples]),
            "keys": torch.tensor([_key(ids) for ids in sequences]),
            "scores": torch.from_numpy(scores),
        }
        tokens = sum(example.tokens for example in examples)
        inputs = varlen([sequences[i] for i in order])
        return Batch(inputs, more["scores"], float(len(examples)), tokens, more)

    def linked(self, batches: Sequence[Batch], embed: Embed, gather: Gather) -> Sequence[Batch]:
        if len(batches) == 1 and len(gather(torch.zeros(0))) == 1:
            return batches  # its one pass sees all rows
        vectors = [embed(place, self._vectors) for place in range(len(batches))]
        real = [place for place, batch in enumerate(batches) if batch.weight]
        own = torch.cat([vectors[0][:0], *(vectors[place] for place in real)])
        everyone = gather(own)
        rank = next(place for place, each in enumerate(everyone) if each is own)
        held = {name: gather(torch.cat(_of(batches, name))) for name in _KNOWN}
        learns = torch.is_grad_enabled()
        whole = torch.cat(everyone).requires_grad_(learns)
        losses, right = self._losses(whole, {name: torch.cat(each) for name, each in held.items()})
        (grad,) = torch.autograd.grad(losses.sum(), whole) if learns else (torch.zeros_like(whole),)
        sizes = [[len(vectors[i]) for i in real], [len(batches[i].more["counts"]) for i in real]]
        before = [sum(map(len, each[:rank])) for each in (everyone, held["counts"])]
        found = {
            "gradient": _part(grad, before[0], sizes[0]),
            "losses": _part(losses.detach(), before[1], sizes[1]),
            "right": _part(right, before[1], sizes[1]),
        }
        told: list[Batch] = []
        for place, batch in enumerate(batches):
            idle = {"gradient": torch.zeros_like(vectors[place]), "losses": losses.new_zeros(1)}
            more = {name: next(parts) for name, parts in found.items()} if batch.weight else idle
            told.append(
                dataclasses.replace(batch, more={"right": more["losses"], **batch.more, **more})
            )
        return told

    def loss(self, model: Transformer, batch: Batch, context: ForwardContext) -> Loss:
        more = batch.more
        if "gradient" not in more:
            losses, right = self._losses(self._vectors(model, batch, context), more)
            return self._loss(losses.sum(), right, more["scores"])
        total = more["losses"].sum()
        if torch.is_grad_enabled():
            carried = (self._vectors(model, batch, context) * more["gradient"]).sum()
            total = total + carried - carried.detach()  # its value, with the gradient
        return self._loss(total, more["right"], more["scores"])

    def metrics(self) -> Sequence[TrainingMetric]:
        found = {PAIRS: (ACCURACY,), SCORED: rising("pearson")}
        return (LOSS, *(found[self.rows] if self.rows else (ACCURACY, *rising("pearson"))))

    def reported(
        self, means: Mapping[str, float], counts: Mapping[str, Tensor]
    ) -> dict[str, float]:
        if "moments" not in counts:
            return dict(means)
        return {**means, "pearson": correlation(counts["moments"])}

    def _loss(self, total: Tensor, right: Tensor, scores: Tensor) -> Loss:
        if self.rows == SCORED:
            return Loss(total, counts={"moments": moments(right, scores)})
        return Loss(total, {"accuracy": right.sum()})

    def _vectors(self, model: Transformer, batch: Batch, context: ForwardContext) -> Tensor:
        """(S, D), row by row; not normalized."""
        mode: SequencePooling = "first" if self.pooling == "cls" else self.pooling or "mean"

        def readout(hidden: Tensor) -> Tensor:
            return pool_varlen(hidden.float(), batch.inputs["lengths"], mode)

        return read_of(model, batch, context, readout)[batch.more["places"]]

    def _losses(self, vectors: Tensor, known: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """(R,): losses of all rows, which add up to as many times the loss as there are rows; and
        whether the positive is first, or the cosine of scored rows."""
        counts = known["counts"]
        firsts = counts.cumsum(0) - counts
        total, right = vectors.new_zeros(len(counts)), vectors.new_zeros(len(counts))
        widths = sorted({*self.matryoshka, vectors.shape[1]})
        for width in widths:  # the full one is the last
            part = vectors[:, :width]
            if self.rows == SCORED:
                right = F.cosine_similarity(part[firsts], part[firsts + 1])
                wanted = known["scores"]
                losses = (
                    (right - wanted) ** 2
                    if self.scored_loss == "mse"
                    else cosent(right, wanted, self.scale).expand(len(counts))
                )
            else:
                losses, right = in_batch_losses(part, firsts, known["keys"], self.scale)
            total = total + losses
        return total, right.detach()


def in_batch_losses(
    vectors: Tensor, firsts: Tensor, keys: Tensor, scale: float
) -> tuple[Tensor, Tensor]:
    """(R,): the loss of each query among all passages, and whether its positive is first.

    ``vectors`` (S, D): a query, its positive and its negatives, row by row; ``firsts`` (R,): where
    queries stand. ``keys`` (S,): equal for equal texts."""
    vectors = F.normalize(vectors, dim=-1)
    is_query = torch.zeros(len(vectors), dtype=torch.bool, device=vectors.device)
    is_query[firsts] = True
    passages = (~is_query).nonzero().flatten()
    positives = firsts - torch.arange(len(firsts), device=firsts.device)  # among the passages
    scores = scale * vectors[firsts] @ vectors[passages].T
    # Of queries that are the same, every positive and its copies belong to all.
    alike = (keys[firsts][:, None] == keys[firsts]).float()
    copies = (keys[firsts + 1][:, None] == keys[passages]).float()
    belongs = alike @ copies > 0
    belongs[torch.arange(len(firsts), device=firsts.device), positives] = False
    scores = scores.masked_fill(belongs, -torch.inf)
    losses = F.cross_entropy(scores, positives, reduction="none")
    own = scores.gather(1, positives[:, None])
    is_first = (scores >= own).sum(-1) == 1  # what ties with it is before it
    return losses, is_first.to(vectors.dtype)


def cosent(cosines: Tensor, scores: Tensor, scale: float) -> Tensor:
    """log(1 + sum over scores_i > scores_j of e^(scale * (cosines_j - cosines_i))), of (R,)."""
    gaps = scale * (cosines[None] - cosines[:, None])
    gaps = gaps.masked_fill(scores[:, None] <= scores[None], -torch.inf)
    return torch.cat([gaps.new_zeros(1), gaps.flatten()]).logsumexp(0)


def _key(ids: Ints) -> int:
    return int.from_bytes(hashlib.blake2b(ids.tobytes(), digest_size=8).digest(), signed=True)


def _of(batches: Sequence[Batch], name: str) -> list[Tensor]:
    """What is known of the rows of passes that count; first an empty one of the same kind."""
    return [batches[0].more[name][:0], *(b.more[name] for b in batches if b.weight)]


def _part(values: Tensor, start: int, sizes: Sequence[int]) -> Iterator[Tensor]:
    """Those from ``start`` on, pass by pass."""
    return iter(values[start : start + sum(sizes)].split_with_sizes(list(sizes)))
