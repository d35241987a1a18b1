"""Every response names the digest of the weights that answered: all routes, whole and streamed."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.scripted_versions import BreakingModel, digest_of, version

from lmstack.core import EngineError
from lmstack.safety import Canary, CanaryModel
from lmstack.serve import create_app
from lmstack.serve.http.routes import DIGEST_HEADER

CHAT = [{"role": "user", "content": "hello"}]
WRITES = digest_of("writes")
BODIES: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {"model": "m", "messages": CHAT},
    "/v1/completions": {"model": "m", "prompt": ["a", "b"]},
    "/v1/responses": {"model": "m", "input": "hello"},
    "/v1/messages": {"model": "m", "messages": CHAT, "max_tokens": 5},
    "/v1/embeddings": {"model": "e", "input": "a"},
    "/v1/rerank": {"model": "r", "query": "a", "documents": ["a", "b"]},
    "/v1/classify": {"model": "c", "input": ["a"]},
    "/v1/tasks": {"model": "t", "task": "token-classification", "input": "a"},
    "/tokenize": {"model": "m", "prompt": "a"},
    "/detokenize": {"model": "m", "tokens": [97]},
}
STREAMED = ("/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/messages")
# What answers for the server, not with a model.
WITHOUT = ("/v1/load_lora_adapter", "/v1/unload_lora_adapter")
OTHERS = {
    "/v1/embeddings": "sha256:" + "1" * 64,
    "/v1/rerank": "sha256:" + "2" * 64,
    "/v1/classify": "sha256:" + "3" * 64,
    "/v1/tasks": "sha256:" + "4" * 64,
}


@pytest.fixture
def app_of(byte_codec, hash_embedder, word_reranker, vowel_classifier, length_tasks):
    def build(model):
        return create_app(
            models={"m": model},
            embedders={"e": hash_embedder},
            rerankers={"r": word_reranker},
            classifiers={"c": vowel_classifier},
            task_models={"t": length_tasks},
            tokenizers={"m": byte_codec},
        )

    return build


def test_no_route_is_left_out(app_of) -> None:
    paths = app_of(version("writes")).openapi()["paths"]
    posts = {path for path, operations in paths.items() if "post" in operations}
    assert posts == {*BODIES, *WITHOUT}


@pytest.mark.parametrize("path", BODIES)
async def test_a_whole_answer_names_its_digest(http, app_of, path) -> None:
    async with http(app_of(version("writes"))) as client:
        answer = await client.post(path, json=BODIES[path])
    assert answer.status_code == 200, answer.text
    assert answer.headers[DIGEST_HEADER] == OTHERS.get(path, WRITES)
    if "system_fingerprint" in answer.json():
        assert answer.json()["system_fingerprint"] == WRITES


@pytest.mark.parametrize("path", STREAMED)
async def test_a_streamed_answer_names_its_digest(http, app_of, path) -> None:
    async with http(app_of(version("writes"))) as client:
        answer = await client.post(path, json=BODIES[path] | {"stream": True})
    assert answer.headers[DIGEST_HEADER] == WRITES
    named = fingerprints(answer.text)
    assert named == ({WRITES} if path != "/v1/messages" else set())


def fingerprints(text: str) -> set[str]:
    """All that are named in the events of a stream."""
    lines = [line.removeprefix("data: ") for line in text.splitlines() if line[:6] == "data: "]
    events = [json.loads(line) for line in lines if line != "[DONE]"]
    tops = [event.get("response", event) for event in events]
    return {top["system_fingerprint"] for top in tops if "system_fingerprint" in top}


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("path", STREAMED)
async def test_with_two_versions_it_is_that_of_the_one_that_answered(
    http, app_of, path, streamed
) -> None:
    canary = Canary(version("candidate"), 0.5)
    app, seen = app_of(CanaryModel(version("stable"), canary)), set()
    async with http(app) as client:
        for number in range(24):
            body = json.loads(json.dumps(BODIES[path]).replace("hello", f"hello {number}"))
            before = canary.num_asked
            answer = await client.post(path, json=body | {"stream": streamed})
            expected = digest_of("candidate" if canary.num_asked > before else "stable")
            assert answer.headers[DIGEST_HEADER] == expected
            seen.add(expected)
    assert len(seen) == 2


async def test_after_a_fallback_it_is_the_stable_version(http, app_of) -> None:
    model = CanaryModel(version("stable"), Canary(BreakingModel(), 1 - 1e-12))
    async with http(app_of(model)) as client:
        for path in STREAMED:
            answer = await client.post(path, json=BODIES[path])
            assert answer.headers[DIGEST_HEADER] == digest_of("stable")


async def test_prompts_of_one_body_that_two_versions_answered_name_both(http, app_of) -> None:
    candidate = version("candidate", ["ok", EngineError("down")])
    model = CanaryModel(version("stable"), Canary(candidate, 1 - 1e-12))
    async with http(app_of(model)) as client:
        answer = await client.post("/v1/completions", json=BODIES["/v1/completions"])
    both = {digest_of("candidate"), digest_of("stable")}
    assert set(answer.json()["system_fingerprint"].split(",")) == both
    assert set(answer.headers[DIGEST_HEADER].split(",")) == both


async def test_an_error_names_no_weights(http, app_of) -> None:
    async with http(app_of(version("writes"))) as client:
        answer = await client.post("/v1/chat/completions", json={"model": "other"})
    assert DIGEST_HEADER not in answer.headers
