"""Numbers that JSON does not have."""

from __future__ import annotations

import json
import math

import pytest

from lmstack.core import FormatError
from lmstack.evals.json_forms import number_from_json, number_to_json


@pytest.mark.parametrize(
    ("value", "written"),
    [(1.5, 1.5), (0.0, 0.0), (math.inf, "inf"), (-math.inf, "-inf"), (math.nan, "nan")],
)
def test_every_number_is_read_as_it_was_written(value: float, written: float | str) -> None:
    assert number_to_json(value) == written
    found = number_from_json(json.loads(json.dumps(written, allow_nan=False)), "x")
    assert found == value or (math.isnan(found) and math.isnan(value))


@pytest.mark.parametrize("wrong", [True, None, "INF", "1", [1]])
def test_what_is_no_number_is_named(wrong: object) -> None:
    with pytest.raises(FormatError, match=r"score is .*, not a number"):
        number_from_json(wrong, "score")
