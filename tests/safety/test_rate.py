"""Token buckets: no interleaving of reservations and settlements overspends."""

from __future__ import annotations

import contextlib
import threading

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from lmstack.core import InputError, OverloadedError
from lmstack.safety import Limits, RateLimiter, Reservation


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


steps = st.lists(
    st.one_of(
        st.tuples(st.just("reserve"), st.integers(0, 120)),
        st.tuples(st.just("settle"), st.floats(0, 1)),
        st.tuples(st.just("wait"), st.floats(0, 90)),
    ),
    max_size=60,
)


@settings(max_examples=200, deadline=None)
@given(steps)
def test_what_is_used_never_exceeds_a_full_bucket_plus_what_flowed_in(
    steps: list[tuple[str, float]],
) -> None:
    clock = Clock()
    limiter = RateLimiter(Limits(requests_per_minute=None, tokens_per_minute=100), clock=clock)
    open_: list[Reservation] = []
    used = 0
    for kind, amount in steps:
        if kind == "wait":
            clock.now += amount
        elif kind == "settle" and open_:
            reservation = open_.pop()
            spent = int(reservation.tokens * amount)
            reservation.settle(spent)
            used += spent
        elif kind == "reserve":
            try:
                open_.append(limiter.reserve("c", int(amount)))
            except (OverloadedError, InputError):
                continue
        held = sum(r.tokens for r in open_)
        assert used + held <= 100 + 100 * clock.now / 60 + 1e-6


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 60), st.integers(1, 60), st.floats(0, 40), st.integers(60, 100))
@example(60, 60, 1 / 3, 61)  # what flows in does not add up to the last bit
@example(50, 60, 0.7, 68)
@example(60, 60, 0.1, 73)
def test_waiting_as_long_as_was_said_is_enough_and_any_shorter_is_not(
    first: int, second: int, pause: float, limit: int
) -> None:
    clock = Clock()
    limiter = RateLimiter(Limits(requests_per_minute=None, tokens_per_minute=limit), clock=clock)
    limiter.reserve("c", first)
    clock.now += pause
    try:
        limiter.reserve("c", second)
    except OverloadedError as error:
        refused, wait = clock.now, error.retry_after_s
        clock.now = refused + wait * 0.99
        with pytest.raises(OverloadedError):
            limiter.reserve("c", second)
        clock.now = refused + wait
        limiter.reserve("c", second)


def test_threads_that_reserve_at_once_get_exactly_what_there_is() -> None:
    limiter = RateLimiter(
        Limits(requests_per_minute=None, tokens_per_minute=1000), clock=lambda: 0.0
    )
    got: list[Reservation] = []

    def work() -> None:
        for _ in range(50):
            with contextlib.suppress(OverloadedError):
                got.append(limiter.reserve("c", 7))

    threads = [threading.Thread(target=work) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(got) == 1000 // 7


def test_a_refused_reservation_takes_neither_the_request_nor_the_tokens() -> None:
    limiter = RateLimiter(Limits(requests_per_minute=2, tokens_per_minute=10), clock=lambda: 0.0)
    limiter.reserve("c", 8)
    for _ in range(5):
        with pytest.raises(OverloadedError):
            limiter.reserve("c", 8)
    limiter.reserve("c", 2)


def test_settling_twice_puts_back_once() -> None:
    limiter = RateLimiter(Limits(tokens_per_minute=10), clock=lambda: 0.0)
    limiter.reserve("c", 5)
    second = limiter.reserve("c", 5)
    second.settle(0)
    second.settle(0)
    limiter.reserve("c", 5)
    with pytest.raises(OverloadedError):
        limiter.reserve("c", 1)


@pytest.mark.parametrize(("settled", "paid"), [(0.0, 30.0), (60.0, 60.0)], ids=["soon", "late"])
def test_use_beyond_the_reservation_is_a_debt(settled: float, paid: float) -> None:
    """Late, the bucket is full again by then, and what flowed in beyond that is lost."""
    clock = Clock()
    limiter = RateLimiter(Limits(tokens_per_minute=60), clock=clock)
    reservation = limiter.reserve("c", 30)
    clock.now = settled
    reservation.settle(90)
    clock.now = paid
    with pytest.raises(OverloadedError):
        limiter.reserve("c", 1)
    clock.now = paid + 1
    limiter.reserve("c", 1)


def test_clients_do_not_share_a_bucket() -> None:
    limiter = RateLimiter(Limits(requests_per_minute=1), clock=lambda: 0.0)
    limiter.reserve("a")
    limiter.reserve("b")
    with pytest.raises(OverloadedError):
        limiter.reserve("a")


def test_a_request_that_can_never_fit_is_told_so_instead_of_to_wait() -> None:
    limiter = RateLimiter(Limits(tokens_per_minute=100), clock=lambda: 0.0)
    with pytest.raises(InputError, match="101 tokens, the limit is 100 a minute") as caught:
        limiter.reserve("c", 101)
    assert caught.value.param == "max_tokens"
    limiter.reserve("c", 100)


def test_made_up_clients_do_not_fill_the_memory_and_idle_ones_are_forgotten() -> None:
    clock = Clock()
    limiter = RateLimiter(Limits(requests_per_minute=60, max_clients=10), clock=clock)
    for i in range(10):
        limiter.reserve(f"c{i}")
    with pytest.raises(OverloadedError, match="10 clients") as caught:
        limiter.reserve("one more")
    assert caught.value.retry_after_s == 60
    clock.now = 1.0
    limiter.reserve("one more")
    assert len(limiter._clients) == 1


def test_what_ends_after_its_client_was_forgotten_puts_nothing_back() -> None:
    clock = Clock()
    limiter = RateLimiter(Limits(tokens_per_minute=60, max_clients=1), clock=clock)
    slow = limiter.reserve("c", 30)
    clock.now = 30.0
    limiter.reserve("another", 60)
    slow.settle(10)
    assert list(limiter._clients) == ["another"]
    with pytest.raises(OverloadedError):
        limiter.reserve("another", 1)


@pytest.mark.parametrize("name", ["max_characters", "requests_per_minute", "max_clients"])
@pytest.mark.parametrize("value", [0, -1, float("nan"), float("inf")])
def test_a_limit_out_of_range_is_refused_by_name(name: str, value: float) -> None:
    with pytest.raises(InputError, match=name):
        Limits(**{name: value})


def test_a_clock_that_steps_back_gives_nothing_away() -> None:
    clock = Clock()
    limiter = RateLimiter(Limits(requests_per_minute=1), clock=clock)
    limiter.reserve("c")
    for clock.now in (-100.0, 0.0):
        with pytest.raises(OverloadedError):
            limiter.reserve("c")
