"""Beam search: the texts of highest probability, several kept at every length.

The rules are those of transformers 5: a text's score is the sum of its log-probabilities (after
penalties and constraints) over length ** ``length_penalty``; each step looks at the best
``(1 + ends) * beams`` continuations; one that ends counts only among the best ``beams``; a group
is over when its finished texts are enough and none that runs can be expected to beat them
(``early_stopping``: True does not ask; False takes a running score at its present length;
"never" at the length most favourable to it).

Diverse groups (Vijayakumar et al., 2016): each group searches by itself, and the log-probability
of a token falls by ``diversity_penalty`` for every beam of an earlier group that takes it in the
same step. Phrases: see `phrases`; beams are dealt out evenly over how much of them texts have.
"""

from __future__ import annotations

import itertools
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor

from lmstack.core import InputError
from lmstack.engine.decoding.phrases import Phrases, State
from lmstack.engine.decoding.sampler import score_targets
from lmstack.engine.request import TokenEvent, TokenScore
from lmstack.engine.sequence import Round, Search, Sequence

__all__ = ["BeamSearch"]


@dataclass(frozen=True, slots=True)
class _Beam:
    """``score``: sum of log-probabilities; ``met``: state of its phrases."""

    sequence: Sequence
    score: float
    met: State


@dataclass(frozen=True, slots=True)
class _Step:
    """A continuation of ``beam``; ``score`` includes ``token``."""

    score: float
    rank: tuple[int, int]  # order of those with equal scores
    beam: _Beam
    token: int
    met: State


@dataclass
class _Group:
    running: list[_Beam] = field(default_factory=list)
    finished: list[tuple[float, Sequence]] = field(default_factory=list)  # best first
    is_over: bool = False


class BeamSearch(Search):
    scores_logprobs = True

    def __init__(self, root: Sequence) -> None:
        super().__init__(root)
        p = root.request.sampling
        self.width = p.num_beams
        self._sampling = p
        self._size = p.num_beams // p.num_beam_groups
        self._phrases = Phrases(root.request.force_words)
        self._ends = [*root.request.stop_ids]
        if not p.ignore_eos or root.matcher is not None:
            self._ends += root.vocabulary.eos_ids
        self._count = max(2, 1 + len(set(self._ends))) * self._size
        self._groups = [
            _Group([_Beam(root, 0.0, self._phrases.start)]) for _ in range(p.num_beam_groups)
        ]
        self._beams = {id(root): self._groups[0].running[0]}
        self._scores: dict[tuple[int, int], TokenScore] = {}

    def offer(self, sequence: Sequence, raw: Tensor, adjusted: Tensor, _hidden: Tensor, /) -> None:
        beam = self._beams[id(sequence)]
        if not self._phrases.is_met(beam.met) and self._ends:
            adjusted[torch.tensor(self._ends, device=adjusted.device)] = -torch.inf
        row = adjusted + beam.score
        # A penalty of diversity can push down as many tokens as there are beams.
        count = self._count + (self.width if len(self._groups) > 1 else 0)
        best = row.topk(min(count, len(row)))
        tokens = best.indices.tolist()
        offered = list(zip(best.values.tolist(), tokens, strict=True))
        extra = sorted(self._phrases.wanted(beam.met) - set(tokens))
        offered += [(float(row[token]), token) for token in extra]
        self.offers[id(sequence)] = offered = [o for o in offered if o[0] > -torch.inf]
        asked = self._sampling.logprobs
        if asked is not None and offered:
            ids = [token for _, token in offered]
            [scores] = score_targets(raw[None].clone(), [ids], [asked])
            self._scores |= {(id(sequence), score.token): score for score in scores}

    def advance(self) -> Round:
        children: list[tuple[Sequence, Sequence]] = []
        taken: Counter[int] = Counter()
        for group in self._groups:
            if not group.is_over:
                children += self._advance(group, taken)
        events = [] if children else self._events()
        self.offers.clear()
        self._scores.clear()
        self.members = [child for child, _ in children]
        self._beams = {id(b.sequence): b for g in self._groups for b in g.running}
        return Round(children, events)

    def _advance(self, group: _Group, taken: Counter[int]) -> list[tuple[Sequence, Sequence]]:
        """One step of a group; ``taken`` counts the tokens of earlier groups and gains its own."""
        running: list[_Beam] = []
        pairs: list[tuple[Sequence, Sequence]] = []
        complete = 0
        for step in self._ordered(self._steps(group, taken)):
            parent = step.beam.sequence
            is_met = self._phrases.is_met(step.met)
            if complete >= self._size and len(running) == self._size:
                break
            child = parent.fork(step.token)
            child.scores.append(self._scores.get((id(parent), step.token)))
            if child.ending is None and len(running) < self._size:
                running.append(_Beam(child, step.score, step.met))
                pairs.append((child, parent))
            elif child.ending is not None and is_met and complete < self._size:
                length = child.num_output**self._sampling.length_penalty
                group.finished.append((step.score / length, child))
            complete += is_met
        group.finished = sorted(group.finished, key=lambda f: -f[0])[: self._size]
        group.running = running
        if self._is_over(group):
            group.is_over, group.running, pairs = True, [], []
        taken.update(b.sequence.tokens[-1] for b in running)
        return pairs

    def _steps(self, group: _Group, taken: Counter[int]) -> list[_Step]:
        """The continuations to look at, best first."""
        penalty = self._sampling.diversity_penalty
        steps = []
        for place, beam in enumerate(group.running):
            for score, token in self.offers[id(beam.sequence)]:
                met = self._phrases.after(beam.met, token)
                steps.append(
                    _Step(score - penalty * taken[token], (place, token), beam, token, met)
                )
        steps.sort(key=lambda s: (-s.score, s.rank))
        return steps if self._phrases.total else steps[: self._count]

    def _ordered(self, steps: list[_Step]) -> Iterator[_Step]:
        """Without phrases as they are; with them the best of each amount in turn, beginning
        with those that have most, so that no amount crowds out another."""
        if not self._phrases.total:
            return iter(steps)
        banks: defaultdict[int, list[_Step]] = defaultdict(list)
        for step in steps:
            banks[self._phrases.progress(step.met)].append(step)
        rows = itertools.zip_longest(*(banks[amount] for amount in sorted(banks, reverse=True)))
        return (step for row in rows for step in row if step is not None)

    def _is_over(self, group: _Group) -> bool:
        p = self._sampling
        if not group.running:
            return True
        if len(group.finished) < self._size:
            return False
        if p.early_stopping is True:
            return True
        best = max(group.running, key=lambda b: b.score)
        length = float(best.sequence.num_output)
        if p.early_stopping == "never" and p.length_penalty > 0:
            length = best.sequence.limit - best.sequence.num_prompt
        return bool(best.score / length**p.length_penalty <= group.finished[-1][0])

    def _events(self) -> list[TokenEvent]:
        """Every token of every text that was asked for, best text first."""
        found = sorted((f for g in self._groups for f in g.finished), key=lambda f: -f[0])
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
