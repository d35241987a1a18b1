"""Every parameter that the installed SDK knows is honoured, or answered 400 with a reason."""

from __future__ import annotations

import typing

import pytest
from openai.types import completion_create_params, embedding_create_params
from openai.types.chat import completion_create_params as chat_params

from lmstack.core import Grammar, ScriptedModel, Tool
from lmstack.serve import create_app
from lmstack.serve.http.embeddings import EmbeddingBody
from lmstack.serve.http.requests import ChatBody, CompletionBody

CHAT = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
COMPLETION = {"model": "m", "prompt": "hi"}
SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}}
TOOL = {"type": "function", "function": {"name": "f"}}

# name: (extra fields, what the core request then is). A dotted name reads an attribute.
SAMPLING = {
    "frequency_penalty": ({"frequency_penalty": 0.5}, {"sampling.frequency_penalty": 0.5}),
    "presence_penalty": ({"presence_penalty": -0.5}, {"sampling.presence_penalty": -0.5}),
    "logit_bias": ({"logit_bias": {"7": -100}}, {"sampling.logit_bias": {7: -100}}),
    "max_tokens": ({"max_tokens": 9}, {"sampling.max_tokens": 9}),
    "n": ({"n": 3}, {"sampling.n": 3}),
    "seed": ({"seed": -5}, {"sampling.seed": -5}),
    "stop": ({"stop": ["a", "b"]}, {"sampling.stop": ("a", "b")}),
    "temperature": ({"temperature": 0}, {"sampling.temperature": 0}),
    "top_p": ({"top_p": 0.25}, {"sampling.top_p": 0.25}),
    "stream": ({"stream": False}, {}),
    "stream_options": ({"stream": True, "stream_options": {"include_usage": True}}, {}),
    "user": ({"user": "someone"}, {}),
    "model": ({}, {}),
}
CHAT_HONOURED = SAMPLING | {
    "messages": ({}, {}),
    "max_completion_tokens": ({"max_completion_tokens": 9}, {"sampling.max_tokens": 9}),
    "logprobs": ({"logprobs": True}, {"sampling.logprobs": 0}),
    "top_logprobs": ({"logprobs": True, "top_logprobs": 4}, {"sampling.logprobs": 4}),
    "response_format": (
        {
            "response_format": {
                "type": "json_schema",
                "json_schema": {"name": "x", "schema": SCHEMA, "strict": True},
            }
        },
        {"grammar": Grammar.json_schema(SCHEMA)},
    ),
    "metadata": ({"metadata": {"a": "b"}}, {}),
    "safety_identifier": ({"safety_identifier": "x"}, {}),
    "prompt_cache_key": ({"prompt_cache_key": "x"}, {}),
    "parallel_tool_calls": ({"parallel_tool_calls": False}, {"parallel_tool_calls": False}),
    "service_tier": ({"service_tier": "auto"}, {}),
    "store": ({"store": False}, {}),
    "modalities": ({"modalities": ["text"]}, {}),
    "verbosity": ({"verbosity": "medium"}, {}),
    "reasoning_effort": ({"reasoning_effort": "none"}, {}),
    "prompt_cache_options": ({"prompt_cache_options": {"mode": "implicit"}}, {}),
    "prompt_cache_retention": ({"prompt_cache_retention": "in_memory"}, {}),
    "tools": ({"tools": [TOOL]}, {"tools": (Tool("f"),)}),
    "tool_choice": (
        {"tools": [TOOL], "tool_choice": "required"},
        {"tool_choice": "required"},
    ),
    "functions": ({"functions": []}, {}),
    "function_call": ({"function_call": "none"}, {}),
}
COMPLETION_HONOURED = SAMPLING | {
    "prompt": ({}, {"prompt": "hi"}),
    "logprobs": ({"logprobs": 5}, {"sampling.logprobs": 5}),
    "echo": ({"echo": True}, {"echo": True}),
    "best_of": ({"best_of": 2, "n": 2}, {"sampling.n": 2}),
}
CHAT_REFUSED = {
    "audio": {"voice": "alloy", "format": "wav"},
    "function_call": "auto",
    "functions": [{"name": "f"}],
    "modalities": ["text", "audio"],
    "moderation": {"model": "omni"},
    "prediction": {"type": "content", "content": "x"},
    "prompt_cache_options.mode": "explicit",
    "prompt_cache_options.ttl": "30m",
    "prompt_cache_retention": "24h",
    "reasoning_effort": "high",
    "service_tier": "priority",
    "store": True,
    "verbosity": "low",
    "web_search_options": {},
}


