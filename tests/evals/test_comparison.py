"""A comparison of two models: what it must say of models that are the same, better, or worse."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import replace

import numpy as np
import pytest
from tests.errors import about
from tests.evals.synthetic import paired_answers

from lmstack.core import Choice, InputError, Message, ScriptedModel, TokenLogprob
from lmstack.evals.answers import (
    SIDES,
    AnswerScores,
    DrawingConfig,
    ModelAnswer,
    Pairing,
    Predictions,
    TextScores,
    _answer,
    draw,
)
from lmstack.evals.comparison import change_of, compare, conclusions, value_of
from lmstack.evals.figures import Figure, bins_of, entropy_figure, refusal_figure, text_figures
from lmstack.evals.judging import Verdict
from lmstack.evals.metrics.calibration import calibration_error
from lmstack.evals.statistics import Estimate, bootstrap, mcnemar, ratio_of, sign_flip


def words_of(_prompt: str, text: str) -> float:
    return 0.05 * len(text.split())


def same(pairings: list[Pairing]) -> list[Pairing]:
    return [replace(pairing, tuned=pairing.base) for pairing in pairings]


def scores(count: int, divergence: float) -> AnswerScores:
    each = np.full(count, 20.0)
    rng = np.random.default_rng(0)
    return AnswerScores(
        divergence * each * rng.uniform(0.5, 1.5, count),
        each,
        each / 10,
        each * 1.5,
        each * 2,
        each,
    )


def text_scores(worse: float, bold: float) -> TextScores:
    rng = np.random.default_rng(1)
    sides: list[list[Predictions]] = [[], []]
    for _ in range(12):
        p = rng.random(80)
        right = (rng.random(80) < p).astype(float)
        sides[0].append(Predictions(p, right))
        sides[1].append(Predictions(np.minimum(p + bold, 1.0), right))
    tokens = np.full(12, 80.0)
    nll = tokens * rng.uniform(2, 3, 12)
    return TextScores(nll, nll + worse * tokens * rng.uniform(0.5, 1.5, 12), tokens, *sides)


def test_a_model_compared_with_itself_changed_nothing() -> None:
    found = compare(
        same(paired_answers(words_of, seed=0)), scores=scores(24, 0.0), text=text_scores(0, 0)
    )
    for figure in found.figures:
        if figure.name == "entropy":
            continue
        assert figure.base == figure.tuned, figure.name
        assert figure.difference.value == 0
        assert figure.difference.p in (None, 1.0)
    # Answers to one prompt against each other: as often better as worse.
    assert found.wins["reward"].value == pytest.approx(0.5)
    assert found.named == []
    assert found.divergence["answer"].value == 0
    said = " ".join(conclusions(found))
    assert "did not change measurably" in said
    assert "Given up: perplexity" not in said


def test_what_was_won_and_given_up_is_said() -> None:
    pairings = paired_answers(words_of, seed=1, longer=3)
    refusing = [
        replace(
            pairing, tuned=tuple(replace(a, text=f"I'm sorry, {a.text}") for a in pairing.tuned)
        )
        for pairing in pairings
    ]
    found = compare(pairings, scores=scores(24, 0.3), text=text_scores(0.2, 0.3), benign=refusing)
    said = " ".join(conclusions(found))
    for part in ("The reward changed", "wins 100%", "Given up: perplexity", "calibration error"):
        assert part in said
    assert "Given up: refusals of benign requests went from 0.0% to 100.0%" in said
    assert "Answers became longer" in said
    perplexity = found.figure("perplexity")
    assert perplexity is not None
    assert perplexity.tuned / perplexity.base - 1 == pytest.approx(perplexity.difference.value)
    assert found.divergence["token"].value == pytest.approx(0.3, abs=0.05)
    assert found.divergence["answer"].value == pytest.approx(10 * found.divergence["token"].value)


def test_answers_that_became_alike_are_less_diverse_however_long_they_are() -> None:
    plain = [
        replace(
            pairing, tuned=tuple(replace(a, text="the same words again") for a in pairing.tuned)
        )
        for pairing in paired_answers(words_of, seed=2, each=3)
    ]
    found = compare(plain)
    bleu, distinct = found.figure("self-bleu"), found.figure("distinct-2")
    assert bleu is not None
    assert distinct is not None
    assert bleu.tuned == pytest.approx(1)
    assert distinct.difference.high < 0
    single = compare([replace(p, base=p.base[:1], tuned=p.tuned[:1]) for p in plain]).figure(
        "self-bleu"
    )
    assert single is not None
    assert single.tuned == pytest.approx(1)
    assert single.base < 0.5


def test_a_judge_that_disagrees_with_the_reward_is_heard() -> None:
    pairings = paired_answers(words_of, seed=3, longer=3)
    verdicts = [Verdict(-2.0, -1.0)] * 12 + [Verdict(1.0, -1.0)] * 12
    found = compare(pairings, verdicts=verdicts)
    assert found.wins["judge"].value == 0.25
    assert found.flips == 0.5
    assert any("what the reward pays for is not" in said for said in conclusions(found))


def test_examples_are_those_that_gained_lost_and_changed_most() -> None:
    gains = [0.5, -2.0, 3.0, 0.0, -0.1, 1.0]

    def pairing(number: int, gain: float) -> Pairing:
        base = ModelAnswer("a b c", 3, reward=1.0)
        tuned = replace(base, text=base.text if gain else "x y z", reward=1.0 + gain)
        return Pairing((Message("user", f"prompt {number}"),), (base,), (tuned,))

    found = compare([pairing(n, gain) for n, gain in enumerate(gains)])
    by = {why: [e.prompt[-1] for e in found.examples if e.why == why] for why in ("gained", "lost")}
    assert by == {"gained": ["2", "5", "0"], "lost": ["1", "4"]}
    assert [e.prompt[-1] for e in found.examples if e.why == "changed"] == ["3"]


def test_without_a_reward_the_reasons_are_given() -> None:
    bare = [
        replace(p, base=(replace(p.base[0], reward=None),), tuned=p.tuned[:1])
        for p in paired_answers(words_of, seed=4)
    ]
    found = compare(bare, unmeasured={"divergence": "the tokenizers differ"})
    assert found.figure("reward") is None
    assert found.looked == []
    assert set(found.unmeasured) == {"divergence", "reward", "reward hacking"}
    assert (
        conclusions(found)[0]
        == "Reward hacking was not looked for: it needs a reward, or preferences."
    )


def test_a_report_is_json_without_numbers_that_json_lacks() -> None:
    found = compare(paired_answers(words_of, seed=5, prompts=2), text=text_scores(0.1, 0))
    text = json.dumps(found.to_json(), allow_nan=False)
    assert json.loads(text)["prompts"] == 2


def test_a_comparison_holds_what_its_plots_and_its_report_need() -> None:
    pairings = paired_answers(words_of, seed=5)
    text, verdicts = text_scores(0.1, 0.2), [Verdict(1.0, -1.0)] * 6 + [Verdict(1.0, 1.0)] * 18
    found = compare(pairings, scores=scores(24, 0.3), text=text, verdicts=verdicts)
    assert {figure.name: figure.unit for figure in found.figures} == {
        **dict.fromkeys(("reward", "distinct-1", "distinct-2", "self-bleu", "calibration"), ""),
        **dict.fromkeys(("cut", "repetition", "refusals"), "share"),
        **{"length": "tokens", "entropy": "nats", "perplexity": "perplexity"},
    }
    entropy = found.figure("entropy")
    assert entropy is not None
    assert (entropy.base, entropy.tuned, entropy.difference.value) == pytest.approx((2, 1.5, -0.5))
    answers = [[a for p in pairings for a in side(p)] for side in SIDES]
    assert found.lengths == tuple([answer.tokens for answer in side] for side in answers)
    assert found.rewards == tuple([answer.reward for answer in side] for side in answers)
    assert found.bins == (bins_of(text.base), bins_of(text.tuned))
    assert found.bins[0] != found.bins[1]
    assert (found.prompts, found.answers, found.flips) == (24, len(answers[0]), 0.25)
    written = found.to_json()
    assert {name: written[name] for name in ("prompts", "answers", "flips", "unmeasured")} == {
        **{"prompts": 24, "answers": len(answers[0]), "flips": 0.25, "unmeasured": {}}
    }
    for name in ("divergence", "wins"):
        kept = getattr(found, name)
        assert written[name] == {key: value.to_json() for key, value in kept.items()}
        assert len(kept) == 2
    assert written["figures"] == [
        {**vars(f), "difference": f.difference.to_json()} for f in found.figures
    ]
    assert written["reward_hacking"] == [looked.to_json() for looked in found.looked] != []
    first, example = found.examples[0], written["examples"][0]
    assert example["tuned"] == {
        name: getattr(first.tuned, name) for name in ("text", "tokens", "reward")
    }
    assert (example["base"]["text"], example["why"]) == (first.base.text, first.why)
    bare = compare(
        [replace(p, base=(replace(p.base[0], reward=None),), tuned=p.tuned[:1]) for p in pairings]
    )
    assert (bare.rewards, bare.bins, bare.flips, bare.divergence, bare.wins) == (
        None,
        None,
        None,
        {},
        {},
    )


def test_too_few_prompts_and_sides_that_do_not_match_are_mistakes() -> None:
    (one,) = paired_answers(words_of, seed=6, prompts=1)
    with pytest.raises(InputError, match="too few"):
        compare([one])
    with pytest.raises(InputError, match="as many of both", check=about("samples")):
        replace(one, tuned=one.tuned[:1])


async def test_answers_are_drawn_for_every_prompt_each_with_a_seed_of_its_own() -> None:
    model = ScriptedModel([lambda request: f"said {request.sampling.seed}"])
    prompts = [(Message("user", f"{n}?"),) for n in range(3)]
    told: list[int] = []
    drawing = DrawingConfig(samples=2, max_tokens=9, seed=5)
    found = await draw(model, prompts, drawing, told.append)
    assert [len(answers) for answers in found] == [2, 2, 2]
    assert len({answer.text for answers in found for answer in answers}) == 6
    assert sorted(told) == [1, 2, 3]
    assert await draw(model, prompts, drawing) == found
    assert await draw(model, prompts, drawing.replace(seed=6)) != found
    assert all(math.isfinite(answer.tokens) for answers in found for answer in answers)


def test_a_win_rate_is_tested_against_a_half() -> None:
    tied, won = Verdict(1.0, -1.0), Verdict(1.0, 1.0)
    pairings = paired_answers(words_of, seed=3)

    def p(verdicts: list[Verdict]) -> float:
        found = compare(pairings, verdicts=verdicts).wins["judge"].p
        assert found is not None
        return found

    assert p([tied] * 24) == 1
    assert p([won] * 12 + [Verdict(-1.0, -1.0)] * 12) > 0.9
    assert p([won] * 24) < 0.001


def test_the_answers_that_changed_most_are_shown_first() -> None:
    pairings = [
        Pairing((Message("user", f"prompt {n}"),), (ModelAnswer("a", 1),), (ModelAnswer("b", 1),))
        for n in range(6)
    ]
    ones = np.ones(6)
    found = compare(
        pairings, scores=AnswerScores(np.array([3.0, 1, 6, 2, 5, 4]), ones, ones, ones, ones, ones)
    )
    changed = [(e.prompt[-1], e.size) for e in found.examples if e.why == "changed"]
    assert changed == [("2", 6.0), ("4", 5.0), ("5", 4.0), ("0", 3.0)]


def test_answers_that_changed_are_sized_by_the_answer_and_four_of_each_kind_are_shown() -> None:
    """Nats of an answer where they were measured, else the share of words that are not common."""
    gains = [1.0, 2, 3, 4, 5, -1, -2, -3, -4, -5, 0.0]

    def pairing(number: int, gain: float) -> Pairing:
        base = (ModelAnswer("a b c d", 4, reward=0.0), ModelAnswer("z", 1, reward=9.0))
        tuned = (ModelAnswer("a b x d", 4, reward=gain), ModelAnswer("z", 1, reward=9.0))
        return Pairing((Message("user", f"prompt {number:02}"),), base, tuned)

    pairings = [pairing(n, gain) for n, gain in enumerate(gains)]
    found = compare(pairings)
    shown = [(e.why, e.prompt[-2:], e.size) for e in found.examples]
    assert shown == [
        *(("gained", f"0{n}", n + 1.0) for n in (4, 3, 2, 1)),
        *(("lost", f"0{n}", 4.0 - n) for n in (9, 8, 7, 6)),
        *(("changed", n, 0.25) for n in ("00", "05", "10")),
    ]
    assert found.examples[0].base == pairings[4].base[0]
    assert found.examples[0].tuned == pairings[4].tuned[0]
    divergence = np.array([2.0, 9, 4] + [0.0] * 8)
    each = np.array([1.0, 3, 0] + [2.0] * 8)
    ones = np.ones(11)
    bare = [
        replace(p, base=(replace(p.base[0], reward=None),), tuned=p.tuned[:1]) for p in pairings
    ]
    found = compare(bare, scores=AnswerScores(divergence, ones, each, ones, ones, ones))
    assert [(e.why, e.prompt[-2:], e.size) for e in found.examples] == [
        ("changed", "02", 4.0),
        ("changed", "01", 3.0),
        ("changed", "00", 2.0),
    ]
    assert found.divergence["token"].value == pytest.approx(15 / 11)
    assert found.divergence["answer"].value == pytest.approx(15 / 20)


def test_a_prompt_is_won_by_its_pairs_of_answers() -> None:
    def pairing(base: list[float], tuned: list[float]) -> Pairing:
        sides = (tuple(ModelAnswer("a", 1, reward=r) for r in side) for side in (base, tuned))
        return Pairing((Message("user", "?"),), *sides)

    pairings = [pairing([0, 1], [1, 2]), pairing([3, 0], [0, 0])]
    found = compare(pairings)
    assert found.wins["reward"].value == pytest.approx((3.5 / 4 + 1 / 4) / 2)
    assert found.rewards == ([0, 1, 3, 0], [1, 2, 0, 0])
    assert found.lengths == ([1] * 4, [1] * 4)
    assert (found.prompts, found.answers) == (2, 4)
    with pytest.raises(InputError, match="1 prompts are too few"):
        compare(pairings[:1])
    verdicts = [Verdict(None, 1.0), Verdict(1.0, 1.0)]
    judged = compare(pairings, verdicts=verdicts)
    assert judged.wins["judge"].value == 0.75
    assert judged.flips == 0.5
    assert (found.flips, found.bins, found.divergence) == (None, None, {})


def test_the_conclusions_conversation_is_told_turn_by_turn() -> None:
    turns = (Message("system", "Be brief."), Message("user", "Hi"))
    answer = (ModelAnswer("a", 1),)
    assert Pairing(turns, answer, answer).prompt == "system: Be brief.\nuser: Hi"
    assert Pairing(turns[1:], answer, answer).prompt == "Hi"
    for base, tuned in ((answer, ()), ((), ()), (answer, answer * 2)):
        with pytest.raises(InputError, check=about("samples")):
            Pairing(turns, base, tuned)
    rewarded = (replace(answer[0], reward=0.0),)
    sides = [(answer, rewarded), (rewarded, answer), (rewarded, rewarded)]
    assert [Pairing(turns, *side).is_rewarded for side in sides] == [False, False, True]


def test_whose_answers_a_figure_is_among_and_each_figure_by_hand() -> None:
    def pairing(n: int, base: list[str], tuned: list[str]) -> Pairing:
        sides = (
            tuple(
                ModelAnswer(text, len(text), "length" if "x" in text else "stop") for text in side
            )
            for side in (base, tuned)
        )
        return Pairing((Message("user", f"q{n}"),), *sides)

    single = [pairing(0, ["a b"], ["x y"]), pairing(1, ["a c"], ["a a a a a"])]
    several = [pairing(0, ["a b", "a"], ["x y", "x y"]), pairing(1, ["a c", "b"], ["b", "c"])]
    for pairings, among in ((single, "to all prompts"), (several, "to one prompt")):
        figures = {figure.name: figure for figure in compare(pairings).figures}
        for name in ("distinct-1", "distinct-2", "self-bleu"):
            if name in figures:
                assert figures[name].title.endswith(among)
    found = {figure.name: figure for figure in compare(single).figures}
    assert (found["length"].base, found["length"].tuned) == (3.0, 6.0)
    assert (found["cut"].base, found["cut"].tuned) == (0.0, 0.5)
    assert (found["repetition"].base, found["repetition"].tuned) == (0.0, 0.25)
    assert found["distinct-1"].base == 3 / 4
    assert found["distinct-1"].tuned == 3 / 4
    assert found["distinct-2"].tuned == 1.0
    grouped = {figure.name: figure for figure in compare(several).figures}
    distinct = grouped["distinct-1"]  # of answers cut alike
    assert (distinct.base, distinct.tuned) == pytest.approx((5 / 6, 5 / 6))


def test_refusals_are_of_the_first_answers_alone_with_mcnemars_p() -> None:
    no, yes = (
        ModelAnswer("I'm sorry, but I can't help with that.", 3),
        ModelAnswer("Sure: do it.", 3),
    )
    rows = [((yes, no), (no, yes))] * 6 + [((no, yes), (yes, no))] + [((yes, yes), (yes, yes))] * 3
    pairings = [Pairing((Message("user", "?"),), *row) for row in rows]
    found = refusal_figure(pairings)
    assert (found.base, found.tuned, found.unit) == (0.1, 0.6, "share")
    change = bootstrap(np.array([1.0] * 6 + [-1.0] + [0.0] * 3))
    assert found.difference == replace(change, p=mcnemar(6, 1))


def test_figures_of_texts_are_ratios_of_sums() -> None:
    text, drawn = text_scores(0.2, 0.1), scores(5, 0.1)
    perplexity, calibration = text_figures(text)
    total = text.tokens.sum()
    assert perplexity.base == pytest.approx(np.exp(text.base_nll.sum() / total))
    assert perplexity.tuned == pytest.approx(np.exp(text.tuned_nll.sum() / total))
    change = text.tuned_nll - text.base_nll
    assert perplexity.difference.p == sign_flip(change)
    whole = bootstrap(
        np.stack([change, text.tokens], axis=1), lambda rows: np.exp(ratio_of(rows)) - 1
    )
    assert replace(perplexity.difference, p=None) == whole
    errors = [
        calibration_error(
            np.concatenate([p.confidence for p in side]), np.concatenate([p.correct for p in side])
        )
        for side in (text.base, text.tuned)
    ]
    assert [calibration.base, calibration.tuned] == errors
    assert calibration.difference.value == pytest.approx(errors[1] - errors[0])
    entropy = entropy_figure(drawn)
    assert entropy.base == pytest.approx(drawn.base_entropy.sum() / drawn.base_tokens.sum())
    assert entropy.tuned == pytest.approx(drawn.tuned_entropy.sum() / drawn.tokens.sum())
    assert entropy.difference.value == pytest.approx(entropy.tuned - entropy.base)
    assert (entropy.unit, perplexity.unit, calibration.unit) == ("nats", "perplexity", "")


@pytest.mark.parametrize(
    ("unit", "value", "said"),
    [
        ("share", 0.125, "12.5%"),
        ("tokens", 1234.0, "1,234 tokens"),
        ("nats", 0.5, "0.500 nats"),
        ("", 0.5, "0.500"),
        ("perplexity", 12.345, "12.35"),
    ],
)
def test_how_a_value_and_its_change_are_written(unit: str, value: float, said: str) -> None:
    figure = Figure("f", "F", value, value, Estimate(value, value, value), unit)
    shown = value_of(figure, value)
    assert shown.startswith(said[:4])
    assert shown.endswith(said.lstrip("0123456789,.%"))
    assert change_of(figure).startswith("+")
    fallen = replace(figure, difference=Estimate(-value))
    assert change_of(fallen).startswith("-")
    assert "(" in change_of(figure)
    assert "(" not in change_of(fallen)
    none = replace(figure, difference=Estimate(0.0))
    assert change_of(none).startswith("+0")


def test_what_was_given_up_is_what_is_surely_worse() -> None:
    """A cost that rose, a loss that fell; what the interval leaves open is not said."""
    found = compare(same(paired_answers(words_of, seed=0)))

    def said(name: str, low: float, high: float) -> bool:
        figure = Figure(name, "Title", 1.0, 2.0, Estimate((low + high) / 2, low, high))
        return any("Given up" in s for s in conclusions(replace(found, figures=[figure])))

    assert [said("perplexity", *ends) for ends in ((0.1, 1), (0.0, 1), (-1, -0.1))] == [
        True,
        False,
        False,
    ]
    assert [said("distinct-2", *ends) for ends in ((-1, -0.1), (-1, 0.0), (0.1, 1))] == [
        True,
        False,
        False,
    ]
    for ends, way in (((0.1, 1.0), "longer"), ((-1.0, -0.1), "shorter"), ((-1.0, 1.0), None)):
        length = Figure("length", "Length", 1, 2, Estimate(sum(ends) / 2, *ends), "tokens")
        text = " ".join(conclusions(replace(found, figures=[length])))
        assert (way is None) == ("became" not in text)
        assert way is None or f"became {way}" in text


def test_the_judge_is_said_to_disagree_only_where_the_reward_surely_wins() -> None:
    found = compare(same(paired_answers(words_of, seed=0)))
    high, level = Estimate(0.8, 0.6, 0.9), Estimate(0.5, 0.5, 0.6)
    for reward, judge, disagrees in (
        (high, level, True),
        (high, high, False),
        (level, level, False),
        (None, level, False),
        (high, None, False),
    ):
        given = {"reward": reward, "judge": judge}
        wins = {name: each for name, each in given.items() if each is not None}
        text = " ".join(conclusions(replace(found, wins=wins)))
        assert ("the judge does not" in text) == disagrees
        assert text.count("the tuned model wins") == len(wins)


def test_why_something_is_not_there_is_said_unless_a_reason_was_given() -> None:
    bare = [
        replace(p, base=(replace(p.base[0], reward=None),), tuned=p.tuned[:1])
        for p in paired_answers(words_of, seed=4, prompts=3)
    ]
    assert compare(bare).unmeasured == {
        "reward": "nothing rewards the answers",
        "reward hacking": "it needs a reward, or preferences",
    }
    assert compare(bare, unmeasured={"reward": "why"}).unmeasured["reward"] == "why"
    preferred = [(ModelAnswer("a b c", 3), ModelAnswer("d", 1))] * 3
    found = compare(bare, preferences=preferred)
    assert "reward hacking" not in found.unmeasured
    assert found.looked
    assert compare(paired_answers(words_of, seed=4, prompts=3)).unmeasured == {}


async def test_answers_are_drawn_by_a_seed_of_the_prompt_and_the_number() -> None:
    """With log-probabilities, that the tokens are told; cut ones are marked."""
    model = ScriptedModel(["one two three"])
    prompts = [[Message("system", "s"), Message("user", "a")], [Message("user", "b")]]
    drawing = DrawingConfig(samples=2, max_tokens=2, temperature=0.5, seed=4)
    found = await draw(model, prompts, drawing)
    assert {(a.text, a.tokens, a.finish, a.ids) for each in found for a in each} == {
        ("one two", 2, "length", ()),
    }
    seeds = set()
    for number in range(2):
        for text in (f"4\0{number}\0system\0s\0user\0a", f"4\0{number}\0user\0b"):
            digest = hashlib.sha256(text.encode()).digest()
            seeds.add(int.from_bytes(digest[:7], "big"))
    assert {request.sampling.seed for request in model.requests} == seeds
    sampled = {
        (r.sampling.max_tokens, r.sampling.temperature, r.sampling.logprobs) for r in model.requests
    }
    assert sampled == {(2, 0.5, 0)}
    assert {request.messages for request in model.requests} == set(map(tuple, prompts))
    whole = await draw(model, prompts[:1], drawing.replace(max_tokens=9, samples=1))
    assert [(a.text, a.finish) for a in whole[0]] == [("one two three", "stop")]
    usual = DrawingConfig()
    assert (usual.samples, usual.max_tokens, usual.temperature, usual.seed) == (2, 128, 1.0, 0)


@pytest.mark.parametrize(("ids", "known"), [((3, 0), (3, 0)), ((3, -1), ()), ((), ())])
def test_tokens_of_an_answer_are_known_where_all_are(ids: tuple[int, ...], known: object) -> None:
    logprobs = tuple(TokenLogprob("t", b"t", -1.0, id=each) for each in ids)
    choice = Choice(0, "t", "stop", logprobs)
    assert _answer(choice, 2) == ModelAnswer("t", 2, "stop", None, known)  # type: ignore[arg-type]


def test_figures_have_titles_for_people() -> None:
    found = compare(
        paired_answers(words_of, seed=6, prompts=3), scores=scores(3, 0.1), text=text_scores(0, 0)
    )
    assert [figure.title for figure in found.figures] == [
        *("Reward", "Length of an answer", "Answers that were cut"),
        "Repeated 4-grams in an answer",
        "Distinct words of answers to one prompt",
        "Distinct word pairs of answers to one prompt",
        "Self-BLEU of answers to one prompt",
        "Entropy of the next token in its own answers",
        "Perplexity of held-out text",
        "Calibration error of the next token of held-out text",
        "Refusals of benign requests",
    ]
