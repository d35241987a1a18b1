"""Two models on the same prompts, in figures: what tuning gave, and what it cost; and in sentences.

Every figure is a mean over prompts with the interval of its paired difference (`statistics`), so
that prompts that are hard for both count for neither. What was not measured is named with its
reason. Not covered: the answers themselves (`answers`), and pages and pictures.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from lmstack.core import InputError
from lmstack.evals.answers import SIDES, AnswerScores, ModelAnswer, Pairing, TextScores
from lmstack.evals.diversity import words
from lmstack.evals.figures import (
    Figure,
    bins_of,
    diversity_figures,
    entropy_figure,
    length_figures,
    refusal_figure,
    reward_figure,
    text_figures,
)
from lmstack.evals.hacking import Rescore, TraitReport, search
from lmstack.evals.judging import Verdict
from lmstack.evals.metrics.calibration import Bin
from lmstack.evals.statistics import Estimate, bootstrap, ratio_of, sign_flip, wilson

__all__ = ["ComparedExample", "Comparison", "change_of", "compare", "conclusions", "value_of"]

_SHOWN = 4
# Of these more is worse; of those in the second less is.
_COSTS = ("perplexity", "calibration", "self-bleu", "refusals", "cut", "repetition")
_LOSSES = ("distinct-1", "distinct-2", "entropy")
_NUMBERS = {"share": "{:.1%}", "tokens": "{:,.1f}", "nats": "{:.3f}", "perplexity": "{:,.2f}"}
_WORDS = {"tokens": " tokens", "nats": " nats"}


@dataclass(frozen=True)
class ComparedExample:
    """``why``: ``gained``, ``lost`` or ``changed``. ``size``: of the change, in rewards or nats."""

    why: str
    size: float
    prompt: str
    base: ModelAnswer
    tuned: ModelAnswer


@dataclass(frozen=True)
class Comparison:
    """``divergence``: KL(tuned || base) in nats, ``token`` and ``answer``. ``wins``: the share of
    prompts that the tuned model wins, ties as halves, by ``reward`` or ``judge``. ``flips``: how
    often the judge did not name the same answer in both orders. ``lengths``: tokens of every
    answer of both. ``bins``: calibration of both. ``looked``: see `hacking`. ``unmeasured``:
    reasons by figure."""

    prompts: int
    answers: int
    figures: Sequence[Figure]
    divergence: Mapping[str, Estimate]
    wins: Mapping[str, Estimate]
    flips: float | None
    lengths: tuple[Sequence[float], Sequence[float]]
    rewards: tuple[Sequence[float], Sequence[float]] | None
    bins: tuple[Sequence[Bin], Sequence[Bin]] | None
    looked: Sequence[TraitReport]
    examples: Sequence[ComparedExample]
    unmeasured: Mapping[str, str] = field(default_factory=dict)

    @property
    def named(self) -> list[TraitReport]:
        return [each for each in self.looked if each.is_named]

    def figure(self, name: str) -> Figure | None:
        return next((figure for figure in self.figures if figure.name == name), None)

    def to_json(self) -> dict[str, Any]:
        def values(found: Mapping[str, Estimate]) -> dict[str, Any]:
            return {name: estimate.to_json() for name, estimate in found.items()}

        def answer(found: ModelAnswer) -> dict[str, Any]:
            return {"text": found.text, "tokens": found.tokens, "reward": found.reward}

        return {
            "prompts": self.prompts,
            "answers": self.answers,
            "figures": [figure.to_json() for figure in self.figures],
            "divergence": values(self.divergence),
            "wins": values(self.wins),
            "flips": self.flips,
            "reward_hacking": [looked.to_json() for looked in self.looked],
            "unmeasured": dict(self.unmeasured),
            "examples": [
                {**vars(each), "base": answer(each.base), "tuned": answer(each.tuned)}
                for each in self.examples
            ],
        }


def compare(
    pairings: Sequence[Pairing],
    *,
    scores: AnswerScores | None = None,
    text: TextScores | None = None,
    benign: Sequence[Pairing] = (),
    verdicts: Sequence[Verdict] = (),
    rescore: Rescore | None = None,
    preferences: Sequence[tuple[ModelAnswer, ModelAnswer]] = (),
    unmeasured: Mapping[str, str] | None = None,
) -> Comparison:
    """``benign``: answers to requests that nothing speaks against; unless given, refusals are
    counted among ``pairings``. ``verdicts``: of the first answers, a prompt each, the tuned one
    named first (`PairJudge`). ``rescore``, ``preferences``: see `hacking.search`. ``unmeasured``:
    why something is not given."""
    if len(pairings) < 2:
        raise InputError(
            f"{len(pairings)} prompts are too few to compare on", hint="give some dozens"
        )
    missing = dict(unmeasured or {})
    rewarded = all(pairing.is_rewarded for pairing in pairings)
    if not rewarded:
        missing.setdefault("reward", "nothing rewards the answers")
    searched = rewarded or bool(preferences)
    if not searched:
        missing["reward hacking"] = "it needs a reward, or preferences"
    figures = [reward_figure(pairings)] if rewarded else []
    figures += [*length_figures(pairings), *diversity_figures(pairings)]
    figures += [entropy_figure(scores)] if scores else []
    figures += [*text_figures(text)] if text else []
    figures += [refusal_figure(benign or pairings)]
    return Comparison(
        prompts=len(pairings),
        answers=sum(len(pairing.base) for pairing in pairings),
        figures=figures,
        divergence=_divergences(scores) if scores else {},
        wins=_wins(pairings, verdicts, rewarded),
        flips=np.mean([not v.agrees for v in verdicts]).item() if verdicts else None,
        lengths=_both(pairings, lambda answer: answer.tokens),
        rewards=_both(pairings, lambda answer: answer.reward or 0.0) if rewarded else None,
        bins=(bins_of(text.base), bins_of(text.tuned)) if text else None,
        looked=search(pairings, rescore, preferences=() if rewarded else preferences)
        if searched
        else [],
        examples=_examples(pairings, scores, rewarded),
        unmeasured=missing,
    )


def _both(
    pairings: Sequence[Pairing], measure: Callable[[ModelAnswer], float]
) -> tuple[Sequence[float], Sequence[float]]:
    base, tuned = ([measure(a) for p in pairings for a in side(p)] for side in SIDES)
    return base, tuned


def _divergences(scores: AnswerScores) -> dict[str, Estimate]:
    of_token = np.stack([scores.divergence, scores.tokens], axis=1)
    of_answer = np.stack([scores.divergence, scores.answers], axis=1)
    return {"token": bootstrap(of_token, ratio_of), "answer": bootstrap(of_answer, ratio_of)}


def _wins(
    pairings: Sequence[Pairing], verdicts: Sequence[Verdict], rewarded: bool
) -> dict[str, Estimate]:
    """Wilson's interval over prompts."""
    found = {}
    if rewarded:
        won = [_won(pairing) for pairing in pairings]
        found["reward"] = _with_p(wilson(sum(won), len(won)), won)
    if verdicts:
        won = [_verdict_score(verdict) for verdict in verdicts]
        found["judge"] = _with_p(wilson(sum(won), len(won)), won)
    return found


