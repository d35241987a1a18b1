"""From logits to tokens, for all streams of a step at once.

Order, as in transformers and vLLM: log-probabilities are taken from the raw logits; then come
penalties and constraints (`logits`); then temperature, top-k, top-p, min-p, typical-p; then the
draw.

A draw is a function of (seed, place in the output) and of the sequence's own row, so it does
not depend on the streams beside it, on preemption or on time.

Legend: S streams that sample, V vocabulary.
"""

from __future__ import annotations

import hashlib
import itertools
import math
from collections.abc import Callable, Mapping
from collections.abc import Sequence as Seq
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from lmstack.core import EngineError, InputError, SamplingParams
from lmstack.engine.constraints.masks import few_allowed
from lmstack.engine.decoding.logits_processors import adjust, processors_of
from lmstack.engine.request import TokenScore
from lmstack.engine.sequence import Sequence

__all__ = ["NothingLeftError", "Sampled", "Sampler", "rows_at", "score_targets", "uniform"]

Wanted = Callable[[SamplingParams], bool]
Removed = Callable[[Tensor, list[SamplingParams]], Tensor]
Ids = npt.NDArray[np.int64]
TOP_P_CANDIDATES = 512
_LEAST, _BLOCK = -80.0, 256


@dataclass(frozen=True, slots=True)
class Sampled:
    token: int
    score: TokenScore | None


def uniform(seed: int, place: int) -> float:
    """A number in [0, 1) that depends on nothing but ``seed`` (64 bits) and ``place``."""
    data = seed.to_bytes(8, "little") + place.to_bytes(8, "little")
    bits = int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "little")
    # 52 bits, so that the product with any sum stays below that sum after rounding.
    return (bits >> 12) / 2**52


def score_targets(
    logits_SV: Tensor, targets: Seq[Seq[int]], tops: Seq[int]
) -> list[list[TokenScore]]:
    """Log-probabilities of the ``targets`` of each row of float32 logits, each with as many of the
    best of its row as ``tops`` says. The logits are overwritten."""
    device = logits_SV.device
    rows = [row for row, some in enumerate(targets) for _ in some]
    flat = [token for some in targets for token in some]
    places = torch.tensor([rows, flat], device=device)
    chosen = logits_SV[places[0], places[1]]
    most = min(max(tops, default=0), logits_SV.shape[1])
    ids: Tensor | None = None
    if most > 1:
        best, ids = logits_SV.topk(most)
    elif most == 1:  # of equal ones the first, which a greedy draw takes
        best, ids = logits_SV.max(-1, keepdim=True)
    else:
        best = logits_SV.amax(-1, keepdim=True)
    largest = best[:, :1]
    # Torch's `log_softmax` is a few 1e-6 off over 49,152 tokens; this is not.
    logs = _sums(logits_SV.sub_(largest).exp_()).log_()
    logprobs = (chosen - largest[places[0], 0] - logs[places[0], 0]).tolist()
    listed: list[tuple[tuple[int, float], ...]] = [()] * len(targets)
    if ids is not None:
        values = (best - largest - logs).tolist()
        listed = [
            tuple(zip(i[:top], v[:top], strict=True))
            for i, v, top in zip(ids.tolist(), values, tops, strict=True)
        ]
    scores = (TokenScore(t, p, listed[n]) for t, p, n in zip(flat, logprobs, rows, strict=True))
    return [list(itertools.islice(scores, len(some))) for some in targets]


def _sums(values_SV: Tensor) -> Tensor:
    """(S, 1). Torch would sum a row that is alone in two parts, so with other last bits than the
    same row beside others."""
    alone = len(values_SV) == 1
    return (values_SV.repeat(2, 1) if alone else values_SV).sum(-1, keepdim=True)[: len(values_SV)]


class NothingLeftError(InputError):
    """The constraints of a request exclude every token."""

    def __init__(self) -> None:
        super().__init__(
            "the constraints of this request leave no token that could come next",
            hint="look at bad_words, no_repeat_ngram_size, min_tokens and the grammar together",
        )


