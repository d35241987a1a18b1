"""/v1/completions: prompts of every kind, the legacy log-probabilities, echo."""

from __future__ import annotations

import contextlib
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmstack.core import Delta, InputError, ModelInfo, ScriptedModel, TokenLogprob, Usage
from lmstack.serve import create_app
from lmstack.serve.http.completions import LegacyLogprobs


def app_of(model):
    return create_app(models={"m": model})


@pytest.mark.parametrize(
    ("prompt", "seen"),
    [
        ("one", ["one"]),
        ("", [""]),
        ([1, 2], [(1, 2)]),
        (["a", "b"], ["a", "b"]),
        ([[1], [2, 3]], [(1,), (2, 3)]),
    ],
)
async def test_every_kind_of_prompt_reaches_the_model(connect, prompt, seen):
    model = ScriptedModel(["ok"])
    async with connect(app_of(model)) as client:
        answer = await client.completions.create(model="m", prompt=prompt)
    assert [request.prompt for request in model.requests] == seen
    assert [choice.text for choice in answer.choices] == ["ok"] * len(seen)


async def test_choices_of_many_prompts_are_numbered_prompt_by_prompt(connect):
    model = ScriptedModel([lambda request: f"about {request.prompt}"])
    ask = {"model": "m", "prompt": ["x", "y"], "n": 2}
    async with connect(app_of(model)) as client:
        whole = await client.completions.create(**ask)
        stream = await client.completions.create(
            **ask, stream=True, stream_options={"include_usage": True}
        )
        texts, usage = [""] * 4, None
        async for chunk in stream:
            usage = chunk.usage or usage
            for choice in chunk.choices:
                texts[choice.index] += choice.text
    assert texts == ["about x", "about x", "about y", "about y"]
    assert [choice.text for choice in whole.choices] == texts
    assert usage == whole.usage
    assert usage.prompt_tokens == 2


async def test_16_tokens_is_the_default_length_as_in_openais_api(connect):
    model = ScriptedModel(["w " * 40])
    async with connect(app_of(model)) as client:
        answer = await client.completions.create(model="m", prompt="x")
    assert model.requests[0].sampling.max_tokens == 16
    assert answer.choices[0].finish_reason == "length"


async def test_best_of_other_than_n_is_refused(http):
    async with http(app_of(ScriptedModel())) as client:
        answer = await client.post(
            "/v1/completions", json={"model": "m", "prompt": "x", "best_of": 3}
        )
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == "best_of"


async def test_one_bad_prompt_of_many_is_a_status_even_when_streamed(http):
    class Picky(ScriptedModel):
        async def stream(self, request):
            if request.prompt == "bad":
                raise InputError("bad prompt", param="prompt")
            async with contextlib.aclosing(super().stream(request)) as deltas:
                async for delta in deltas:
                    yield delta

    model = Picky(["ok"])
    body = {"model": "m", "prompt": ["good", "bad"]}
    async with http(app_of(model)) as client:
        whole = await client.post("/v1/completions", json=body)
        streamed = await client.post("/v1/completions", json=body | {"stream": True})
    assert (whole.status_code, streamed.status_code) == (400, 400)
    assert model.open_streams == 0


class Echoes:
    """Two prompt tokens, the first with nothing before it, then one token."""

    info = ModelInfo("m")

    async def stream(self, request):
        other = TokenLogprob("X", b"X", -3.0, 9)
        prompt = (
            TokenLogprob("Hé", "Hé".encode(), None, 1),
            TokenLogprob("llo", b"llo", -1.0, 2, top=(other,)),
        )
        yield Delta("Héllo", logprobs=prompt)
        yield Delta("!", logprobs=(TokenLogprob("!", b"!", -0.5, 3, top=(other,)),))
        yield Delta(finish_reason="stop")
        yield Delta(usage=Usage(2, 1))


async def test_echoed_logprobs_open_with_null_and_hold_the_chosen_token(connect):
    async with connect(app_of(Echoes())) as client:
        answer = await client.completions.create(model="m", prompt="Héllo", echo=True, logprobs=1)
    choice = answer.choices[0]
    assert choice.text == "Héllo!"
    assert choice.logprobs.tokens == ["Hé", "llo", "!"]
    assert choice.logprobs.token_logprobs == [None, -1.0, -0.5]
    assert choice.logprobs.top_logprobs == [None, {"X": -3.0, "llo": -1.0}, {"X": -3.0, "!": -0.5}]
    assert choice.logprobs.text_offset == [0, 2, 5]


async def test_streamed_logprobs_join_to_the_whole_ones(connect):
    async with connect(app_of(Echoes())) as client:
        ask = {"model": "m", "prompt": "x", "echo": True, "logprobs": 1}
        whole = (await client.completions.create(**ask)).choices[0].logprobs
        joined = {"tokens": [], "token_logprobs": [], "top_logprobs": [], "text_offset": []}
        async for chunk in await client.completions.create(**ask, stream=True):
            part = chunk.choices[0].logprobs.model_dump()
            joined = {name: values + part[name] for name, values in joined.items()}
    assert joined == whole.model_dump()


@given(st.text(max_size=20), st.lists(st.integers(0, 80), max_size=8))
def test_offsets_point_at_each_token_even_when_tokens_split_characters(text, cuts):
    data = text.encode("utf-8")
    places = sorted({min(cut, len(data)) for cut in cuts} | {0, len(data)})
    pieces = [data[a:b] for a, b in itertools.pairwise(places)]
    tokens = [TokenLogprob(p.decode("utf-8", "replace"), p, -1.0) for p in pieces]
    out = LegacyLogprobs(0).push(tokens)
    for piece, start, offset in zip(pieces, places, out.text_offset, strict=False):
        assert len(data[:start].decode("utf-8", "ignore")) == offset
        assert piece  # every piece is a token that starts at ``start``


def test_a_token_that_is_half_a_character_is_written_as_bytes():
    half = TokenLogprob("\ufffd", b"\xe2\x80", -1.0)
    assert LegacyLogprobs(0).push([half]).tokens == ["bytes:\\xe2\\x80"]
