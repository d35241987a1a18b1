"""Who may wait and who leaves: a full queue, and cancelling at every stage on the way."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.engine.conftest import Outcome, byte_vocabulary, drive, generate, request

from lmstack.core import OverloadedError
from lmstack.engine import Engine, EngineConfig, EngineRequest
from lmstack.engine.inbox import members_of
from lmstack.model import Transformer

MakeEngine = Callable[..., Engine]


def asked(
    client: str, name: str, outcome: Outcome | None = None, **options: object
) -> EngineRequest:
    made = request([1, 2, 3], outcome, id=name, **options)
    return dataclasses.replace(made, client=client)


def test_a_full_queue_makes_room_for_who_has_less_in_it(make_engine: MakeEngine) -> None:
    engine = make_engine(max_sequences=1, max_waiting=3)
    many = [Outcome() for _ in range(4)]
    one = Outcome()
    for i, outcome in enumerate(many):
        engine.submit(asked("many", str(i), outcome))
    engine.submit(asked("one", "x", one))
    drive(engine)
    assert len(one.tokens) == 8
    assert [len(o.tokens) for o in many] == [8, 8, 8, 0]
    error = many[3].last.error
    assert isinstance(error, OverloadedError)
    assert error.retry_after_s >= 1
    assert engine.stats().num_finished == {"length": 4, "refused": 1}


def test_nobody_is_pushed_out_by_who_has_as_much(make_engine: MakeEngine) -> None:
    engine = make_engine(max_sequences=1, max_waiting=3)
    for client in "aabb":
        engine.submit(asked(client, f"{client}{engine.stats().num_waiting}"))
    for client in "ab":
        with pytest.raises(OverloadedError):
            engine.submit(asked(client, "more"))
    engine.submit(asked("c", "c"))
    with pytest.raises(OverloadedError):
        engine.submit(asked("c", "second"))


def test_those_who_have_begun_are_not_pushed_out(make_engine: MakeEngine) -> None:
    engine = make_engine(max_sequences=2, max_waiting=0)
    outcomes = [Outcome(), Outcome()]
    for i, outcome in enumerate(outcomes):
        engine.submit(asked("many", str(i), outcome))
    engine.step()
    with pytest.raises(OverloadedError):
        engine.submit(asked("one", "x"))
    drive(engine)
    assert [len(o.tokens) for o in outcomes] == [8, 8]


def test_one_that_begins_before_it_is_pushed_out_goes_on(make_engine: MakeEngine) -> None:
    engine = make_engine(max_sequences=2, max_waiting=0)
    outcomes = [Outcome(), Outcome()]
    for i, outcome in enumerate(outcomes):
        engine.submit(asked("many", str(i), outcome))
    schedule = engine._scheduler.schedule

    def meanwhile() -> object:  # between taking requests in and scheduling them
        engine._scheduler.schedule = schedule  # type: ignore[method-assign]
        engine.submit(asked("one", "x"))
        return schedule()

    engine._scheduler.schedule = meanwhile  # type: ignore[method-assign,assignment]
    drive(engine)
    assert [len(o.tokens) for o in outcomes] == [8, 8]
    assert engine.stats().num_finished == {"length": 3}


def test_a_group_pushes_out_for_all_its_choices_or_is_refused(make_engine: MakeEngine) -> None:
    engine = make_engine(max_sequences=1, max_waiting=5)
    for i in range(6):
        engine.submit(asked("many", str(i)))
    with pytest.raises(OverloadedError):
        engine.submit(*(asked("one", f"x{i}") for i in range(4)))
    assert engine.stats().num_waiting == 6
    engine.submit(*(asked("one", f"y{i}") for i in range(3)))
    drive(engine)
    assert engine.stats().num_finished == {"length": 6, "refused": 3}


@settings(max_examples=40, deadline=None)
@given(st.lists(st.sampled_from("abc"), max_size=40), st.integers(1, 3), st.integers(0, 6))
def test_a_queue_never_holds_more_than_it_may_and_everyone_gets_an_end(
    module: Transformer, clients: list[str], places: int, waiting: int
) -> None:
    config = EngineConfig(
        block_size=4, num_blocks=64, max_batch_tokens=64, max_sequences=places, max_waiting=waiting
    )
    engine = Engine(module, byte_vocabulary(), config)
    outcomes = []
    for i, client in enumerate(clients):
        outcome = Outcome()
        try:
            engine.submit(asked(client, str(i), outcome, max_tokens=3))
        except OverloadedError:
            continue
        outcomes.append(outcome)
        if i % 3 == 0:
            engine.step()
        stats = engine.stats()
        assert stats.num_waiting - len(engine._inbox._evicted) <= places + waiting
    drive(engine)
    assert all(o.done for o in outcomes)
    assert engine.stats().num_blocks_used == 0


def test_those_who_were_refused_do_not_make_the_wait_look_short(make_engine: MakeEngine) -> None:
    engine = make_engine(max_sequences=1, max_waiting=20)
    for i in range(21):
        engine.submit(asked("many", str(i)))
    before = engine._inbox._seconds_a_request
    for i in range(10):
        engine.submit(asked("one", f"x{i}"))
    engine._take_in()
    assert engine.stats().num_finished == {"refused": 10}
    assert engine._inbox._seconds_a_request == before


# What is cancelled, and what it must be doing at that time.
def queued(engine: Engine) -> bool:
    return bool(engine._inbox._arrived)


def waiting(engine: Engine) -> bool:
    sequence = engine._live["a"]
    return sequence in engine._scheduler.waiting and not sequence.has_begun


def prefilling(engine: Engine) -> bool:
    return 0 < engine._live["a"].num_computed < engine._live["a"].num_prompt


def decoding(engine: Engine) -> bool:
    return engine._live["a"].num_output > 1


def preempted(engine: Engine) -> bool:
    sequence = engine._live["a"]
    return sequence in engine._scheduler.waiting and sequence.has_begun


def searching(engine: Engine) -> bool:
    return len(members_of(engine._live["a"])) > 1


def partly_searched(engine: Engine) -> bool:
    """Some members have their offers and others do not."""
    return len({m.is_parked for m in members_of(engine._live["a"])}) > 1


BEAMS = {"num_beams": 4}
STAGES: list[tuple[Callable[[Engine], bool], dict[str, object], dict[str, object]]] = [
    (queued, {}, {}),
    (waiting, {}, {"max_sequences": 1}),
    (prefilling, {}, {"max_batch_tokens": 8}),
    (decoding, {}, {}),
    (preempted, {}, {"num_blocks": 24}),
    (searching, BEAMS, {}),
    (partly_searched, BEAMS, {"num_blocks": 44}),
]


@pytest.mark.parametrize(("stage", "options", "config"), STAGES)
def test_cancelling_in_any_stage_frees_everything_and_hurts_nobody(
    make_engine: MakeEngine,
    stage: Callable[[Engine], bool],
    options: dict[str, object],
    config: dict[str, object],
) -> None:
    others = [list(range(n, n + 20)) for n in (50, 90, 130)]
    common = {"max_tokens": 20, "ignore_eos": True}
    alone = [generate(make_engine(), other, **common).tokens for other in others]
    engine = make_engine(**{"max_batch_tokens": 64, "max_sequences": 8} | config)
    outcomes, cancelled = [Outcome() for _ in others], Outcome()
    for i, (other, outcome) in enumerate(zip(others, outcomes, strict=True)):
        engine.submit(request(other, outcome, id=str(i), **common))
    engine.submit(request(range(20), cancelled, id="a", **common | options))
    while not stage(engine):
        assert engine.step(), f"it was never {stage.__name__}"
    seen = len(cancelled.events)
    engine.cancel("a")
    drive(engine)
    assert len(cancelled.events) == seen
    assert [o.tokens for o in outcomes] == alone
    stats = engine.stats()
    assert stats.num_finished == {"cancelled": 1, "length": 3}
    assert (stats.num_blocks_used, stats.num_invariant_failures) == (0, 0)


def test_cancelling_what_was_pushed_out_gives_no_event(make_engine: MakeEngine) -> None:
    engine = make_engine(max_sequences=1, max_waiting=1)
    outcome = Outcome()
    engine.submit(asked("many", "0"))
    engine.submit(asked("many", "1", outcome))
    engine.submit(asked("one", "x"))
    engine.cancel("1")
    drive(engine)
    assert outcome.events == []
    assert engine.stats().num_finished == {"length": 2, "cancelled": 1}