class Sampler:
    """``num_tokens``: tokens that may be picked; logits beyond are padding of the model."""

    def __init__(self, num_tokens: int) -> None:
        self._num_tokens = num_tokens

    @torch.inference_mode()
    def __call__(self, logits_SV: Tensor, sequences: Seq[Sequence]) -> list[Sampled]:
        """One token for each row. Changes no sequence; float32 logits are changed in place."""
        logits = logits_SV[:, : self._num_tokens]
        few = {i: ids for i, s in enumerate(sequences) if (ids := self._few(s)) is not None}
        if not few:
            return self._chosen(logits, sequences)
        found = dict(zip(few, self._chosen_of(few, logits, sequences), strict=True))
        others = [i for i in range(len(sequences)) if i not in few]
        if others:
            rest = self._chosen(rows_at(logits, others), [sequences[i] for i in others])
            found |= zip(others, rest, strict=True)
        return [found[i] for i in range(len(sequences))]

    def _few(self, sequence: Sequence) -> Ids | None:
        """What may come next, where a grammar leaves few tokens and nothing else is asked for."""
        is_plain = sequence.request.sampling.logprobs is None and not processors_of(sequence)
        if sequence.matcher is None or not is_plain:
            return None
        return few_allowed(sequence.matcher, self._num_tokens)

    def _chosen_of(
        self, few: Mapping[int, Ids], logits: Tensor, sequences: Seq[Sequence]
    ) -> list[Sampled]:
        """`_chosen` of the rows that ``few`` names, among these tokens: the others take no part,
        and most of the time."""
        least = max(map(len, few.values()))
        among = logits.new_full((len(few), least), -torch.inf)
        for row, (i, ids) in zip(among, few.items(), strict=True):
            row[: len(ids)] = logits[i, torch.from_numpy(ids).to(logits.device)]
        places = self._picks(among, [sequences[i] for i in few])
        return [Sampled(int(ids[p]), None) for ids, p in zip(few.values(), places, strict=True)]

    def _chosen(self, logits: Tensor, sequences: Seq[Sequence]) -> list[Sampled]:
        params = [s.request.sampling for s in sequences]
        scored = [i for i, p in enumerate(params) if p.logprobs is not None]
        raw = rows_at(logits, scored) if scored else logits[:0]
        if any(sequences[i].request.scored_at != 1 for i in scored):
            raw /= _column([sequences[i].request.scored_at for i in scored], raw)
        adjust(logits, sequences)
        tokens = self._picks(logits, sequences)
        scores: dict[int, TokenScore] = {}
        if scored:
            tops = [params[i].logprobs or 0 for i in scored]
            found = score_targets(raw, [[tokens[i]] for i in scored], tops)
            scores = {i: score for i, [score] in zip(scored, found, strict=True)}
        return [Sampled(t, scores.get(i)) for i, t in enumerate(tokens)]

    def _picks(self, logits: Tensor, sequences: Seq[Sequence]) -> list[int]:
        """A place in each row: the best, or one that is drawn."""
        best = logits.max(-1)
        self._check(best.values, sequences)
        found: list[int] = best.indices.tolist()
        drawn = [i for i, s in enumerate(sequences) if not s.request.sampling.greedy]
        if drawn:
            rows = logits if len(drawn) == len(sequences) else rows_at(logits, drawn)
            picks = self._draw(rows, [sequences[i] for i in drawn])
            for i, place in zip(drawn, picks, strict=True):
                found[i] = place
        return found

    @torch.inference_mode()
    def offer(self, logits_SV: Tensor, sequences: Seq[Sequence]) -> None:
        """Give each member of a search what may follow it."""
        raw = logits_SV[:, : self._num_tokens]
        # Only what is wrong with the model: a member whose constraints leave nothing just ends.
        self._check(raw.amax(-1), sequences)
        base = raw.log_softmax(-1)
        adjusted = base.clone()
        adjust(adjusted, sequences)
        for row, sequence in enumerate(sequences):
            assert sequence.search is not None
            sequence.search.offer(sequence, base[row], adjusted[row])

    @staticmethod
    def _check(best: Tensor, sequences: Seq[Sequence]) -> None:
        """A row without a finite maximum has nothing to pick from."""
        bad = torch.nonzero(~best.isfinite()).flatten().tolist()
        if bad and float(best[bad[0]]) == -torch.inf and processors_of(sequences[bad[0]]):
            raise NothingLeftError()
        if bad:
            ids = [sequences[i].request.id for i in bad]
            raise EngineError(
                f"the model gave no usable logits for {', '.join(ids)}: the highest is "
                f"{float(best[bad[0]])}",
                hint="check the weights, or load them in float32",
            )

    @staticmethod
    def _draw(logits: Tensor, sequences: Seq[Sequence]) -> list[int]:
        params = [s.request.sampling for s in sequences]
        # Shifted first, so that a tiny temperature cannot overflow.
        logits = logits - logits.amax(-1, keepdim=True)
        logits /= _column([p.temperature for p in params], logits)
        for wanted, removed in _FILTERS:
            _filter(logits, params, wanted, removed)
        if any(p.typical_p < 1 for p in params):  # which may remove the likeliest
            logits -= logits.amax(-1, keepdim=True)
        # The largest logit is 0, so weights need no further normalising.
        return _picked(_weights(logits), [uniform(s.seed, s.num_output) for s in sequences])


def _filter(logits: Tensor, params: list[SamplingParams], wanted: Wanted, removed: Removed) -> None:
    rows = [i for i, p in enumerate(params) if wanted(p)]
    if rows:
        some = rows_at(logits, rows)
        some.masked_fill_(removed(some, [params[i] for i in rows]), -torch.inf)
        logits[torch.tensor(rows, device=logits.device)] = some


