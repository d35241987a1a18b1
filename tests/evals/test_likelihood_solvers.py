"""Solvers of likelihoods: what exactly is scored, in which windows, through which template."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import pytest
from tests.errors import about
from tests.evals.tasks import ScriptedLikelihoods, rendered_turns

from lmstack.core import InputError, Likelihood, Message, ModelInfo, UnsupportedError
from lmstack.evals.conversation import Shots
from lmstack.evals.likelihood_solvers import MultipleChoice, TargetLikelihood
from lmstack.evals.metrics import Perplexity
from lmstack.evals.metrics.windows import Windows
from lmstack.evals.task import ModelOutput, Sample, Subject

POOL = [Sample(f"s{n}", f"Q: {n}\nA:", (f"{n}",)) for n in range(6)]
ASKED = Sample("x", "Q: x\nA:", ("x",))
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
    with pytest.raises(InputError, match="27 choices, more than letters", check=about("letters")):
        await MultipleChoice(letters=True)(many, subject)


async def test_what_a_solver_needs_of_a_sample_is_named() -> None:
    subject = Subject("m", "sha256:0", likelihood=ScriptedLikelihoods(lambda _c, _t: 0.0))
    with pytest.raises(InputError, match="x has no choices", check=about("choices")):
        await MultipleChoice()(ASKED, subject)


# -- texts longer than what a model reads ---------------------------------------------------------


def subject_of(model: ScriptedLikelihoods) -> Subject:
    return Subject("m", "sha256:0", likelihood=model)


async def test_a_long_text_is_scored_in_rolling_windows_each_word_once() -> None:
    model = ScriptedLikelihoods(lambda _c, _t: -5.0, reads=4)
    found = await TargetLikelihood()(Sample("t", "a b c d e f g h i j"), subject_of(model))
    assert model.asked == [[("", "a b c d"), ("d", "e f g h"), ("f g h", "i j")]]
    assert sum(each.num_tokens for each in found.likelihoods) == 10
    assert found.facts == {"windows": 3, "max_length": 4}


async def test_strided_windows_score_what_no_earlier_one_did() -> None:
    model = ScriptedLikelihoods(lambda _c, _t: -5.0)
    solver = TargetLikelihood(windows=Windows("strided", 4, 2))
    await solver(Sample("t", "a b c d e f"), subject_of(model))
    # With what the tokenizer adds to any text, which is its first token.
    assert model.asked == [[("<s>", "a b c"), ("b c", "d e"), ("d e", "f")]]


async def test_perplexity_is_of_all_windows_together() -> None:
    model = ScriptedLikelihoods(lambda _c, text: -2.0 * len(text.split()), reads=3)
    sample = Sample("t", "a b c d e f g")
    scores = Perplexity().score(sample, await TargetLikelihood()(sample, subject_of(model)))
    assert scores == {"logprob": -14.0, "tokens": 7.0, "words": 7.0, "bytes": 13.0}


def test_perplexity_of_targets_counts_their_words_and_not_those_of_the_input() -> None:
    output = ModelOutput(likelihoods=(Likelihood(-3.0, 2, False), Likelihood(-1.0, 1, False)))
    scores = Perplexity().score(Sample("t", "a long input", ("b c", "é")), output)
    assert (scores["words"], scores["bytes"], scores["tokens"]) == (3.0, 5.0, 3.0)
    assert math.isclose(scores["logprob"], -4.0)


async def test_a_model_that_scores_pairs_alone_is_named() -> None:
    class Pairs:
        info = ModelInfo("pairs")

        async def likelihoods(self, pairs: object) -> list[Likelihood]:
            return []

    with pytest.raises(
        UnsupportedError, match="pairs does not score texts by windows", check=about("model")
    ):
        await TargetLikelihood()(Sample("t", "a"), Subject("m", "d", likelihood=Pairs()))


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"kind": "rolling", "stride": 2}, "stride is of strided windows"),
        ({"kind": "strided", "context": 2}, "context is of rolling windows"),
        ({"kind": "strided", "max_length": 4, "stride": 5}, "would leave tokens out"),
        ({"kind": "rolling", "max_length": 4, "context": 5}, "context"),
        ({"kind": "sliding"}, "kind"),
    ],
)
def test_windows_that_cannot_be_are_refused(settings: dict[str, object], match: str) -> None:
    with pytest.raises(InputError, match=match, check=about("context", "kind", "stride")):
        Windows.from_mapping(settings)


# -- through a chat template ----------------------------------------------------------------------


async def test_in_a_chat_choices_follow_the_template_without_a_space() -> None:
    model = ScriptedLikelihoods(lambda _c, _t: -1.0)
    shots = Shots.first(POOL, 1)
    await MultipleChoice("Choose.", shots, chat=True)(CHOICE, subject_of(model))
    one = "<system>Choose.</system><user>Q: 0\nA: 0\n\nQ: sky?\nA:</user><assistant>"
    assert model.asked == [[(one, "green"), (one, "blue"), (one, "red")]]


async def test_shots_may_be_turns() -> None:
    model = ScriptedLikelihoods(lambda _c, _t: -1.0)
    solver = MultipleChoice("", Shots.first(POOL, 1), letters=True, chat=True, shots_as_turns=True)
    shot = Sample("s", "1 + 1?", choices=("1", "2"), gold=(1,))
    await replace(solver, shots=Shots.first([shot], 1))(CHOICE, subject_of(model))
    turns = [
        Message("user", "1 + 1?\nA. 1\nB. 2\nAnswer:"),
        Message("assistant", "B"),
        Message("user", "Q: sky?\nA:\nA. green\nB. blue\nC. red\nAnswer:"),
    ]
    assert model.asked[0][0] == (rendered_turns(turns), "A")


async def test_where_a_template_refuses_the_system_turn_it_is_left_out() -> None:
    """As in lm-evaluation-harness."""
    model = ScriptedLikelihoods(lambda _c, _t: -1.0, system=False)
    await MultipleChoice("Choose.", chat=True)(CHOICE, subject_of(model))
    assert model.asked[0][0] == ("<user>Q: sky?\nA:</user><assistant>", "green")


async def test_a_target_follows_the_template() -> None:
    model = ScriptedLikelihoods(lambda _c, _t: -1.0)
    await TargetLikelihood(" ", chat=True)(ASKED, subject_of(model))
    assert model.asked == [[("<user>Q: x\nA:</user><assistant>", "x")]]


async def test_a_text_without_a_question_has_no_chat() -> None:
    model = ScriptedLikelihoods(lambda _c, _t: -1.0)
    with pytest.raises(InputError, match="t is a text without a question", check=about("model")):
        await TargetLikelihood(chat=True)(Sample("t", "a"), subject_of(model))


async def test_a_conversation_goes_through_the_template_in_any_case() -> None:
    model = ScriptedLikelihoods(lambda _c, _t: -1.0)
    turns = (Message("system", "be brief"), Message("user", "hi"))
    await TargetLikelihood(" ")(Sample("c", turns, ("hello",)), subject_of(model))
    assert model.asked == [[("<system>be brief</system><user>hi</user><assistant>", "hello")]]
    with pytest.raises(InputError, match="without an answer to score", check=about("targets")):
        await TargetLikelihood()(Sample("c", turns), subject_of(model))


async def test_tokens_and_seconds_are_those_of_what_is_scored() -> None:
    model = ScriptedLikelihoods(lambda _c, _t: -1.0, reads=4)
    choice = replace(CHOICE, choices=("dark green", "blue", "red"))
    for found, tokens in (
        (await MultipleChoice()(choice, subject_of(model)), 4),
        (await TargetLikelihood()(Sample("t", "a b c d e f"), subject_of(model)), 6),
        (await TargetLikelihood("= ")(replace(ASKED, targets=("x", "y z")), subject_of(model)), 5),
    ):
        assert found.completion_tokens == tokens
        assert (found.prompt_tokens, 0 <= found.seconds < 60) == (0, True)
    assert model.asked[-1] == [("Q: x\nA:", "= x"), ("Q: x\nA:", "= y z")]
    windows = Windows("strided", 3, 2)
    whole = await TargetLikelihood(windows=windows)(Sample("t", "a b c d"), subject_of(model))
    assert whole.facts == {"windows": 2, "max_length": 3}


async def test_a_model_that_loses_a_likelihood_is_named() -> None:
    class Loses(ScriptedLikelihoods):
        async def likelihoods(self, pairs: Sequence[tuple[str, str]]) -> list[Likelihood]:
            return (await super().likelihoods(pairs))[1:]

    model = Loses(lambda _c, _t: -1.0)
    match = "likelihoods gave 2 likelihoods of 3"
    with pytest.raises(InputError, match=match, check=about("model")):
        await MultipleChoice()(CHOICE, subject_of(model))


async def test_twenty_six_choices_have_letters() -> None:
    model = ScriptedLikelihoods(lambda _c, text: float(text == " Z"))
    many = Sample("m", "Q", choices=tuple(map(str, range(26))), gold=(0,))
    solver = MultipleChoice("Do.", letters=True, ask="Which?", before_choice=" ")
    assert (await solver(many, subject_of(model))).text == "25"
    assert model.asked[0][0][0].startswith("Do.Q\nA. 0\n")
    assert model.asked[0][0][0].endswith("Z. 25\nWhich?")


async def test_shots_as_turns_may_be_none_and_follow_the_instruction() -> None:
    model = ScriptedLikelihoods(lambda _c, _t: -1.0)
    solver = MultipleChoice("Choose.", chat=True, shots_as_turns=True)
    await solver(CHOICE, subject_of(model))
    await replace(solver, shots=Shots.first(POOL, 1))(CHOICE, subject_of(model))
    asked = Message("user", CHOICE.text)
    shot = (Message("user", POOL[0].text), Message("assistant", "0"))
    system = Message("system", "Choose.")
    assert [each[0][0] for each in model.asked] == [
        rendered_turns([system, asked]),
        rendered_turns([system, *shot, asked]),
    ]


def test_protocols_of_likelihood_solvers_name_what_counts() -> None:
    shots = Shots.first(POOL, 2)
    plain = MultipleChoice("Do.", shots, "=", ask="?")
    assert plain.protocol == {
        **{"solver": "multiple_choice", "instruction": "Do.", "shots": dict(shots.protocol)},
        **{"before_choice": "=", "letters": False, "ask": None},
        **{"chat": False, "shots_as_turns": False},
    }
    chat = replace(plain, shots=None, letters=True, chat=True, shots_as_turns=True).protocol
    assert chat == {
        **{"solver": "multiple_choice", "instruction": "Do.", "shots": None},
        **{"before_choice": "", "letters": True, "ask": "?"},
        **{"chat": True, "shots_as_turns": True},
    }
    target = TargetLikelihood("=", Windows("strided", 4, 2))
    windows = {"kind": "strided", "max_length": 4, "stride": 2}
    protocol = {"solver": "likelihood", "before_target": "=", "windows": windows, "chat": False}
    assert target.protocol == protocol
    chatty = replace(target, chat=True).protocol
    assert chatty == {**protocol, "before_target": "", "chat": True}