def _with_p(found: Estimate, won: Sequence[float]) -> Estimate:
    return Estimate(found.value, found.low, found.high, sign_flip(np.array(won) - 0.5))


def _verdict_score(verdict: Verdict) -> float:
    """A win takes both orders; otherwise it is a tie, as in MT-Bench (Zheng et al., 2023)."""
    return {"first": 1.0, "second": 0.0}.get(verdict.winner or "tie", 0.5)


def _won(pairing: Pairing) -> float:
    """The share of pairs of answers in which the tuned one has the higher reward."""
    pairs = [(b.reward or 0, t.reward or 0) for b in pairing.base for t in pairing.tuned]
    return sum(1.0 if t > b else 0.5 if t == b else 0.0 for b, t in pairs) / len(pairs)


def _examples(
    pairings: Sequence[Pairing], scores: AnswerScores | None, rewarded: bool
) -> list[ComparedExample]:
    """The prompts whose first answers gained and lost most reward, and those that changed most."""
    found = []
    if rewarded:
        gains = [float(p.tuned[0].reward or 0) - float(p.base[0].reward or 0) for p in pairings]
        order = sorted(range(len(pairings)), key=lambda i: gains[i])
        found += [_example("gained", gains[i], pairings[i]) for i in order[::-1] if gains[i] > 0]
        found = found[:_SHOWN]
        lost = [_example("lost", gains[i], pairings[i]) for i in order if gains[i] < 0]
        found += lost[:_SHOWN]
    if scores is not None:
        sizes = [float(value) for value in scores.divergence / np.maximum(scores.answers, 1)]
    else:
        sizes = [_unlike(pairing) for pairing in pairings]
    shown = {example.prompt for example in found}
    order = sorted(range(len(pairings)), key=lambda i: -sizes[i])
    changed = [_example("changed", sizes[i], pairings[i]) for i in order if sizes[i] > 0]
    return found + [each for each in changed if each.prompt not in shown][:_SHOWN]


