"""The model named after the folder, asked with every field of the chat schema.

Each field is honoured, refused by its own name with a reason, or documented to change nothing. A
field that joins the schema fails the first test until it is in one of the lists below.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import openai
import pytest
from starlette.testclient import TestClient
from tests.app.conftest import HashEmbedder
from tests.app.services import local_service
from tests.byte_tokens import smollm_bytes

from lmstack.app import wiring
from lmstack.app.wiring import build
from lmstack.core import ScriptedModel
from lmstack.rag import AnswerConfig, Index
from lmstack.serve.http.chat_messages import AssistantMessage
from lmstack.serve.http.requests import ChatBody, StreamOptions

QUESTION = {"role": "user", "content": "How long are letters kept?"}
CHAT: dict[str, Any] = {"model": "docs", "messages": [QUESTION]}
QUOTED = "Letters are kept for seven years."
WRITTEN = "Seven years is how long letters are kept."
TOOL = {"type": "function", "function": {"name": "f"}}

# Sent with the value, it does what it says; `HONOURED[name]` looks at the answer.
Honoured = tuple[Any, Callable[[httpx.Response], bool]]


def _choice(answer: httpx.Response) -> dict[str, Any]:
    return dict(answer.json()["choices"][0])


def _same(answer: httpx.Response) -> bool:
    """The most likely answer, and the same every time."""
    return str(_choice(answer)["message"]["content"]).startswith(QUOTED)


def _cut(answer: httpx.Response) -> bool:
    text = _choice(answer)["message"]["content"]
    used = answer.json()["usage"]["completion_tokens"]
    return (text, _choice(answer)["finish_reason"], used) == (QUOTED[:7], "length", 7)


def _written(answer: httpx.Response) -> bool:
    return str(_choice(answer)["message"]["content"]).startswith(f"{WRITTEN} [1]")


HONOURED: dict[str, Honoured] = {
    "model": ("docs", lambda answer: answer.json()["model"] == "docs"),
    "messages": ([QUESTION], _same),
    "stream": (True, lambda answer: answer.text.endswith("data: [DONE]\n\n")),
    "stream_options": ({"include_usage": True}, lambda answer: '"usage":{' in answer.text),
    "max_tokens": (7, _cut),
    "max_completion_tokens": (7, _cut),
    "metadata": ({"a": "b"}, lambda answer: answer.json()["metadata"] == {"a": "b"}),
    "temperature": (0.7, _same),  # of what is drawn, and nothing is
    "top_p": (0.9, _same),
    "top_k": (5, _same),
    "min_p": (0.1, _same),
    "typical_p": (0.9, _same),
    "seed": (5, _same),
    "n": (1, _same),
    "logprobs": (False, lambda answer: _choice(answer)["logprobs"] is None),
    "priority": (3, _same),
    "tool_choice": ("none", _same),
    "answers": ("write", _written),
    "unsure": ("strict", _same),
    "task": ("answer", _same),
    "system": ("note", _same),
}
# Their description says so: what they are for (billing, routing, abuse) is not done here.
CHANGE_NOTHING = {
    "user": "ada",
    "safety_identifier": "ada",
    "prompt_cache_key": "ada",
    "parallel_tool_calls": True,
}
# What asks for something that quotations cannot give.
REFUSED: dict[str, Any] = {
    "n": 2,
    "presence_penalty": 1,
    "frequency_penalty": 1,
    "repetition_penalty": 1.1,
    "no_repeat_ngram_size": 3,
    "logit_bias": {"5": 1},
    "bad_words": ["seven"],
    "stop": ["years"],
    "stop_regex": ["ye"],
    "min_tokens": 3,
    "ignore_eos": True,
    "logprobs": True,
    "top_logprobs": 2,
    "num_beams": 2,
    "use_beam_search": True,
    "length_penalty": 0.5,
    "early_stopping": True,
    "response_format": {"type": "json_object"},
    "prompt_cache_options": {"mode": "explicit"},
    "prompt_cache_retention": "24h",
    "service_tier": "priority",
    "store": True,
    "modalities": ["text", "audio"],
    "verbosity": "low",
    "reasoning_effort": "high",
    "tools": [TOOL],
    "functions": [{"name": "f"}],
    "function_call": "auto",
    "audio": {"voice": "alloy", "format": "wav"},
    "prediction": {"type": "content", "content": "x"},
    "moderation": {"model": "omni"},
    "web_search_options": {},
}
# Fields that are only accepted together with another, and those that another stands for.
TOGETHER: dict[str, dict[str, Any]] = {
    "stream_options": {"stream": True},
    "length_penalty": {"num_beams": 4},
    "early_stopping": {"num_beams": 4},
    "top_logprobs": {"logprobs": True},
    "use_beam_search": {"num_beams": 4},
}
NAMED_AS = {"top_logprobs": "logprobs", "use_beam_search": "num_beams"}


class Reading(ScriptedModel):
    """A model on this machine, which is to say with a tokenizer: a byte is a token."""

    tokenizer = smollm_bytes()


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    folder = tmp_path_factory.mktemp("served")
    docs = folder / "docs"
    docs.mkdir()
    (docs / "letters.md").write_text(f"# Letters\n\n{QUOTED}\n\nBills are kept for ten.\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LMSTACK_HOME", str(folder / "home"))
        # As long as its sentence, so that where a limit cuts can be seen.
        config = AnswerConfig(max_quote_chars=len(QUOTED))
        patch.setattr(build, "usual_answers", lambda _: config)
        embedder = HashEmbedder()
        with Index.open(wiring.index_of(docs), embedder) as index:
            index.add([docs])
        served = local_service(docs, Reading([f"[1] {WRITTEN}"] * 9, name="tiny"), embedder)
        yield TestClient(served.app, base_url="http://127.0.0.1:8000")
        served.close()


@pytest.fixture(scope="module")
def ask(client: TestClient) -> Callable[..., httpx.Response]:
    """``ask(field=value)``: the answer of the folder's model."""

    def send(**fields: Any) -> httpx.Response:
        return client.post("/v1/chat/completions", json=CHAT | fields)

    return send


