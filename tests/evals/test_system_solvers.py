"""What a system is asked, and what is asked about it afterwards."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import pytest
from tests.errors import about
from tests.evals.tasks import ScriptedLikelihoods

from lmstack.core import InputError, Likelihood, Message
from lmstack.evals.metrics import CitedGold
from lmstack.evals.system_tasks import AskIndex, RunAgent
from lmstack.evals.task import ModelOutput, Sample, Subject

TEXTS = {"fares.md": "The card expires two  years after it was bought. It is two years."}
ROW = {"answers": "two years", "evidence": [{"path": "fares.md", "quote": "two years"}]}


class Documents:
    """Says ``text``, citing ``quotes``."""

    def __init__(self, text: str, *quotes: str, abstained: bool = False) -> None:
        self.asked: list[tuple[Message, ...]] = []
        facts = {"abstained": abstained, "citations": [{"quote": each} for each in quotes]}
        self.output = ModelOutput(text, facts=facts)

    async def answer(self, turns: Sequence[Message]) -> ModelOutput:
        self.asked.append(tuple(turns))
        return self.output

    async def spans(self, source: str, pattern: str) -> list[tuple[int, int]]:
        return [match.span() for match in re.finditer(pattern, TEXTS.get(source, ""))]


def question(row: dict[str, Any]) -> Sample:
    return Sample("q", "How long?", metadata={"gold": CitedGold.of_row(row).to_json()})


def subject(documents: Documents, likelihood: Any = None) -> Subject:
    return Subject("m", "sha256:0", likelihood=likelihood, index=documents)


async def test_a_system_sees_the_question_and_nothing_of_what_is_known() -> None:
    documents = Documents("Two years. [1]", "two years")
    await AskIndex(faithfulness=False)(question(ROW), subject(documents))
    assert documents.asked == [(Message("user", "How long?"),)]


async def test_evidence_is_looked_for_in_the_documents_white_space_aside() -> None:
    row = {"answers": "x", "evidence": [ROW["evidence"], [{"path": "gone.md", "quote": "two"}]]}
    output = await AskIndex(faithfulness=False)(question(row), subject(Documents("x")))
    text = TEXTS["fares.md"]
    first = text.index("two  years")
    second = text.rindex("two years")
    assert output.facts["evidence"] == [
        [{"source": "fares.md", "spans": [[first, first + 10], [second, second + 9]]}],
        [{"source": "gone.md", "spans": []}],
    ]


async def test_faithfulness_asks_for_the_answer_with_what_is_cited_and_without() -> None:
    model = ScriptedLikelihoods(lambda context, _text: -float(not context.startswith("The card")))
    documents = Documents("Two years. [1]", "The card expires.", "The card expires.")
    output = await AskIndex()(question(ROW), subject(documents, model))
    alone = "Question: How long?\nAnswer:"
    assert model.asked == [
        [(f"The card expires.\n\n{alone}", " Two years."), (alone, " Two years.")]
    ]
    assert output.likelihoods == (Likelihood(0.0, 2, False), Likelihood(-1.0, 2, False))


async def test_what_cites_nothing_gains_nothing_and_a_refusal_is_not_asked_about() -> None:
    model = ScriptedLikelihoods(lambda _c, _t: -3.0)
    output = await AskIndex()(question(ROW), subject(Documents("Two years."), model))
    assert output.likelihoods == (Likelihood(-3.0, 2, False),) * 2
    refused = Documents("Closest: two years. [1]", "two years", abstained=True)
    assert (await AskIndex()(question(ROW), subject(refused, model))).likelihoods == ()
    assert len(model.asked) == 1


async def test_a_subject_without_what_is_asked_stops_the_run() -> None:
    with pytest.raises(InputError, match="has no documents") as error:
        await AskIndex()(question(ROW), Subject("m", "sha256:0"))
    assert error.value.param == "model"
    documents = Documents("x")
    with pytest.raises(InputError, match="how likely"):
        await AskIndex()(question(ROW), subject(documents))
    assert documents.asked == []
    with pytest.raises(InputError, match="is no agent"):
        await RunAgent()(Sample("t", "Add."), Subject("m", "sha256:0"))


class Agent:
    def __init__(self) -> None:
        self.given: list[tuple[str, Any]] = []

    async def run(self, task: str, tools: Sequence[str] | None) -> ModelOutput:
        self.given.append((task, tools))
        return ModelOutput("done")


async def test_an_agent_gets_the_task_and_the_tools_of_its_row() -> None:
    agent = Agent()
    ready = Subject("m", "sha256:0", agent=agent)
    await RunAgent()(Sample("a", "Add.", metadata={"tools": ["calculator"]}), ready)
    await RunAgent()(Sample("b", "Add.", metadata={"tools": []}), ready)
    await RunAgent()(Sample("c", "Add."), ready)
    assert agent.given == [("Add.", ["calculator"]), ("Add.", []), ("Add.", None)]
    with pytest.raises(InputError, match="tools is 'calculator'", check=about("tools")):
        await RunAgent()(Sample("d", "Add.", metadata={"tools": "calculator"}), ready)
    with pytest.raises(InputError, match="is a conversation", check=about("input")):
        await RunAgent()(Sample("e", (Message("user", "Add."),)), ready)
