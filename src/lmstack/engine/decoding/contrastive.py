"""Contrastive search: likely tokens that do not repeat the context (Su et al., 2022).

Of the ``top_k`` most likely tokens the one wins that has the highest

    (1 - alpha) * probability - alpha * max cosine(its hidden state, each hidden state before)

so every step computes ``top_k`` continuations of one text and keeps one of them. Hidden states
are those after the final norm; those of the text so far are kept beside the KV pool, one row of
float32 a token.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from lmstack.engine.decoding.sampler import NothingLeftError, score_targets
from lmstack.engine.request import TokenScore
from lmstack.engine.sequence import Round, Search, Sequence

__all__ = ["ContrastiveSearch"]


@dataclass(frozen=True, slots=True)
class _Offer:
    """What was found after the last token of a member: its hidden state, of length 1, and the
    tokens that may follow."""

    hidden: Tensor
    following: list[tuple[int, float, TokenScore | None]]  # token, probability, its score


class ContrastiveSearch(Search):
    scores_logprobs = False

    def __init__(self, root: Sequence) -> None:
        super().__init__(root)
        p = root.request.sampling
        self.width = p.top_k
        self._sampling = p
        self._context = torch.empty(0)  # hidden states of all tokens so far, of length 1
        self._seen = 0
        self._probabilities: dict[int, float] = {}

    @property
    def needs_hidden(self) -> bool:
        return self._seen < self.root.num_prompt

    def see(self, start: int, hidden: Tensor, /) -> None:
        if not len(self._context):
            shape = self.root.limit, hidden.shape[1]
            self._context = torch.empty(shape, device=hidden.device)
        self._context[start : start + len(hidden)] = _unit(hidden)
        self._seen = max(self._seen, start + len(hidden))

    def offer(self, sequence: Sequence, raw: Tensor, adjusted: Tensor, hidden: Tensor, /) -> None:
        best = adjusted.softmax(-1).topk(min(self.width, len(adjusted)))
        tokens = best.indices.tolist()
        asked = self._sampling.logprobs
        scores: list[TokenScore | None] = [None] * len(tokens)
        if asked is not None:
            scores = [*score_targets(raw[None].clone(), [tokens], [asked])[0]]
        following = [
            (token, probability, score)
            for token, probability, score in zip(tokens, best.values.tolist(), scores, strict=True)
            if probability > 0
        ]
        self.offers[id(sequence)] = _Offer(_unit(hidden), following)

    @torch.inference_mode()
    def advance(self) -> Round:
        chosen = self.root if self.members == [self.root] else self._best()
        following = self.offers[id(chosen)].following
        events = []
        if chosen is not self.root:
            last = chosen.num_output - 1
            events.append(chosen.event(last, chosen.scores[-1], chosen.ending))
        pairs: list[tuple[Sequence, Sequence]] = []
        self._probabilities = {}
        if chosen.ending is None:
            if not following:
                raise NothingLeftError()
            for token, probability, score in following:
                child = chosen.fork(token)
                child.scores.append(score)
                self._probabilities[id(child)] = probability
                pairs.append((child, chosen))
        self.offers.clear()
        self.members = [child for child, _ in pairs]
        return Round(pairs, events)

    def _best(self) -> Sequence:
        """The member that wins. Its hidden state joins the context."""
        hidden = torch.stack([self.offers[id(m)].hidden for m in self.members])
        alike = (hidden @ self._context[: self._seen].T).amax(-1)
        alpha = self._sampling.penalty_alpha
        likely = alike.new_tensor([self._probabilities[id(m)] for m in self.members])
        place = int(((1 - alpha) * likely - alpha * alike).argmax())
        if self._seen < len(self._context):
            self._context[self._seen] = hidden[place]
            self._seen += 1
        return self.members[place]


def _unit(hidden: Tensor) -> Tensor:
    hidden = hidden.float()
    return F.normalize(hidden, dim=-1)
