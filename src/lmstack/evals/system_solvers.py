"""How a sample is put to a system: documents that answer questions, or an agent.

    AskIndex   a question, and then what shows whether the answer is right: where the evidence
               stands in the documents, and how likely the model finds the answer with and without
               what it cites
    RunAgent   a task, with the tools that its row allows

The system sees the question or the task alone. Not covered: how systems are made of an index,
models and tools (`lmstack.app.wiring`), and what an output is worth (`metrics.cited_answer`,
`metrics.agent_run`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from lmstack.core import InputError, Likelihood, Message, shown
from lmstack.evals.dataset import Sample
from lmstack.evals.metrics.cited_answer import without_marks
from lmstack.evals.metrics.cited_facts import CitedGold
from lmstack.evals.task import IndexSystem, ModelOutput, Subject

__all__ = ["AskIndex", "RunAgent", "tools_allowed"]

_QUESTION = "Question: {question}\nAnswer:"


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
