"""Real models behind /v1/tasks, /v1/rerank and /v1/classify give what the tasks give."""

from __future__ import annotations

from typing import Any

import httpx
import numpy as np
import pytest

import lmstack
from lmstack.core import Reranker, ScriptedModel, UnsupportedError
from lmstack.serve import create_app
from lmstack.serve.tasks import LocalClassifier, LocalReranker, LocalTasks

from .conftest import TEXTS, Both, Make


@pytest.fixture(scope="module")
def classifier(make: Make) -> Both:
    return make("BertForSequenceClassification", ("contradiction", "neutral", "entailment"))


async def ask(path: str, body: dict[str, Any], **served: Any) -> httpx.Response:
    app = create_app(models={"m": ScriptedModel()}, **served)
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
        return await client.post(path, json=body)


@pytest.mark.parametrize(
    ("architecture", "labels", "task", "item", "options"),
    [
        ("BertForTokenClassification", ("O", "B-X", "I-X"), "token-classification", TEXTS[0], {}),
        ("BertForMaskedLM", (), "fill-mask", "the [MASK] works", {"top_k": 2}),
        (
            *("BertForQuestionAnswering", (), "question-answering"),
            *({"question": "who", "context": TEXTS[0]}, {"top_k": 2, "no_answer": True}),
        ),
        ("BertModel", (), "feature-extraction", "ada", {}),
        ("BertModel", (), "sentence-embedding", "ada", {"kind": "query"}),
        (
            *("BertForSequenceClassification", ("no", "entail"), "zero-shot-classification"),
            *(TEXTS[0], {"labels": ["green", "paris"], "multi_label": True}),
        ),
        (
            *("BertForSequenceClassification", ("a", "b"), "text-classification"),
            *({"text": "ada", "text_pair": "works"}, {"top_k": None}),
        ),
        (
            *("BertForSequenceClassification", ("score",), "reranking"),
            *({"query": "ada", "documents": ["ada works", "paris"]}, {"top_k": 1}),
        ),
    ],
)
async def test_http_gives_what_the_task_gives(
    make: Make,
    architecture: str,
    labels: tuple[str, ...],
    task: str,
    item: Any,
    options: dict[str, Any],
) -> None:
    loaded = make(architecture, labels).ours
    body = {"model": "t", "task": task, "input": [item], "options": options}
    answer = await ask("/v1/tasks", body, task_models={"t": LocalTasks(loaded)})
    assert answer.status_code == 200, answer.text
    assert answer.json()["data"] == [lmstack.task(task, loaded)(item, **options).to_json()]


async def test_http_gives_the_reward_of_the_task(make: Make) -> None:
    loaded = make("BertForSequenceClassification", ("score",)).named(kind="reward")
    turns = [{"role": "user", "content": "who"}, {"role": "assistant", "content": "ada works"}]
    items = [{"prompt": "who", "answer": "paris"}, {"messages": turns}]
    body = {"model": "t", "task": "reward", "input": items}
    served = LocalTasks(loaded)
    assert (served.reranker, served.classifier) == (None, None)
    answer = await ask("/v1/tasks", body, task_models={"t": served})
    assert answer.status_code == 200, answer.text
    found = [each.to_json() for each in lmstack.task("reward", loaded)(items)]
    assert answer.json()["data"] == found
    assert found[0] != found[1]


@pytest.mark.parametrize(
    "item",
    [
        {"prompt": "  ", "answer": "ada"},
        {"prompt": "who", "answer": "ada works " * 60},
        {"messages": [{"role": "assistant", "content": "a"}, {"role": "user", "content": "b"}]},
        "ada",
    ],
)
async def test_http_says_what_is_no_answer_to_a_prompt(make: Make, item: Any) -> None:
    loaded = make("BertForSequenceClassification", ("score",)).named(kind="reward")
    body = {"model": "t", "task": "reward", "input": item}
    answer = await ask("/v1/tasks", body, task_models={"t": LocalTasks(loaded)})
    assert answer.status_code == 400, answer.text
    assert answer.json()["error"]["param"] == "input"


@pytest.mark.parametrize(
    ("changes", "param"),
    [
        ({"options": {"agregation": "max"}}, "options"),
        ({"options": {"aggregation": "none"}, "input": "ada works " * 60}, "options"),
        ({"input": {"text": "a", "text_pair": "b"}}, "input"),
        ({"input": "a", "options": {"aggregation": 3}}, "options"),
    ],
)
async def test_mistakes_are_refused_by_the_field_of_the_request(
    make: Make, changes: dict[str, Any], param: str
) -> None:
    loaded = make("BertForTokenClassification", ("O", "X")).ours
    body = {"model": "t", "task": "token-classification", "input": "ada", **changes}
    answer = await ask("/v1/tasks", body, task_models={"t": LocalTasks(loaded)})
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == param


def test_a_model_is_served_for_what_it_can_do(make: Make, classifier: Both) -> None:
    both = LocalTasks(make("BertForSequenceClassification", ("score",)).ours)
    assert isinstance(both.reranker, Reranker)
    assert both.classifier is not None
    assert LocalTasks(classifier.ours).reranker is None
    tagger = LocalTasks(make("BertForTokenClassification", ("O", "X")).ours)
    assert (tagger.reranker, tagger.classifier) == (None, None)


def test_probabilities_are_those_of_the_task(classifier: Both) -> None:
    served = LocalClassifier(classifier.ours)
    task = lmstack.task("classify", classifier.ours, top_k=None)
    texts = [text for text in TEXTS if len(text) < 60]
    for row, raw, found in zip(
        served.classify(texts), served.classify(texts, raw=True), task(texts), strict=True
    ):
        scores = {each.label: each.score for each in found.labels}
        assert dict(zip(served.labels, row.tolist(), strict=True)) == pytest.approx(scores)
        assert np.argmax(raw) == np.argmax(row)
        assert raw.min() < 0
    assert served.classify([]).shape == (0, 3)
    assert served.count_tokens(["ada"]) == [3]


def test_what_does_not_rank_is_no_reranker(classifier: Both) -> None:
    with pytest.raises(UnsupportedError, match="cannot do reranking"):
        LocalReranker(classifier.ours)


def test_a_document_cannot_end_itself(make: Make, classifier: Both) -> None:
    cross = make("BertForSequenceClassification", ("score",)).ours
    ended, text = "ada [SEP] where is", "ada [ SEP ] where is"
    scores = LocalReranker(cross).score("where is", [ended, text])
    assert scores[0] == pytest.approx(scores[1], abs=1e-6)
    rows = LocalClassifier(classifier.ours).classify([ended, text])
    np.testing.assert_allclose(rows[0], rows[1], atol=1e-6)
    [first, second] = LocalTasks(cross).run(
        "reranking", [{"query": "q", "documents": [d]} for d in (ended, text)], {}
    )
    assert first["results"][0]["score"] == pytest.approx(second["results"][0]["score"], abs=1e-6)
    trusting = lmstack.task("rerank", cross)([ended, text], query="where is").results
    assert abs(trusting[0].score - trusting[1].score) > 1e-4
