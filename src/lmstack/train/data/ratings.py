"""Ratings of answers to preference pairs.

Two answers to the same prompt are compared by those raters alone who rated both, because raters
use a scale differently; the margin is the mean of their differences. Ratings without a rater are
one rater's. Does not cover what a row of ratings looks like (`formats.ratings_of`).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from lmstack.core import Config, Message, allowed
from lmstack.train.data.formats import Preference, Rated

__all__ = ["PairedRatings", "RatingConfig", "paired"]

Turns = tuple[Message, ...]
Ratings = Mapping[str, float]


@dataclass(frozen=True)
class RatingConfig(Config):
    """``min_margin``: two answers whose ratings differ by less are a tie; equal ones always are.
    ``per_prompt``: so many pairs of a prompt at most, those with the largest margins."""

    min_margin: float = allowed(0.0, float, 0, 1e300)
    per_prompt: int = allowed(1_000_000, int, 1, 1_000_000)


@dataclass
class PairedRatings:
    """``unpaired``: answers that could be compared with no other. ``ties``: comparisons that no
    side won. ``disputed``: those in which raters disagreed about which is better."""

    pairs: list[Preference] = field(default_factory=list)
    answers: int = 0
    unpaired: int = 0
    ties: int = 0
    disputed: int = 0


def paired(rated: Iterable[Rated], config: RatingConfig | None = None) -> PairedRatings:
    """Pairs of the answers to each prompt, in the order in which prompts first come. Holds all
    of ``rated`` in memory."""
    config = config or RatingConfig()
    by_prompt: dict[Turns, dict[Turns, dict[str, list[float]]]] = {}
    for each in rated:
        answers = by_prompt.setdefault(each.prompt, {})
        answers.setdefault(each.answer, {}).setdefault(each.rater, []).append(each.rating)
    found = PairedRatings()
    for prompt, answers in by_prompt.items():
        means = {
            answer: {rater: sum(given) / len(given) for rater, given in ratings.items()}
            for answer, ratings in answers.items()
        }
        _pair(prompt, means, config, found)
    return found


def _pair(
    prompt: Turns, means: Mapping[Turns, Ratings], config: RatingConfig, found: PairedRatings
) -> None:
    compared: set[Turns] = set()
    pairs: list[Preference] = []
    for one, other in itertools.combinations(means, 2):
        differences = list(_differences(means[one], means[other]))
        if not differences:
            continue
        compared |= {one, other}
        found.disputed += min(differences) < 0 < max(differences)
        margin = sum(differences) / len(differences)
        if margin == 0 or abs(margin) < config.min_margin:
            found.ties += 1
            continue
        chosen, rejected = (one, other) if margin > 0 else (other, one)
        pairs.append(Preference(prompt, chosen, rejected, margin=abs(margin)))
    pairs.sort(key=lambda pair: -(pair.margin or 0.0))
    found.pairs += pairs[: config.per_prompt]
    found.answers += len(means)
    found.unpaired += len(means) - len(compared)


def _differences(one: Ratings, other: Ratings) -> Iterator[float]:
    """What each rater of both gave the one above the other."""
    return (rating - other[rater] for rater, rating in one.items() if rater in other)
