"""Losses over pairs of answers: DPO, cDPO and IPO beside a reference, ORPO and SimPO without one.

With y+ the chosen answer and y- the rejected one, r(y) = log pi(y | x) - log pi_ref(y | x),
m(y) = log pi(y | x) / |y|, and s the sigmoid:

    DPO    - log s(beta (r(y+) - r(y-)))                   Rafailov et al., 2023 (arXiv:2305.18290)
    cDPO   (1 - e) DPO(y+, y-) + e DPO(y-, y+)             Mitchell, 2023, a note on DPO with noise
    IPO    (r(y+) / |y+| - r(y-) / |y-| - 1 / (2 beta))^2  Azar et al., 2023 (arXiv:2310.12036)
    ORPO   - m(y+) - beta log s(o(y+) - o(y-))             Hong et al., 2024 (arXiv:2403.07691)
           o(y) = m(y) - log(1 - e^m(y)), the log odds
    SimPO  - log s(beta (m(y+) - m(y-)) - gamma)           Meng et al., 2024 (arXiv:2405.14734)

IPO takes the mean over an answer's tokens, as its authors do in their experiments and TRL does. The
first term of ORPO is the mean over the tokens of the chosen answer alone; TRL's is over the prompt
as well. cDPO is DPO with ``label_smoothing``; where a row says
how probable its label is, as a judge's does, e is 1 less that.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from lmstack.core import allowed
from lmstack.train.data.examples import Floats
from lmstack.train.data.formats import Preference
from lmstack.train.objectives.preferences import AnswerLogProbs, Preferences

__all__ = ["DPO", "IPO", "ORPO", "SimPO"]


@dataclass(frozen=True)
class DPO(Preferences):
    """``beta``: how much it costs to leave the reference. ``label_smoothing``: the share of pairs
    that are thought to be the wrong way round; of a row with a ``probability``, 1 less that."""

    beta: float = allowed(0.1, float, 0, 100, above=True)
    label_smoothing: float = allowed(0.0, float, 0, 0.5)

    refers: ClassVar[bool] = True

    def scores(self, pair: Preference) -> Floats:
        """The probability that ``pair`` is the right way round."""
        given = pair.probability
        return np.array([1 - self.label_smoothing if given is None else given], np.float32)

    def losses(
        self, chosen: AnswerLogProbs, rejected: AnswerLogProbs, scores: Tensor | None
    ) -> Tensor:
        assert scores is not None
        margins, right = self.beta * (chosen.ratios - rejected.ratios), scores[:, 0]
        return -right * F.logsigmoid(margins) - (1 - right) * F.logsigmoid(-margins)

    def rewards(self, answers: AnswerLogProbs) -> Tensor:
        return self.beta * answers.ratios


@dataclass(frozen=True)
class IPO(Preferences):
    """``beta``: the paper's tau; the margin that is aimed at is 1 / (2 beta) a token."""

    beta: float = allowed(0.1, float, 0, 100, above=True)

    refers: ClassVar[bool] = True

    def losses(
        self, chosen: AnswerLogProbs, rejected: AnswerLogProbs, scores: Tensor | None
    ) -> Tensor:
        del scores
        margins = chosen.ratios / chosen.tokens - rejected.ratios / rejected.tokens
        return (margins - 1 / (2 * self.beta)) ** 2

    def rewards(self, answers: AnswerLogProbs) -> Tensor:
        return self.beta * answers.ratios / answers.tokens


@dataclass(frozen=True)
class ORPO(Preferences):
    """``beta``: the weight of the odds ratio, the paper's lambda."""

    beta: float = allowed(0.1, float, 0, 100, above=True)

    def losses(
        self, chosen: AnswerLogProbs, rejected: AnswerLogProbs, scores: Tensor | None
    ) -> Tensor:
        del scores
        odds = [side.means - _log_of_rest(side.means) for side in (chosen, rejected)]
        return -chosen.means - self.beta * F.logsigmoid(odds[0] - odds[1])

    def rewards(self, answers: AnswerLogProbs) -> Tensor:
        return self.beta * answers.means


@dataclass(frozen=True)
class SimPO(Preferences):
    """``beta``: the scale of the rewards. ``gamma``: by how much that of the chosen answer is to be
    higher."""

    beta: float = allowed(2.0, float, 0, 100, above=True)
    gamma: float = allowed(1.0, float, 0, 100)

    def losses(
        self, chosen: AnswerLogProbs, rejected: AnswerLogProbs, scores: Tensor | None
    ) -> Tensor:
        del scores
        return -F.logsigmoid(self.beta * (chosen.means - rejected.means) - self.gamma)

    def rewards(self, answers: AnswerLogProbs) -> Tensor:
        return self.beta * answers.means


def _log_of_rest(log_probs: Tensor) -> Tensor:
    """log(1 - e^x) for x < 0, by the formula that keeps the digits (Maechler, 2012). An answer that
    is certain has the odds of the greatest probability below 1."""
    below = log_probs.clamp(max=-torch.finfo(log_probs.dtype).eps)
    near = below > -0.6931471805599453
    # Each formula is given what it can bear, so that neither has a gradient that is not a number.
    of_near = torch.where(near, below, -0.5)
    of_far = torch.where(near, -1.0, below)
    return torch.where(near, (-torch.expm1(of_near)).log(), torch.log1p(-of_far.exp()))
