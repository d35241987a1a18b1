"""Prompts as turns, and benchmarks that are asked through a chat template."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from tests.errors import about
from tests.evals.benchmarks.models import HashedLikelihoods, chat_subject, likelihood_subject
from tests.evals.tasks import sums, task_of

from lmstack.core import (
    ContextLengthError,
    InputError,
    Message,
    Request,
    SamplingParams,
    ScriptedModel,
    UnsupportedError,
)
from lmstack.evals.benchmarks.prompts import FewShot
from lmstack.evals.benchmarks.solvers import GenerationSolver, LikelihoodSolver, with_chat
from lmstack.evals.conversation import Shots, completed, conversation, rendered
from lmstack.evals.likelihood_solvers import MultipleChoice, TargetLikelihood
from lmstack.evals.solvers import Generate, SelfConsistency
from lmstack.evals.task import Dataset, Sample

SYSTEM, ASKED = Message("system", "Be brief."), Message("user", "Why?")


class Templated(HashedLikelihoods):
    """Its template knows no system message; ``wrong``: of what it complains instead."""

    def __init__(self, wrong: InputError | None = None) -> None:
        super().__init__()
        self.wrong = wrong or InputError("the chat template refuses it", param="messages")

    def render_chat(self, messages: tuple[Message, ...]) -> str:
        if messages[0].role == "system" or len(messages) > 3:
            raise self.wrong
        return "|".join(message.content for message in messages)


def test_turns_are_examples_and_a_question_or_one_text() -> None:
    assert conversation("", "x") == (Message("user", "x"),)
    assert conversation("Be brief.", "x") == (SYSTEM, Message("user", "x"))
    assert conversation("Be brief.", "x", [("1 + 1", "2")], "Why?") == (
        *(SYSTEM, Message("user", "1 + 1"), Message("assistant", "2"), ASKED),
    )
    assert conversation("", "x", (), "Why?") == (ASKED,)


OTHERS = [
    InputError("the chat template refuses it", param="prompt"),
    InputError("too many messages", param="messages"),
]


def test_a_template_without_system_messages_is_asked_without_one() -> None:
    assert rendered(Templated(), (SYSTEM, ASKED)) == "Why?"
    for messages in ((SYSTEM,), (ASKED,) * 4):
        with pytest.raises(InputError, match="refuses it"):
            rendered(Templated(), messages)
    for other in OTHERS:
        with pytest.raises(InputError) as caught:
            rendered(Templated(other), (SYSTEM, ASKED))
        assert caught.value is other
    with pytest.raises(UnsupportedError, match="no chat template", check=about("model")):
        rendered(HashedLikelihoods(), (ASKED,))


async def test_a_chat_model_without_system_messages_is_asked_again_without_one() -> None:
    refusal = InputError("the chat template refuses it", param="messages")
    model = ScriptedModel([refusal, "So."])
    assert (await completed(model, Request((SYSTEM, ASKED)))).text == "So."
    assert model.requests[1].messages == (ASKED,)
    for other in OTHERS:
        with pytest.raises(InputError) as caught:
            await completed(ScriptedModel([other, "So."]), Request((SYSTEM, ASKED)))
        assert caught.value is other


PROMPT = FewShot("{question}:", count=1, shots={"": (Sample("s", "x", ("y",)),)})
DRAWN = SamplingParams(temperature=1.0)


@pytest.mark.parametrize(
    ("solver", "chatting"),
    [
        (LikelihoodSolver(PROMPT), {"chat": True, "shots_as_turns": True}),
        (MultipleChoice(), {"chat": True, "shots_as_turns": True}),
        (GenerationSolver(PROMPT, chat=True), {"shots_as_turns": True}),
        (Generate(raw=True), {"chat": True, "shots_as_turns": True}),
        (Generate(), {}),
        (TargetLikelihood(), {"chat": True}),
    ],
)
def test_a_task_goes_through_the_chat_template(solver: Any, chatting: dict[str, Any]) -> None:
    task = task_of(sums(2), solver)
    assert with_chat(task, shots_as_turns=True) == replace(task, solver=replace(solver, **chatting))
    plain = {name: name == "chat" for name in chatting}
    assert with_chat(task).solver == replace(solver, **plain)


def test_each_of_several_answers_goes_through_the_chat_template() -> None:
    task = task_of(sums(2), SelfConsistency(Generate(DRAWN, raw=True), 3, "x"))
    found = with_chat(task, shots_as_turns=True).solver
    assert found == SelfConsistency(Generate(DRAWN, True, chat=True, shots_as_turns=True), 3, "x")


def test_a_task_with_one_way_to_ask_has_no_chat() -> None:
    texts = Dataset("d", (Sample("a", "x", ("y",)), Sample("b", "x")), "made")
    for task in (
        task_of(sums(1), GenerationSolver(PROMPT)),
        replace(task_of(sums(1), TargetLikelihood()), dataset=texts),
    ):
        with pytest.raises(InputError, match="has one way to send", check=about("chat")):
            with_chat(task)


def test_a_raw_prompt_becomes_turns() -> None:
    shots = Shots((Sample("a", "1 + 1", ("2",)),), 1)
    solver = Generate(raw=True, chat=True, instruction="Add.", shots=shots, cue="=")
    sample = Sample("b", "1 + 2", ("3",))
    assert solver.messages(sample) == (
        *(Message("system", "Add."), Message("user", "1 + 1 2\n\n1 + 2=")),
    )
    assert replace(solver, shots_as_turns=True).messages(sample) == (
        *(Message("system", "Add."), Message("user", "1 + 1"), Message("assistant", "2")),
        Message("user", "1 + 2="),
    )
    bare = replace(solver, shots_as_turns=True, shots=None, instruction="")
    assert bare.messages(sample) == (Message("user", "1 + 2="),)


@pytest.mark.parametrize(("as_turns", "context"), [(True, "x:|y|why:"), (False, "x: y\n\nwhy:")])
async def test_choices_are_scored_after_the_rendered_prompt(as_turns: bool, context: str) -> None:
    model = Templated()
    solver = LikelihoodSolver(PROMPT, " {letter}", chat=True, shots_as_turns=as_turns)
    sample = Sample("a", "why", choices=("no", "yes"), gold=(1,))
    output = await solver(sample, likelihood_subject(model))
    assert model.asked == [(context, "A"), (context, "B")]
    assert (output.completion_tokens, output.facts) == (2, {"shots": 1})
    with pytest.raises(InputError, match="sample b has no choices", check=about("choices")):
        await solver(Sample("b", "why"), likelihood_subject(model))


async def test_a_question_that_does_not_fit_even_alone_is_an_error() -> None:
    error = ContextLengthError("too long")
    model = ScriptedModel([error, error])
    with pytest.raises(ContextLengthError):
        await GenerationSolver(PROMPT)(Sample("a", "why"), chat_subject(model))
    assert [request.prompt for request in model.requests] == ["x: y\n\nwhy:", "why:"]
