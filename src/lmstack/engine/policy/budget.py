"""How many prompt tokens a step may take on without keeping running streams waiting.

A stream waits for its next token as long as a step lasts, so prompts get what is left of a target
after the decodes. What things cost is learned from the steps themselves: it differs by a hundred
times between models and machines, and by five times between the first and the last chunk of a
long prompt.

Not covered: whose prompt it is (`fairness`, `scheduler`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence as Seq

__all__ = ["StepBudget", "StepCost"]

# A step's share of prompts where decodes alone reach the target: prompts must get on too.
PROMPT_SHARE = 0.25
# Fewer tokens hardly shorten a step, and prompts would take for ever on a slow machine.
LEAST_CHUNK = 16
# Units that give the costs about the same size, and the first guess of each: fixed, of tokens, of
# streams, of places.
TOKENS, STREAMS, PLACES = 100.0, 100.0, 100_000.0
FIRST_GUESS = (0.01, 0.1, 0.05, 0.01)
# Spread of a measured step, and what a cost may drift between steps, as shares of them.
NOISE, DRIFT = 0.2, 0.1
# Machines stall: beyond this factor a measurement says nothing about costs.
OUTLIER = 3.0
WARM_UP = 3


class StepCost:
    """Seconds of a step = fixed + a cost for each token, for each stream that gets its next one,
    and for each place: every token adds as many as it attends to.

    Learned by recursive least squares on a random walk (a Kalman filter with four states), so
    recent steps count most and a machine that slows down is noticed within some steps.
    """

    def __init__(self) -> None:
        self._costs = list(FIRST_GUESS)
        self._spread = [[0.0] * len(FIRST_GUESS) for _ in FIRST_GUESS]  # covariance of the costs
        for i, guess in enumerate(FIRST_GUESS):
            self._spread[i][i] = (3 * guess) ** 2
        self._num_seen = 0

    def seconds(self, tokens: float, streams: float, places: float) -> float:
        return _dot(self._costs, _units(tokens, streams, places))

    def tokens_within(self, seconds: float, start: int) -> int:
        """The longest chunk from place ``start`` on that adds no more than ``seconds``."""
        _, per_token, _, per_place = self._costs
        each = per_token / TOKENS + per_place / PLACES * start
        curve = per_place / PLACES / 2
        if seconds <= 0:
            return 0
        # Of curve * n**2 + each * n = seconds, in the form that is exact for a small curve.
        root = each + math.sqrt(each * each + 4 * curve * seconds)
        return int(2 * seconds / root) if root > 0 else 2**31

    def observe(self, seconds: float, tokens: float, streams: float, places: float) -> None:
        """A step took ``seconds``."""
        x = _units(tokens, streams, places)
        guess = _dot(self._costs, x)
        if self._num_seen >= WARM_UP:
            seconds = min(seconds, OUTLIER * guess)
        self._num_seen += 1
        P = self._spread
        for i, cost in enumerate(self._costs):
            # One that is 0 may become more, and one that steps say nothing about is not forgotten.
            size = max(cost, guess / max(x[i], 1.0) / 10)
            if P[i][i] < size * size:
                P[i][i] += (DRIFT * size) ** 2
        Px = [_dot(row, x) for row in P]
        scale = _dot(x, Px) + (NOISE * max(guess, seconds)) ** 2
        if scale == 0:  # it took no time, and nothing else was expected
            return
        wrong = seconds - guess
        for i, row in enumerate(P):
            gain = Px[i] / scale
            self._costs[i] = max(0.0, self._costs[i] + gain * wrong)
            for j, other in enumerate(Px):
                row[j] -= gain * other


class StepBudget:
    """`begin` a step with its decodes, ask what `fits` and `take` chunk by chunk, `observe` how
    long it took. ``max_tokens`` bounds any step, ``target_s`` those in which streams wait."""

    def __init__(self, max_tokens: int, target_s: float) -> None:
        self._max_tokens, self._target_s = max_tokens, target_s
        self.cost = StepCost()
        self.tokens_left = 0
        self._seconds_left = math.inf
        self._tokens = self._streams = self._places = 0

    def begin(self, num_decoding: int, places: int) -> None:
        """``places``: those that the decoding streams attend to, together."""
        self._tokens, self._streams, self._places = num_decoding, num_decoding, places
        self.tokens_left = self._max_tokens - num_decoding
        self._seconds_left = math.inf
        if num_decoding:
            decodes = self.cost.seconds(num_decoding, num_decoding, places)
            least = PROMPT_SHARE * max(decodes, self._target_s)
            self._seconds_left = max(self._target_s - decodes, least)

    def hurry(self) -> None:
        """Somebody waits for what the step has already: what is added to it keeps to the target,
        as beside decodes."""
        if self._seconds_left == math.inf:
            taken = self.cost.seconds(self._tokens, self._streams, self._places)
            self._seconds_left = max(self._target_s - taken, PROMPT_SHARE * self._target_s)

    def is_within_target(self, streams: int, places: int) -> bool:
        """Whether a step that gives ``streams`` their next token, who look at ``places``
        together, keeps to the target."""
        within = self.cost.seconds(streams, streams, places) <= self._target_s
        return within and streams <= self._max_tokens

    def fits(self, start: int) -> int:
        """Tokens that a chunk from place ``start`` on may have; 0 once the step is full."""
        if self.tokens_left <= 0 or self._seconds_left <= 0:
            return 0
        if self._seconds_left == math.inf:
            return self.tokens_left
        within = self.cost.tokens_within(self._seconds_left, start)
        return min(self.tokens_left, max(LEAST_CHUNK, within))

    def spare(self, start: int) -> int:
        """Tokens from place ``start`` on that nobody waits for: as many as leave the step in time,
        and maybe none."""
        if self._seconds_left == math.inf:
            return self.tokens_left
        return min(self.tokens_left, self.cost.tokens_within(self._seconds_left, start))

    def take(self, start: int, count: int, *, drawn: bool = False) -> None:
        """``count`` tokens from place ``start`` on are part of the step; ``drawn``: what follows
        each of them may be drawn, as for a stream."""
        places = count * start + count * (count + 1) // 2
        streams = count if drawn else 0
        self._tokens += count
        self._streams += streams
        self._places += places
        self.tokens_left -= count
        self._seconds_left -= self.cost.seconds(count, streams, places) - self.cost.seconds(0, 0, 0)

    def observe(self, seconds: float) -> None:
        self.cost.observe(seconds, self._tokens, self._streams, self._places)


def _units(tokens: float, streams: float, places: float) -> tuple[float, float, float, float]:
    return 1.0, tokens / TOKENS, streams / STREAMS, places / PLACES


def _dot(a: Seq[float], b: Seq[float]) -> float:
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2] + a[3] * b[3]