def _refusal(answer: httpx.Response) -> dict[str, Any]:
    assert answer.status_code == 400, answer.text
    return dict(answer.json()["error"])


def test_every_field_of_the_chat_schema_is_honoured_refused_or_documented_to_do_nothing() -> None:
    assert set(HONOURED) | set(CHANGE_NOTHING) | set(REFUSED) == set(ChatBody.model_fields)


@pytest.mark.parametrize("name", sorted(HONOURED))
def test_a_field_is_honoured(ask: Callable[..., httpx.Response], name: str) -> None:
    value, holds = HONOURED[name]
    answer = ask(**{**TOGETHER.get(name, {}), name: value})
    assert answer.status_code == 200, answer.text
    assert holds(answer), answer.text


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_a_field_is_refused_by_its_name(ask: Callable[..., httpx.Response], name: str) -> None:
    error = _refusal(ask(**{**TOGETHER.get(name, {}), name: REFUSED[name]}))
    assert error["code"] == "unsupported_parameter"
    named = str(error["param"]).partition(".")[0]
    assert named in (name, NAMED_AS.get(name), *TOGETHER.get(name, ()))
    assert len(error["message"]) > len(name) + 10


@pytest.mark.parametrize("name", sorted(CHANGE_NOTHING))
def test_a_field_that_changes_nothing_says_so(
    ask: Callable[..., httpx.Response], name: str
) -> None:
    described = json.dumps(ChatBody.model_json_schema()["properties"][name])
    assert "changes nothing" in described
    assert _same(ask(**{name: CHANGE_NOTHING[name]}))


MESSAGE: dict[str, tuple[dict[str, Any], str | None]] = {
    "role": ({"role": "system", "content": "Answer in French."}, "messages.0.role"),
    "content": (QUESTION, None),
    "name": ({**QUESTION, "name": "ada"}, "messages.0.name"),
    "refusal": ({**QUESTION, "refusal": "no"}, "messages.0.refusal"),
    "audio": ({**QUESTION, "audio": {"id": "x"}}, "messages.0.audio"),
    "tool_calls": ({**QUESTION, "tool_calls": [TOOL]}, "messages.0.tool_calls"),
    "function_call": ({**QUESTION, "function_call": {}}, "messages.0.function_call"),
    "tool_call_id": ({**QUESTION, "tool_call_id": "x"}, "messages.0.tool_call_id"),
    "parsed": ({"role": "assistant", "content": "So.", "parsed": {}}, None),
}


