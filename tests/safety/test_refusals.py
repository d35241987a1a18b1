"""Which refusals get a record of their own, and when: over time and over many clients."""

from __future__ import annotations

import pytest

from lmstack.safety.recorder import RefusalThrottle


class Clock:
    """Stands in for `time.monotonic`."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("lmstack.safety.recorder.time.monotonic", clock)
    return clock


def test_a_client_still_refused_after_a_minute_gets_another_record(clock: Clock) -> None:
    throttle = RefusalThrottle()
    for passed, passes in ((0.0, True), (59.0, False), (0.9, False), (0.1, True), (59.0, False)):
        clock.now += passed
        assert throttle.passes("a", "guard") is passes


def test_another_client_and_another_reason_get_records_of_their_own(clock: Clock) -> None:
    throttle = RefusalThrottle()
    assert throttle.passes("a", "guard")
    assert throttle.passes("b", "guard")
    assert throttle.passes("a", "overloaded")
    assert not throttle.passes("b", "guard")
    assert throttle.counted({"event": "x"}) == {"event": "x", "refusals_left_out": 1}
    assert throttle.counted({"event": "y"}) == {"event": "y"}


def test_many_refused_clients_share_records_until_older_ones_are_forgotten(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Names of clients cost nothing to make up: neither memory nor the log grows with them."""
    monkeypatch.setattr("lmstack.safety.recorder.MAX_REFUSED_CLIENTS", 2)
    throttle = RefusalThrottle()
    assert throttle.passes("a", "guard")
    clock.now += 30
    assert [throttle.passes(client, "guard") for client in "bcde"] == [True, True, False, False]
    clock.now += 30
    assert throttle.passes("f", "guard") is False, "b and the shared record are half a minute old"
    clock.now += 30
    assert [throttle.passes(client, "guard") for client in "ab"] == [True, True]
