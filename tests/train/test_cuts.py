"""Every objective that cuts a row at ``max_length`` says by how many tokens."""

from __future__ import annotations

from typing import Any

import pytest
from tests.serve.tasks.conftest import wordpiece

from lmstack.text import Tokenizer
from lmstack.train.data.rows import Row
from lmstack.train.objectives import objective_named
from lmstack.train.objectives.objective import Objective, Reading

LONG, SHORT = "the " * 40, "the"


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    folder = tmp_path_factory.mktemp("tokenizer")
    wordpiece().save_pretrained(folder)
    return Tokenizer.from_folder(folder)


@pytest.mark.parametrize(
    ("name", "settings", "texts"),
    [
        ("sequence-classification", {"classes": ("a", "b")}, ("text",)),
        ("sequence-classification", {"classes": ("a", "b")}, ("sentence1", "sentence2")),
        ("reranking", {"rows": "labelled"}, ("sentence1", "sentence2")),
        ("reader", {}, ("query", "positives")),
        ("contrastive", {"rows": "pairs"}, ("query", "positive")),
    ],
)
def test_what_is_cut_is_counted(
    tokenizer: Tokenizer, name: str, settings: dict[str, Any], texts: tuple[str, ...]
) -> None:
    objective = objective_named(name, settings)
    if name == "sequence-classification":
        objective = objective.replace(problem_type="single_label_classification")

    def left_out(long: str, max_length: int) -> int:
        values: dict[str, Any] = dict.fromkeys(texts, SHORT) | {long: LONG, "label": "a"}
        if "positives" in values:
            values["positives"] = [values["positives"]]
        if name == "reranking":
            values["score"] = 1.0
        return _left_out(objective, values, Reading(tokenizer, None, max_length))

    for column in texts:
        whole = left_out(column, 200)
        assert whole == 0
        exact = next(n for n in range(40, 60) if left_out(column, n) == 0)
        assert [left_out(column, exact - n) for n in range(5)] == [0, 1, 2, 3, 4]


def _left_out(objective: Objective, values: dict[str, Any], reading: Reading) -> int:
    (example,) = objective.encode(Row(values, ""), reading)
    return example.left_out