def test_the_table_covers_every_field_of_a_message_and_of_the_options_of_a_stream() -> None:
    assert set(MESSAGE) == set(AssistantMessage.model_fields)
    assert set(StreamOptions.model_fields) == {"include_usage", "include_obfuscation"}


@pytest.mark.parametrize("name", sorted(MESSAGE))
def test_a_field_of_a_message_is_honoured_or_refused_by_its_place(
    ask: Callable[..., httpx.Response], name: str
) -> None:
    message, param = MESSAGE[name]
    answer = ask(messages=[message, QUESTION])
    if param is None:
        assert _same(answer)
    else:
        assert _refusal(answer)["param"] == param


def test_calls_and_results_in_the_history_are_refused(ask: Callable[..., httpx.Response]) -> None:
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    called = {"role": "assistant", "content": None, "tool_calls": [call]}
    result = {"role": "tool", "tool_call_id": "c", "content": "Ten years."}
    error = _refusal(ask(messages=[QUESTION, called, result, QUESTION]))
    assert (error["param"], error["code"]) == ("messages.1", "unsupported_parameter")


def test_usage_counts_the_passages_and_the_answer_by_the_models_tokenizer(
    ask: Callable[..., httpx.Response],
) -> None:
    answer = ask().json()
    text, usage = answer["choices"][0]["message"]["content"], answer["usage"]
    tokenizer = Reading.tokenizer
    assert usage["completion_tokens"] == len(tokenizer.encode(text, add_special_tokens=False))
    asked = len(tokenizer.encode(QUESTION["content"], add_special_tokens=False))
    assert usage["prompt_tokens"] > asked + len(QUOTED)
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]


def test_a_stream_carries_the_same_usage_in_its_last_chunk(
    ask: Callable[..., httpx.Response],
) -> None:
    whole = ask().json()["usage"]
    streamed = ask(stream=True, stream_options={"include_usage": True}).text
    *chunks, last = [json.loads(e[6:]) for e in streamed.strip().split("\n\n")[:-1]]
    assert last["usage"] == whole
    assert last["choices"] == []
    assert {chunk["usage"] for chunk in chunks} == {None}


def test_a_stream_is_cut_where_a_whole_answer_is(ask: Callable[..., httpx.Response]) -> None:
    streamed = ask(stream=True, max_tokens=40).text
    chunks = [json.loads(e[6:]) for e in streamed.strip().split("\n\n")[:-1]]
    text = "".join(c["choices"][0]["delta"].get("content", "") for c in chunks)
    whole = ask(max_tokens=40).json()["choices"][0]
    assert (text, "length") == (whole["message"]["content"], whole["finish_reason"])
    assert chunks[-1]["choices"][0]["finish_reason"] == "length"


def test_the_official_client_that_always_sends_a_system_message_is_told_that_it_was_not_applied(
    client: TestClient,
) -> None:
    url = "http://127.0.0.1:8000/v1"
    sdk = openai.OpenAI(base_url=url, api_key="unused", max_retries=0, http_client=client)
    asked: list[Any] = [{"role": "system", "content": "Answer in French."}, QUESTION]
    always: dict[str, Any] = {"model": "docs", "messages": asked, "temperature": 0.7, "top_p": 0.9}
    with pytest.raises(openai.BadRequestError) as caught:
        sdk.chat.completions.create(**always)
    assert caught.value.param == "messages.0.role"
    whole = sdk.chat.completions.create(**always, extra_body={"system": "note"})
    said = whole.choices[0].message.content or ""
    assert said.startswith(QUOTED)
    assert said.endswith(
        "Not applied: the system message. This answer is quoted from the documents as they stand."
    )
    parts = sdk.chat.completions.create(**always, stream=True, extra_body={"system": "note"})
    assert "".join(each.choices[0].delta.content or "" for each in parts if each.choices) == said
    written = sdk.chat.completions.create(**always, extra_body={"answers": "write"})
    assert (written.choices[0].message.content or "").startswith(WRITTEN)
