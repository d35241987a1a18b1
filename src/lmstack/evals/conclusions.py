"""What a comparison says, in sentences: what was won, what was given up, and what was hacked.

A change is said where its interval leaves out nought. Not covered: whether it was worth it.
"""

from __future__ import annotations

from functools import partial

from lmstack.evals.comparison import Comparison
from lmstack.evals.figures import Figure
from lmstack.evals.statistics import Estimate

__all__ = ["change_of", "conclusions", "value_of"]

# Of these more is worse; of those in the second less is.
_COSTS = ("perplexity", "calibration", "self-bleu", "refusals", "cut", "repetition")
_LOSSES = ("distinct-1", "distinct-2", "entropy")
_NUMBERS = {"share": "{:.1%}", "tokens": "{:,.1f}", "nats": "{:.3f}", "perplexity": "{:,.2f}"}
_WORDS = {"tokens": " tokens", "nats": " nats"}


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
    return [*_hacking(found), *_won(found), *_given_up(found)]


def _hacking(found: Comparison) -> list[str]:
    if "reward hacking" in found.unmeasured:
        return [f"Reward hacking was not looked for: {found.unmeasured['reward hacking']}."]
    if not found.named:
        return [
            f"No reward hacking was found: {len(found.looked)} traits of length, format and"
            " wording were looked at, and none of them both rose and is paid for by itself."
        ]
    return [f"Reward hacking. {each.sentence}" for each in found.named]


def _won(found: Comparison) -> list[str]:
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
    if "judge" in found.wins and _wins(found.wins.get("reward")) and not _wins(found.wins["judge"]):
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


def _wins(found: Estimate | None) -> bool:
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
