"""Solvers: what exactly is sent, and what the protocol must tell apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from tests.evals.tasks import ScriptedLikelihoods, last_text, scripted

from lmstack.core import InputError, Message, Request, SamplingParams
from lmstack.evals.dataset import Sample
from lmstack.evals.json_forms import canonical
from lmstack.evals.shots import Shots
from lmstack.evals.solvers import (
    THINK,
    Generate,
    MultipleChoice,
    SelfConsistency,
    TargetLikelihood,
)
from lmstack.evals.task import Subject

GREEDY = SamplingParams(temperature=0.0, max_tokens=8)
WARM = SamplingParams(temperature=0.7, max_tokens=8)
POOL = [Sample(f"s{n}", f"Q: {n}\nA:", (f"{n}",)) for n in range(6)]
ASKED = Sample("x", "Q: x\nA:", ("x",))


def raw(**options: Any) -> Generate:
    return Generate(GREEDY, raw=True, **options)


def test_a_raw_prompt_is_byte_for_byte_what_is_written() -> None:
    solver = raw(instruction="Answer.\n\n", shots=Shots.first(POOL, 2), cue=" " + THINK)
    assert solver.request(ASKED).prompt == (
        "Answer.\n\nQ: 0\nA: 0\n\nQ: 1\nA: 1\n\nQ: x\nA: Let's think step by step."
    )


def test_a_chat_has_its_shots_as_turns() -> None:
    solver = Generate(GREEDY, instruction="Be brief.", shots=Shots.first(POOL, 1), cue=THINK)
    assert solver.request(ASKED).messages == (
        Message("system", "Be brief."),
        Message("user", "Q: 0\nA:"),
        Message("assistant", "0"),
        Message("user", f"Q: x\nA:\n{THINK}"),
    )


def test_a_conversation_is_sent_turn_by_turn() -> None:
    turns = (Message("user", "hi"), Message("assistant", "hello"), Message("user", "bye"))
    sample = Sample("c", turns)
    assert Generate(GREEDY).request(sample).messages == turns
    with pytest.raises(InputError, match="is a conversation"):
        raw().request(sample)


async def test_an_answer_has_its_counts_and_how_it_ended() -> None:
    subject, _ = scripted(lambda _r: "one two three")
    found = await Generate(GREEDY.replace(max_tokens=2))(ASKED, subject)
    assert (found.text, found.finish_reason) == ("one two", "length")
    assert (found.prompt_tokens, found.completion_tokens) == (3, 2)
    assert found.seconds >= 0


def test_a_sample_is_not_shown_as_its_own_example() -> None:
    shots = Shots.first(POOL, 2)
    assert [each.id for each in shots.of(ASKED)] == ["s0", "s1"]
    assert [each.id for each in shots.of(POOL[0])] == ["s1", "s2"]
    copy = replace(POOL[1], id="copy")
    assert [each.id for each in shots.of(copy)] == ["s0", "s2"]


def test_drawn_shots_are_the_same_for_the_same_seed() -> None:
    chosen = [Shots.drawn(POOL, 3, seed) for seed in range(20)]
    assert chosen[0] == Shots.drawn(POOL, 3, 0)
    assert len({each.samples for each in chosen}) > 10
    assert all(len({s.id for s in each.of(ASKED)}) == 3 for each in chosen)


def test_too_few_shots_are_refused() -> None:
    with pytest.raises(InputError, match="7 shots are wanted, and there are 6"):
        Shots.first(POOL, 7)


def test_a_shot_without_an_answer_is_refused() -> None:
    with pytest.raises(InputError, match="no answer to show"):
        Shots.first([Sample("a", "Q")], 1)


def test_a_shot_may_show_its_right_choice() -> None:
    shot = Sample("a", "Q:", choices=("no", "yes"), gold=(1,))
    assert Shots.first([shot], 1).text(ASKED) == "Q: yes\n\n"


def test_every_setting_is_in_the_protocol() -> None:
    shots = Shots.first(POOL, 2)
    solvers = [
        Generate(GREEDY),
        raw(),
        raw(cue=THINK),
        raw(instruction="Answer. "),
        raw(seed=1),
        raw(shots=shots),
        raw(shots=Shots.first(POOL, 3)),
        raw(shots=Shots.first([replace(POOL[0], targets=("9",)), *POOL[1:]], 2)),
        raw(shots=replace(shots, before_answer="")),
        raw(shots=replace(shots, after_answer="\n")),
        Generate(GREEDY.replace(stop=("\n",)), raw=True),
        Generate(GREEDY.replace(max_tokens=9), raw=True),
        Generate(GREEDY.replace(logit_bias={5: -100}), raw=True),
        Generate(WARM, raw=True),
        SelfConsistency(Generate(WARM, raw=True), 3, r"\d+"),
        SelfConsistency(Generate(WARM, raw=True), 4, r"\d+"),
        SelfConsistency(Generate(WARM, raw=True), 3, r"\w+"),
        MultipleChoice(),
        MultipleChoice(before_choice=""),
        MultipleChoice(instruction="Choose. "),
        MultipleChoice(shots=shots),
        MultipleChoice(letters=True),
        MultipleChoice(letters=True, ask="Choose:"),
        TargetLikelihood(),
        TargetLikelihood(" "),
    ]
    protocols = {canonical(dict(each.protocol), "it") for each in solvers}
    assert len(protocols) == len(solvers)


def test_the_protocol_says_the_temperature_even_where_it_is_the_default() -> None:
    found = Generate(SamplingParams()).protocol["sampling"]
    assert found == {"temperature": 1.0, "max_tokens": None}


def test_a_draw_has_a_seed_of_its_own_that_is_always_the_same() -> None:
    solver = Generate(WARM)
    other = replace(ASKED, id="y")
    seeds = [
        solver.request(ASKED).sampling.seed,
        solver.request(ASKED, 1).sampling.seed,
        solver.request(other).sampling.seed,
        Generate(WARM, seed=1).request(ASKED).sampling.seed,
    ]
    assert len(set(seeds)) == 4
    assert solver.request(ASKED).sampling.seed == seeds[0]
    assert Generate(GREEDY).request(ASKED).sampling.seed is None


@pytest.mark.parametrize("sampling", [WARM.replace(n=2), WARM.replace(seed=3)])
def test_a_solver_has_its_own_number_and_seed(sampling: SamplingParams) -> None:
    with pytest.raises(InputError, match="n or seed"):
        Generate(sampling)


async def test_the_answer_that_most_drafts_come_to_wins() -> None:
    drafts = iter(["I think 4, so 5", "it is 7", "2 + 3 = 5", "no idea", "7 or 5"])
    subject, _ = scripted(lambda _r: next(drafts))
    found = await SelfConsistency(Generate(WARM), 5, r"\d+")(ASKED, subject)
    assert found.text == "I think 4, so 5"
    assert found.facts["came_to"] == ["5", "7", "5", None, "5"]
    assert found.facts["votes"] == 0.6
    assert found.completion_tokens == 5 + 3 + 5 + 2 + 3


async def test_of_equal_votes_the_first_wins_and_without_any_the_first_draft() -> None:
    drafts = iter(["a 1", "a 2", "a 2", "a 1", "none", "nothing"])
    subject, _ = scripted(lambda _r: next(drafts))
    found = await SelfConsistency(Generate(WARM), 4, r"a (\d)")(ASKED, subject)
    assert found.facts["came_to"] == ["1", "2", "2", "1"]
    assert found.text == "a 1"
    empty = await SelfConsistency(Generate(WARM), 2, r"a (\d)")(ASKED, subject)
    assert (empty.text, empty.facts["votes"]) == ("none", 0.0)


async def test_drafts_have_different_seeds() -> None:
    subject, model = scripted(lambda _r: "1")
    await SelfConsistency(Generate(WARM), 4, r"\d")(ASKED, subject)
    assert len({request.sampling.seed for request in model.requests}) == 4


def test_drafts_that_cannot_differ_are_refused() -> None:
    with pytest.raises(InputError, match="temperature is 0"):
        SelfConsistency(Generate(GREEDY), 3, r"\d")


def test_a_bad_pattern_is_refused() -> None:
    with pytest.raises(InputError, match="not a regular expression"):
        SelfConsistency(Generate(WARM), 3, "(")


CHOICE = Sample("c", "Q: sky?\nA:", choices=("green", "blue", "red"), gold=(1,))


async def test_choices_are_asked_for_at_once_after_one_context() -> None:
    model = ScriptedLikelihoods(lambda _c, text: 0.0 if text == " blue" else -3.0)
    subject = Subject("m", "sha256:0", likelihood=model)
    found = await MultipleChoice(shots=Shots.first(POOL, 1))(CHOICE, subject)
    context = "Q: 0\nA: 0\n\nQ: sky?\nA:"
    assert model.asked == [[(context, " green"), (context, " blue"), (context, " red")]]
    assert found.text == "blue"
    assert [each.logprob for each in found.likelihoods] == [-3.0, 0.0, -3.0]


async def test_of_equally_likely_choices_the_first_is_taken() -> None:
    subject = Subject("m", "sha256:0", likelihood=ScriptedLikelihoods(lambda _c, _t: -1.0))
    assert (await MultipleChoice()(CHOICE, subject)).text == "green"


async def test_a_target_is_scored_after_its_input() -> None:
    model = ScriptedLikelihoods(lambda _c, text: -float(len(text)))
    subject = Subject("m", "sha256:0", likelihood=model)
    found = await TargetLikelihood()(Sample("t", "", ("a b c",)), subject)
    assert model.asked == [[("", "a b c")]]
    assert (found.likelihoods[0].logprob, found.likelihoods[0].num_tokens) == (-5.0, 3)


async def test_a_text_without_targets_is_scored_itself() -> None:
    model = ScriptedLikelihoods(lambda _c, _t: -5.0)
    await TargetLikelihood()(Sample("t", "a b c"), Subject("m", "sha256:0", likelihood=model))
    assert model.asked == [[("", "a b c")]]


async def test_choices_may_be_listed_and_answered_by_letter() -> None:
    """As MMLU is asked."""
    model = ScriptedLikelihoods(lambda _c, text: 0.0 if text == " C" else -3.0)
    shot = Sample("s", "1 + 1?", choices=("1", "2"), gold=(1,))
    solver = MultipleChoice("About it.\n\n", Shots.first([shot], 1), letters=True)
    found = await solver(replace(CHOICE, input="Sky?"), Subject("m", "d", likelihood=model))
    context = (
        "About it.\n\n1 + 1?\nA. 1\nB. 2\nAnswer: B\n\nSky?\nA. green\nB. blue\nC. red\nAnswer:"
    )
    assert model.asked == [[(context, " A"), (context, " B"), (context, " C")]]
    assert found.text == "red"


async def test_more_choices_than_letters_are_refused() -> None:
    subject = Subject("m", "d", likelihood=ScriptedLikelihoods(lambda _c, _t: 0.0))
    many = Sample("m", "Q", choices=tuple(map(str, range(27))))
    with pytest.raises(InputError, match="27 choices, more than letters"):
        await MultipleChoice(letters=True)(many, subject)


async def test_what_a_solver_needs_of_a_sample_is_named() -> None:
    subject = Subject("m", "sha256:0", likelihood=ScriptedLikelihoods(lambda _c, _t: 0.0))
    with pytest.raises(InputError, match="x has no choices"):
        await MultipleChoice()(ASKED, subject)


async def test_what_a_subject_cannot_do_is_named() -> None:
    subject, _ = scripted()
    with pytest.raises(InputError, match="how likely"):
        await MultipleChoice()(CHOICE, subject)


def test_the_text_to_count_is_all_that_is_sent() -> None:
    solver = Generate(GREEDY, instruction="Be brief.", shots=Shots.first(POOL, 1))
    request: Request = solver.request(ASKED)
    assert solver.prompt_text(ASKED) == "\n".join(m.content for m in request.messages)
    assert raw().prompt_text(ASKED) == raw().request(ASKED).prompt
    assert last_text(request) == ASKED.input


class Templated(ScriptedLikelihoods):
    def chat_prompt(self, messages: Sequence[Message]) -> str:
        return "".join(f"<{each.role}>{each.content}" for each in messages) + "<assistant>"


async def test_a_conversation_is_scored_after_the_models_own_template() -> None:
    model = Templated(lambda context, text: -1.0)
    turns = (Message("system", "be brief"), Message("user", "hi"))
    sample = Sample("c", turns, ("hello",))
    await TargetLikelihood()(sample, Subject("m", "sha256:1", likelihood=model))
    assert model.asked == [[("<system>be brief<user>hi<assistant>", "hello")]]


async def test_a_conversation_needs_a_template_and_an_answer() -> None:
    plain = Subject("m", "sha256:1", likelihood=ScriptedLikelihoods(lambda c, t: -1.0))
    turns = (Message("user", "hi"),)
    with pytest.raises(InputError, match="how it writes a chat"):
        await TargetLikelihood()(Sample("c", turns, ("hello",)), plain)
    templated = Subject("m", "sha256:1", likelihood=Templated(lambda c, t: -1.0))
    with pytest.raises(InputError, match="without an answer to score"):
        await TargetLikelihood()(Sample("c", turns), templated)