def sdk_names(module, kind: str) -> set[str]:
    base = getattr(module, kind, None) or module.EmbeddingCreateParams
    names = set(typing.get_type_hints(base))
    return names | ({"stream"} if "Completion" in kind else set())


def extensions() -> set[str]:
    return set(EXTENSIONS) | {"top_k", "use_beam_search"}


# name: (extra fields, what it then is in the sampling parameters).
EXTENSIONS = {
    "min_p": ({"min_p": 0.1}, 0.1),
    "repetition_penalty": ({"repetition_penalty": 1.5}, 1.5),
    "ignore_eos": ({"ignore_eos": True}, True),
    "typical_p": ({"typical_p": 0.5}, 0.5),
    "no_repeat_ngram_size": ({"no_repeat_ngram_size": 3}, 3),
    "min_tokens": ({"min_tokens": 2}, 2),
    "bad_words": ({"bad_words": ["no", "never"]}, ("no", "never")),
    "stop_regex": ({"stop_regex": r"END\d"}, (r"END\d",)),
    "num_beams": ({"num_beams": 4}, 4),
    "length_penalty": ({"num_beams": 4, "length_penalty": 0.5}, 0.5),
    "early_stopping": ({"num_beams": 4, "early_stopping": "never"}, "never"),
    "priority": ({"priority": -3}, -3),
}


@pytest.mark.parametrize(
    ("body", "names", "more"),
    [
        (
            ChatBody,
            sdk_names(chat_params, "CompletionCreateParamsBase"),
            extensions() | {"answers", "unsure", "task", "system"},
        ),
        (
            CompletionBody,
            sdk_names(completion_create_params, "CompletionCreateParamsBase"),
            extensions(),
        ),
        (EmbeddingBody, sdk_names(embedding_create_params, "EmbeddingCreateParams"), set()),
    ],
)
def test_bodies_know_exactly_the_sdk_parameters_and_our_extensions(body, names, more):
    assert set(body.model_fields) == names | more


def test_the_tables_below_cover_every_sdk_parameter():
    chat = sdk_names(chat_params, "CompletionCreateParamsBase")
    assert {n.partition(".")[0] for n in CHAT_HONOURED | CHAT_REFUSED} == chat
    legacy = sdk_names(completion_create_params, "CompletionCreateParamsBase")
    assert set(COMPLETION_HONOURED) | {"suffix"} == legacy


async def reached(http, path: str, body: dict, expected: dict) -> None:
    model = ScriptedModel(["ok"])
    async with http(create_app(models={"m": model})) as client:
        answer = await client.post(path, json=body)
    assert answer.status_code == 200, answer.text
    for name, value in expected.items():
        got = model.requests[0]
        for part in name.split("."):
            got = getattr(got, part)
        assert got == value, name


@pytest.mark.parametrize("name", sorted(CHAT_HONOURED))
async def test_a_chat_parameter_reaches_the_model(http, name):
    extra, expected = CHAT_HONOURED[name]
    await reached(http, "/v1/chat/completions", CHAT | extra, expected)


@pytest.mark.parametrize("name", sorted(COMPLETION_HONOURED))
async def test_a_completion_parameter_reaches_the_model(http, name):
    extra, expected = COMPLETION_HONOURED[name]
    await reached(http, "/v1/completions", COMPLETION | extra, expected)


