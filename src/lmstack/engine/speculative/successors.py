"""Drafts of structured text: what a grammar forces, and between it what came there the last time.

Under a grammar, text that leaves no choice (names of fields) alternates with text that leaves a
small one (white space, a colon with a quote or without), and a model makes the same choice again
and again. So for each context the token that followed it is kept, with how often that was right. A
context is the token before the last forced text and those since, as long as they are few, else the
last token.

Not covered: whether a draft is worth computing (`speculate`).
"""

from __future__ import annotations

from collections.abc import Sequence as Seq
from dataclasses import dataclass, field

from lmstack.core import LmstackError
from lmstack.engine.constraints.grammar import GrammarMatcher
from lmstack.engine.speculative.acceptance import Acceptance

__all__ = ["FORCED", "StructureDrafts"]

# Classes of agreement (`Acceptance`) that stand for forced tokens, for what follows soon after such
# text, and for what follows elsewhere.
FORCED, SOON, ELSEWHERE = 16, 6, 0
# Of a draft: a grammar may force thousands of tokens, and a step has no room for them.
LONGEST = 32
# Tokens after forced text that a context may have; further on the last one has to do.
NEAR = 3
Context = tuple[int, ...]
# Tries that the belief about all successors counts as for one, and how long a try counts.
OTHERS, KEEP = 1.0, 1 - 1 / 8


@dataclass
class _Successor:
    token: int
    kind: int
    hits: float = 0.0
    tries: float = 0.0


@dataclass
class StructureDrafts:
    """Of one sequence. ``rates``: how often tokens of each class were right."""

    rates: Acceptance
    _successors: dict[Context, _Successor] = field(default_factory=dict)
    # Of the last draft: the token at each place and whether it was forced.
    _drafted: dict[int, tuple[int, bool]] = field(default_factory=dict)
    _known: int = 0
    _since: int = NEAR + 1  # tokens after the last forced text
    _lead: int = -1  # the token before it

    def see(self, tokens: Seq[int], num_given: int) -> None:
        """Learn from what the text has come to hold; the first ``num_given`` are no output."""
        as_drafted = True
        for place in range(max(self._known, num_given), len(tokens)):
            token, is_forced = self._drafted.get(place, (tokens[place], False))
            right = as_drafted and token == tokens[place]
            if as_drafted and is_forced:
                self.rates.observe(FORCED, right)
                self._lead = self._lead if self._since == 0 else tokens[place - 1]
                self._since = 0 if right else NEAR + 1
            else:
                if place > num_given:
                    before = tokens[max(place - NEAR, 0) : place]
                    self._learn(_context(before, self._since, self._lead), tokens[place])
                self._since += 1
            as_drafted = right
        self._known = len(tokens)

    def follows(
        self, matcher: GrammarMatcher, tokens: Seq[int], count: int, least: float
    ) -> tuple[tuple[int, ...], tuple[float, ...]]:
        """Up to ``count`` tokens after ``tokens`` and their rates; none is guessed whose chance,
        with all before it, is not above ``least``."""
        self._drafted.clear()
        draft: list[int] = []
        found: list[float] = []
        chance, since, lead = 1.0, self._since, self._lead
        ahead, count = _Ahead(matcher), min(count, LONGEST)
        while len(draft) < count:
            # Forced text has just been taken to its end.
            new = () if draft and not since else ahead.forced(draft)[: count - len(draft)]
            rate, is_forced = self.rates.rate(FORCED), bool(new)
            text = [*tokens[-NEAR:], *draft[-NEAR:]]
            if not is_forced and (known := self._successors.get(_context(text, since, lead))):
                rate = self._rate(known)
                if chance * rate > least and ahead.admits(draft, known.token):
                    new = (known.token,)
            if not new:
                break
            for place, token in enumerate(new, len(tokens) + len(draft)):
                self._drafted[place] = token, is_forced
            chance *= rate ** len(new)
            draft += new
            found += [rate] * len(new)
            lead = text[-1] if is_forced and since else lead
            since = 0 if is_forced else since + 1
        return tuple(draft), tuple(found)

    def _learn(self, context: Context, token: int) -> None:
        known = self._successors.get(context)
        if known is None:
            kind = SOON if len(context) > 1 else ELSEWHERE
            self._successors[context] = _Successor(token, kind)
            return
        self.rates.observe(known.kind, known.token == token)
        known.tries = KEEP * known.tries + 1
        known.hits = KEEP * known.hits + (known.token == token)
        known.token = token

    def _rate(self, known: _Successor) -> float:
        return (known.hits + OTHERS * self.rates.rate(known.kind)) / (known.tries + OTHERS)


class _Ahead:
    """The grammar behind a draft: a copy that is made once something is guessed, and that takes
    tokens only as it is asked. It says no more once a token is too much for it."""

    def __init__(self, matcher: GrammarMatcher) -> None:
        self._matcher, self._own, self._taken, self._over = matcher, False, 0, False

    def forced(self, draft: Seq[int]) -> tuple[int, ...]:
        return self._matcher.forced() if self._reaches(draft) else ()

    def admits(self, draft: Seq[int], token: int) -> bool:
        return self._reaches(draft) and self._matcher.admits([token]) == 1

    def _reaches(self, draft: Seq[int]) -> bool:
        if self._taken < len(draft) and not self._own:
            self._matcher, self._own = self._matcher.fork(), True
        try:
            for token in draft[self._taken :]:
                self._matcher.accept(token)
        except LmstackError:  # not in the grammar, or too complex there
            self._over = True
        self._taken = len(draft)
        self._over = self._over or (self._own and self._matcher.finished)
        return not self._over


def _context(tokens: Seq[int], since: int, lead: int) -> Context:
    """Of what comes after ``tokens``, of which ``since`` lie after forced text, ``lead`` before."""
    return (lead, -1, *tokens[len(tokens) - since :]) if since <= NEAR else (tokens[-1],)
