"""Beam search: the texts of highest probability, several kept at every length.

The rules are those of transformers 5: a text's score is the sum of its log-probabilities (after
penalties and constraints) over length ** ``length_penalty``; each step looks at the best
``(1 + ends) * beams`` continuations; one that ends counts only among the best ``beams``; the search
is over when its finished texts are enough and none that runs can be expected to beat them
(``early_stopping``: True does not ask; False takes a running score at its present length;
"never" at the length most favourable to it).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from lmstack.core import InputError
from lmstack.engine.decoding.sampler import score_targets
from lmstack.engine.request import TokenEvent, TokenScore
from lmstack.engine.sequence import Search, SearchRound, Sequence

__all__ = ["BeamSearch"]


@dataclass(frozen=True, slots=True)
class _Beam:
    """``score``: sum of log-probabilities."""

    sequence: Sequence
    score: float


@dataclass(frozen=True, slots=True)
class _Step:
    """A continuation of ``beam``; ``score`` includes ``token``."""

    score: float
    rank: tuple[int, int]  # order of those with equal scores
    beam: _Beam
    token: int


class BeamSearch(Search):
    def __init__(self, root: Sequence) -> None:
        super().__init__(root)
        p = root.request.sampling
        self.width = p.num_beams
        self._sampling = p
        ends = {*root.request.stop_ids}
        if not p.ignore_eos or root.matcher is not None:
            ends |= {*root.vocabulary.eos_ids}
        self._count = max(2, 1 + len(ends)) * self.width
        self._running = [_Beam(root, 0.0)]
        self._finished: list[tuple[float, Sequence]] = []  # best first
        self._beams = {id(root): self._running[0]}
        self._scores: dict[tuple[int, int], TokenScore] = {}

    def offer(self, sequence: Sequence, raw: Tensor, adjusted: Tensor, /) -> None:
        row = adjusted + self._beams[id(sequence)].score
        best = row.topk(min(self._count, len(row)))
        found = zip(best.values.tolist(), best.indices.tolist(), strict=True)
        self.offers[id(sequence)] = offered = [o for o in found if o[0] > -torch.inf]
        asked = self._sampling.logprobs
        if asked is not None and offered:
            ids = [token for _, token in offered]
            [scores] = score_targets(raw[None].clone(), [ids], [asked])
            self._scores |= {(id(sequence), score.token): score for score in scores}

    def advance(self) -> SearchRound:
        running: list[_Beam] = []
        children: list[tuple[Sequence, Sequence]] = []
        for complete, step in enumerate(self._steps()):
            if complete >= self.width and len(running) == self.width:
                break
            parent = step.beam.sequence
            child = parent.fork(step.token)
            child.scores.append(self._scores.get((id(parent), step.token)))
            if child.ending is None and len(running) < self.width:
                running.append(_Beam(child, step.score))
                children.append((child, parent))
            elif child.ending is not None and complete < self.width:
                length = child.num_output**self._sampling.length_penalty
                self._finished.append((step.score / length, child))
        self._finished = sorted(self._finished, key=lambda f: -f[0])[: self.width]
        self._running = running
        if self._is_over():
            self._running, children = [], []
        events = [] if children else self._events()
        self.offers.clear()
        self._scores.clear()
        self.members = [child for child, _ in children]
        self._beams = {id(b.sequence): b for b in self._running}
        return SearchRound(children, events)

    def _steps(self) -> list[_Step]:
        """The continuations to look at, best first."""
        steps = [
            _Step(score, (place, token), beam, token)
            for place, beam in enumerate(self._running)
            for score, token in self.offers[id(beam.sequence)]
        ]
        steps.sort(key=lambda s: (-s.score, s.rank))
        return steps[: self._count]

    def _is_over(self) -> bool:
        p = self._sampling
        if not self._running:
            return True
        if len(self._finished) < self.width:
            return False
        if p.early_stopping is True:
            return True
        best = max(self._running, key=lambda b: b.score)
        length = float(best.sequence.num_output)
        if p.early_stopping == "never" and p.length_penalty > 0:
            length = best.sequence.limit - best.sequence.num_prompt
        return bool(best.score / length**p.length_penalty <= self._finished[-1][0])

    def _events(self) -> list[TokenEvent]:
        """Every token of every text that was asked for, best text first."""
        found = self._finished
        if len(found) < self._sampling.n:
            raise InputError(
                f"beam search found {len(found)} texts that the constraints of this request allow, "
                f"{self._sampling.n} were asked for",
                hint="lower n, raise num_beams or max_tokens, or loosen the constraints",
                param="n",
            )
        return [
            sequence.event(place, score, sequence.ending, choice)
            for choice, (_, sequence) in enumerate(found[: self._sampling.n])
            for place, score in enumerate(sequence.scores)
        ]
