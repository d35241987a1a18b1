"""Properties do not depend on how busy the machine is."""

from __future__ import annotations

import time

from hypothesis import HealthCheck, settings
from hypothesis import given as drawn
from hypothesis import strategies as st


@settings(max_examples=1)
@drawn(st.booleans())
def test_an_example_may_take_longer_than_the_deadline_of_hypothesis(given: bool) -> None:
    del given
    time.sleep(0.25)
    assert settings.default is not None
    assert settings.default.deadline is None
    assert HealthCheck.too_slow in settings.default.suppress_health_check
