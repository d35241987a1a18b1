"""Solvers ask what the protocol says, and shots go where a prompt does not fit."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
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
from lmstack.evals.task import Sample

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


@pytest.mark.parametrize("turns", [False, True])
@pytest.mark.parametrize("fits", [3, 1])
def test_a_chat_is_scored_with_ever_fewer_shots(turns: bool, fits: int) -> None:
    """The template's text, a space less before the answer, and how long it took."""

    class Chat(HashedLikelihoods):
        def render_chat(self, messages: Sequence[Message]) -> str:
            return "".join(f"<{m.role}>{m.content}" for m in messages)

    model = Chat()
    texts = [model.render_chat(PROMPT.messages(ASKED, n, shots_as_turns=turns)) for n in range(4)]
    model.limit = len(texts[fits])
    solver = LikelihoodSolver(PROMPT, chat=True, shots_as_turns=turns)
    output = asyncio.run(solver(ASKED, likelihood_subject(model)))
    assert model.asked[-2:] == [(texts[fits], "no"), (texts[fits], "yes")]
    assert (output.facts, output.completion_tokens) == ({"shots": fits}, 2)
    assert 0 <= output.seconds < 60


@pytest.mark.parametrize("turns", [False, True])
def test_a_chat_is_asked_with_ever_fewer_shots(turns: bool) -> None:
    messages = [PROMPT.messages(ASKED, n, shots_as_turns=turns) for n in range(4)]
    most = sum(len(m.content) for m in messages[2])

    def reply(request: Request) -> str:
        if sum(len(m.content) for m in request.messages) > most:
            raise ContextLengthError("too long")
        return "yes; and"

    model = ScriptedModel([reply])
    sampling = SamplingParams(temperature=0.0, stop=(";",))
    solver = GenerationSolver(PROMPT, sampling, chat=True, shots_as_turns=turns)
    output = asyncio.run(solver(ASKED, chat_subject(model)))
    assert [request.messages for request in model.requests] == [messages[3], messages[2]]
    assert (output.text, output.facts, output.finish_reason) == ("yes", {"shots": 2}, "stop")
    assert 0 <= output.seconds < 60
    never = ScriptedModel([ContextLengthError("too long")])
    with pytest.raises(ContextLengthError):
        asyncio.run(solver(ASKED, chat_subject(never)))
    assert len(never.requests) == 4


def test_tokens_of_all_drafts_are_counted_and_seeds_are_of_the_solvers_seed() -> None:
    model = ScriptedModel(["one", "two three"])
    solver = GenerationSolver(FewShot("{question}"), SamplingParams(temperature=1.0), drafts=2)
    output = asyncio.run(solver(ASKED, chat_subject(model)))
    alone = [
        asyncio.run(
            GenerationSolver(FewShot("{question}"))(ASKED, chat_subject(ScriptedModel([t])))
        )
        for t in ("one", "two three")
    ]
    assert output.completion_tokens == sum(each.completion_tokens for each in alone)
    assert output.prompt_tokens == sum(each.prompt_tokens for each in alone)
    assert (output.text, output.facts) == ("one", {"drafts": ["one", "two three"]})
    assert alone[0].facts == {}
    key = hashlib.sha256(b"0\x001\x00a").digest()[:7]
    assert model.requests[1].sampling.seed == int.from_bytes(key, "big")
    asyncio.run(replace(solver, seed=1)(ASKED, chat_subject(model)))
    assert len({request.sampling.seed for request in model.requests}) == 4


def test_solvers_protocols_name_every_setting() -> None:
    likely, said = LikelihoodSolver(PROMPT), GenerationSolver(PROMPT)
    assert likely.protocol == {
        **{"asks": "likelihoods", "prompt": PROMPT.protocol, "continuation": " {choice}"},
        **{"chat": False, "shots_as_turns": False},
    }
    assert replace(likely, chat=True).protocol["continuation"] == "{choice}"
    assert said.protocol == {
        **{"asks": "text", "prompt": PROMPT.protocol, "chat": False, "drafts": 1, "seed": 0},
        "shots_as_turns": False,
        "sampling": {"temperature": 0.0, "max_tokens": 256},
    }
    for name in ("chat", "shots_as_turns"):
        assert replace(likely, **{name: True}).protocol[name] is True
        assert replace(said, **{name: True}).protocol[name] is True


def test_no_drafts_and_no_choices_are_refused() -> None:
    with pytest.raises(InputError, match="0 drafts", check=about("drafts")):
        GenerationSolver(PROMPT, SamplingParams(temperature=1.0), drafts=0)
    with pytest.raises(InputError, match="sample a has no choices", check=about("choices")):
        asyncio.run(
            LikelihoodSolver(PROMPT)(replace(ASKED, choices=(), gold=()), likelihood_subject())
        )
    assert cut_at("ab", ("a", "b")) == cut_at("ab", ("b", "a")) == ""