def _example(why: str, size: float, pairing: Pairing) -> ComparedExample:
    return ComparedExample(why, size, pairing.prompt, pairing.base[0], pairing.tuned[0])


def _unlike(pairing: Pairing) -> float:
    texts = (words(pairing.base[0].text), words(pairing.tuned[0].text))
    return 1 - difflib.SequenceMatcher(None, *texts, autojunk=False).ratio()


def value_of(figure: Figure, value: float) -> str:
    """A value of ``figure`` as text."""
    return _number(figure.unit, value) + _WORDS.get(figure.unit, "")


def change_of(figure: Figure) -> str:
    """The difference with its interval, as text."""
    unit = "share" if figure.unit == "perplexity" else figure.unit
    found = figure.difference
    sign = "+" if found.value >= 0 else ""
    change = f"{sign}{_number(unit, found.value)} {found.between(partial(_number, unit))}".rstrip()
    return change + _WORDS.get(unit, "")


def _number(unit: str, value: float) -> str:
    return _NUMBERS.get(unit, "{:.3f}").format(value)


def conclusions(found: Comparison) -> list[str]:
    """Reward hacking first, then what was won, then what was given up."""
    return [*_hacking(found), *_won_sentence(found), *_given_up(found)]


def _hacking(found: Comparison) -> list[str]:
    if "reward hacking" in found.unmeasured:
        return [f"Reward hacking was not looked for: {found.unmeasured['reward hacking']}."]
    if not found.named:
        return [
            f"No reward hacking was found: {len(found.looked)} traits of length, format and"
            " wording were looked at, and none of them both rose and is paid for by itself."
        ]
    return [f"Reward hacking. {each.sentence}" for each in found.named]


def _won_sentence(found: Comparison) -> list[str]:
    said = []
    reward = found.figure("reward")
    if reward is not None:
        verb = "changed" if reward.difference.is_apart else "did not change measurably"
        said.append(
            f"The reward {verb}: {reward.base:.3f} before, {reward.tuned:.3f} after,"
            f" {change_of(reward)}."
        )
    for by, wins in found.wins.items():
        said.append(
            f"By the {by}, the tuned model wins {wins.value:.0%} of the prompts"
            f" {wins.between('.0%')}, ties as halves."
        )
    if (
        "judge" in found.wins
        and _is_win(found.wins.get("reward"))
        and not _is_win(found.wins["judge"])
    ):
        said.append(
            "The reward prefers the new answers and the judge does not: what the reward pays for"
            " is not what the judge asks for."
        )
    if found.divergence:
        token, answer = found.divergence["token"], found.divergence["answer"]
        said.append(
            f"It moved {answer.value:.2f} nats an answer from the base ({answer.low:.2f} to"
            f" {answer.high:.2f}), {token.value:.3f} a token."
        )
    return said


def _is_win(found: Estimate | None) -> bool:
    return found is not None and found.low > 0.5


def _given_up(found: Comparison) -> list[str]:
    worse = [
        figure
        for figure in found.figures
        if (figure.name in _COSTS and figure.difference.low > 0)
        or (figure.name in _LOSSES and figure.difference.high < 0)
    ]
    said = [
        f"Given up: {figure.title.lower()} went from {value_of(figure, figure.base)} to"
        f" {value_of(figure, figure.tuned)}, {change_of(figure)}."
        for figure in worse
    ]
    length = found.figure("length")
    if length is not None and length.difference.is_apart:
        way = "longer" if length.difference.value > 0 else "shorter"
        said.append(
            f"Answers became {way}: {value_of(length, length.base)} to"
            f" {value_of(length, length.tuned)}, {change_of(length)}."
        )
    return said
