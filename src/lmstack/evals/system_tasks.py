"""Tasks for systems: documents that answer questions, or an agent.

    name: handbook
    data: questions.jsonl         # {"question", "answers", "evidence" or "sources", "answerable"}
    index: {docs: handbook}       # what is evaluated

    name: prices
    data: prices.jsonl            # {"task", "answers", "tools"}
    agent: {files: [data], python: true, steps: 8}

``index`` and ``agent`` say what is evaluated, not how: they are no part of the protocol, so that
results of two indexes, or of two settings, are compared on the same task. `AskIndex` puts a
question, and then finds what shows whether the answer is right: where the evidence stands in the
documents, and how likely the model finds the answer with and without what it cites. `RunAgent`
gives a task, with the tools that its row allows. The system sees the question or the task alone.

Not covered: the rest of a task file (`task_file`), how systems are made of an index, models and
tools (`evaluated_index`, `evaluated_agent`), and what an output is worth (`metrics.cited_answer`,
`metrics.agent_run`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from lmstack.core import InputError, Likelihood, Message, shown
from lmstack.core.files import store_error
from lmstack.core.yaml_text import parse_yaml
from lmstack.evals.metrics import CitedAnswer, CitedGold, Combined, MetricScorer
from lmstack.evals.metrics.cited_answer import without_marks
from lmstack.evals.task import IndexSystem, Metric, ModelOutput, Sample, Subject

__all__ = [
    "SYSTEMS",
    "AskIndex",
    "RunAgent",
    "System",
    "applicable",
    "question_metadata",
    "system_in",
    "tools_allowed",
    "with_usual_settings",
]

System = Literal["index", "agent"]
SYSTEMS: tuple[System, ...] = ("index", "agent")
_USUAL: Mapping[System, Mapping[str, Any]] = {
    "index": {"input": "{{question}}", "targets": "answers", "scorer": ["cited_answer", "usage"]},
    "agent": {"input": "{{task}}", "targets": "answers", "scorer": ["agent_run", "usage"]},
}
_QUESTION = "Question: {question}\nAnswer:"


def with_usual_settings(values: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a task file without what is evaluated, and with what is usual for it."""
    kind = _kind(values)
    rest = {key: value for key, value in values.items() if key not in SYSTEMS}
    return rest if kind is None else {**_USUAL[kind], "solver": kind, **rest}


def system_in(path: Path) -> tuple[System, Mapping[str, Any]] | None:
    """What the task file at ``path`` evaluates: an index or an agent, with its settings; None
    where that is a model."""
    try:
        values = parse_yaml(path.read_text(encoding="utf-8-sig"), str(path))
    except OSError as error:
        raise store_error(error, path, "reading") from error
    kind = _kind(values) if isinstance(values, Mapping) else None
    if kind is None:
        return None
    settings = values.get(kind)
    settings = {} if settings is None else settings
    if kind == "index" and isinstance(settings, str):
        settings = {"path": settings}
    if not isinstance(settings, Mapping):
        raise InputError(
            f"{path}: {kind} is {shown(settings)}, not a mapping of settings",
            hint="index: {docs: FOLDER}" if kind == "index" else "agent: {python: true}",
            param=kind,
        )
    return kind, settings


def _kind(values: Mapping[str, Any]) -> System | None:
    """By what the file has, or by its solver."""
    solver = values.get("solver")
    named = [kind for kind in SYSTEMS if kind in values or solver == kind]
    if not named:
        return None
    if len(named) > 1 or solver not in (None, *named):
        raise InputError(
            f"the task has {' and '.join(named)}"
            + ("" if solver is None else f", and the solver {shown(solver)}"),
            hint="a task is for an index, for an agent, or for a model",
            param="solver",
        )
    return named[0]


def question_metadata(row: Mapping[str, Any], answers: str) -> dict[str, Any]:
    """Of the sample of a question: what is known of its answer."""
    return {"gold": CitedGold.of_row(row, answers or "answers").to_json()}


def applicable(
    scorer: MetricScorer, samples: Sequence[Sample], *, faithfulness: bool
) -> tuple[Metric, ...]:
    """The metrics of ``scorer`` that some of ``samples`` can have. ``faithfulness``: whether
    likelihoods are asked for."""
    found: list[Metric] = []
    for each in scorer.scorers if isinstance(scorer, Combined) else (scorer,):
        found += each.metrics_for(samples) if isinstance(each, CitedAnswer) else each.metrics
    return tuple(each for each in found if faithfulness or each.name != "faithfulness")


@dataclass(frozen=True)
class AskIndex:
    """``faithfulness``: also the likelihoods of the answer (in ``likelihoods``, first with what it
    cites, then without), which takes a model that says them."""

    faithfulness: bool = True

    @cached_property
    def protocol(self) -> Mapping[str, Any]:
        return {
            "solver": "index",
            "version": 1,
            "faithfulness": _QUESTION if self.faithfulness else None,
        }

    async def __call__(self, sample: Sample, subject: Subject) -> ModelOutput:
        index = subject.needed_index()
        if self.faithfulness:
            subject.needed_likelihood()  # before anything is asked
        output = await index.answer(_turns(sample))
        facts = {**output.facts, "evidence": await _located(CitedGold.of(sample), index)}
        output = replace(output, facts=facts)
        if not self.faithfulness or facts["abstained"]:
            return output
        return replace(output, likelihoods=await self._likelihoods(sample, subject, output))

    async def _likelihoods(
        self, sample: Sample, subject: Subject, output: ModelOutput
    ) -> tuple[Likelihood, ...]:
        answer = without_marks(output.text)
        if not answer:
            return ()
        question = _QUESTION.format(question=sample.text)
        quotes = dict.fromkeys(each["quote"] for each in output.facts["citations"])
        contexts = [question]
        if quotes:
            contexts.insert(0, "\n\n".join([*quotes, question]))
        model = subject.needed_likelihood()
        found = await model.likelihoods([(context, f" {answer}") for context in contexts])
        # What nothing is cited for is as likely with that as without.
        return found[0], found[-1]


async def _located(gold: CitedGold, index: IndexSystem) -> list[list[dict[str, Any]]]:
    return [
        [
            {
                "source": each.path,
                "spans": [list(span) for span in await index.spans(each.path, each.pattern)],
            }
            for each in part
        ]
        for part in gold.evidence
    ]


@dataclass(frozen=True)
class RunAgent:
    """The row's field ``tools`` names those that the agent may call; without it, all of its own."""

    @cached_property
    def protocol(self) -> Mapping[str, Any]:
        return {"solver": "agent", "version": 1}

    async def __call__(self, sample: Sample, subject: Subject) -> ModelOutput:
        agent = subject.needed_agent()
        if not isinstance(sample.input, str):
            raise InputError(
                f"the sample {sample.id} is a conversation, and an agent is given a task",
                hint="give the input as text",
                param="input",
            )
        return await agent.run(sample.input, tools_allowed(sample))


def tools_allowed(sample: Sample) -> list[str] | None:
    """None: all; `InputError` where the row has something else than names."""
    names = sample.metadata.get("tools")
    if names is None:
        return None
    if not isinstance(names, list) or not all(isinstance(each, str) for each in names):
        raise InputError(
            f"the field tools is {shown(names)}", hint="write a list of names", param="tools"
        )
    return names


def _turns(sample: Sample) -> tuple[Message, ...]:
    if isinstance(sample.input, str):
        return (Message("user", sample.input),)
    return sample.input
