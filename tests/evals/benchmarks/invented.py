"""Invented items with awkward white space, braces and marks, for each benchmark, and the comparison
with what lm-evaluation-harness asks and scores (recorded by benchmarks/evaluation_prompts.py)."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Any

from tests.evals.benchmarks.models import logprob_of, scores_of
from tests.evals.tasks import rendered_turns

from lmstack.core import Likelihood
from lmstack.core.yaml_text import parse_yaml
from lmstack.evals.benchmarks.bbh import bbh, bbh_samples, bbh_shots
from lmstack.evals.benchmarks.data_files import DataFile
from lmstack.evals.benchmarks.gsm8k import gsm8k, gsm8k_cot, gsm8k_samples
from lmstack.evals.benchmarks.mmlu import mmlu, mmlu_samples
from lmstack.evals.benchmarks.passages import boolq, boolq_samples, hellaswag, hellaswag_samples
from lmstack.evals.benchmarks.prompts import yaml_shots
from lmstack.evals.benchmarks.solvers import GenerationSolver, with_chat
from lmstack.evals.benchmarks.truthfulqa import (
    mc1_samples,
    mc2_samples,
    truthfulqa_gen,
    truthfulqa_mc1,
    truthfulqa_mc2,
    written_samples,
)
from lmstack.evals.task import ModelOutput, Task

Row = Mapping[str, Any]


@dataclasses.dataclass
class Case:
    """``task``: the harness's name. ``rows``: of splits, in the form of the hub. ``scores``: of the
    harness's (filter, metric) to our column. ``replies``: what a generated text is, a sample a
    text. ``overrides``: of the harness's configuration. ``chat``: "single" or "turns" where
    prompts go through a chat template."""

    name: str
    task: str
    ours: Task
    rows: dict[str, list[Row]]
    scores: dict[tuple[str, str], str]
    replies: list[str] = dataclasses.field(default_factory=list)
    overrides: dict[str, Any] = dataclasses.field(default_factory=dict)
    chat: str = ""

    def chatting(self, chat: str) -> Case:
        """The same through a chat template."""
        ours = self.ours
        if isinstance(ours.solver, GenerationSolver):
            ours = dataclasses.replace(ours, solver=dataclasses.replace(ours.solver, chat=True))
        ours = with_chat(ours, shots_as_turns=chat == "turns")
        return dataclasses.replace(self, name=f"{self.name}, {chat}", ours=ours, chat=chat)


def lines(rows: Sequence[Row]) -> bytes:
    return "\n".join(map(json.dumps, rows)).encode()


INVENTED = {
    "mmlu": [
        {
            "question": text,
            "subject": "abstract_algebra",
            "choices": [f"{n}", " two ", "{three}", "four\n4"],
            "answer": n % 4,
        }
        for n, text in enumerate(
            (
                " Find x.\n",
                "{{ braces }} and {one}?",
                "Ünïcode → ?",
                "A  B\tC",
                "Statement 1| x Statement 2| y",
                "What is $\\frac{1}{2}$?",
                "\nLast  ",
            )
        )
    ],
    "hellaswag": [
        {
            "ind": n,
            "activity_label": label,
            "ctx_a": first,
            "ctx_b": second,
            "ctx": f"{first} {second}",
            "endings": ["sits [title] down.", " stands  up. ", "[step] sings.", "ends {it}."],
            "label": str(n % 4),
            "source_id": f"x~{n}",
        }
        for n, (label, first, second) in enumerate(
            (
                ("Baking", "A cook enters.", "the Cook"),
                ("How to [x] bake", "[header] How to bake [title] Buy flour. [step] Go.", ""),
                ("Running", " A man runs  fast. ", "he"),
            )
        )
    ],
    "boolq": [
        {"passage": "One -- It is {so}.\n", "question": "is it so", "label": 1, "idx": 0},
        {"passage": " Two {{x}} ", "question": "is it so?", "label": 0, "idx": 1},
    ],
    "truthfulqa": [
        {
            "question": text,
            "mc1_targets": {"choices": ["Yes.", "No {x}.", " Maybe"], "labels": [1, 0, 0]},
            "mc2_targets": {"choices": ["Yes.", "It is.", "No."], "labels": [1, 1, 0]},
        }
        for text in ("Is it?", "What is {{this}}? ", "Why\nthen?")
    ],
    "gsm8k": [
        {"question": f"What is {n}  + 1?", "answer": f"It is {n + 1}. \n#### {n + 1:,}"}
        for n in range(994, 1012)
    ],
    "bbh": [
        {"input": "not ( True ) is", "target": "False"},
        {"input": " True  or\nFalse is ", "target": "True"},
        {"input": "{{True}} is", "target": "(A)"},
    ],
    "truthfulqa_gen": [
        {
            "question": " Is it? ",
            "correct_answers": ["Yes", " It is. "],
            "incorrect_answers": ["No.", " Not at all, it is {not}"],
        },
        {
            "question": "Why {{x}}?",
            "correct_answers": ["I have no comment."],
            "incorrect_answers": ["So"],
        },
    ],
}
# In the form of the harness's task files.
BBH_SHOTS = """
description: "Say whether {it} is true.\\n\\n"
fewshot_config:
  sampler: first_n
  samples:
  - input: "True is"
    target: "It is \\"True\\".\\nSo the answer is True."
  - input: " False  is "
    target: " We see {x}. So the answer is False."
  - input: "not True is"
    target: "So the answer is False."
