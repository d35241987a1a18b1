"""SamplingParams and Grammar: every value out of range or of the wrong type is named."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lmstack.core import Grammar, InputError, SamplingParams, shown

RANGES: dict[str, tuple[float, float, bool]] = {  # low, high, low excluded
    "max_tokens": (1, 2**31, False),
    "temperature": (0, 2, False),
    "top_p": (0, 1, True),
    "top_k": (0, 2**31, False),
    "min_p": (0, 1, False),
    "presence_penalty": (-2, 2, False),
    "frequency_penalty": (-2, 2, False),
    "repetition_penalty": (0.01, 10, False),
    "seed": (-(2**63), 2**64 - 1, False),
    "logprobs": (0, 20, False),
    "n": (1, 16, False),
}
WHOLE = ("max_tokens", "top_k", "seed", "logprobs", "n")
OPTIONAL = ("max_tokens", "seed", "logprobs")


@pytest.mark.parametrize("name", RANGES)
@settings(deadline=None)
@given(data=st.data())
def test_a_number_passes_exactly_when_it_is_in_range(name: str, data: st.DataObject) -> None:
    low, high, low_open = RANGES[name]
    numbers: st.SearchStrategy[Any] = st.integers() | st.sampled_from(
        [low, high, int(low) - 1, int(high) + 1]
    )
    if name not in WHOLE:
        numbers = numbers | st.floats(low - 1, high + 1)
    value = data.draw(numbers)
    inside = (low < value if low_open else low <= value) and value <= high
    if inside:
        assert getattr(SamplingParams(**{name: value}), name) == value
    else:
        with pytest.raises(InputError) as caught:
            SamplingParams(**{name: value})
        assert caught.value.param == name


@pytest.mark.parametrize("name", RANGES)
@pytest.mark.parametrize(
    "value",
    [True, False, "1", "", b"1", float("nan"), float("inf"), [], {}, 1j, 10**5000, object()],
    ids=lambda value: shown(value).split(" at ")[0],  # the same ids in every process
)
def test_a_value_of_the_wrong_kind_is_an_input_error(name: str, value: Any) -> None:
    with pytest.raises(InputError, match=name) as caught:
        SamplingParams(**{name: value})
    assert caught.value.param == name


@pytest.mark.parametrize("name", [n for n in RANGES if n not in OPTIONAL])
def test_none_is_not_a_number_where_it_has_no_meaning(name: str) -> None:
    with pytest.raises(InputError, match=name):
        SamplingParams(**{name: None})


@pytest.mark.parametrize("name", WHOLE)
def test_a_fraction_is_refused_where_things_are_counted(name: str) -> None:
    for value in (1.0, 1.5):
        with pytest.raises(InputError, match="whole"):
            SamplingParams(**{name: value})


def test_the_message_shows_the_value_and_the_range() -> None:
    with pytest.raises(InputError, match=r"top_p is 0, outside \(0, 1\]"):
        SamplingParams(top_p=0)


@pytest.mark.parametrize(
    "stop", ["END", b"END", None, 5, [""], ["a", 1], ["a"] * 17, ["\ud800"], {"a"}], ids=shown
)
def test_stop_strings_that_could_be_misread_are_refused(stop: Any) -> None:
    with pytest.raises(InputError) as caught:
        SamplingParams(stop=stop)
    assert caught.value.param == "stop"


def test_a_list_of_stop_strings_becomes_a_tuple() -> None:
    assert SamplingParams(stop=["a", "b"]).stop == ("a", "b")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "bias",
    [{1: 101}, {1: "5"}, {"1": 5}, {-1: 5}, {True: 5}, {1: float("nan")}, [], None],
    ids=shown,
)
def test_a_logit_bias_that_could_be_misread_is_refused(bias: Any) -> None:
    with pytest.raises(InputError, match="logit_bias"):
        SamplingParams(logit_bias=bias)


def test_a_logit_bias_cannot_be_changed_from_outside_after_the_check() -> None:
    bias = {1: 5.0}
    params = SamplingParams(logit_bias=bias)
    bias[1] = 1e9
    assert params.logit_bias == {1: 5.0}


def test_replace_checks_again() -> None:
    with pytest.raises(InputError, match="top_p"):
        SamplingParams().replace(top_p=7)


@pytest.mark.parametrize(
    ("kind", "source"),
    [("yaml", "x"), ("json_object", "{}"), ("regex", ""), ("json_schema", ""), ("lark", "\ud800")],
)
def test_a_grammar_that_means_nothing_is_refused(kind: Any, source: str) -> None:
    with pytest.raises(InputError):
        Grammar(kind, source)


def circular() -> dict[str, Any]:
    schema: dict[str, Any] = {}
    schema["a"] = schema
    return schema


def deep() -> dict[str, Any]:
    schema: dict[str, Any] = {}
    for _ in range(100_000):
        schema = {"not": schema}
    return schema


@pytest.mark.parametrize(
    "make", [circular, deep, lambda: {"a": float("nan")}, lambda: {"a": object()}]
)
def test_a_schema_that_is_not_json_is_refused(make: Any) -> None:
    with pytest.raises(InputError, match="not JSON"):
        Grammar.json_schema(make())


def test_a_penalty_that_would_overflow_the_logits_is_refused() -> None:
    with pytest.raises(InputError, match="repetition_penalty is 5e-324"):
        SamplingParams(repetition_penalty=5e-324)


@pytest.mark.parametrize("cold", [0.0, 5e-324, 1e-300, 1e-31])
def test_a_temperature_too_small_to_divide_by_is_greedy(cold: float) -> None:
    assert SamplingParams(temperature=cold).greedy
    assert not SamplingParams(temperature=1e-6).greedy
