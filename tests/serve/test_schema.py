"""The OpenAPI document is honest: schemathesis over every route, with bodies that fit it and
bodies that do not. No 5xx, every answer as documented, misfits refused."""

from __future__ import annotations

import re
from typing import get_args

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis import GenerationMode
from schemathesis.config import (
    ChecksConfig,
    GenerationConfig,
    ProjectConfig,
    ProjectsConfig,
    SchemathesisConfig,
)
from schemathesis.specs.openapi.checks import positive_data_acceptance

from lmstack.core import ScriptedModel
from lmstack.serve import create_app
from lmstack.serve.http.adapters import ServedAdapters
from lmstack.serve.tasks.names import ScoringTask

# Rules between fields, or between a field and the model, that a schema cannot say: only for
# these may a body that fits the schema be refused. Places in lists are left out.
BEYOND_THE_SCHEMA = {
    *("messages.role", "messages.content", "messages.content.type", "messages.name"),
    *("messages.tool_calls.id", "messages.tool_call_id", "messages.content.tool_use_id"),
    *("messages.content.id", "input.call_id", "input.name"),
    *("tools", "tool_choice", "tool_choice.name", "response_format"),
    *("text.format", "text.format.schema", "text.format.name"),
    "answers",
    "best_of",
    "dimensions",
    "documents",
    "early_stopping",
    "input",
    "length_penalty",
    "lora_name",
    "lora_path",
    "max_tokens",
    "min_tokens",
    "model",
    "n",
    "options",
    "response_format.json_schema",
    "stream_options",
    "system",
    "task",
    "temperature",
    "tokens",
    "top_k",
    "top_logprobs",
    "unsure",
    "use_beam_search",
}
NAMES = {
    "/v1/chat/completions": "m",
    "/v1/completions": "m",
    "/v1/responses": "m",
    "/v1/messages": "m",
    "/v1/embeddings": "e",
    "/tokenize": "m",
    "/detokenize": "m",
    "/v1/rerank": "r",
    "/v1/classify": "c",
    "/v1/tasks": "t",
}


@pytest.fixture
def app(byte_codec, hash_embedder, word_reranker, vowel_classifier, length_tasks, tmp_path):
    length_tasks.takes_all, length_tasks.tasks = True, get_args(ScoringTask)
    app = create_app(
        models={"m": ScriptedModel(["some words"])},
        embedders={"e": hash_embedder},
        rerankers={"r": word_reranker},
        classifiers={"c": vowel_classifier},
        task_models={"t": length_tasks},
        tokenizers={"m": byte_codec, "e": byte_codec},
        allowed_hosts=["testserver"],
    )
    serving = app.state.shared
    serving.adapters = ServedAdapters(serving, AnyAdapter(), lambda model: model, tmp_path)
    return app


class AnyAdapter:
    def with_adapter(self, folder, name):
        return ScriptedModel(["other words"])


def with_a_served_model(case, name: str | None):
    """Most made-up names would be 404 and test nothing more."""
    body = case.body
    fits = isinstance(body, dict) and isinstance(body.get("model"), str)
    if name and fits and 1 <= len(body["model"]) <= 256:
        case.body = body | {"model": name}
    return case


def refused_for_a_rule_beyond_the_schema(answer) -> bool:
    error = answer.json()["error"]
    param = error["param"] if "param" in error else error["details"]["param"]
    place = re.sub(r"\.\d+", "", param or "")
    return answer.status_code in (400, 404) and place in BEYOND_THE_SCHEMA


def checker(path: str, mode: GenerationMode, seen: set[int]):
    def one(case) -> None:
        answer = with_a_served_model(case, NAMES.get(path)).call()
        seen.add(answer.status_code)
        case.validate_response(answer, excluded_checks=[positive_data_acceptance])
        made_up = "{model}" in path and answer.status_code == 404
        if mode is GenerationMode.POSITIVE and answer.status_code >= 400 and not made_up:
            assert refused_for_a_rule_beyond_the_schema(answer), answer.text

    return one


def check_every_route(app, mode: GenerationMode, examples: int) -> None:
    generation = GenerationConfig(modes=[mode])
    # 413 too: what a schema bounds can be longer than any body may be.
    refusals = {"negative_data_rejection": {"expected-statuses": ["4xx"]}}
    checks = ChecksConfig.from_dict(refusals)
    project = ProjectConfig(generation=generation, checks=checks)
    config = SchemathesisConfig(projects=ProjectsConfig(default=project))
    schema = schemathesis.openapi.from_asgi("/openapi.json", app, config=config)
    statuses: dict[str, set[int]] = {}
    for found in schema.get_all_operations():
        operation = found.ok()
        if mode is GenerationMode.NEGATIVE and not operation.body:
            continue  # nothing to get wrong
        seen = statuses.setdefault(operation.path, set())
        check = checker(operation.path, mode, seen)
        # What is drawn depends on the constants of all modules that happen to be imported. Where
        # a few bodies were all refused, many are tried.
        for count in (examples, 20 * examples):
            shaped = settings(
                max_examples=count,
                deadline=None,
                derandomize=True,
                database=None,
                suppress_health_check=list(HealthCheck),
            )
            shaped(given(case=operation.as_strategy(generation_mode=mode))(check))()
            if 200 in seen or mode is GenerationMode.NEGATIVE or "{" in operation.path:
                break
    assert set(NAMES) <= set(statuses)
    if mode is GenerationMode.POSITIVE:
        assert set(statuses) - set(NAMES) == {
            "/v1/models",
            "/v1/models/{model}",
            "/healthz",
            "/metrics",
            "/v1/load_lora_adapter",
            "/v1/unload_lora_adapter",
        }
        del statuses["/v1/unload_lora_adapter"]  # nothing is loaded under a name that is made up
        assert all(200 in seen for path, seen in statuses.items() if "{" not in path), statuses


def test_bodies_that_fit_the_schema_are_answered_as_documented(app):
    check_every_route(app, GenerationMode.POSITIVE, 8)


def test_bodies_that_do_not_fit_the_schema_are_refused_as_documented(app):
    check_every_route(app, GenerationMode.NEGATIVE, 4)


@pytest.mark.long
@pytest.mark.parametrize("mode", list(GenerationMode))
def test_many_bodies_are_answered_as_documented(app, mode):
    check_every_route(app, mode, 500)
