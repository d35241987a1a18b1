"""Solvers ask what the protocol says, and shots go where a prompt does not fit."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.errors import about
from tests.evals.benchmarks.models import HashedLikelihoods, chat_subject, likelihood_subject

from lmstack.core import (
    ContextLengthError,
    InputError,
    Message,
    Request,
    SamplingParams,
    ScriptedModel,
)
from lmstack.evals.benchmarks.prompts import FewShot
from lmstack.evals.benchmarks.solvers import GenerationSolver, LikelihoodSolver, cut_at
from lmstack.evals.dataset import Sample

SHOTS = tuple(Sample(f"s{n}", "x" * 50, ("y",)) for n in range(3))
PROMPT = FewShot("{question}:", count=3, shots={"": SHOTS})
ASKED = Sample("a", "why", choices=("no", "yes"), gold=(1,))


def test_each_choice_is_scored_after_the_whole_prompt() -> None:
    model = HashedLikelihoods()
    solver = LikelihoodSolver(PROMPT, " {letter}) {choice}")
    output = asyncio.run(solver(ASKED, likelihood_subject(model)))
    prompt = PROMPT.text(ASKED)
    assert model.asked == [(prompt, " A) no"), (prompt, " B) yes")]
    assert len(output.likelihoods) == 2
    assert output.facts == {"shots": 3}


@pytest.mark.parametrize("fits", [2, 1, 0])
def test_shots_are_left_out_from_the_last_until_the_prompt_fits(fits: int) -> None:
    model = HashedLikelihoods(limit=len(PROMPT.text(ASKED, fits)))
    output = asyncio.run(LikelihoodSolver(PROMPT)(ASKED, likelihood_subject(model)))
    assert output.facts == {"shots": fits}
    tried = range(3, fits - 1, -1)
    assert {context for context, _ in model.asked} == {PROMPT.text(ASKED, n) for n in tried}


def test_a_question_that_does_not_fit_alone_is_an_error() -> None:
    with pytest.raises(ContextLengthError):
        asyncio.run(LikelihoodSolver(PROMPT)(ASKED, likelihood_subject(HashedLikelihoods(2))))


def test_a_generated_text_ends_before_a_stop_that_the_model_did_not_know() -> None:
    sampling = SamplingParams(temperature=0.0, stop=("Q:", "\n\n"))
    model = ScriptedModel(["yes\n\nQ: next"])
    output = asyncio.run(GenerationSolver(PROMPT, sampling)(ASKED, chat_subject(model)))
    assert output.text == "yes"
    assert model.requests[0].prompt == PROMPT.text(ASKED)
    assert (output.prompt_tokens, output.completion_tokens) > (0, 0)


def test_a_chat_model_gets_the_same_text_as_a_turn() -> None:
    model = ScriptedModel(["yes"])
    asyncio.run(GenerationSolver(PROMPT, chat=True)(ASKED, chat_subject(model)))
    assert model.requests[0].messages == (Message("user", PROMPT.text(ASKED)),)


def test_a_generation_leaves_out_shots_too() -> None:
    def reply(request: Request) -> str:
        if len(str(request.prompt)) > 60:
            raise ContextLengthError("too long")
        return "short"

    output = asyncio.run(GenerationSolver(PROMPT)(ASKED, chat_subject(ScriptedModel([reply]))))
    assert (output.text, output.facts) == ("short", {"shots": 1})


def test_each_draft_of_each_sample_has_a_seed_of_its_own_and_always_the_same() -> None:
    model = ScriptedModel(["one"])
    solver = GenerationSolver(PROMPT, SamplingParams(temperature=0.8), drafts=20)
    for sample in (ASKED, replace(ASKED, id="b"), ASKED):
        output = asyncio.run(solver(sample, chat_subject(model)))
        assert output.facts["drafts"] == ["one"] * 20
    seeds = [request.sampling.seed for request in model.requests]
    assert len(set(seeds)) == 40
    assert seeds[:20] == seeds[40:]


def test_drafts_that_would_all_be_alike_are_refused() -> None:
    with pytest.raises(InputError, match="one text", check=about("drafts")):
        GenerationSolver(PROMPT, drafts=2)


def test_the_protocol_names_what_is_not_neutral() -> None:
    solver = GenerationSolver(PROMPT, SamplingParams(temperature=0.5, stop=("x",)))
    assert solver.protocol["sampling"] == {
        "temperature": 0.5,
        "stop": ["x"],
        "max_tokens": None,
    }
    assert replace(solver, chat=True).protocol != solver.protocol


@given(st.text("ab."), st.lists(st.text("ab.", min_size=1), max_size=3))
def test_a_text_is_cut_before_the_first_stop(text: str, stops: list[str]) -> None:
    cut = cut_at(text, tuple(stops))
    assert text.startswith(cut)
    assert not any(stop in cut for stop in stops)
    assert cut == text or any(text.startswith(stop, len(cut)) for stop in stops)
