"""What holds where a request does not state how to sample."""

from __future__ import annotations

import dataclasses

import pytest
from tests.errors import about

from lmstack.core import InputError, SamplingParams
from lmstack.registry import DEFAULT_SAMPLING, SamplingDefaults

STATED = SamplingDefaults(temperature=0.3, top_p=0.8, repetition_penalty=1.1, max_tokens=40)


def test_every_default_is_a_field_of_a_request() -> None:
    fields = {f.name for f in dataclasses.fields(SamplingParams)}
    assert {f.name for f in dataclasses.fields(SamplingDefaults)} <= fields


@pytest.mark.parametrize("temperature", [0.0, 0.3, 1.0])
def test_a_stated_temperature_is_not_bent_by_defaults_beside_it(temperature: float) -> None:
    assert STATED.resolve({"temperature": temperature}) == SamplingParams(temperature=temperature)


def test_another_field_replaces_its_default_alone() -> None:
    found = STATED.resolve({"top_p": 1.0})
    assert (found.temperature, found.top_p, found.repetition_penalty) == (0.3, 1.0, 1.1)


def test_a_seed_alone_keeps_the_default_temperature() -> None:
    found = STATED.resolve({"seed": 7})
    assert (found.seed, found.temperature, found.top_p) == (7, 0.3, 0.8)


def test_a_search_is_not_refused_because_of_a_default() -> None:
    search = {"num_beams": 4}
    assert STATED.resolve(search) == SamplingParams.from_mapping(search)


def test_a_contradiction_in_the_request_itself_is_still_refused() -> None:
    with pytest.raises(InputError, match="this search does not", check=about("temperature")):
        STATED.resolve({"num_beams": 4, "temperature": 0.5})


def test_without_defaults_nothing_is_added() -> None:
    assert SamplingDefaults().resolve({}) == SamplingParams()


def test_the_limit_is_left_to_the_engine_which_knows_how_many_tokens_fit() -> None:
    assert STATED.resolve({}).max_tokens is None
    assert STATED.resolve({"max_tokens": 5}).max_tokens == 5


def test_one_layer_is_not_mixed_with_the_one_below() -> None:
    penalty = SamplingDefaults(repetition_penalty=1.2)
    assert penalty.over(STATED) == SamplingDefaults(repetition_penalty=1.2, max_tokens=40)
    assert SamplingDefaults(max_tokens=9).over(STATED) == STATED.replace(max_tokens=9)
    assert SamplingDefaults().over(STATED) == STATED


def test_defaults_are_checked_as_a_request_is() -> None:
    with pytest.raises(InputError, match="temperature is 3", check=about("temperature")):
        SamplingDefaults(temperature=3)
    with pytest.raises(
        InputError, match="no setting 'temprature'", check=about("temprature")
    ) as caught:
        SamplingDefaults.from_mapping({"temprature": 1})
    assert caught.value.hint == "did you mean 'temperature'?"


def test_a_model_that_states_nothing_is_not_drawn_from_as_it_is() -> None:
    assert DEFAULT_SAMPLING.resolve({}).temperature < 1
    assert DEFAULT_SAMPLING.max_tokens is not None
