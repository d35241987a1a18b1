"""How long people wait, on a simulated machine: between tokens, for the first, beside others."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest
from tests.engine.simulation import Job, Machine, Simulation

from lmstack.engine.scheduler import PATIENCE


def mixed(rng: random.Random, long_share: float, arrival: float = 0.0) -> Job:
    """A chat request: mostly some hundred tokens in and out, sometimes a book."""
    length = 6000 if rng.random() < long_share else int(min(1500, rng.lognormvariate(5, 0.8)) + 10)
    return Job(arrival, length, rng.randint(32, 200))


def share_above(values: list[float], limit: float) -> float:
    return sum(v > limit for v in values) / len(values)


def percentile(values: list[float], share: float) -> float:
    return sorted(values)[int(share * len(values))]


@pytest.mark.parametrize(
    ("machine", "long_share"),
    [
        (Machine(), 0.0),
        (Machine(0.004, 1 / 6000, 1 / 8e7), 0.02),
        pytest.param(Machine(), 0.02, marks=pytest.mark.long),
        pytest.param(Machine(0.004, 1 / 6000, 1 / 8e7), 0.0, marks=pytest.mark.long),
    ],
    ids=str,
)
def test_at_seventy_per_cent_of_the_saturated_load_nobody_stalls(
    machine: Machine, long_share: float
) -> None:
    rng = random.Random(1)
    rate = Simulation(machine).saturate(lambda: mixed(rng, long_share), streams=32, requests=150)

    def arrivals() -> Iterator[Job]:
        now = 0.0
        for _ in range(500):
            now += rng.expovariate(0.7 * rate)
            yield mixed(rng, long_share, now)

    jobs = Simulation(machine).run(arrivals())
    gaps = [gap for job in jobs for gap in job.gaps]
    assert share_above(gaps, 0.2) < 0.001
    assert percentile([j.first_token_s for j in jobs], 0.95) < 2


def test_a_book_that_arrives_does_not_stall_thirty_two_streams() -> None:
    streams = [Job(0.0, 20, 400) for _ in range(32)]
    book = Job(2.0, 6000, 10)
    Simulation().run([*streams, book])
    during = [
        b - a
        for job in streams
        for a, b in zip(job.times, job.times[1:], strict=False)
        if b > book.arrival and a < book.times[0]
    ]
    assert len(during) > 1000
    assert share_above(during, 0.2) < 0.001
    assert max(during) < 0.3


@pytest.mark.parametrize(
    ("machine", "more"), [(Machine(), 1.8), (Machine(0.005, 1 / 8000, 1 / 8e7, 1e-4), 1.05)]
)
def test_a_burst_takes_few_steps_more_than_full_ones_would(machine: Machine, more: float) -> None:
    """Streams that began early wait for the prompts of the others no longer than a step may last;
    what that costs in steps has a bound, and the machine is never idle meanwhile."""
    simulation = Simulation(machine)
    jobs = [Job(0.0, 128, 128) for _ in range(64)]
    for job in jobs:
        simulation.add(job)
    steps = 0
    while not simulation.scheduler.idle:
        simulation.step()
        steps += 1
    least = 64 * 128 / simulation.config.max_batch_tokens + 127
    assert steps < more * least
    assert share_above([gap for job in jobs for gap in job.gaps], 0.2) < 0.001


def test_without_streams_the_same_book_takes_no_longer_than_its_own_work() -> None:
    simulation = Simulation()
    book = Job(0.0, 6000, 1)
    simulation.run([book])
    assert book.first_token_s < 1.2 * Machine().seconds(6000, 1, 18_000_000)


def test_a_line_does_not_wait_behind_a_book() -> None:
    book, line = Job(0.0, 6000, 10), Job(0.1, 50, 10)
    Simulation().run([book, line])
    assert line.first_token_s < 0.6
    assert book.first_token_s > 2


def test_a_book_is_read_though_lines_alone_would_fill_the_machine() -> None:
    lines = [Job(i * 0.04, 80, 1) for i in range(1500)]
    book = Job(1.0, 6000, 1)
    Simulation().run(sorted([*lines, book], key=lambda j: j.arrival))
    assert book.first_token_s < 30


def test_a_prompt_that_needs_most_of_the_memory_is_not_kept_out_by_small_ones() -> None:
    """There is room for it only if what others leave is kept for it."""
    book = Job(2.0, 3000, 10)
    lines = [Job(i * 0.05, 300, 100) for i in range(400)]
    simulation = Simulation(num_blocks=200, max_sequences=8)
    simulation.run(sorted([*lines, book], key=lambda j: j.arrival))
    later = [j for j in lines if j.arrival > book.arrival and j.times[0] < book.times[0]]
    assert len(later) < len(lines) / 4


def first_steps(simulation: Simulation, job: Job) -> int:
    """Steps until ``job`` has its first token."""
    simulation.add(job)
    for steps in range(2000):
        if job.times:
            return steps
        simulation.step()
    raise AssertionError("no token in 2000 steps")


def test_one_request_is_not_starved_by_a_hundred_of_another_key() -> None:
    simulation = Simulation(max_sequences=8)
    for _ in range(100):
        simulation.add(Job(0.0, 200, 50, client="many"))
    for _ in range(20):
        simulation.step()
    last = Job(simulation.now, 200, 50, client="one")
    assert first_steps(simulation, last) < 30


def test_a_line_of_another_key_waits_for_the_step_that_runs_and_for_no_other_book() -> None:
    """Where nobody decodes, steps are as long as they may be: the one after it has to be short."""
    machine = Machine(0.005, 1 / 800, 1 / 8e6)  # a full step far into a book takes a second
    simulation = Simulation(machine)
    for _ in range(6):
        simulation.add(Job(0.0, 6000, 8, client="books"))
    for _ in range(6):
        simulation.step()
    full = simulation.now
    simulation.step()
    full = simulation.now - full
    assert full > 0.7
    line = Job(simulation.now, 30, 8, client="line")
    simulation.add(line)
    while len(line.times) < 8:
        simulation.step()
    assert line.times[-1] - line.arrival < 0.8 * full
    assert line.first_token_s < 0.2


def test_streams_without_end_make_room_for_another_key() -> None:
    simulation = Simulation(max_sequences=8)
    for _ in range(20):
        simulation.add(Job(0.0, 20, 3000, client="many"))
    for _ in range(20):
        simulation.step()
    assert first_steps(simulation, Job(0.0, 20, 10, client="one")) <= PATIENCE + 4


def test_streams_of_one_key_do_not_lengthen_the_steps_of_another() -> None:
    """A step with all 64 streams takes .6 s on this machine."""
    simulation = Simulation(Machine(fixed=0.01, token=1 / 150, stream=1 / 400))
    for _ in range(64):
        simulation.add(Job(0.0, 20, 3000, client="many"))
    for _ in range(30):
        simulation.step()
    one = Job(simulation.now, 20, 8, client="one")
    simulation.add(one)
    while len(one.times) < 8:
        simulation.step()
    assert one.first_token_s < 1
    assert one.times[-1] - one.arrival < 2


def test_streams_that_take_turns_all_get_on() -> None:
    simulation = Simulation(Machine(fixed=0.01, token=1 / 150, stream=1 / 400))
    many = [Job(0.0, 20, 3000, client="many") for _ in range(32)]
    for job in [*many, Job(0.0, 20, 3000, client="one")]:
        simulation.add(job)
    for _ in range(600):
        simulation.step()
    counts = [len(job.times) for job in many]
    assert min(counts) > 0
    assert max(counts) - min(counts) <= 8


def test_each_of_many_keys_has_its_stream_beside_one_that_took_all_places() -> None:
    simulation = Simulation(max_sequences=8)
    for _ in range(8):
        simulation.add(Job(0.0, 20, 3000, client="many"))
    for _ in range(20):
        simulation.step()
    others = [Job(simulation.now, 20, 3000, client=f"key {i}") for i in range(20)]
    for job in others:
        simulation.add(job)
    for _ in range(30):
        simulation.step()
    assert all(job.times for job in others)


def test_memory_held_by_one_key_is_given_back_to_another() -> None:
    simulation = Simulation(num_blocks=100, max_sequences=8)
    for _ in range(5):
        simulation.add(Job(0.0, 300, 300, client="many"))
    for _ in range(20):
        simulation.step()
    assert first_steps(simulation, Job(0.0, 300, 10, client="one")) <= PATIENCE + 6


def test_nobody_makes_room_for_a_request_of_the_same_key() -> None:
    simulation = Simulation(max_sequences=4)
    for _ in range(12):
        simulation.add(Job(0.0, 20, 200))
    for _ in range(400):
        simulation.step()
    assert simulation.scheduler.num_preemptions == 0


def served(simulation: Simulation, steps: int, *clients: str) -> dict[str, int]:
    """Output tokens of each client while all of them always have more to ask."""

    def make(client: str) -> Job:
        length = 40 if client == "short" else 400
        return Job(simulation.now, length, 40, client=client)

    jobs = [make(c) for c in clients for _ in range(6 if c == "few" else 30)]
    for job in jobs:
        simulation.add(job)
    for _ in range(steps):
        for over in simulation.step():
            jobs.append(make(over.client))
            simulation.add(jobs[-1])
    return {c: sum(len(j.times) for j in jobs if j.client == c) for c in clients}


def test_two_keys_with_equal_wishes_get_equally_much() -> None:
    tokens = served(Simulation(max_sequences=8), 1500, "few", "many")
    assert tokens["few"] == pytest.approx(tokens["many"], rel=0.1)


def test_a_key_of_weight_three_gets_three_times_as_much() -> None:
    simulation = Simulation(max_sequences=8, client_weights={"heavy": 3.0})
    tokens = served(simulation, 1500, "heavy", "light")
    assert tokens["heavy"] == pytest.approx(3 * tokens["light"], rel=0.15)


def test_what_counts_is_work_and_not_the_number_of_requests() -> None:
    """Long prompts cost: who sends short ones gets more answers for the same service."""
    tokens = served(Simulation(max_sequences=8), 1500, "short", "long")
    work = {"short": tokens["short"] * 3, "long": tokens["long"] * 12}
    assert work["short"] == pytest.approx(work["long"], rel=0.15)


def test_a_lower_priority_number_starts_first_within_a_key() -> None:
    simulation = Simulation(max_sequences=1)
    jobs = [Job(0.0, 20, 5, priority=p) for p in (3, 0, -2, 0)]
    simulation.run(jobs)
    order = sorted(range(4), key=lambda i: jobs[i].times[0])
    assert order == [2, 1, 3, 0]
