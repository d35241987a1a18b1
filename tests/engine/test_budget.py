"""What a step costs is learned from steps; how much of it prompts may have follows from that."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.engine.simulation import Machine

from lmstack.engine.policy.budget import PROMPT_SHARE, StepBudget, StepCost

machines = st.builds(
    Machine,
    fixed=st.floats(0.001, 0.1),
    token=st.floats(1e-4, 1e-2),
    place=st.floats(1e-9, 1e-6),
    stream=st.floats(0, 1e-2),
)


def learn(cost: StepCost, machine: Machine, rng: random.Random, steps: int = 150) -> None:
    """Steps as they come: some decodes, often a chunk of a prompt, a tenth of noise."""
    for _ in range(steps):
        decodes, chunk, start = rng.randrange(33), rng.choice([0, 0, 20, 90, 300]), 0
        if chunk:
            start = rng.randrange(6000)
        tokens = decodes + chunk
        places = decodes * 300 + chunk * start + chunk * chunk / 2
        seconds = machine.seconds(tokens, decodes, places) * rng.lognormvariate(0, 0.1)
        cost.observe(seconds, tokens, decodes, places)


@settings(max_examples=40, deadline=None)
@given(machines, st.integers(0, 100))
def test_the_cost_of_any_machine_is_learned(machine: Machine, seed: int) -> None:
    cost = StepCost()
    learn(cost, machine, random.Random(seed), steps=300)
    for step in ((32, 32, 10_000), (200, 0, 40_000), (132, 32, 600_000), (148, 8, 40_000)):
        assert cost.seconds(*step) == pytest.approx(machine.seconds(*step), rel=0.5)


@settings(max_examples=40, deadline=None)
@given(machines, st.integers(0, 8000), st.floats(0.001, 1.0))
def test_a_chunk_takes_what_it_may_and_no_more(
    machine: Machine, start: int, seconds: float
) -> None:
    cost = StepCost()
    learn(cost, machine, random.Random(0), steps=30)
    count = cost.tokens_within(seconds, start)

    def added(count: int) -> float:
        places = count * start + count * count / 2
        return cost.seconds(count, 0, places) - cost.seconds(0, 0, 0)

    assert added(count) <= seconds * (1 + 1e-6)
    assert added(count + 1) > seconds * (1 - 1e-6)


def test_a_machine_that_stalls_once_is_not_taken_for_a_slow_one() -> None:
    cost, machine, rng = StepCost(), Machine(), random.Random(1)
    learn(cost, machine, rng)
    before = cost.tokens_within(0.1, 0)
    cost.observe(5.0, 150, 16, 10_000)
    assert cost.tokens_within(0.1, 0) > before / 2


def test_a_machine_that_becomes_slow_is_noticed_within_ten_steps() -> None:
    cost, machine, rng = StepCost(), Machine(), random.Random(1)
    learn(cost, machine, rng)
    for _ in range(10):
        cost.observe(4 * machine.seconds(132, 16, 40_000), 132, 16, 40_000)
    assert cost.seconds(132, 16, 40_000) > 2.5 * machine.seconds(132, 16, 40_000)


def test_hours_of_one_stream_do_not_spoil_what_is_known_of_prompts() -> None:
    cost, machine, rng = StepCost(), Machine(), random.Random(1)
    learn(cost, machine, rng)
    for i in range(20_000):
        seconds = machine.seconds(1, 1, i % 2000) * rng.lognormvariate(0, 0.2)
        cost.observe(seconds, 1, 1, i % 2000)
    step = (150, 16, 40_000)
    assert cost.seconds(*step) == pytest.approx(machine.seconds(*step), rel=0.5)


def budget_of(machine: Machine, target_s: float = 0.1) -> StepBudget:
    budget = StepBudget(512, target_s)
    learn(budget.cost, machine, random.Random(2))
    return budget


def test_where_nobody_waits_for_a_token_prompts_have_the_whole_step() -> None:
    budget = budget_of(Machine(token=1.0))
    budget.begin(0, 0)
    assert budget.fits(0) == 512
    budget.take(0, 500)
    assert budget.fits(0) == 12


def test_prompts_get_what_decodes_leave_of_the_target() -> None:
    machine = Machine()
    budget = budget_of(machine)
    budget.begin(32, 10_000)
    count = budget.fits(0)
    assert machine.seconds(32 + count, 32, 10_000 + count * count / 2) == pytest.approx(
        0.1, rel=0.2
    )


def test_a_chunk_far_into_a_prompt_is_shorter_since_it_looks_at_more() -> None:
    budget = budget_of(Machine())
    budget.begin(8, 2_000)
    assert budget.fits(6000) < 0.8 * budget.fits(0)


def test_decodes_that_fill_the_step_leave_prompts_a_share_all_the_same() -> None:
    machine = Machine(fixed=0.2)
    budget = budget_of(machine)
    budget.begin(32, 10_000)
    added = machine.token * budget.fits(0)
    assert added == pytest.approx(PROMPT_SHARE * machine.seconds(32, 32, 10_000), rel=0.3)


def test_streams_that_cost_much_do_not_make_prompts_look_dear() -> None:
    """What a stream takes beside its token (logits, sampling) is no cost of a prompt's tokens."""
    machine = Machine(stream=0.002)
    budget = StepBudget(512, 0.2)
    rng = random.Random(3)
    for i in range(200):  # always as many streams, as in a server under load
        chunk = 20 + i % 60
        seconds = machine.seconds(32 + chunk, 32, 10_000) * rng.lognormvariate(0, 0.1)
        budget.cost.observe(seconds, 32 + chunk, 32, 10_000)
    assert budget.cost.tokens_within(0.1, 0) > 0.6 * 0.1 / machine.token


def test_a_step_on_the_slowest_machine_still_takes_some_tokens() -> None:
    budget = budget_of(Machine(token=2.0))
    budget.begin(1, 10)
    assert budget.fits(0) == 16
    budget.take(0, 16)
    assert budget.fits(0) == 0


def test_a_cost_that_is_thought_far_too_high_is_corrected_under_steady_load() -> None:
    machine, rng = Machine(), random.Random(5)
    budget = StepBudget(512, 0.1)
    for _ in range(5):
        budget.cost.observe(20 * machine.seconds(132, 32, 40_000), 132, 32, 40_000)
    budget.begin(32, 10_000)
    assert budget.fits(0) < 20
    for _ in range(300):
        budget.begin(32, 10_000)
        count = budget.fits(0)
        budget.take(0, count)
        seconds = machine.seconds(32 + count, 32, 10_000 + count * count / 2)
        budget.observe(seconds * rng.lognormvariate(0, 0.2))
    budget.begin(32, 10_000)
    assert budget.fits(0) > 60


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 64), st.lists(st.tuples(st.integers(0, 4000), st.integers(1, 600))))
def test_chunks_never_exceed_the_tokens_of_a_step(
    decodes: int, prompts: list[tuple[int, int]]
) -> None:
    budget = budget_of(Machine(token=1e-5))
    budget.begin(decodes, decodes * 100)
    total = decodes
    for start, wanted in prompts:
        count = min(wanted, budget.fits(start))
        if count:
            budget.take(start, count)
        total += count
    assert total <= 512