def rows_at(values: Tensor, rows: Seq[int]) -> Tensor:
    """A copy of some ``rows``, chosen on the device where they are."""
    return values.index_select(0, torch.tensor(rows, dtype=torch.long, device=values.device))


def _column(values: Seq[float], like: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    """(S, 1)."""
    return torch.tensor(values, dtype=dtype, device=like.device)[:, None]


def _picked(weights_SV: Tensor, draws: Seq[float]) -> list[int]:
    """For each of ``draws``, in [0, 1), the first place at which the sum of weights is above its
    share of the whole, so that one of weight 0 is never picked. Summed in blocks, of which one is
    then looked into: running sums over a vocabulary in float64 take longer than all else."""
    size = weights_SV.shape[1]
    rest = -size % _BLOCK
    blocks_SNB = F.pad(weights_SV, (0, rest)).view(len(weights_SV), -1, _BLOCK)
    sums_SN = blocks_SNB.sum(-1, dtype=torch.float64).cumsum_(-1)
    goals_S1 = _column(draws, sums_SN, sums_SN.dtype) * sums_SN[:, -1:]
    block_S1 = torch.searchsorted(sums_SN, goals_S1, right=True)
    before_S1 = F.pad(sums_SN, (1, 0)).gather(1, block_S1)
    inside_SB = blocks_SNB.gather(1, block_S1[..., None].expand(-1, -1, _BLOCK))[:, 0].double()
    places = torch.searchsorted(inside_SB.cumsum(-1), goals_S1 - before_S1, right=True)
    # Both sums round in their own way: at the very end of a block the last that counts is meant.
    last = _BLOCK - 1 - (inside_SB > 0).flip(-1).int().argmax(-1, keepdim=True)
    return (block_S1 * _BLOCK + places.minimum(last)).flatten().tolist()


def _weights(logits: Tensor) -> Tensor:
    """exp of ``logits``, whose largest is 0, in place. What is 1e-35 of the likeliest has no part
    in any draw and is 0: an exponential that underflows takes twenty times as long."""
    weights = logits.clamp_(min=_LEAST).exp_()
    return F.threshold(weights, 2 * math.exp(_LEAST), 0.0, inplace=True)


def _top_k(logits: Tensor, params: list[SamplingParams]) -> Tensor:
    counts = [min(p.top_k, logits.shape[1]) for p in params]
    best = logits.topk(max(counts)).values
    return logits < best.gather(1, _column(counts, logits) - 1)


def _top_p(logits: Tensor, params: list[SamplingParams]) -> Tensor:
    """All but the smallest set of the most likely that reaches ``top_p``."""
    mass = _column([p.top_p for p in params], logits)
    total = _weights(logits.clone()).sum(-1, keepdim=True)
    # A sort of the vocabulary is slow and rarely needed: the nucleus is mostly small.
    for count in (TOP_P_CANDIDATES, logits.shape[1]):
        best = logits.topk(min(count, logits.shape[1])).values
        before = (best.exp().cumsum(-1) - best.exp()) / total
        inside = before < mass
        if count == logits.shape[1] or not inside[:, -1].any():
            break
    return logits < best.gather(1, inside.sum(-1, keepdim=True).clamp_(min=1) - 1)


def _min_p(logits: Tensor, params: list[SamplingParams]) -> Tensor:
    """The likeliest token has logit 0, so the threshold is log(min_p)."""
    return logits < _column([p.min_p for p in params], logits).log()


def _typical(logits: Tensor, params: list[SamplingParams]) -> Tensor:
    """All but the tokens whose surprise is nearest to the expected one, up to ``typical_p`` of
    the mass (Meister et al., Locally Typical Sampling, 2022)."""
    logp = logits.log_softmax(-1)
    entropy = -(logp.exp() * logp).nansum(-1, keepdim=True)
    distance = (-logp - entropy).abs_()
    order = distance.argsort(dim=-1, stable=True)
    mass = _column([p.typical_p for p in params], logits)
    total = logits.gather(1, order).softmax(-1).cumsum(-1)
    last = (total < mass).sum(-1, keepdim=True).clamp_(max=logits.shape[1] - 1)
    farthest = distance.gather(1, order.gather(1, last))
    return distance > farthest


# In this order: which parameters ask for a filter, and which logits (S, V), of which the largest
# is 0, it removes.
_FILTERS: tuple[tuple[Wanted, Removed], ...] = (
    (lambda p: p.top_k > 0, _top_k),
    (lambda p: p.top_p < 1, _top_p),
    (lambda p: p.min_p > 0, _min_p),
    (lambda p: p.typical_p < 1, _typical),
)
