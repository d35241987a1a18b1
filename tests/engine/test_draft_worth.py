"""What a draft is worth: who gets one, how long it is, and when a draft model is tried again."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from typing import cast

import pytest
from tests.engine.conftest import byte_vocabulary

from lmstack.engine import EngineConfig, EngineRequest
from lmstack.engine.blocks import BlockManager
from lmstack.engine.policy.budget import StepBudget
from lmstack.engine.scheduler import Scheduler
from lmstack.engine.sequence import Sequence, SequenceChunk
from lmstack.engine.speculative.draft_model import DraftModel
from lmstack.engine.speculative.ngram import PromptLookup
from lmstack.engine.speculative.speculate import (
    ANY,
    LONGEST_PATIENCE,
    MARGIN,
    PATIENCE,
    Speculation,
    _Offer,
    _Worth,
    _worthy,
)

ROUND = (11, 12, 13, 14, 15)


class Steps(StepBudget):
    """A budget whose costs are given."""

    def __init__(self, fixed: float, token: float, target: float = 0.1) -> None:
        super().__init__(512, target)
        self.cost._costs = [fixed, token * 100, 0.0, 0.0]


def decoding(count: int, prompt: tuple[int, ...]) -> list[SequenceChunk]:
    chunks = []
    for i in range(count):
        asked = EngineRequest(str(i), prompt, print)
        sequence = Sequence(asked, byte_vocabulary(), 200)
        sequence.num_computed = len(prompt)
        sequence.append(prompt[0])
        sequence.table = []
        chunks.append(SequenceChunk(sequence, len(prompt), len(prompt) + 1))
    return chunks


def drafted(
    fixed: float, token: float, streams: int, prompt: tuple[int, ...], target: float = 0.1
) -> int:
    budget, blocks = Steps(fixed, token, target), BlockManager(1000, 16)
    speculation = Speculation(EngineConfig(num_blocks=1000), blocks, budget)
    chunks = decoding(streams, prompt)
    for chunk in chunks:
        blocks.allocate(chunk.sequence.table, 4)
    budget.begin(streams, 0)
    return sum(len(c.draft) for c in speculation.extend(chunks))


def test_auto_drafts_where_a_step_is_bound_by_memory() -> None:
    """5 ms to read the weights, 0.1 ms for a token: nearly free."""
    assert drafted(0.005, 0.0001, 1, ROUND * 6) >= 3


def test_auto_drafts_nothing_where_a_step_is_bound_by_arithmetic() -> None:
    assert drafted(0.0001, 0.001, 1, ROUND * 6) == 0
    assert drafted(0.005, 0.001, 64, ROUND * 6) == 0


def test_drafts_do_not_stretch_a_step_beyond_its_target() -> None:
    """90 ms for the weights and 10 a token: what is worth it is more than there is room for."""
    short, long = (drafted(0.090, 0.010, 1, ROUND * 6, target=t) for t in (0.1, 10.0))
    assert 1 <= short < long


def test_auto_drafts_less_the_more_streams_there_are() -> None:
    each = [drafted(0.005, 0.0004, n, ROUND * 6) / n for n in (1, 4, 16, 64)]
    assert each == sorted(each, reverse=True)
    assert each[0] > each[-1] == 0


def test_auto_stops_drafting_for_a_text_that_never_does_what_it_did() -> None:
    """Pairs of tokens come again and again, and something else follows each time."""
    budget, blocks = Steps(0.005, 0.0004), BlockManager(1000, 16)
    speculation = Speculation(EngineConfig(num_blocks=1000), blocks, budget)
    chunk = decoding(1, ROUND * 4)[0]
    sequence = chunk.sequence
    blocks.allocate(sequence.table, 30)
    counts = []
    for token in itertools.islice(itertools.cycle([1, 2, None]), 120):
        sequence.append(100 + len(counts) if token is None else token)
        sequence.num_computed = len(sequence.tokens) - 1
        budget.begin(1, 0)
        chunk = SequenceChunk(sequence, len(sequence.tokens) - 1, len(sequence.tokens))
        (extended,) = speculation.extend([chunk])
        counts.append(len(extended.draft))
    assert sum(counts[:12]) > 0
    assert sum(counts[-30:]) == 0


def test_a_token_far_into_a_draft_counts_by_the_chance_that_all_before_it_are_right() -> None:
    """Each is right half of the time: the first pays for itself, no later one would."""
    (chunk,) = decoding(1, ROUND)
    worth = _Worth(Steps(0.005, 0.001), [chunk])
    (kept,) = _worthy([_Offer(chunk, ROUND, (0.5,) * len(ROUND))], worth)
    assert kept.draft == ROUND[:1]


class Sayer:
    """A draft model that costs nothing and says what no look-up does."""

    seconds = pass_s = 0.0

    def propose(self, sequences: Iterable[Sequence], count: int) -> dict[Sequence, tuple[int, ...]]:
        return dict.fromkeys(sequences, (99,) * count)


@pytest.mark.parametrize("better", ["lookup", "model"])
def test_the_drafter_that_was_right_more_often_is_asked(better: str) -> None:
    blocks, budget = BlockManager(1000, 16), Steps(0.005, 0.0001)
    config = EngineConfig(num_blocks=1000)
    speculation = Speculation(config, blocks, budget, cast(DraftModel, Sayer()))
    (chunk,) = decoding(1, ROUND * 6)
    blocks.allocate(chunk.sequence.table, 4)
    state = speculation._state(chunk.sequence)
    for agreed in range(10):
        for _ in range(20):
            state.looked_up.observe(agreed, better == "lookup")
            state.modelled.observe(ANY, better == "model")
    budget.begin(1, 0)
    (extended,) = speculation.extend([chunk])
    assert extended.draft
    assert (set(extended.draft) == {99}) == (better == "model")


def test_a_token_has_to_come_faster_than_tokens_come_in_the_long_run() -> None:
    step = MARGIN * 3 / _Worth(Steps(0.005, 0.001), decoding(3, ROUND)).least(1.0)
    worth = _Worth(Steps(0.005, 0.001), decoding(3, ROUND), 1.5)
    assert worth.least(1.0) == pytest.approx(MARGIN * 4.5 / step)


def test_what_is_sure_is_drafted_to_its_end() -> None:
    """A step without it costs six times a token, so that none is left to another step."""
    (chunk,) = decoding(1, ROUND)
    worth = _Worth(Steps(0.005, 0.001), [chunk], 1.5)
    (kept,) = _worthy([_Offer(chunk, ROUND * 3, (0.97,) * 3 * len(ROUND))], worth)
    assert len(kept.draft) == 3 * len(ROUND)


def test_tokens_that_streams_get_are_counted() -> None:
    blocks, budget = BlockManager(1000, 16), Steps(0.005, 0.0001)
    speculation = Speculation(EngineConfig(num_blocks=1000), blocks, budget)
    (chunk,) = decoding(1, ROUND * 6)
    blocks.allocate(chunk.sequence.table, 4)
    for _ in range(300):
        budget.begin(1, 0)
        (extended,) = speculation.extend([chunk])
        speculation.accepted(extended)
        speculation.accepted(extended)
    assert speculation._tokens_each == pytest.approx(3.0, rel=0.02)


class Wrong(Sayer):
    """One that is dear and never right. ``asked``: at which length of output, for how many."""

    pass_s = 1.0

    def __init__(self) -> None:
        self.asked: list[tuple[int, int]] = []

    def propose(self, sequences: Iterable[Sequence], count: int) -> dict[Sequence, tuple[int, ...]]:
        (sequence,) = sequences
        self.asked.append((sequence.num_output, count))
        return {}


def test_a_draft_model_that_was_not_worth_it_is_tried_later_each_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With one token, to learn whether it is by now; once it is, patience is short again."""
    monkeypatch.setattr(PromptLookup, "follows", lambda *_: ())
    blocks, budget, model = BlockManager(1000, 16), Steps(0.005, 0.0001), Wrong()
    config = EngineConfig(num_blocks=1000)
    speculation = Speculation(config, blocks, budget, cast(DraftModel, model))
    sequence = decoding(1, ROUND)[0].sequence
    sequence.limit = 4000
    blocks.allocate(sequence.table, 250)
    rates = speculation._state(sequence).modelled

    def until(num_output: int) -> list[tuple[int, int]]:
        model.asked.clear()
        while sequence.num_output < num_output:
            sequence.append(sequence.num_output % 200)
            sequence.num_computed = len(sequence.tokens) - 1
            budget.begin(1, 0)
            speculation.extend(
                [SequenceChunk(sequence, sequence.num_computed, len(sequence.tokens))]
            )
        return list(model.asked)

    for _ in range(300):
        rates.observe(ANY, False)
    places = [PATIENCE * (2**n - 1) for n in range(1, 6)]
    places += [places[-1] + LONGEST_PATIENCE * n for n in (1, 2)]
    assert until(places[-1]) == [(place, 1) for place in places]
    for _ in range(300):
        rates.observe(ANY, True)
    model.pass_s = 0.0
    start = sequence.num_output
    assert until(start + 3) == [(start + n, config.draft_tokens) for n in (1, 2, 3)]
    for _ in range(300):
        rates.observe(ANY, False)
    model.pass_s = 1.0
    assert until(start + 3 + PATIENCE) == [(start + 3 + PATIENCE, 1)]


def test_a_step_with_prompts_has_no_drafts() -> None:
    config = EngineConfig(num_blocks=100, speculation="always")
    blocks = BlockManager(100, 16)
    speculation = Speculation(config, blocks, Scheduler(config, blocks).budget)
    chunks = decoding(2, ROUND * 4)
    prompt = SequenceChunk(decoding(1, ROUND * 4)[0].sequence, 0, 20)
    assert speculation.extend([*chunks, prompt]) == [*chunks, prompt]
