"""An answer babbles if it does not end or loops; the default model does not, asked plainly."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from lmstack.registry import ModelFolder
from lmstack.serve import LocalModel
from lmstack.serve.tasks.generating import Chat

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
QUESTIONS = (BENCHMARKS / "questions" / "chat.txt").read_text().splitlines()
_SPEC = importlib.util.spec_from_file_location("babble", BENCHMARKS / "babble.py")
babble = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(babble)

VERSE = "Row, row, row your boat, gently down the stream. Merrily, merrily, merrily, merrily."


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The capital of France is Paris.", False),
        (VERSE, False),
        ("1. an apple\n2. an orange\n3. a pear", False),
        ("It is not the case that it is so. " * 3, True),
        ("It is not the case that it is so. " * 2, False),
        ("the same words, The SAME words: the same words; the same words", True),
    ],
)
def test_a_loop_is_a_run_of_words_that_comes_again_and_again(text: str, expected: bool) -> None:
    assert babble.loops(text) is expected


def test_an_answer_that_is_cut_babbles() -> None:
    assert babble.babbles("The capital", "length")
    assert not babble.babbles("The capital of France is Paris.", "stop")


@pytest.mark.weights
@pytest.mark.parametrize(
    "questions", [QUESTIONS[:1], pytest.param(QUESTIONS, marks=pytest.mark.long)], ids=len
)
def test_the_default_model_does_not_babble_where_nothing_is_stated(
    smollm2: ModelFolder, questions: list[str]
) -> None:
    with LocalModel.load(smollm2) as model:
        chat = Chat(model.loaded, model=model)
        for question, answer in zip(questions, chat(questions), strict=True):
            babbling = babble.babbles(answer.text, answer.finish_reason)
            assert not babbling, f"{question}\n{answer.text}"
