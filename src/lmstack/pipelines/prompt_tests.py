"""Prompts tried on examples whose outputs are known: one prompt, or two beside each other.

Shares have Wilson's interval; two prompts are compared by the examples that only one of them gets
right, with the exact test of McNemar. An answer that is not of the prompt's form, was cut, or does
not fit the model counts as wrong, and how many there were is said. What is answered is kept in a
journal. Does not cover when an answer is right (`prompt_scoring`).
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lmstack.core import ContextLengthError, InputError, nearest, shown
from lmstack.evals.prompt_scoring import check_scorer, score
from lmstack.evals.statistics import mcnemar, wilson
from lmstack.pipelines.judging import asked_of_all
from lmstack.pipelines.output_journal import OutputJournal
from lmstack.prompting import PromptAsker, PromptFile, StructuredError
from lmstack.prompting.prompt_file import example_of
from lmstack.prompting.prompt_text import read_lines

__all__ = ["Case", "TestJournal", "Trial", "answer_all", "read_cases", "summary"]


@dataclass(frozen=True)
class Case:
    """``values`` of the variables; ``output``: the one that is right."""

    values: Mapping[str, Any]
    output: str | None
    scorer: str

    @property
    def key(self) -> str:
        text = json.dumps([dict(self.values), self.output, self.scorer], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:24]


@dataclass(frozen=True)
class Trial:
    """A case for one of the prompts."""

    asker: PromptAsker
    case: Case

    @property
    def key(self) -> str:
        return f"{self.asker.prompt.digest.removeprefix('sha256:')[:24]}-{self.case.key}"


def read_cases(path: Path, prompts: Sequence[PromptFile], scorer: str | None) -> list[Case]:
    """The examples in a file of JSON objects, each once: values of variables, the ``output``, and
    a ``scorer`` of their own perhaps. ``scorer``: of the others; unless given, json for prompts
    with a schema, else exact."""
    usual = scorer or ("json" if any(p.schema is not None for p in prompts) else "exact")
    known = dict.fromkeys(name for prompt in prompts for name in prompt.base.variables)
    found: dict[str, Case] = {}
    for place, row in read_lines(path):
        chosen = row.pop("scorer", usual)
        has_output = row.get("output") is not None
        example = example_of(row if has_output else {**row, "output": ""}, place)
        output = example.output if has_output else None
        for name in example.values:
            if name not in known:
                guess = nearest(name, known)
                raise InputError(
                    f"{place} has the column {shown(name)}, which is no variable of the prompt",
                    hint=f"did you mean {guess!r}?" if guess else f"variables: {', '.join(known)}",
                    param="examples",
                )
        check_scorer(chosen, output, place)
        case = Case(example.values, output, chosen)
        found.setdefault(case.key, case)
    if not found:
        raise InputError(
            f"there is no example in {path}",
            hint='a line each: {"text": "...", "output": "..."}',
            param="examples",
        )
    return list(found.values())


def answer_all(trials: Sequence[Trial], batch: int) -> AsyncIterator[tuple[Trial, Any]]:
    """Each trial with what the model answered: ``answer``, ``right``, the ``problem`` and tokens,
    ``batch`` of them at a time."""
    return asked_of_all(_answered, trials, batch)


async def _answered(trial: Trial) -> dict[str, Any]:
    asker, case = trial.asker, trial.case
    names = asker.prompt.base.variables
    values = {name: value for name, value in case.values.items() if name in names}
    problem, answer = "", None
    text, tokens = "", [0, 0]
    try:
        found = await asker.ask(values)
    except StructuredError as error:
        problem, text = "cut" if error.is_cut else "not of the form", error.text
        tokens = [error.usage.prompt_tokens, error.usage.completion_tokens]
    except ContextLengthError:
        problem = "too long"
    else:
        answer, text = found.answer, found.text
        tokens = [found.usage.prompt_tokens, found.usage.completion_tokens]
        problem = "no answer" if answer is None else ""
    right = score(case.scorer, answer, case.output, asker.prompt.form)
    return {"answer": answer, "text": text, "right": right, "problem": problem, "tokens": tokens}


class TestJournal(OutputJournal):
    """Answers to trials. Without a file of the user's own it is dropped at the end."""

    __test__ = False  # no test, whatever pytest makes of its name

    def keep(self, trial: Trial, found: Mapping[str, Any] | None) -> None:
        assert found is not None
        self.add(trial.key, found)

    def drop(self) -> None:
        self.unfinished.unlink(missing_ok=True)

    def rows(self, cases: Sequence[Case], askers: Sequence[PromptAsker]) -> list[dict[str, Any]]:
        """A row for each case, with the answer to each prompt."""
        return [
            {
                **case.values,
                "output": case.output,
                "scorer": case.scorer,
                "answers": [
                    {"prompt": asker.prompt.version, **self.items[Trial(asker, case).key]}
                    for asker in askers
                ],
            }
            for case in cases
        ]


def summary(rows: Sequence[Mapping[str, Any]], askers: Sequence[PromptAsker]) -> dict[str, Any]:
    """How often each prompt was right, and how two compare."""
    found: dict[str, Any] = {"examples": len(rows), "prompts": []}
    for number, asker in enumerate(askers):
        answers = [row["answers"][number] for row in rows]
        right = sum(answer["right"] for answer in answers)
        share = wilson(right, len(answers))
        found["prompts"].append(
            {
                "prompt": asker.prompt.version,
                "digest": asker.prompt.digest,
                "file": str(asker.prompt.path),
                "model": asker.model.info.name,
                "right": right,
                "share": share.value,
                "low": share.low,
                "high": share.high,
                "problems": dict(Counter(a["problem"] for a in answers if a["problem"])),
                "prompt_tokens": sum(answer["tokens"][0] for answer in answers),
                "completion_tokens": sum(answer["tokens"][1] for answer in answers),
            }
        )
    if len(askers) == 2:
        pairs = Counter(tuple(answer["right"] for answer in row["answers"]) for row in rows)
        lost, gained = pairs[True, False], pairs[False, True]
        found["paired"] = {
            "both": pairs[True, True],
            "only_first": lost,
            "only_second": gained,
            "neither": pairs[False, False],
            "p": mcnemar(gained, lost),
        }
    return found
