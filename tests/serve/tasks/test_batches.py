"""Batches: what a result is does not depend on its neighbours, and little is padding."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import lmstack
from lmstack.core import InputError
from lmstack.serve.tasks import TaskOutput
from lmstack.serve.tasks.encoder import CHEAP_TOKENS, MAX_WASTE, TaskEncoder, buckets

from .conftest import LIMIT, Both, Make

lengths_of = st.lists(st.integers(1, 700), max_size=80)
WORDS = ("ada", "love", "works", "in", "london", "the", "engine", "is", "green", ".", "zzz")
texts_of = st.lists(
    st.lists(st.sampled_from(WORDS), min_size=1, max_size=25).map(" ".join), min_size=1, max_size=8
)


@given(lengths_of)
def test_every_row_is_in_one_bucket(lengths: list[int]) -> None:
    rows = [row for bucket in buckets(lengths) for row in bucket]
    assert sorted(rows) == list(range(len(lengths)))


@given(lengths_of, st.integers(1, 2048))
def test_a_bucket_is_bounded_and_hardly_padded(lengths: list[int], limit: int) -> None:
    for bucket in buckets(lengths, limit):
        size = len(bucket) * max(lengths[row] for row in bucket)
        assert size <= limit or len(bucket) == 1
        waste = size - sum(lengths[row] for row in bucket)
        assert waste <= size * MAX_WASTE or size <= CHEAP_TOKENS


def test_texts_of_one_length_share_a_bucket() -> None:
    assert list(buckets([10] * 100)) == [list(range(100))]


def test_the_module_sees_at_most_an_eighth_of_padding(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = TaskEncoder(make("BertModel").ours)
    real, seen = 0, 0
    forward = encoder.module.forward

    def counted(**given: Any) -> Any:
        nonlocal real, seen
        real, seen = real + int(given["attention_mask"].sum()), seen + given["input_ids"].numel()
        return forward(**given)

    monkeypatch.setattr(encoder.module, "forward", counted)
    texts = [" ".join(WORDS[:1] * (n % 60 + 1)) for n in range(300)]
    encoder.hidden(encoder.encode_whole(texts))
    assert real == sum(encoder.count_tokens(texts))
    assert seen <= real * 8 / 7


TASKS: dict[str, tuple[str, tuple[str, ...], dict[str, Any]]] = {
    "text-classification": ("BertForSequenceClassification", ("a", "b", "c"), {"top_k": None}),
    "token-classification": ("BertForTokenClassification", ("O", "B-X", "I-X"), {}),
    "question-answering": ("BertForQuestionAnswering", (), {"question": "who", "no_answer": True}),
    "feature-extraction": ("BertModel", (), {}),
    "sentence-embedding": ("BertModel", (), {}),
    "zero-shot-classification": (
        "BertForSequenceClassification",
        ("contradiction", "entailment"),
        {"labels": "green, london"},
    ),
}


@pytest.fixture(scope="module", params=TASKS)
def made(request: pytest.FixtureRequest, make: Make) -> Any:
    architecture, labels, options = TASKS[request.param]
    return lmstack.task(request.param, make(architecture, labels).ours, **options)


def assert_same(one: Any, other: Any) -> None:
    """Equal, floats nearly: sums of another batch have another order (1.3e-5 was found)."""
    if isinstance(one, TaskOutput):
        assert type(one) is type(other)
        for name, value in vars(one).items():
            assert_same(value, getattr(other, name))
    elif isinstance(one, tuple):
        assert len(one) == len(other)
        for left, right in zip(one, other, strict=True):
            assert_same(left, right)
    elif isinstance(one, float | np.ndarray):
        torch.testing.assert_close(torch.tensor(one), torch.tensor(other), rtol=1.3e-6, atol=3e-5)
    else:
        assert one == other


@settings(max_examples=8, deadline=None)
@given(texts=texts_of)
def test_a_batch_gives_what_each_text_gives_alone_in_order(made: Any, texts: list[str]) -> None:
    together = made(texts)
    streamed = list(made.stream(iter(texts), chunk=3))
    for text, found, later in zip(texts, together, streamed, strict=True):
        alone = made(text)
        assert_same(found, alone)
        assert_same(later, alone)


def test_a_stream_reads_no_more_than_a_chunk_ahead(make: Make) -> None:
    read: list[int] = []

    def lines() -> Any:
        for i in range(100):
            read.append(i)
            yield f"ada {i}"

    made = lmstack.task("embed", make("BertModel").ours)
    next(made.stream(lines(), chunk=10))
    assert len(read) == 10


def test_no_texts_give_no_results(make: Make) -> None:
    assert lmstack.task("embed", make("BertModel").ours)([]) == []


def test_an_input_that_is_no_text_is_named(make: Make) -> None:
    made = lmstack.task("ner", make("BertForTokenClassification", ("O", "X")).ours)
    with pytest.raises(InputError, match="input 1 is 3, not a text"):
        made(["a", 3])
    with pytest.raises(InputError, match="the input is 3"):
        made(3)
    with pytest.raises(InputError, match="has the key 'txt'"):
        made({"txt": "a"})


def test_an_option_with_a_typo_names_the_nearest(make: Make) -> None:
    made = lmstack.task("ner", make("BertForTokenClassification", ("O", "X")).ours)
    with pytest.raises(InputError) as caught:
        made("a", agregation="max")
    assert caught.value.hint == "did you mean 'aggregation'?"


def test_a_model_sees_as_many_tokens_as_transformers_says(make: Make) -> None:
    both: Both = make("RobertaModel")
    assert TaskEncoder(both.ours).limit == both.tokenizer.model_max_length == LIMIT
