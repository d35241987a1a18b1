"""Errors, configs, requests, whole answers and the scripted model."""

from __future__ import annotations

import asyncio
import dataclasses
import inspect
import pickle
import re
from collections.abc import AsyncIterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lmstack.core import (
    ChatModel,
    Completion,
    Config,
    ContextLengthError,
    Delta,
    EngineError,
    ExtraMissingError,
    InputError,
    LmstackError,
    Message,
    ModelInfo,
    OverloadedError,
    RemoteError,
    Request,
    SamplingParams,
    ScriptedModel,
    Usage,
    complete,
    complete_sync,
    errors,
    nearest,
    require,
    shown,
)

# Errors.


def drawn_tree() -> dict[str, str]:
    """Name to parent, read from the tree in the docstring."""
    parents: dict[str, str] = {}
    levels = {0: "LmstackError"}
    for line in (errors.__doc__ or "").splitlines():
        found = re.match(r"    ([│ ]*)[├└]── (\w+)", line)
        if found:
            depth = len(found[1]) // 4 + 1
            levels[depth] = found[2]
            parents[found[2]] = levels[depth - 1]
    return parents


def real_tree() -> dict[str, type[LmstackError]]:
    classes = {n: getattr(errors, n) for n in errors.__all__ if inspect.isclass(getattr(errors, n))}
    return {name: c for name, c in classes.items() if c is not LmstackError}


def test_the_tree_drawn_at_the_top_of_errors_is_the_real_one() -> None:
    assert drawn_tree() == {name: c.__bases__[0].__name__ for name, c in real_tree().items()}


def test_the_http_statuses_drawn_are_the_real_ones() -> None:
    drawn = re.findall(r"── (\w+).*?(\d{3})", errors.__doc__ or "")
    assert len(drawn) > 8
    assert {name: int(status) for name, status in drawn} == {
        name: real_tree()[name].http_status for name, _ in drawn
    }


def test_every_error_has_a_code_of_its_own() -> None:
    codes = [c.code for c in real_tree().values()]
    assert len(set(codes)) == len(codes)


@pytest.mark.parametrize("name", sorted(real_tree()))
def test_an_error_survives_a_trip_to_another_process(name: str) -> None:
    error = real_tree()[name]("what", hint="do", param="p")
    back = pickle.loads(pickle.dumps(error))
    assert (type(back), back.message, back.hint, back.param) == (type(error), "what", "do", "p")


class Unshowable:
    def __repr__(self) -> str:
        raise ZeroDivisionError


@pytest.mark.parametrize(
    "value", [10**5000, "x" * 500, Unshowable()], ids=["number", "text", "object"]
)
def test_showing_a_value_never_fails_and_never_floods(value: object) -> None:
    assert len(shown(value)) <= 80


# Configs.


@dataclasses.dataclass(frozen=True)
class Heater(Config):
    temperature: float
    fan_speed: int = 1


def test_an_unknown_setting_names_the_nearest() -> None:
    with pytest.raises(InputError, match="temperature") as caught:
        Heater.from_mapping({"temprature": 20})
    assert caught.value.param == "temprature"


def test_an_unknown_setting_like_no_other_lists_what_is_known() -> None:
    with pytest.raises(InputError, match="temperature, fan_speed"):
        Heater.from_mapping({"xyz": 1})


@pytest.mark.parametrize(
    "values", [{1: 2}, {None: 1}, {}, {"fan_speed": 1}, [], "temperature", None]
)
def test_a_mapping_that_cannot_be_a_config_is_an_input_error(values: Any) -> None:
    with pytest.raises(InputError):
        Heater.from_mapping(values)


@settings(deadline=None)
@given(st.text(), st.lists(st.text()))
def test_the_nearest_name_is_one_of_those_known(name: str, known: list[str]) -> None:
    assert nearest(name, known) in [*known, None]


# Requests.


@pytest.mark.parametrize(
    "make",
    [
        lambda: Request(),
        lambda: Request((Message("user", "a"),), prompt="b"),
        lambda: Request(prompt="\udfff"),
        lambda: Request(({"role": "user", "content": "a"},)),  # type: ignore[arg-type]
        lambda: Message("human", "a"),  # type: ignore[arg-type]
        lambda: Message([], "a"),  # type: ignore[arg-type]
        lambda: Message("user", None),  # type: ignore[arg-type]
        lambda: Message("user", "a\ud83d"),
        lambda: Message("user", "a", name="\ud83d"),
    ],
)
def test_a_request_that_no_model_could_read_is_an_input_error(make: Any) -> None:
    with pytest.raises(InputError):
        make()


