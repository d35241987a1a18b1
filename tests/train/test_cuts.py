"""Every objective that cuts a row at ``max_length`` says by how many tokens."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tests.serve.tasks.conftest import wordpiece

from lmstack.text import Tokenizer
from lmstack.train.data.pairs import cut_tokens, encode_pairs
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


@pytest.mark.parametrize("texts", [(LONG, "the the"), ("the the", LONG)])
def test_of_a_pair_the_longer_text_is_cut(tokenizer: Tokenizer, texts: tuple[str, str]) -> None:
    one, other = ([text] for text in texts)
    ((first, second),) = encode_pairs(tokenizer, one, other, 12, segments=True)
    ((whole, _),) = encode_pairs(tokenizer, one, other, 200, segments=True)
    ((flat, nothing),) = encode_pairs(tokenizer, one, other, 12, segments=False)
    assert (len(first), len(second)) == ((9, 3) if texts[0] == LONG else (4, 8))
    assert (flat.tolist(), nothing.tolist()) == ([*first, *second], [])
    assert first.tolist() == [*whole[: len(first) - 1], whole[-1]]
    assert first.dtype == second.dtype == np.int32


def test_control_tokens_spelled_in_a_text_count_as_such_unless_that_is_not_wanted(
    tokenizer: Tokenizer,
) -> None:
    text = ["the [SEP] the"]
    (spelled,), (plain,) = (
        encode_pairs(tokenizer, text, None, 200, segments=False, **special)
        for special in ({}, {"special": False})
    )
    sizes = [len(spelled[0]), len(plain[0])]
    assert sizes[0] == 5 < sizes[1]
    assert [
        cut_tokens(tokenizer, text, None, [4], 4, **special) for special in ({}, {"special": False})
    ] == [size - 4 for size in sizes]


def _left_out(objective: Objective, values: dict[str, Any], reading: Reading) -> int:
    (example,) = objective.encode(Row(values, ""), reading)
    return example.left_out
