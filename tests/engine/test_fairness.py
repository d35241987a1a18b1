"""Whose turn it is, without a clock: shares, order, and who leaves a full queue."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.engine.conftest import byte_vocabulary

from lmstack.core import SamplingParams
from lmstack.engine import EngineRequest
from lmstack.engine.policy.fairness import Shares, evicted
from lmstack.engine.sequence import Sequence

VOCABULARY = byte_vocabulary()


def sequence(client: str, length: int = 4, order: int = 0, priority: int = 0) -> Sequence:
    request = EngineRequest(
        f"{client}-{order}",
        (1,) * length,
        print,
        SamplingParams(max_tokens=4, priority=priority),
        client=client,
    )
    made = Sequence(request, VOCABULARY, length + 4)
    made.order = order
    return made


def shares(*clients: str, weights: dict[str, float] | None = None) -> Shares:
    made = Shares(weights or {})
    for i, client in enumerate(clients):
        made.join(client, clients[:i])
    return made


def test_the_least_served_client_comes_first_and_turns_alternate() -> None:
    ours = shares("a", "b")
    queue = [sequence("a", order=i) for i in range(3)] + [sequence("b", order=3)]
    ours.charge("a", 1)
    seen = []
    for each in ours.in_turn(queue, by_age=False):
        seen.append(each.client)
        ours.charge(each.client, 4)
    assert seen == ["b", "a", "a", "a"]


def test_a_newcomer_with_a_line_comes_before_the_book_that_it_is_level_with() -> None:
    served = shares("book")
    served.charge("book", 512)
    served.join("line", {"book"})
    book, line = sequence("book", 5000), sequence("line", 20, order=1)
    assert list(served.in_turn([book, line], by_age=False)) == [line, book]
    assert list(served.in_turn([book, line], by_age=True)) == [line, book]


def test_of_one_client_the_shortest_comes_first_or_the_oldest() -> None:
    ours = shares("a")
    long, short = sequence("a", 60, order=0), sequence("a", 5, order=1)
    assert [*ours.in_turn([long, short], by_age=False)] == [short, long]
    assert [*ours.in_turn([long, short], by_age=True)] == [long, short]


def test_what_the_cache_holds_of_a_prompt_does_not_make_it_long() -> None:
    ours = shares("a")
    known, short = sequence("a", 60, order=0), sequence("a", 5, order=1)
    known.num_found = 56
    assert next(ours.in_turn([short, known], by_age=False)) is known


def test_priority_orders_the_requests_of_one_client_and_not_of_others() -> None:
    ours = shares("a", "b")
    late, first = sequence("a", 4, 0, priority=5), sequence("a", 9, 1, priority=-5)
    other = sequence("b", 9, 2)
    ours.charge("a", 1)
    assert [*ours.in_turn([late, first, other], by_age=False)] == [other, first, late]
    assert [*ours.in_turn([late, first, other], by_age=True)] == [other, first, late]


def test_a_stream_that_was_interrupted_comes_before_what_has_not_begun() -> None:
    ours = shares("a")
    new, interrupted = sequence("a", 4, 0, priority=-1), sequence("a", 50, 1)
    interrupted.append(7)
    assert next(ours.in_turn([new, interrupted], by_age=False)) is interrupted


def test_having_been_away_earns_nothing() -> None:
    ours = shares("a")
    ours.charge("a", 1000)
    ours.join("b", ["a"])
    seen = []
    for each in ours.in_turn([sequence(c, order=i) for i, c in enumerate("abab")], by_age=False):
        seen.append(each.client)
        ours.charge(each.client, 4)
    assert sorted(seen[:2]) == ["a", "b"]


def test_leaving_and_coming_back_forgives_nothing_while_others_work() -> None:
    ours = shares("a", "b")
    ours.charge("a", 1000)
    ours.join("a", ["b"])  # it had nothing left, and comes again
    assert next(ours.in_turn([sequence("a"), sequence("b", order=1)], by_age=False)).client == "b"


def test_clients_who_left_are_not_kept_for_ever() -> None:
    ours = shares("worker")
    for i in range(1000):
        ours.charge("worker", 10)
        ours.join(f"visitor {i}", ["worker"])
        ours.charge(f"visitor {i}", 5)
    assert len(ours._served) < 5


clients = st.sampled_from("abc")


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(clients, st.integers(1, 50), st.integers(-1, 1)), max_size=20), st.data())
def test_everybody_has_exactly_one_turn_whatever_is_charged_meanwhile(
    jobs: list[tuple[str, int, int]], data: st.DataObject
) -> None:
    ours = shares("a", "b", "c")
    queue = [sequence(c, n, i, p) for i, (c, n, p) in enumerate(jobs)]
    seen = []
    for each in ours.in_turn(queue, by_age=data.draw(st.booleans())):
        seen.append(each)
        ours.charge(each.client, data.draw(st.integers(0, 100)))
    assert sorted(s.order for s in seen) == list(range(len(queue)))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 50), st.integers(1, 50)), min_size=5, max_size=60))
def test_two_with_work_never_differ_by_more_than_a_request(sizes: list[tuple[int, int]]) -> None:
    ours = shares("a", "b")
    for size in sizes:
        queue = [sequence(c, n, i) for i, (c, n) in enumerate(zip("ab", size, strict=True))]
        first = next(ours.in_turn(queue, by_age=False))
        ours.charge(first.client, first.num_prompt)
        assert abs(ours._served["a"] - ours._served["b"]) <= 50


def test_a_weight_of_three_is_served_three_times_as_much() -> None:
    ours = shares("a", "b", weights={"a": 3.0})
    served = {"a": 0, "b": 0}
    for _ in range(400):
        queue = [sequence("a", order=0), sequence("b", order=1)]
        first = next(ours.in_turn(queue, by_age=False))
        ours.charge(first.client, 4)
        served[first.client] += 1
    assert served == {"a": 300, "b": 100}


def test_a_stream_is_taken_only_from_who_keeps_as_many_as_it_gives() -> None:
    ours = shares("a", "b", "c")
    assert ours.may_take({"a": 2}, "a", "b")
    assert ours.may_take({"a": 3, "b": 1}, "a", "b")
    assert not ours.may_take({"a": 2, "b": 1}, "a", "b")
    assert not ours.may_take({"a": 1}, "a", "b")
    assert not ours.may_take({"a": 2, "b": 2}, "a", "b")


def test_who_was_served_less_is_behind_and_nobody_is_behind_nobody() -> None:
    ours = shares("a", "b")
    assert not ours.is_behind("a", "b")
    ours.charge("b", 1)
    assert ours.is_behind("a", "b")
    assert not ours.is_behind("b", "a")
    assert not ours.is_behind("b", "")


def test_who_has_most_streams_is_counted_by_weight() -> None:
    ours = shares("a", "b", weights={"a": 4.0})
    assert ours.heaviest({"a": 4, "b": 2}) == "b"
    assert ours.heaviest({"a": 9, "b": 2}) == "a"
    assert ours.heaviest({}) == ""
    assert not ours.may_take({"a": 4}, "a", "b")
    assert ours.may_take({"a": 8}, "a", "b")


def test_the_latest_of_who_has_most_leave_a_full_queue() -> None:
    queue = [sequence("a", order=i) for i in range(3)] + [sequence("b", order=9)]
    assert evicted(queue, [sequence("c")], 1) == [queue[2]]
    assert evicted(queue, [sequence("c"), sequence("c")], 2) == [queue[2]]
    assert evicted(queue, [sequence("a")], 1) == []
    assert evicted(queue[2:], [sequence("c")], 1) == []


@settings(max_examples=100, deadline=None)
@given(st.lists(clients, max_size=20), st.integers(1, 5), st.integers(1, 5))
def test_whoever_is_pushed_out_of_keeps_at_least_what_the_newcomer_has(
    queue: list[str], asked: int, count: int
) -> None:
    queued = [sequence(c, order=i) for i, c in enumerate(queue)]
    victims = evicted(queued, [sequence("a")] * asked, count)
    left = [s.client for s in queued if s not in victims]
    assert len(victims) <= count
    assert len(left) == len(queued) - len(victims)
    for client in {v.client for v in victims}:
        assert left.count(client) >= queue.count("a") + asked
