"""Examples that are made when they are asked for."""

from __future__ import annotations

import numpy as np
import pytest

from lmstack.train.data.examples import Example, ExampleView


def test_a_view_is_a_sequence_of_what_is_made() -> None:
    examples = [Example((np.array([n], np.int32),)) for n in range(5)]
    view = ExampleView(5, examples.__getitem__)
    assert list(view) == examples
    for part in (slice(1, 3), slice(None, None, -2), slice(3, 99), slice(-2, None)):
        assert view[part] == examples[part]
    assert view[-1] is examples[4]
    with pytest.raises(IndexError):
        view[5]