def test_an_empty_prompt_is_a_prompt() -> None:
    assert Request(prompt="").prompt == ""


# Whole answers.


class Sends(ScriptedModel):
    def __init__(self, *deltas: Delta) -> None:
        super().__init__()
        self.deltas = deltas

    async def stream(self, request: Request) -> AsyncIterator[Delta]:
        for delta in self.deltas:
            yield delta


def asked(**sampling: Any) -> Request:
    return Request((Message("user", "hi"),), sampling=SamplingParams(**sampling))


texts = st.text(alphabet="ab \n\t\u00a0é😀", max_size=30)


@settings(deadline=None)
@given(texts, st.integers(1, 3), st.none() | st.integers(1, 5))
def test_a_whole_answer_is_the_stream_joined(text: str, n: int, max_tokens: int | None) -> None:
    request = asked(n=n, max_tokens=max_tokens)

    async def streamed() -> list[Delta]:
        return [delta async for delta in ScriptedModel([text]).stream(request)]

    deltas = asyncio.run(streamed())
    whole = complete_sync(ScriptedModel([text]), request)
    assert [c.text for c in whole.choices] == [
        "".join(d.text for d in deltas if d.index == i and d.usage is None) for i in range(n)
    ]
    assert whole.usage == deltas[-1].usage


@settings(deadline=None)
@given(texts)
def test_a_scripted_reply_is_lossless(text: str) -> None:
    assert complete_sync(ScriptedModel([text]), asked()).text == text


async def test_choices_that_interleave_are_taken_apart() -> None:
    model = Sends(
        Delta("a", 1),
        Delta("x", 0),
        Delta("b", 1, finish_reason="length"),
        Delta("y", 0, finish_reason="stop"),
        Delta(usage=Usage(1, 2)),
    )
    whole = await complete(model, asked(n=2))
    assert [(c.text, c.finish_reason) for c in whole.choices] == [("xy", "stop"), ("ab", "length")]


@pytest.mark.parametrize(
    "deltas",
    [
        (),
        (Delta("a"),),
        (Delta("a", 1, finish_reason="stop"),),
        (Delta("a", finish_reason="stop"),) * 0,
    ],
)
async def test_a_stream_that_ends_without_its_choices_is_an_error_not_an_empty_answer(
    deltas: tuple[Delta, ...],
) -> None:
    with pytest.raises(EngineError):
        await complete(Sends(*deltas), asked())


async def test_complete_sync_inside_a_loop_says_what_to_use() -> None:
    with pytest.raises(InputError, match="await complete"):
        complete_sync(ScriptedModel(), asked())


# The scripted model.


def test_replies_come_in_turn_and_the_last_repeats() -> None:
    model = ScriptedModel(["a", "b"])
    assert [complete_sync(model, asked()).text for _ in range(3)] == ["a", "b", "b"]


def test_a_scripted_error_comes_before_the_first_event() -> None:
    with pytest.raises(RemoteError):
        complete_sync(ScriptedModel([RemoteError("down")]), asked())


def test_a_scripted_model_without_replies_is_refused() -> None:
    with pytest.raises(InputError):
        ScriptedModel([])


def test_a_cut_reply_says_length() -> None:
    whole = complete_sync(ScriptedModel(["one two three"]), asked(max_tokens=2))
    assert (whole.text, whole.choices[0].finish_reason) == ("one two", "length")


async def test_a_closed_stream_is_let_go() -> None:
    model = ScriptedModel(["a b"])
    stream = model.stream(asked())
    await anext(stream)
    assert model.open_streams == 1
    await stream.aclose()  # type: ignore[attr-defined]
    assert model.open_streams == 0


def test_the_scripted_model_is_a_chat_model() -> None:
    assert isinstance(ScriptedModel(), ChatModel)


# The rest.


def test_a_missing_extra_names_the_command_that_installs_it() -> None:
    with pytest.raises(ExtraMissingError, match=r"pip install 'lmstack\[remote\]'"):
        require("lmstack_no_such_package", "remote")


def test_overload_carries_its_wait_and_context_length_is_an_input_error() -> None:
    assert OverloadedError("x", retry_after_s=7).retry_after_s == 7
    assert issubclass(ContextLengthError, InputError)


def test_total_tokens_are_the_sum() -> None:
    whole = Completion((), Usage(3, 4, 1), ModelInfo("m"))
    assert whole.usage.total_tokens == 7
