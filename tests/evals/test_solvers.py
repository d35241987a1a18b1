"""Solvers: what exactly is sent, and what the protocol must tell apart."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from tests.errors import about
from tests.evals.tasks import scripted

from lmstack.core import InputError, Message, SamplingParams
from lmstack.evals.conversation import Shots
from lmstack.evals.json_forms import canonical
from lmstack.evals.likelihood_solvers import MultipleChoice, TargetLikelihood
from lmstack.evals.metrics.windows import Windows
from lmstack.evals.solvers import (
    THINK,
    Generate,
    SelfConsistency,
)
from lmstack.evals.task import Sample

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
    with pytest.raises(InputError, match="is a conversation", check=about("input")):
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
    with pytest.raises(
        InputError, match="7 shots are wanted, and there are 6", check=about("shots")
    ):
        Shots.first(POOL, 7)


def test_a_shot_without_an_answer_is_refused() -> None:
    with pytest.raises(InputError, match="no answer to show", check=about("shots")):
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
        TargetLikelihood(chat=True),
        TargetLikelihood(windows=Windows(max_length=10)),
        TargetLikelihood(windows=Windows(context=2)),
        TargetLikelihood(windows=Windows("strided")),
        TargetLikelihood(windows=Windows("strided", stride=2)),
        MultipleChoice(chat=True),
        MultipleChoice(chat=True, shots_as_turns=True),
        raw(chat=True),
        raw(chat=True, shots_as_turns=True),
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
    with pytest.raises(InputError, match="n or seed", check=about("sampling")):
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
    with pytest.raises(InputError, match="temperature is 0", check=about("sampling")):
        SelfConsistency(Generate(GREEDY), 3, r"\d")


def test_a_bad_pattern_is_refused() -> None:
    with pytest.raises(InputError, match="not a regular expression", check=about("pattern")):
        SelfConsistency(Generate(WARM), 3, "(")


async def test_what_a_subject_cannot_do_is_named() -> None:
    subject, _ = scripted()
    with pytest.raises(InputError, match="how likely", check=about("model")):
        await MultipleChoice()(ASKED, subject)


def test_a_chat_without_the_template_left_out_has_no_turns_to_add() -> None:
    with pytest.raises(InputError, match="through the template", check=about("chat")):
        Generate(SamplingParams(temperature=0.0), chat=True)


def test_a_cue_leaves_the_name_of_the_turn() -> None:
    turns = (Message("user", "hi", "ann"), Message("user", "bye", "bob"))
    asked = Generate(GREEDY, cue=THINK).request(Sample("c", turns)).messages
    assert asked == (turns[0], Message("user", f"bye\n{THINK}", "bob"))
