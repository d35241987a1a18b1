"""Numbers that JSON does not have."""

from __future__ import annotations

import hashlib
import json
import math

import pytest

from lmstack.core import FormatError, InputError, Likelihood
from lmstack.evals.json_forms import (
    canonical,
    checked,
    digest_of,
    number_from_json,
    number_to_json,
    output_from_json,
    output_to_json,
    scores_from_json,
    scores_to_json,
)
from lmstack.evals.task import ModelOutput


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


KINDS = {"name": str, "count": int, "size": (int, float), "is_on": bool}
VALUE = {"name": "a", "count": 1, "size": 1.5, "is_on": True}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"nam": 1}, "a thing has the unknown field 'nam'"),
        ({"name": 3}, "name of a thing is 3, not str"),
        ({"count": True}, "count of a thing is True, not int"),
        ({"size": True}, "size of a thing is True, not int or float"),
        ({"is_on": 1}, "is_on of a thing is 1, not bool"),
    ],
)
def test_which_field_of_an_object_is_wrong(change: dict[str, object], said: str) -> None:
    with pytest.raises(FormatError, match=said):
        checked(VALUE | change, "a thing", KINDS)
    assert checked(VALUE, "a thing", KINDS) == VALUE
    for name in KINDS:
        less = {key: each for key, each in VALUE.items() if key != name}
        with pytest.raises(FormatError, match=f"a thing lacks the field '{name}'"):
            checked(less, "a thing", KINDS)
    with pytest.raises(FormatError, match=r"a thing is \[\], not an object"):
        checked([], "a thing", KINDS)
    for wrong, hint in (
        ("nme", "did you mean 'name'?"),
        ("zzzz", "known: name, count, size, is_on"),
    ):
        with pytest.raises(FormatError) as error:
            checked({wrong: 1}, "a thing", KINDS)
        assert error.value.hint == hint


def test_what_is_not_json_is_named_and_equal_values_are_one_text() -> None:
    assert canonical({"b": 1, "a": "é"}, "it") == canonical({"a": "é", "b": 1}, "it")
    assert digest_of([1], "it") == f"sha256:{hashlib.sha256(b'[1]').hexdigest()}"
    for value in ({"a": math.nan}, {"a": object()}, {1, 2}):
        with pytest.raises(InputError, match="the protocol is not JSON"):
            canonical(value, "the protocol")
        with pytest.raises(InputError, match="the protocol is not JSON"):
            digest_of(value, "the protocol")
    with pytest.raises(FormatError, match="the scores is 3, not an object of numbers"):
        scores_from_json(3, "the scores")
    with pytest.raises(FormatError, match="a of the scores is 'x', not a number"):
        scores_from_json({"a": "x"}, "the scores")
    assert scores_to_json({"a": math.inf, "b": 2}) == {"a": "inf", "b": 2.0}
    output = output_to_json(ModelOutput("t", (Likelihood(-1.0, 2, True),)))
    for change, said in (
        ({"likelihoods": [3]}, "a likelihood is 3"),
        ({"text": 3}, "text of an output is 3"),
    ):
        with pytest.raises(FormatError, match=said):
            output_from_json(output | change)
    broken = {"logprob": "x", "num_tokens": 2, "is_greedy": True}
    with pytest.raises(FormatError, match="logprob of a likelihood is 'x'"):
        output_from_json(output | {"likelihoods": [broken]})
