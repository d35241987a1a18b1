"""A request that states no sampling gets the model's defaults on every road."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi.testclient import TestClient
from tests.byte_tokens import byte_level
from tests.serve.tiny_models import tiny_decoder

from lmstack.core import (
    ModelInfo,
    SamplingParams,
    ScriptedModel,
)
from lmstack.engine import EngineConfig
from lmstack.registry import DEFAULT_SAMPLING, LoadedModel, SamplingDefaults
from lmstack.serve import create_app
from lmstack.serve.local import LocalModel
from lmstack.serve.tasks.generating import Chat
from lmstack.text import ChatTemplate, Tokenizer

DEFAULTS = SamplingDefaults(temperature=0.3, top_p=0.8, max_tokens=20)
CHAT = ("/v1/chat/completions", {"messages": [{"role": "user", "content": "hi"}]})
RAW = ("/v1/completions", {"prompt": "hi"})
RESPONSES = ("/v1/responses", {"input": "hi"})
MESSAGES = ("/v1/messages", {"messages": CHAT[1]["messages"], "max_tokens": 9})
TEMPLATE = ChatTemplate("{% for m in messages %}{{ m.content }}{% endfor %}:")


@pytest.fixture
def scripted() -> ScriptedModel:
    model = ScriptedModel(name="m")
    model.info = ModelInfo("m", None, 100, DEFAULTS.stated())
    return model


@pytest.fixture
def client(scripted: ScriptedModel) -> Iterator[TestClient]:
    with TestClient(create_app(models={"m": scripted}), base_url="http://127.0.0.1") as made:
        yield made


def sent(client: TestClient, model: ScriptedModel, route: Any, **fields: Any) -> SamplingParams:
    path, body = route
    answer = client.post(path, json={"model": "m", **body, **fields})
    assert answer.status_code == 200, answer.text
    return model.requests[-1].sampling


@pytest.mark.parametrize("route", [CHAT, RAW, RESPONSES, MESSAGES])
@pytest.mark.parametrize("stream", [False, True])
def test_nothing_stated_is_the_models_default(
    client: TestClient, scripted: ScriptedModel, route: Any, stream: bool
) -> None:
    found = sent(client, scripted, route, stream=stream)
    assert (found.temperature, found.top_p, found.min_p) == (0.3, 0.8, 0.0)
    found = sent(client, scripted, route, stream=stream, temperature=None)
    assert found.temperature == 0.3


@pytest.mark.parametrize("route", [CHAT, RAW])
def test_an_explicit_temperature_of_1_is_1(
    client: TestClient, scripted: ScriptedModel, route: Any
) -> None:
    found = sent(client, scripted, route, temperature=1)
    assert (found.temperature, found.top_p) == (1.0, 1.0)


@pytest.mark.parametrize("route", [CHAT, RAW])
def test_a_search_does_not_collide_with_the_default_temperature(
    client: TestClient, scripted: ScriptedModel, route: Any
) -> None:
    search = {"use_beam_search": True, "num_beams": 2}
    assert sent(client, scripted, route, **search).temperature == 1.0


def test_the_list_of_models_says_what_holds_when_nothing_is_sent(client: TestClient) -> None:
    stated = {"temperature": 0.3, "top_p": 0.8, "max_tokens": 20}
    assert client.get("/v1/models/m").json()["default_sampling"] == stated
    assert client.get("/v1/models").json()["data"][0]["default_sampling"] == stated


# A model on this machine.


@pytest.fixture(scope="module")
def loaded() -> LoadedModel:
    tokenizer = Tokenizer.from_json(byte_level("<|end|>").to_str(), {"eos_token": "<|end|>"})
    return tiny_decoder(tokenizer, template=TEMPLATE, positions=64)


def stating(loaded: LoadedModel, **sampling: Any) -> LoadedModel:
    """The same model, whose files state how to sample."""
    generation = dataclasses.replace(loaded.generation, sampling=SamplingDefaults(**sampling))
    return dataclasses.replace(loaded, generation=generation)


def local(loaded: LoadedModel) -> LocalModel:
    return LocalModel(loaded, EngineConfig(block_size=4, num_blocks=64))


def test_a_model_that_states_nothing_has_lmstacks_default(loaded: LoadedModel) -> None:
    with local(loaded) as model:
        assert model.info.default_sampling == DEFAULT_SAMPLING.stated()


def test_generate_holds_to_what_the_model_states(loaded: LoadedModel) -> None:
    with local(stating(loaded, temperature=0.0, max_tokens=6)) as model:
        alone = model.complete("hello")
        greedy = model.complete("hello", temperature=0, max_tokens=6)
        assert alone.text == greedy.text
        assert alone.usage.completion_tokens <= 6
        drawn = {model.generate("hello", temperature=2, seed=seed) for seed in range(4)}
        assert len(drawn) > 1


def test_a_prompt_near_the_end_of_the_context_is_not_refused_for_a_default(
    loaded: LoadedModel,
) -> None:
    prompt = "x" * 60
    with local(stating(loaded, temperature=0.0, max_tokens=1000)) as model:
        assert model.complete(prompt, ignore_eos=True).usage.completion_tokens == 4
        assert model.complete("x", min_tokens=60, ignore_eos=True).usage.completion_tokens == 63


def test_min_tokens_above_the_default_limit_is_honoured(loaded: LoadedModel) -> None:
    with local(stating(loaded, temperature=0.0, max_tokens=5)) as model:
        assert model.complete("x", min_tokens=9).usage.completion_tokens == 9


def test_the_chat_task_holds_to_it_and_lets_a_call_search(loaded: LoadedModel) -> None:
    task = Chat(stating(loaded, temperature=0.0), max_tokens=5)
    try:
        assert task.options.temperature == 0.0
        assert task("hello").text == task("hello", temperature=0).text
        assert task("hello", num_beams=2).completion_tokens <= 5
        assert task("hello", temperature=1, seed=1).completion_tokens <= 5
    finally:
        task.close()
