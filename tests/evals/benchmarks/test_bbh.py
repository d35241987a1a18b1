"""BIG-Bench Hard: three chains, and two readings side by side."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.errors import about
from tests.evals.benchmarks.models import (
    chat_subject,
    output_of,
    prompts_of,
    replying,
    scores_for,
)

from lmstack.core import InputError
from lmstack.evals.benchmarks.bbh import bbh, bbh_samples, bbh_shots
from lmstack.evals.task import Task

CHAINS = """
description: "Say what is true.\\n\\n"
fewshot_config:
  sampler: first_n
  samples: [
    {"input": "1 is", "target": "It is. So the answer is True."},
    {"input": "2 is", "target": "It is. So the answer is True."},
    {"input": "3 is", "target": "It is not. So the answer is False."},
  ]
"""


def task_of(*targets: str, chat: bool = False) -> Task:
    data = {"canary": "...", "examples": [{"input": f"{t} is", "target": t} for t in targets]}
    tests = {"truth": bbh_samples(json.dumps(data).encode(), "truth")}
    return bbh(tests, {"truth": bbh_shots(CHAINS.encode())}, source="s", chat=chat)


def test_the_description_and_three_chains_come_first() -> None:
    start = "\nA: Let's think step by step.\n"
    chains = (
        f"Q: 1 is{start}It is. So the answer is True.\n\n"
        f"Q: 2 is{start}It is. So the answer is True.\n\n"
        f"Q: 3 is{start}It is not. So the answer is False.\n\n"
    )
    assert prompts_of(task_of("True")) == [f"Say what is true.\n\n{chains}Q: True is{start}"]


@pytest.mark.parametrize(
    ("target", "reply", "strict", "lenient"),
    [
        ("True", "It is. So the answer is True.", 1, 1),
        ("True", "It is. So the answer is True. ", 0, 1),
        ("True", "It is. So the answer is True", 0, 1),
        ("True", "So the answer is **true**.", 0, 1),
        ("True", "So the answer is False.", 0, 0),
        ("True", "True", 0, 0),
        ("(B)", "So the answer is (B).", 1, 1),
        ("(B)", "So the answer is B.", 0, 1),
        ("(B)", "So the answer is (A).", 0, 0),
        (") ]", "So the answer is ) ].", 1, 1),
        (") ]", "So the answer is ] ).", 0, 0),
        ("12", "So the answer is 3. No, the answer is 12.", 0, 1),
    ],
)
def test_both_readings_stand_side_by_side(
    target: str, reply: str, strict: float, lenient: float
) -> None:
    scores = scores_for(task_of(target), reply)
    assert (scores["strict"], scores["lenient"]) == (strict, lenient)


@given(st.sampled_from(["True", "(C)", "valid", "7", "] } )", "apple banana", "-12"]))
def test_what_the_strict_reading_takes_the_lenient_one_takes_too(target: str) -> None:
    scores = scores_for(task_of(target), f"We see. So the answer is {target}.")
    assert scores == {"strict": 1, "lenient": 1, "found": 1}


def test_a_raw_answer_ends_at_an_empty_line_and_a_chat_answer_does_not() -> None:
    reply = "First.\n\nSo the answer is True."
    for chat, text in ((False, "First."), (True, reply)):
        task = task_of("True", chat=chat)
        assert output_of(task, chat_subject(replying(reply))).text == text


def test_a_subtask_without_chains_is_named() -> None:
    tests = {"truth": task_of("True").dataset.samples, "other": task_of("x").dataset.samples}
    with pytest.raises(InputError, match="other", check=about("shots")):
        bbh(tests, {"truth": bbh_shots(CHAINS.encode())}, source="s")


def test_tasks_of_bbh_name_their_rows_and_readings() -> None:
    task = task_of("True", "False", chat=True)
    first, second = task.dataset.samples
    assert (first.id, second.id) == ("bbh/truth/0", "bbh/truth/1")
    assert first.metadata == {"group": "truth", "description": "Say what is true.\n\n"}
    assert [(m.name, m.is_share) for m in task.metrics] == [
        *(("strict", True), ("lenient", True), ("found", True)),
    ]
    solvers = [task_of("True", chat=chat).protocol["solver"] for chat in (False, True)]
    stops = [solver["sampling"]["stop"] for solver in solvers]
    assert stops == [["</s>", "Q", "\n\n"], ["</s>"]]
    assert {solver["sampling"]["max_tokens"] for solver in solvers} == {1024}
    assert [solver["chat"] for solver in solvers] == [False, True]
    assert (task.name, task.dataset.name, task.dataset.source) == ("bbh", "bbh", "s")
    rows = json.dumps([{"input": "a", "target": "b"}, {"input": "a"}]).encode()
    with pytest.raises(InputError, match="row 2 of x", check=about("target")):
        bbh_samples(rows, "x")
    assert bbh_shots(CHAINS.replace("description", "other").encode())[0] == ""