"""
COT_SHOTS = """
fewshot_config:
  sampler: first_n
  samples:
  - question: What is 1  + 1?
    target: One and one. The answer is 2.
  - question: "What is 2?\\n"
    target: " The answer is 2."
"""
GSM8K_SCORES = {
    ("strict-match", "exact_match"): "strict_match",
    ("flexible-extract", "exact_match"): "flexible_match",
}
GSM8K_REPLIES = [
    "#### 996",
    "so #### 1,000.",
    "It is $1,003",
    "#### x 5.",
    "",
    "#### 1,001\n",
    "12 and 1,002.00",
]
BBH_REPLIES = [
    "So the answer is False.",
    "So the answer is True. ",
    "The answer is (A). Then the answer is (A).",
]


def invented() -> list[Case]:
    """Each as raw text and, in both ways, as a chat."""
    raw = raw_cases()
    return raw + [case.chatting(way) for case in raw for way in ("single", "turns")]


def raw_cases() -> list[Case]:
    rows = INVENTED
    questions = mmlu_samples(lines(rows["mmlu"]))
    gsm = gsm8k_samples(lines(rows["gsm8k"]))
    shots = yaml_shots(COT_SHOTS.encode())
    replies = GSM8K_REPLIES
    number = len(replies)
    return [
        Case(
            "mmlu",
            "mmlu_abstract_algebra",
            mmlu(questions[5:], questions[:5], source="invented"),
            {"test": rows["mmlu"][5:], "dev": rows["mmlu"][:5]},
            {("none", "acc"): "acc"},
            overrides={"num_fewshot": 5},
        ),
        Case(
            "hellaswag",
            "hellaswag",
            hellaswag(hellaswag_samples(lines(rows["hellaswag"])), source="invented"),
            {"validation": rows["hellaswag"]},
            {("none", "acc"): "acc", ("none", "acc_norm"): "acc_norm"},
        ),
        Case(
            "boolq",
            "boolq",
            boolq(boolq_samples(lines(rows["boolq"])), source="invented"),
            {"validation": rows["boolq"]},
            {("none", "acc"): "acc"},
        ),
        Case(
            "truthfulqa_mc1",
            "truthfulqa_mc1",
            truthfulqa_mc1(mc1_samples(lines(rows["truthfulqa"])), source="invented"),
            {"validation": rows["truthfulqa"]},
            {("none", "acc"): "mc1"},
        ),
        Case(
            "truthfulqa_mc2",
            "truthfulqa_mc2",
            truthfulqa_mc2(mc2_samples(lines(rows["truthfulqa"])), source="invented"),
            {"validation": rows["truthfulqa"]},
            {("none", "acc"): "mc2"},
        ),
        Case(
            "gsm8k",
            "gsm8k",
            gsm8k(gsm[:number], gsm[number:], source="invented"),
            {"test": rows["gsm8k"][:number], "train": rows["gsm8k"][number:]},
            GSM8K_SCORES,
            replies,
        ),
        Case(
            "gsm8k_cot",
            "gsm8k_cot",
            gsm8k_cot(gsm[:number], shots, source="invented"),
            {"test": rows["gsm8k"][:number]},
            GSM8K_SCORES,
            [reply.replace("####", "The answer is") for reply in replies],
            {"fewshot_config": parse_yaml(COT_SHOTS, "shots")["fewshot_config"], "num_fewshot": 2},
        ),
        bbh_case("bbh", "boolean_expressions", BBH_SHOTS.encode(), parse_yaml(BBH_SHOTS, "shots")),
        Case(
            "truthfulqa_gen",
            "truthfulqa_gen",
            truthfulqa_gen(written_samples(lines(rows["truthfulqa_gen"])), source="invented"),
            {"validation": rows["truthfulqa_gen"]},
            {
                ("none", f"{measure}_{kind}"): f"{measure}_{kind}"
                for measure in ("bleu", "rouge1", "rouge2", "rougeL")
                for kind in ("max", "diff", "acc")
            },
            ["Yes, it is . It is not so.", "I have no idea, so"],
        ),
    ]


def bbh_case(
    name: str, subtask: str, shots: DataFile, overrides: Mapping[str, Any] | None = None
) -> Case:
    rows = INVENTED["bbh"]
    tests = {subtask: bbh_samples(lines(rows), subtask)}
    return Case(
        name,
        f"bbh_cot_fewshot_{subtask}",
        bbh(tests, {subtask: bbh_shots(shots)}, source="invented"),
        {"test": rows},
        {("get-answer", "exact_match"): "strict"},
        BBH_REPLIES,
        dict(overrides or {}),
    )


def asked_and_scored(case: Case) -> list[dict[str, Any]]:
    """What we ask and score of each sample, in the harness's form."""
    solver: Any = case.ours.solver
    found = []
    for place, sample in enumerate(case.ours.dataset.samples):
        prompt = solver.prompt.text(sample)
        if case.chat:
            turns = solver.prompt.messages(sample, shots_as_turns=solver.shots_as_turns)
            prompt = rendered_turns(turns)
        if case.replies:
            output = ModelOutput(case.replies[place])
            asked: list[Any] = [[prompt]]
        else:
            asked = [[prompt, each] for each in solver.continuations(sample)]
            logprobs = [logprob_of(*pair) for pair in asked]
            output = ModelOutput(likelihoods=tuple(Likelihood(x, 1, False) for x in logprobs))
        scores = scores_of(case.ours, sample, output)
        found.append({"asked": asked, "scores": dict(scores)})
    return found


def differences(case: Case, theirs: Sequence[Mapping[str, Any]]) -> list[str]:
    """Between what we and the harness ask and score, a line each."""
    ours = asked_and_scored(case)
    if len(ours) != len(theirs):
        return [f"{case.name}: {len(ours)} samples, and {len(theirs)} of the harness"]
    wrong = []
    for place, (mine, row) in enumerate(zip(ours, theirs, strict=True)):
        asked = [pair[:1] if case.replies else pair for pair in row["asked"]]
        if mine["asked"] != asked:
            wrong.append(f"{case.name}/{place}: {mine['asked'][0]!r} is not {asked[0]!r}")
        for (name, metric), column in case.scores.items():
            value = row["scores"][name][metric]
            if abs(value - mine["scores"][column]) > 1e-9:
                wrong.append(f"{case.name}/{place}: {column} {mine['scores'][column]}, not {value}")
    return wrong