@pytest.mark.parametrize(
    ("field", "value", "read"),
    [
        ("top_k", {"top_k": 5}, 5),
        ("top_k", {"top_k": -1}, 0),
        ("num_beams", {"use_beam_search": True, "best_of": 3}, 3),
        ("num_beams", {"use_beam_search": True, "n": 2}, 2),
        ("n", {"use_beam_search": True, "best_of": 3, "n": 2}, 2),
        ("n", {"best_of": 1}, 1),
        *((name, fields, read) for name, (fields, read) in EXTENSIONS.items()),
    ],
)
async def test_an_extension_reaches_the_model(http, field, value, read):
    await reached(http, "/v1/completions", COMPLETION | value, {f"sampling.{field}": read})


@pytest.mark.parametrize("name", sorted(EXTENSIONS))
async def test_an_extension_reaches_the_model_from_a_chat(http, name):
    fields, read = EXTENSIONS[name]
    await reached(http, "/v1/chat/completions", CHAT | fields, {f"sampling.{name}": read})


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"use_beam_search": True}, "use_beam_search"),
        ({"use_beam_search": False, "num_beams": 2}, "use_beam_search"),
        ({"num_beams": 2, "n": 3}, "n"),
        ({"num_beams": 2, "temperature": 0.5}, "temperature"),
        ({"num_beams": 2, "top_k": 5}, "top_k"),
        ({"early_stopping": True}, "early_stopping"),
        ({"length_penalty": 2}, "length_penalty"),
        ({"min_tokens": 20, "max_tokens": 10}, "min_tokens"),
    ],
    ids=str,
)
async def test_settings_of_a_search_that_contradict_each_other_are_refused(http, fields, param):
    async with http(create_app(models={"m": ScriptedModel(["ok"] * 4)})) as client:
        answer = await client.post("/v1/completions", json=COMPLETION | fields)
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == param


@pytest.mark.parametrize("name", sorted(CHAT_REFUSED))
async def test_a_refused_chat_parameter_is_named_with_a_reason(http, name):
    outer, _, inner = name.partition(".")
    value = {inner: CHAT_REFUSED[name]} if inner else CHAT_REFUSED[name]
    async with http(create_app(models={"m": ScriptedModel()})) as client:
        answer = await client.post("/v1/chat/completions", json=CHAT | {outer: value})
    error = answer.json()["error"]
    assert answer.status_code == 400
    assert error["param"] == name
    assert error["code"] == "unsupported_parameter"
    assert len(error["message"]) > len(name) + 10


@pytest.mark.parametrize("name", sorted(set(ChatBody.model_fields) - {"model", "messages"}))
async def test_null_is_the_same_as_leaving_a_chat_field_out(http, name):
    model = ScriptedModel(["ok"])
    async with http(create_app(models={"m": model})) as client:
        await client.post("/v1/chat/completions", json=CHAT)
        answer = await client.post("/v1/chat/completions", json=CHAT | {name: None})
    assert answer.status_code == 200, answer.text
    assert model.requests[0].sampling == model.requests[1].sampling
    assert model.requests[0].grammar == model.requests[1].grammar


@pytest.mark.parametrize(
    ("extra", "code"),
    [
        ({"answers": "write"}, "unsupported_parameter"),
        ({"unsure": "strict"}, "unsupported_parameter"),
        ({"task": "summarize"}, "unsupported_parameter"),
        ({"system": "note"}, "unsupported_parameter"),
        ({"answers": "sing"}, "invalid_value"),
    ],
)
async def test_what_is_for_answers_from_documents_is_refused_by_other_models(http, extra, code):
    model = ScriptedModel()
    async with http(create_app(models={"m": model})) as client:
        answer = await client.post("/v1/chat/completions", json=CHAT | extra)
    error = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (400, code)
    assert error["param"] == next(iter(extra))
    assert model.requests == []


