"""Question answering as transformers 4 defined it: windows, words, no answer."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import lmstack
from lmstack.core import ContextLengthError, InputError
from lmstack.serve.tasks import ExtractedAnswer
from lmstack.serve.tasks.answering import best_spans

from .conftest import TEXTS, Both, Make

QUESTION = "where is the engine"
LONG = " ".join(TEXTS) * 5


@pytest.fixture(scope="module")
def bert(make: Make) -> Both:
    return make("BertForQuestionAnswering")


def oracle(
    both: Both,
    context: str,
    top_k: int = 1,
    no_answer: bool = False,
    longest: int = 15,
    length: int = 64,
    stride: int = 32,
    words: bool = True,
) -> list[ExtractedAnswer]:
    """transformers 4.57's pipeline written down again over its own tokenizer and model, span by
    span."""
    encoded = both.tokenizer(
        QUESTION,
        context,
        truncation="only_second",
        max_length=length,
        stride=stride,
        return_overflowing_tokens=True,
    )
    answers: list[dict[str, Any]] = []
    null = 1e6
    for encoding in encoded.encodings:
        tensors = {
            "input_ids": torch.tensor([encoding.ids]),
            "token_type_ids": torch.tensor([encoding.type_ids]),
        }
        with torch.no_grad():
            out = both.model(**tensors)
        places = zip(encoding.sequence_ids, encoding.tokens, strict=True)
        allowed = [sequence == 1 or token == "[CLS]" for sequence, token in places]
        start, end = (
            torch.where(torch.tensor(allowed), scores[0], torch.tensor(-10000.0)).softmax(0)
            for scores in (out.start_logits, out.end_logits)
        )
        null = min(null, float(start[0] * end[0]))
        spans = [
            (float(start[i] * end[j]), i, j)
            for i in range(1, len(allowed))
            for j in range(i, min(i + longest, len(allowed)))
            if allowed[i] and allowed[j]
        ]
        spans.sort(key=lambda span: -span[0])
        for score, i, j in spans[: top_k * 2 + 10 if words else top_k]:
            left, right = encoding.offsets[i][0], encoding.offsets[j][1]
            if words:
                left = encoding.word_to_chars(encoding.token_to_word(i), 1)[0]
                right = encoding.word_to_chars(encoding.token_to_word(j), 1)[1]
            text = context[left:right]
            same = next((a for a in answers if a["answer"].lower() == text.lower()), None)
            if same is None:
                answers.append({"answer": text, "score": score, "start": left, "end": right})
            else:
                same["score"] += score
    if no_answer:
        answers.append({"answer": "", "score": null, "start": 0, "end": 0})
    answers.sort(key=lambda answer: -answer["score"])
    return [
        ExtractedAnswer(a["answer"], pytest.approx(a["score"], abs=1e-5), a["start"], a["end"])
        for a in answers[:top_k]
    ]


@pytest.mark.parametrize("top_k", [1, 4])
@pytest.mark.parametrize("no_answer", [False, True])
@pytest.mark.parametrize("words", [False, True])
def test_answers_are_those_of_the_old_pipeline(
    bert: Both, top_k: int, no_answer: bool, words: bool
) -> None:
    qa = lmstack.task("qa", bert.ours, question=QUESTION, top_k=top_k, no_answer=no_answer)
    for context, found in zip(TEXTS, qa(TEXTS, align_to_words=words), strict=True):
        expected = oracle(bert, context, top_k, no_answer, words=words)
        assert list(found.answers)[: len(expected)] == expected


@pytest.mark.parametrize("stride", [0, 10, 32])
@pytest.mark.parametrize("length", [40, 64])
def test_a_long_document_is_read_to_its_end(bert: Both, length: int, stride: int) -> None:
    qa = lmstack.task("qa", bert.ours, top_k=3, max_length=length, stride=stride)
    found = qa({"question": QUESTION, "context": LONG})
    assert list(found.answers) == oracle(bert, LONG, 3, length=length, stride=stride)


@pytest.mark.parametrize("longest", [1, 3])
def test_an_answer_is_no_longer_than_asked(bert: Both, longest: int) -> None:
    qa = lmstack.task("qa", bert.ours, max_answer_tokens=longest, align_to_words=False, top_k=5)
    found = qa(LONG, question=QUESTION)
    assert list(found.answers) == oracle(bert, LONG, 5, longest=longest, words=False)


def test_an_answer_is_where_it_says(bert: Both) -> None:
    found = lmstack.task("qa", bert.ours, question=QUESTION, top_k=5)(LONG)
    assert all(LONG[a.start : a.end] == a.answer for a in found.answers)


probabilities = st.lists(st.floats(2**-10, 1, width=32), min_size=2, max_size=8)


@given(data=st.data(), start=probabilities, longest=st.integers(1, 8), count=st.integers(1, 40))
def test_the_best_spans_are_those_of_a_search_through_all(
    data: st.DataObject, start: list[float], longest: int, count: int
) -> None:
    end = data.draw(
        st.lists(st.floats(2**-10, 1, width=32), min_size=len(start), max_size=len(start))
    )
    first, last = np.array(start, np.float32), np.array(end, np.float32)
    found = list(best_spans(first, last, count, longest, np.ones(len(start), bool)))
    every = sorted(
        (
            float(first[i] * last[j])
            for i in range(len(start))
            for j in range(i, len(start))
            if j - i < longest
        ),
        reverse=True,
    )
    assert [score for _, _, score in found] == pytest.approx(every[:count])
    assert all(0 <= j - i < longest for i, j, _ in found)


def test_a_question_that_fills_the_window_is_refused(bert: Both) -> None:
    with pytest.raises(ContextLengthError, match="the first text alone has"):
        lmstack.task("qa", bert.ours)(LONG, question="where is " * 40)


def test_a_document_needs_a_question(bert: Both) -> None:
    with pytest.raises(InputError, match="input 1 comes without a question"):
        lmstack.task("qa", bert.ours)([{"question": "who", "context": "a"}, "b"])
