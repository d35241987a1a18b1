"""BIG-Bench Hard (Suzgun et al., 2022, arXiv:2210.09261): 27 tasks, three chains of thought each.

Read strictly as lm-evaluation-harness does, and leniently beside it: a trailing space or a bracket
alone can halve the strict figure. Descriptions and chains are read from the task files in the
package of lm-evaluation-harness. Not covered: answers without a chain.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from lmstack.core import InputError, SamplingParams
from lmstack.evals.benchmarks.data_files import DataFile, json_rows, text_field, yaml_file
from lmstack.evals.benchmarks.prompts import GROUP, FewShot, yaml_shots
from lmstack.evals.benchmarks.solvers import GenerationSolver
from lmstack.evals.metrics.text_match import extracted
from lmstack.evals.task import Dataset, Metric, ModelOutput, Sample, Task

__all__ = ["LenientScorer", "bbh", "bbh_prompt", "bbh_samples", "bbh_shots", "bbh_task"]

_STRICT = "(?<=the answer is )(.*)(?=.)"


def bbh_samples(file: DataFile, subtask: str, sha256: str = "") -> tuple[Sample, ...]:
    """Of one task's file: JSON with ``examples`` (the original), or rows of input and target."""
    rows = json_rows(file, sha256, within="examples")
    return tuple(
        Sample(
            f"bbh/{subtask}/{n}",
            text_field(row, "input", f"row {n + 1} of {subtask}"),
            (text_field(row, "target", f"row {n + 1} of {subtask}"),),
            metadata={GROUP: subtask},
        )
        for n, row in enumerate(rows)
    )


def bbh_shots(file: DataFile, sha256: str = "") -> tuple[str, tuple[Sample, ...]]:
    """The description and the three chains in a task file of lm-evaluation-harness's
    bbh/cot_fewshot."""
    description = yaml_file(file, sha256).get("description", "")
    return str(description), yaml_shots(file)


def bbh_prompt(shots: Mapping[str, tuple[Sample, ...]], source: str) -> FewShot:
    """With a header from the samples' metadata ("description")."""
    return FewShot(
        "Q: {question}\nA: Let's think step by step.\n",
        "{worked}",
        "{description}",
        delimiter="",
        count=3,
        shots=shots,
        source=source,
    )


@dataclass(frozen=True)
class LenientScorer:
    """``strict`` as lm-evaluation-harness extracts, ``lenient``: what follows the last "answer is",
    compared without case, white space, quotes, brackets and a full stop at its ends. ``found``:
    whether there is one."""

    @property
    def protocol(self) -> dict[str, Any]:
        return {"scores": "exact match", "strict": _STRICT, "lenient": 1}

    async def __call__(self, sample: Sample, output: ModelOutput) -> Mapping[str, float]:
        answer = _lenient(output.text)
        targets = {_bare(target) for target in sample.targets}
        return {
            "strict": float(extracted(output.text, _STRICT) in sample.targets),
            "lenient": float(answer is not None and _bare(answer) in targets),
            "found": float(answer is not None),
        }


def _lenient(text: str) -> str | None:
    found = re.search(r"(?is).*\banswer is:?[ \t]*([^\n]+)", text)
    return found[1] if found else None


def _bare(text: str) -> str:
    """Without what models write around an answer; of dyck_languages, brackets are the answer."""
    text = " ".join(text.split()).casefold().strip("*`\"' ")
    text = text[:-1].rstrip() if text.endswith(".") else text
    inner = re.fullmatch(r"\(([a-z0-9])\)", text)
    return inner[1] if inner else text.strip("*`\"' ")


def bbh(
    tests: Mapping[str, Sequence[Sample]],
    shots: Mapping[str, tuple[str, tuple[Sample, ...]]],
    *,
    source: str,
    chat: bool = False,
) -> Task:
    """``tests`` and ``shots`` (`bbh_shots`): by subtask."""
    missing = sorted(set(tests) - set(shots))
    if missing:
        raise InputError(
            f"no worked examples for {', '.join(missing)}",
            hint="each subtask needs its task file of lm-evaluation-harness",
            param="shots",
        )
    asked = tuple(
        replace(test, metadata={**test.metadata, "description": shots[subtask][0]})
        for subtask, samples in tests.items()
        for test in samples
    )
    chains = {subtask: shots[subtask][1] for subtask in tests}
    prompt = bbh_prompt(chains, "lm-evaluation-harness bbh_cot_fewshot 4.0")
    return bbh_task("bbh", Dataset("bbh", asked, source), prompt, chat=chat)


def bbh_task(name: str, dataset: Dataset, prompt: FewShot, *, chat: bool = False) -> Task:
    """Of prompts and readings like BIG-Bench Hard's."""
    # A chat model parts its steps by empty lines, so that the harness's stops would cut it short.
    stop = ("</s>",) if chat else ("</s>", "Q", "\n\n")
    sampling = SamplingParams(temperature=0.0, max_tokens=1024, stop=stop)
    return Task(
        name,
        dataset,
        GenerationSolver(prompt, sampling, chat),
        LenientScorer(),
        tuple(Metric(name, (name,)) for name in ("strict", "lenient", "found")),
        about="BIG-Bench Hard with three chains of thought, read strictly and leniently",
    )