async def test_suffix_is_refused_with_a_reason(http):
    async with http(create_app(models={"m": ScriptedModel()})) as client:
        answer = await client.post("/v1/completions", json=COMPLETION | {"suffix": "x"})
    assert answer.status_code == 400
    assert answer.json()["error"]["message"] == "suffix: insertion is not supported"


@pytest.mark.parametrize(
    ("extra", "param", "words"),
    [
        ({"temprature": 1}, "temprature", "temperature"),
        (
            {"stream": True, "stream_options": {"include_usag": True}},
            "stream_options.include_usag",
            "include_usage",
        ),
        ({"response_format": {"type": "text", "shema": 1}}, "response_format.shema", "schema"),
        ({"zzz": 1}, "zzz", "known:"),
    ],
)
async def test_an_unknown_field_is_named_with_the_nearest_known_one(http, extra, param, words):
    async with http(create_app(models={"m": ScriptedModel()})) as client:
        answer = await client.post("/v1/chat/completions", json=CHAT | extra)
    error = answer.json()["error"]
    assert (answer.status_code, error["param"]) == (400, param)
    assert words in error["hint"]


@pytest.mark.parametrize(
    ("extra", "param"),
    [
        ({"top_logprobs": 2}, "top_logprobs"),
        ({"top_logprobs": 0}, "top_logprobs"),
        ({"top_logprobs": 0, "logprobs": False}, "top_logprobs"),
        ({"stream_options": {"include_usage": True}}, "stream_options"),
        ({"max_tokens": 1, "max_completion_tokens": 2}, "max_tokens"),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema"),
        *(
            (
                {"response_format": {"type": kind, "json_schema": {"name": "x", "schema": SCHEMA}}},
                "response_format.json_schema",
            )
            for kind in ("text", "json_object")
        ),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"name": "x"}}},
            "response_format.json_schema.schema",
        ),
        ({"temperature": 2.1}, "temperature"),
        ({"temperature": "0.5"}, "temperature"),
        ({"temperature": 10**400}, "temperature"),
        ({"n": 17}, "n"),
        ({"n": True}, "n"),
        ({"n": 1.5}, "n"),
        ({"seed": 2**64}, "seed"),
        ({"stop": ["a", "b", "c", "d", "e"]}, "stop"),
        ({"stop": [""]}, "stop.0"),
        ({"logit_bias": {"x": 1}}, "logit_bias.x"),
        ({"logit_bias": {"5": 101}}, "logit_bias.5"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "user"}]}, "messages.0.content"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages.0.tool_call_id"),
        ({"messages": [{"role": "function", "name": "f", "content": "x"}]}, "messages.0.role"),
        ({"messages": [{"role": "robot", "content": "x"}]}, "messages.0.role"),
        ({"messages": [{"content": "x"}]}, "messages.0.role"),
        ({"messages": ["x"]}, "messages.0"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]},
            "messages.0.content.0.type",
        ),
        (
            {"messages": [{"role": "assistant", "content": "x", "tool_calls": [TOOL]}]},
            "messages.0.tool_calls.0.function.arguments",
        ),
        ({"messages": [{"role": "assistant", "content": None}]}, "messages.0.content"),
        (
            {"messages": [{"role": "user", "content": "x", "tool_calls": [TOOL]}]},
            "messages.0.tool_calls",
        ),
        (
            {"messages": [{"role": "assistant", "content": "x", "function_call": {}}]},
            "messages.0.function_call",
        ),
        ({"model": 7}, "model"),
    ],
)
async def test_a_wrong_value_is_400_and_names_the_field_as_sent(http, extra, param):
    async with http(create_app(models={"m": ScriptedModel()})) as client:
        answer = await client.post("/v1/chat/completions", json=CHAT | extra)
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == param, answer.text
