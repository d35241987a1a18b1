"""What both models' tensors say of answers and of a text: divergence, entropy, perplexity, and the
next token's probabilities. On the reference ops, in the precision that the weights have.

At each place of an answer the divergence is over the whole vocabulary, so of a sequence only the
states are needed and no logits are kept. Not covered: what is made of the sums (`lmstack.evals`).

Legend: N tokens of a varlen batch, V vocabulary, S places that predict a token of an answer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from lmstack.core import InputError, Message
from lmstack.evals.answers import AnswerScores, ModelAnswer, Pairing, Predictions, TextScores

if TYPE_CHECKING:
    from lmstack.model import Transformer
    from lmstack.registry import LoadedModel

__all__ = ["SideScorer", "difference_of"]

_PASS = 2048  # tokens of one pass
_LOGITS = 1 << 23  # of one model that are held at once
_WINDOW = 256  # tokens of a passage
Told = Callable[[int, int], None]


def difference_of(base: LoadedModel, tuned: LoadedModel) -> str | None:
    """Why the tokens of two models cannot be compared; None where they can."""
    one, other = base.tokenizer, tuned.tokenizer
    rows = [model.module.config.vocab_size for model in (base, tuned)]
    if rows[0] != rows[1]:
        return f"the vocabularies have {rows[0]:,} and {rows[1]:,} tokens"
    if one.vocab_size != other.vocab_size or any(
        one.token(i) != other.token(i) for i in range(one.vocab_size)
    ):
        return "the tokenizers differ"
    return None


@dataclass(frozen=True)
class _Places:
    """One sequence, and the places in it after which tokens of its answer come."""

    ids: tuple[int, ...]
    start: int
    stop: int


class SideScorer:
    """``base`` and ``tuned``: with the same tokens (`difference_of`). Both are held at once."""

    def __init__(self, base: LoadedModel, tuned: LoadedModel) -> None:
        problem = difference_of(base, tuned)
        if problem is not None:
            raise InputError(f"{base.name} and {tuned.name} cannot be scored together: {problem}")
        self._base, self._tuned = base, tuned
        self._rows = max(1, _LOGITS // base.module.config.vocab_size)

    def answers(
        self, pairings: Sequence[Pairing], told: Told = lambda _done, _total: None
    ) -> AnswerScores:
        """Over all answers of ``pairings``, which these models gave."""
        sums = np.zeros((6, len(pairings)))
        total, done = 2 * len(pairings), 0
        for number, pairing in enumerate(pairings):
            mine = [self._places(self._tuned, pairing.messages, a) for a in pairing.tuned]
            theirs = [self._places(self._base, pairing.messages, a) for a in pairing.base]
            sums[0:2, number] = self._divergence(mine)
            sums[2, number] = sum(each.stop - each.start for each in mine)
            sums[3, number] = len(mine)
            told(done := done + 1, total)
            sums[4, number] = self._entropy(theirs)
            sums[5, number] = sum(each.stop - each.start for each in theirs)
            told(done := done + 1, total)
        return AnswerScores(
            divergence=sums[0],
            tokens=sums[2],
            answers=sums[3],
            tuned_entropy=sums[1],
            base_entropy=sums[4],
            base_tokens=sums[5],
        )

    def text(self, text: str, told: Told = lambda _done, _total: None) -> TextScores:
        """Over a text that neither was tuned on, in passages of some hundred tokens."""
        windows = list(self._windows(text))
        if not windows:
            raise InputError("the held-out text has fewer than two tokens", param="text")
        sides: list[list[Predictions]] = [[], []]
        nll = np.zeros((2, len(windows)))
        for number, window in enumerate(windows):
            for side, model in enumerate((self._base, self._tuned)):
                nll[side, number], predicted = self._predictions(model.module, window)
                sides[side].append(predicted)
            told(number + 1, len(windows))
        tokens = np.array([len(window) - 1 for window in windows], np.float64)
        return TextScores(nll[0], nll[1], tokens, *sides)

    def _places(
        self, model: LoadedModel, messages: Sequence[Message], answer: ModelAnswer
    ) -> _Places:
        """A token that ended the answer is not among its ids, and was predicted all the same."""
        if model.template is None:
            raise InputError(f"{model.name} has no chat template", param="model")
        prompt = tuple(model.template.encode(messages, model.tokenizer))
        longest = model.module.config.max_positions
        stop = min(len(prompt) - 1 + answer.tokens, longest)
        return _Places((*prompt, *answer.ids)[:longest], len(prompt) - 1, stop)

    @torch.inference_mode()
    def _divergence(self, sequences: Sequence[_Places]) -> tuple[float, float]:
        """Sums of KL(tuned || base) and of the tuned model's entropy, in nats."""
        divergence = entropy = 0.0
        tuned, base = self._tuned.module, self._base.module
        for states in zip(
            self._states(tuned, sequences), self._states(base, sequences), strict=True
        ):
            ours, theirs = (
                module.logits(state).float().log_softmax(-1)
                for module, state in zip((tuned, base), states, strict=True)
            )
            shares = ours.exp()
            divergence += float((shares * (ours - theirs)).sum(dtype=torch.float64))
            entropy -= float((shares * ours).sum(dtype=torch.float64))
        return max(divergence, 0.0), entropy

    @torch.inference_mode()
    def _entropy(self, sequences: Sequence[_Places]) -> float:
        found = 0.0
        for state in self._states(self._base.module, sequences):
            logs = self._base.module.logits(state).float().log_softmax(-1)
            found -= float((logs.exp() * logs).sum(dtype=torch.float64))
        return found

    def _states(self, module: Transformer, sequences: Sequence[_Places]) -> list[Tensor]:
        """(S, D), some rows at a time, of all places of ``sequences``."""
        found: list[Tensor] = []
        for group in _groups(sequences):
            ids = torch.tensor([i for each in group for i in each.ids], device=module.device)
            lengths = [len(each.ids) for each in group]
            hidden = module.varlen_hidden(ids, lengths)
            starts = np.cumsum([0, *lengths]).tolist()
            wanted = [
                hidden[start + each.start : start + each.stop]
                for start, each in zip(starts, group, strict=False)
            ]
            found += torch.split(torch.cat(wanted), self._rows)
        return found

    def _windows(self, text: str) -> Iterator[list[int]]:
        """Each begins with the token that every prompt begins with."""
        tokenizer = self._base.tokenizer
        ids = tokenizer.encode(text)
        start, rest = (ids[:1], ids[1:]) if tokenizer.adds_bos else ([], ids)
        longest = min(model.module.config.max_positions for model in (self._base, self._tuned))
        size = min(_WINDOW, longest) - len(start)
        for place in range(0, len(rest), size):
            window = [*start, *rest[place : place + size]]
            if len(window) > 1:
                yield window

    @torch.inference_mode()
    def _predictions(self, module: Transformer, window: Sequence[int]) -> tuple[float, Predictions]:
        """The negative log-likelihood of a passage, and what was predicted at each place."""
        nll, sure, right = 0.0, [], []
        targets = torch.split(torch.tensor(window[1:], device=module.device), self._rows)
        states = self._states(module, [_Places(tuple(window), 0, len(window) - 1)])
        for state, target in zip(states, targets, strict=True):
            logs = module.logits(state).float().log_softmax(-1)
            nll -= float(logs.gather(-1, target[:, None]).sum(dtype=torch.float64))
            best, place = logs.max(-1)
            sure.append(best.exp().double().cpu().numpy())
            right.append((place == target).double().cpu().numpy())
        return nll, Predictions(np.concatenate(sure), np.concatenate(right))


def _groups(sequences: Sequence[_Places]) -> Iterator[list[_Places]]:
    """Sequences that fit into one pass together."""
    group: list[_Places] = []
    for each in sequences:
        if group and sum(len(other.ids) for other in group) + len(each.ids) > _PASS:
            yield group
            group = []
        group.append(each)
    if group:
        yield group
