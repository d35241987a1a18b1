"""/v1/rerank in the shape of Jina and Cohere, /v1/classify in vLLM's, and /v1/tasks."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from lmstack.core import ScriptedModel
from lmstack.serve import create_app

DOCUMENTS = ["ports and hosts", "nothing", "ports hosts keys", "ports"]
RERANK = {"model": "r", "query": "ports hosts keys", "documents": DOCUMENTS}
TASK = {"model": "t", "task": "token-classification", "input": ["ab", "c"]}
CLASSIFY = {"model": "c", "input": ["aeiou", "rhythm"]}


@pytest.fixture
def app_of(word_reranker, vowel_classifier, length_tasks):
    def build(**options):
        return create_app(
            models={"m": ScriptedModel()},
            rerankers={"r": word_reranker},
            classifiers={"c": vowel_classifier},
            task_models={"t": length_tasks},
            **options,
        )

    return build


@pytest.fixture
def post(http, app_of):
    async def send(path: str, body: Any, status: int = 200) -> Any:
        async with http(app_of()) as client:
            answer = await client.post(path, json=body)
        assert answer.status_code == status, answer.text
        return answer.json()

    return send


async def test_documents_come_most_relevant_first_with_their_places(post):
    answer = await post("/v1/rerank", RERANK)
    assert [(r["index"], r["relevance_score"]) for r in answer["results"]] == [
        (2, 3.0),
        (0, 2.0),
        (3, 1.0),
        (1, 0.0),
    ]
    assert answer["results"][0]["document"] == {"text": "ports hosts keys"}
    assert answer["model"] == "r"
    total = sum(len(RERANK["query"]) + len(text) + 3 for text in DOCUMENTS)
    assert answer["usage"] == {"prompt_tokens": total, "total_tokens": total}


async def test_equally_relevant_documents_keep_their_order(post):
    answer = await post("/v1/rerank", RERANK | {"documents": ["x", "y", "ports", "z"]})
    assert [r["index"] for r in answer["results"]] == [2, 0, 1, 3]


async def test_documents_may_be_objects(post):
    objects = [*DOCUMENTS[:2], *({"text": text} for text in DOCUMENTS[2:])]
    plain = await post("/v1/rerank", RERANK)
    assert (await post("/v1/rerank", RERANK | {"documents": objects}))["results"] == plain[
        "results"
    ]


@pytest.mark.parametrize("top_n", [1, 3, 100])
async def test_top_n_keeps_the_best(post, top_n):
    answer = await post("/v1/rerank", RERANK | {"top_n": top_n})
    assert [r["index"] for r in answer["results"]] == [2, 0, 3, 1][:top_n]


async def test_documents_are_left_out_on_request(post):
    answer = await post("/v1/rerank", RERANK | {"return_documents": False})
    assert all(set(r) == {"index", "relevance_score"} for r in answer["results"])


async def test_a_document_that_is_too_long_is_refused_or_cut_as_asked(post):
    body = RERANK | {"documents": ["ports " * 20]}
    error = (await post("/v1/rerank", body, 400))["error"]
    assert (error["code"], error["param"]) == ("context_length_exceeded", "documents")
    assert "max_tokens_per_doc" in error["hint"]
    answer = await post("/v1/rerank", body | {"max_tokens_per_doc": 5})
    assert answer["results"][0]["relevance_score"] == 1


async def test_more_documents_than_a_batch_keep_their_places(post):
    documents = ["ports" if i % 7 == 0 else "x" for i in range(100)]
    answer = await post("/v1/rerank", RERANK | {"documents": documents, "top_n": 15})
    assert [r["index"] for r in answer["results"]] == list(range(0, 100, 7))


@pytest.mark.parametrize(
    ("changes", "param"),
    [
        ({"documents": []}, "documents"),
        ({"documents": ["a", {"title": "b"}]}, "documents.1"),
        ({"documents": ["a", 3]}, "documents.1"),
        ({"query": ""}, "query"),
        ({"top_n": 0}, "top_n"),
        ({"rank_fields": ["title"]}, "rank_fields"),
        ({"max_chunks_per_doc": 3}, "max_chunks_per_doc"),
        ({"truncate_prompt_tokens": 3}, "truncate_prompt_tokens"),
        ({"topn": 3}, "topn"),
    ],
)
async def test_what_is_not_honoured_is_refused_by_name(post, changes, param):
    error = (await post("/v1/rerank", RERANK | changes, 400))["error"]
    assert error["param"].startswith(param)


async def test_a_model_that_does_not_rerank_is_not_found(post):
    for name in ("m", "c", "nothing"):
        error = (await post("/v1/rerank", RERANK | {"model": name}, 404))["error"]
        assert error["hint"] == "served: r"


async def test_texts_get_a_label_and_the_probability_of_each(post):
    answer = await post("/v1/classify", CLASSIFY)
    assert [(d["index"], d["label"], d["probs"], d["num_classes"]) for d in answer["data"]] == [
        (0, "many", [0.0, 1.0], 2),
        (1, "few", [1.0, 0.0], 2),
    ]
    assert answer["usage"]["prompt_tokens"] == 15
    assert answer["usage"]["completion_tokens"] == 0


async def test_one_text_is_classified_as_a_list_of_one(post):
    one = await post("/v1/classify", CLASSIFY | {"input": "aeiou"})
    assert [d["label"] for d in one["data"]] == ["many"]


async def test_logits_are_given_on_request(post):
    answer = await post("/v1/classify", CLASSIFY | {"use_activation": False})
    assert answer["data"][0]["probs"] == [-5.0, 5.0]


async def test_a_text_too_long_to_classify_is_refused(post):
    error = (await post("/v1/classify", CLASSIFY | {"input": "a" * 99}, 400))["error"]
    assert (error["code"], error["param"]) == ("context_length_exceeded", "input")


@pytest.mark.parametrize(
    ("given", "param"),
    [
        ("a" * 100_001, "input"),
        (["a", "a" * 100_001], "input.1"),
        ([{"text": "a" * 100_001}], "input.0.text"),
        ({"question": "a" * 4097, "context": "b"}, "input.question"),
        ({"query": "a" * 100_001, "documents": ["b"]}, "input.query"),
    ],
)
async def test_a_text_of_too_many_characters_has_the_code_of_one_of_too_many_tokens(
    post, given, param
):
    error = (await post("/v1/tasks", TASK | {"input": given}, 400))["error"]
    assert (error["code"], error["param"]) == ("context_length_exceeded", param)
    assert "characters, at most" in error["message"]


async def test_a_name_of_too_many_characters_is_a_wrong_value(post):
    error = (await post("/v1/rerank", RERANK | {"model": "m" * 257}, 400))["error"]
    assert (error["code"], error["param"]) == ("invalid_value", "model")


async def test_every_served_model_is_listed(http, app_of):
    async with http(app_of()) as client:
        listed = (await client.get("/v1/models")).json()["data"]
    assert [(item["id"], item["max_model_len"]) for item in listed] == [
        ("c", 60),
        ("m", 8192),
        ("r", 60),
        ("t", 60),
    ]


@pytest.mark.parametrize(
    ("path", "body"),
    [("/v1/rerank", RERANK), ("/v1/classify", CLASSIFY), ("/v1/tasks", TASK)],
)
async def test_the_routes_want_a_key_where_the_server_has_one(http, app_of, path, body):
    async with http(app_of(api_keys=["k"])) as client:
        refused = await client.post(path, json=body)
        allowed = await client.post(path, json=body, headers={"Authorization": "Bearer k"})
    assert (refused.status_code, allowed.status_code) == (401, 200)


async def test_scoring_happens_off_the_event_loop(post, word_reranker, vowel_classifier):
    await post("/v1/rerank", RERANK)
    await post("/v1/classify", CLASSIFY)
    assert threading.get_ident() not in word_reranker.threads | vowel_classifier.threads


async def test_a_task_gives_the_result_of_each_input_in_order(post):
    answer = await post("/v1/tasks", TASK | {"options": {"aggregation": "max"}})
    assert answer["data"] == [
        {"length": 2, "aggregation": "max"},
        {"length": 1, "aggregation": "max"},
    ]
    assert (answer["model"], answer["task"]) == ("t", "token-classification")
    assert len((await post("/v1/tasks", TASK | {"input": "abc"}))["data"]) == 1


async def test_texts_are_run_in_batches_fewer_at_a_time_the_more_labels_they_have(
    post, length_tasks
):
    body = TASK | {"input": ["x"] * 70, "task": "zero-shot-classification"}
    await post("/v1/tasks", body)
    assert [len(call) for call in length_tasks.calls] == [32, 32, 6]
    length_tasks.calls.clear()
    await post("/v1/tasks", body | {"options": {"labels": ["a"] * 8}})
    assert [len(call) for call in length_tasks.calls] == [4] * 17 + [2]


@pytest.mark.parametrize(
    ("changes", "param"),
    [
        ({"task": "question-answering"}, "task"),
        ({"task": "chat"}, "task"),
        ({"input": [{"question": "a"}]}, "input"),
        ({"input": {"question": "a", "context": "b"}}, "input"),
        ({"input": []}, "input"),
        ({"options": {"agregation": "max"}}, "options"),
        ({"options": {"top_k": 101}}, "options"),
        ({"options": {"labels": ["a"] * 1001}}, "options"),
        ({"task": "feature-extraction", "input": ["a"] * 17}, "input"),
    ],
)
async def test_what_a_task_does_not_take_is_refused_by_name(post, changes, param):
    error = (await post("/v1/tasks", TASK | changes, 400))["error"]
    assert error["param"].startswith(param)


async def test_a_model_that_cannot_do_a_task_names_those_it_can(post):
    error = (await post("/v1/tasks", TASK | {"task": "fill-mask"}, 400))["error"]
    assert error["hint"].startswith("it can do token-classification, feature-extraction")
