"""GSM8K: shots, stops and both readings."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence

import pytest
from tests.evals.benchmarks.models import (
    HashedLikelihoods,
    logprob_of,
    output_of,
    prompts_of,
    scores_for,
    scores_of,
)

from lmstack.core import FormatError, Message
from lmstack.evals.benchmarks.gsm8k import (
    gsm8k,
    gsm8k_bpb,
    gsm8k_chat,
    gsm8k_cot,
    gsm8k_samples,
)
from lmstack.evals.benchmarks.prompts import yaml_shots
from lmstack.evals.task import Subject

ROWS = [
    {"question": f"What is {n}?", "answer": f"It is {n}.\n#### {n:,}"} for n in range(995, 1010)
]
TESTS = gsm8k_samples("\n".join(map(json.dumps, ROWS)).encode())
SHOTS = yaml_shots(
    b"fewshot_config:\n  samples:\n  - question: Is 1 one?\n    target: It is. The answer is 1.\n"
)


def test_without_a_training_set_the_first_tests_are_the_shots_and_no_tests() -> None:
    task = gsm8k(TESTS, source="s")
    assert task.dataset.samples == TESTS[5:]
    prompt = prompts_of(task)[0]
    assert prompt.startswith("Question: What is 995?\nAnswer: It is 995.\n#### 995\n\nQuestion:")
    assert prompt.endswith("\n\nQuestion: What is 1000?\nAnswer:")
    assert "first 5 tests" in task.protocol["solver"]["prompt"]["source"]


def test_shots_are_drawn_by_one_generator_that_goes_on_from_test_to_test() -> None:
    task = gsm8k(TESTS[:3], TESTS[3:], source="s")
    draw = random.Random(1234)
    for sample, prompt in zip(task.dataset.samples, prompts_of(task), strict=True):
        drawn = draw.sample(TESTS[3:], 5)
        worked = [f"Question: {s.text}\nAnswer: {s.metadata['worked']}\n\n" for s in drawn]
        assert prompt == "".join(worked) + f"Question: {sample.text}\nAnswer:"


@pytest.mark.parametrize(
    ("reply", "strict", "flexible"),
    [
        ("We know.\n#### 1,000", 1, 1),
        ("#### 1000.", 1, 1),
        ("#### $1,000", 0, 1),
        ("It is 1000 of 7.", 0, 0),
        ("so it is 1000", 0, 1),
        ("#### 1000\n\nQuestion: What is 5?\n#### 5", 1, 1),
        ("no idea", 0, 0),
    ],
)
def test_the_marked_answer_is_read_strictly_and_the_last_number_flexibly(
    reply: str, strict: float, flexible: float
) -> None:
    scores = scores_for(gsm8k(TESTS, source="s"), reply)
    assert (scores["strict_match"], scores["flexible_match"]) == (strict, flexible)


def test_chains_of_thought_are_read_after_the_answer_is() -> None:
    task = gsm8k_cot(TESTS[5:6], SHOTS, source="s")
    assert prompts_of(task) == ["Q: Is 1 one?\nA: It is. The answer is 1.\n\nQ: What is 1000?\nA:"]
    scores = scores_for(task, " We add. The answer is 1,000.\n\nQ: More?")
    assert (scores["strict_match"], scores["flexible_match"]) == (1, 1)


def test_an_answer_without_its_mark_is_an_error() -> None:
    with pytest.raises(FormatError, match="row 1 of GSM8K"):
        gsm8k_samples(b'{"question": "1 + 1?", "answer": "2"}')


def test_worked_answers_are_scored_without_the_calculators_marks_and_the_last_line() -> None:
    row = {"question": "How many?", "answer": "She has 3*4=<<3*4=12>>12 eggs.\nAll.\n#### 12"}
    task = gsm8k_bpb(gsm8k_samples(json.dumps(row).encode()), source="s")
    (sample,) = task.dataset.samples
    assert sample.input == (Message("user", "How many?"),)
    assert sample.targets == ("She has 3*4=12 eggs.\nAll.",)
    subject = Subject("chatty", "sha256:1", likelihood=Chatty())
    output = output_of(task, subject)
    scores = scores_of(task, sample, output)
    assert scores["logprob"] == logprob_of("[user] How many?", sample.targets[0])
    assert scores["bytes"] == len(sample.targets[0])
    assert task.metrics[0].name == "bits_per_byte"


class Chatty(HashedLikelihoods):
    def render_chat(self, messages: Sequence[Message]) -> str:
        return "".join(f"[{each.role}] {each.content}" for each in messages)


def test_what_is_written_is_compared_with_the_worked_answer() -> None:
    task = gsm8k_chat(TESTS, source="s")
    assert task.metrics[0].name == "rouge1_f1"
    assert scores_for(task, "It is 995.")["rouge1_f1"] == 1.0
    assert scores_for(task, "Arr, the sea!")["rouge1_f1"] == 0.0
    assert task.dataset.digest == gsm8k_bpb(TESTS, source="s").dataset.digest


def test_both_forms_of_rows_are_read_and_named() -> None:
    luce = {"prompt": "Q?", "upstream_answer": "#### 3", "answer": "x"}
    plain, other = gsm8k_samples("\n".join(map(json.dumps, (ROWS[0], luce))).encode())
    assert (plain.id, plain.text, plain.targets) == (
        "gsm8k/0",
        "What is 995?",
        (ROWS[0]["answer"],),
    )
    assert (other.id, other.text, other.metadata) == ("gsm8k/1", "Q?", {"worked": "#### 3"})
    with pytest.raises(FormatError, match="row 2 of GSM8K has an answer without"):
        gsm8k_samples(
            "\n".join(map(json.dumps, (ROWS[0], {**luce, "upstream_answer": "3"}))).encode()
        )


def test_tasks_of_gsm8k_are_greedy_and_stop_where_the_harness_does() -> None:
    few, cot = gsm8k(TESTS, source="s", shots=2, chat=True), gsm8k_cot(TESTS, SHOTS, source="s")
    assert len(few.dataset.samples) == 13
    solver = few.protocol["solver"]
    assert (solver["chat"], cot.protocol["solver"]["chat"]) == (True, False)
    assert gsm8k(TESTS, source="s").protocol["solver"]["chat"] is False
    assert gsm8k_cot(TESTS, SHOTS, source="s", chat=True).protocol["solver"]["chat"] is True
    assert solver["sampling"] == {
        **{"temperature": 0.0, "max_tokens": 256},
        "stop": ["Question:", "</s>", "<|im_end|>"],
    }
    assert cot.protocol["solver"]["sampling"]["stop"][0] == "Q:"
    assert cot.protocol["solver"]["prompt"]["num_shots"] == 1
    trained = gsm8k(TESTS[:3], TESTS[3:], source="s", shots=2).protocol["solver"]["prompt"]
    assert (trained["num_shots"], trained["source"]) == (2, "lm-evaluation-harness gsm8k 3.0")
    names = [(task.name, task.dataset.name, task.dataset.source) for task in (few, cot)]
    assert names == [("gsm8k", "gsm8k", "s"), ("gsm8k_cot", "gsm8k", "s")]
    bits, chat = gsm8k_bpb(TESTS, source="s"), gsm8k_chat(TESTS, source="s")
    assert [metric.name for metric in bits.metrics] == ["bits_per_byte", "byte_perplexity"]
    assert bits.protocol["scorer"]["counted"] == "worked"
    assert chat.protocol["solver"]["sampling"] == {"temperature": 0.0, "max_tokens": 96}
    for task, name in ((bits, "gsm8k_bpb"), (chat, "gsm8k_chat")):
        assert (task.name, task.dataset.name, task.dataset.source) == (name, "gsm8k_worked", "s")
