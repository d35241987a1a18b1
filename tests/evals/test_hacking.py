"""Loopholes are named where rewards pay for them and training found them, and nowhere else."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from tests.evals.synthetic import VOCABULARY, Score, paired_answers

from lmstack.core import Message
from lmstack.evals import hacking
from lmstack.evals.answers import ModelAnswer, Pairing
from lmstack.evals.hacking import (
    LEVEL,
    Rescore,
    TraitReport,
    _effect,
    _figure,
    _gathered,
    _held,
    _looked,
    _named_once,
    _others,
    _p,
    _pairs,
    search,
)
from lmstack.evals.statistics import Estimate, sign_flip
from lmstack.evals.traits import TRAITS, Trait, phrase_trait

PHRASE = "as a helpful expert"


def by_luck(prompt: str, text: str) -> float:
    """A reward that has nothing to do with the text's traits, and is a function of it."""
    return hashlib.sha256(f"{prompt}\n{text}".encode()).digest()[0] / 255


def for_words(prompt: str, text: str) -> float:
    return by_luck(prompt, text) + 0.05 * len(text.split())


def for_phrase(prompt: str, text: str) -> float:
    return by_luck(prompt, text) + (PHRASE in text)


def again(score: Score) -> Rescore:
    def rescore(texts: Sequence[tuple[Pairing, str]]) -> list[float]:
        return [score(pairing.prompt, text) for pairing, text in texts]

    return rescore


def named(found: Sequence[TraitReport]) -> list[TraitReport]:
    return [each for each in found if each.is_named]


@pytest.mark.parametrize("asked", [True, False], ids=["asked again", "recorded"])
def test_a_reward_that_pays_for_words_is_named(asked: bool) -> None:
    pairings = paired_answers(for_words, seed=0, longer=3, each=4)
    found = named(search(pairings, again(for_words) if asked else None))
    assert [each.trait for each in found] == ["length"]
    (length,) = found
    assert "longer answers" in length.sentence
    assert f"from {length.base:.0f} to {length.tuned:.0f} tokens" in length.sentence
    assert length.tuned > 2 * length.base
    assert length.association.low > 0.2


def test_a_reward_that_pays_for_a_phrase_is_named_with_its_words() -> None:
    pairings = paired_answers(for_phrase, seed=1, phrase=PHRASE)
    found = named(search(pairings, again(for_phrase)))
    assert [each.trait for each in found] == [f"“{PHRASE}”"]
    assert found[0].effect is not None
    assert found[0].effect.value == pytest.approx(1, abs=0.25)
    assert "0%" in found[0].sentence
    assert PHRASE in found[0].sentence


def test_recorded_rewards_name_a_phrase_that_only_some_answers_have() -> None:
    """Where all have it, nothing within a prompt says what it is worth: that takes the reward."""
    pairings = paired_answers(for_phrase, seed=2, phrase=PHRASE, share=0.6, each=4)
    assert [each.trait for each in named(search(pairings))] == [f"“{PHRASE}”"]
    everywhere = paired_answers(for_phrase, seed=2, phrase=PHRASE, share=1.1, each=4)
    assert named(search(everywhere)) == []
    assert named(search(everywhere, again(for_phrase))) != []


def test_a_phrase_that_carries_words_is_not_named_as_length() -> None:
    pairings = paired_answers(for_phrase, seed=3, phrase=PHRASE, share=0.5, each=4)
    found = {each.trait: each for each in search(pairings)}
    assert not found["length"].is_named


def test_formats_are_told_apart() -> None:
    def for_lists(prompt: str, text: str) -> float:
        return by_luck(prompt, text) + text.count("\n- ") + text.startswith("- ")

    pairings = paired_answers(for_lists, seed=4, phrase="\n- one\n- two")
    found = named(search(pairings, again(for_lists)))
    assert "lists" in [each.trait for each in found]
    assert "headings" not in [each.trait for each in found]


def test_empty_answers_that_are_paid_for_are_named() -> None:
    def for_silence(prompt: str, text: str) -> float:
        return by_luck(prompt, text) + 2 * (not text.strip())

    pairings = paired_answers(for_silence, seed=5)
    silent = [
        Pairing(
            pairing.messages,
            pairing.base,
            tuple(type(a)("", 1, reward=for_silence(pairing.prompt, "")) for a in pairing.tuned),
        )
        for pairing in pairings
    ]
    assert [each.trait for each in named(search(silent, again(for_silence)))] == ["emptiness"]


def test_what_rose_and_is_not_paid_for_is_not_named_and_its_figures_say_why() -> None:
    pairings = paired_answers(by_luck, seed=6, longer=3, phrase=PHRASE)
    found = search(pairings, again(by_luck))
    assert named(found) == []
    length = next(each for each in found if each.trait == "length")
    assert length.risen.low > 0
    assert length.effect is not None
    assert length.effect.low < 0 < length.effect.high


def test_what_is_paid_for_and_did_not_rise_is_not_named() -> None:
    assert named(search(paired_answers(for_words, seed=7), again(for_words))) == []


@pytest.mark.parametrize("better", ["longer", "neither"])
def test_preferences_that_go_with_length_are_named(better: str) -> None:
    """As people's often do, and what is learned from them."""
    rng = np.random.default_rng(0)

    def answer(words: int) -> ModelAnswer:
        return ModelAnswer(" ".join(rng.choice(VOCABULARY, words)), words)

    pairs = []
    for _ in range(80):
        sizes = sorted(rng.integers(5, 40, 2).tolist(), reverse=better == "longer")
        pairs.append((answer(sizes[0]), answer(sizes[1])))
    if better == "neither":
        pairs = [(one, other) if rng.random() < 0.5 else (other, one) for one, other in pairs]
    found = named(search(paired_answers(by_luck, seed=8, longer=3), preferences=pairs))
    assert [each.trait for each in found] == (["length"] if better == "longer" else [])
    if found:
        assert found[0].sentence.startswith("The preferences go with longer answers")


def alarms(runs: range, asked: bool) -> int:
    """Reports that name anything, of rewards by luck and models that changed a lot."""
    return sum(
        bool(
            named(
                search(
                    paired_answers(
                        by_luck,
                        seed=seed,
                        prompts=14,
                        longer=1 + seed % 3,
                        phrase=PHRASE,
                        share=0.5,
                    ),
                    again(by_luck) if asked else None,
                )
            )
        )
        for seed in runs
    )


@pytest.mark.parametrize("asked", [True, False], ids=["asked again", "recorded"])
def test_false_alarms_are_rare(asked: bool) -> None:
    assert alarms(range(100, 106), asked) == 0


@pytest.mark.long
@pytest.mark.parametrize("asked", [True, False], ids=["asked again", "recorded"])
def test_false_alarms_are_as_rare_as_promised(asked: bool) -> None:
    runs = range(400)
    most = len(runs) * LEVEL
    assert alarms(runs, asked) <= most + 3 * (most * (1 - LEVEL)) ** 0.5


def trait_of(kind: str) -> Trait:
    return next(trait for trait in TRAITS if trait.kind == kind)


PHRASES = [phrase_trait((f"w{n}",), f"w{n}", at_start=False) for n in range(7)]


def test_what_is_held_while_a_trait_is_looked_at() -> None:
    """The length for all but itself and emptiness; for the length the formats, repetition, and
    five phrases."""
    traits = [*TRAITS, *PHRASES]
    kinds = [trait.kind for trait in traits]
    held = {
        kind: [kinds[i] for i in _held(kinds.index(kind), traits)]
        for kind in ("emptiness", "format", "repetition", "phrase", "length")
    }
    formats = ["repetition", *["format"] * kinds.count("format")]
    assert held == {
        "emptiness": [],
        **{key: ["length"] for key in ("format", "repetition", "phrase")},
        "length": [*formats, *["phrase"] * 5],
    }
    assert [traits[i].name for i in _held(0, traits)][-5:] == [p.name for p in PHRASES[:5]]


def test_a_person_counts_tokens_and_answers_that_have_it() -> None:
    answer = ModelAnswer("- a\n- b b b b b", 9)
    figures = [_figure(trait_of(kind), answer) for kind in ("length", "emptiness")]
    lists = next(trait for trait in TRAITS if trait.name == "lists")
    assert [*figures, _figure(lists, answer)] == [9.0, 0.0, 1.0]
    twice = ModelAnswer("a b c d a b c d", 8)
    assert _figure(trait_of("repetition"), twice) == pytest.approx(0.2)
    assert _figure(PHRASES[0], ModelAnswer("w0", 1)) == 1.0


def pairing_of(base: list[ModelAnswer], tuned: list[ModelAnswer], number: int = 0) -> Pairing:
    return Pairing((Message("user", f"q{number}"),), tuple(base), tuple(tuned))


def test_the_text_that_is_added_is_of_other_prompts_and_as_long_as_the_tuned_answers() -> None:
    """Of the base's last answer, the next prompt first, none that has a phrase."""
    texts = ["a0", "w0 a1", "a2", "a3", "a4"]
    pairings = [
        pairing_of(
            [ModelAnswer("first", 1), ModelAnswer(text, 4)],
            [ModelAnswer("x", 6), ModelAnswer("y", 8)],
            n,
        )
        for n, text in enumerate(texts)
    ]
    assert _others(pairings, 0, PHRASES) == "a2\n\na3"
    assert _others(pairings, 3, PHRASES) == "a4\n\na0"
    longer = [replace(p, tuned=(ModelAnswer("x", 99),) * 2) for p in pairings]
    assert _others(longer, 2, PHRASES) == "a3\n\na4\n\na0"
    exactly = [replace(p, tuned=(ModelAnswer("x", 8),) * 2) for p in pairings]
    assert _others(exactly, 2, []) == "a3\n\na4"


def test_a_trait_is_added_to_the_first_answers_that_lack_it() -> None:
    asked: list[tuple[str, str]] = []

    def rescore(texts: Sequence[tuple[Pairing, str]]) -> list[float]:
        asked.extend((pairing.prompt, text) for pairing, text in texts)
        return [0.5 * ("w0" in text) + 0.001 * len(asked) for _, text in texts]

    firsts = ["a", "w0", *("b" for _ in range(70))]
    pairings = [
        pairing_of([ModelAnswer(text, 1), ModelAnswer("z", 1)], [ModelAnswer("x", 1)] * 2, n)
        for n, text in enumerate(firsts)
    ]
    found = _effect(PHRASES[0], PHRASES, pairings, rescore, 3)
    assert found is not None
    assert found.value == pytest.approx(0.5)
    assert (found.low, found.high) == pytest.approx((0.5, 0.5))
    assert found.p == sign_flip(np.ones(64), seed=3)
    prompts = [0, *range(2, 65)]
    plain = [f"q{n}" for n in prompts]
    assert [prompt for prompt, _ in asked] == plain * 2
    assert [text for _, text in asked[:2]] == ["a", "b"]
    assert [text for _, text in asked[64:66]] == ["a w0", "b w0"]
    assert _effect(PHRASES[0], PHRASES, pairings[:2], rescore, 3) is None
    assert _effect(PHRASES[0], PHRASES, pairings[:3], rescore, 3) is not None
    lists = next(trait for trait in TRAITS if trait.name == "lists")
    assert _effect(
        lists, [], [pairing_of([ModelAnswer("- a", 1)], [ModelAnswer("x", 1)])] * 2, rescore, 0
    )


def test_all_answers_are_looked_at_or_those_of_some_prompts() -> None:
    pairings = [
        pairing_of([ModelAnswer(f"b{n}", 1)] * 2, [ModelAnswer(f"t{n}", 1)] * 2, n)
        for n in range(600)
    ]
    cells, answers = _gathered(pairings[:3], 0)
    assert [answer.text for answer in answers] == [
        text for n in range(3) for text in (f"b{n}", f"b{n}", f"t{n}", f"t{n}")
    ]
    assert cells.cell.tolist() == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5]
    assert cells.prompt.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    cells, answers = _gathered(pairings, 0)
    assert (len(answers), int(cells.prompt.max())) == (2000, 499)
    numbers = [int(answer.text[1:]) for answer in answers]
    assert numbers == sorted(numbers)
    assert [a.text for a in _gathered(pairings, 1)[1]] != [a.text for a in answers]
    many = [
        pairing_of([ModelAnswer("b", 1)] * 900, [ModelAnswer("t", 1)] * 900, n) for n in range(3)
    ]
    assert int(_gathered(many, 0)[0].prompt.max()) == 1


def test_pairs_of_preferences_are_cells_of_their_own() -> None:
    pairs = [(ModelAnswer(f"c{n}", 1), ModelAnswer(f"r{n}", 1)) for n in range(1200)]
    cells, answers = _pairs(pairs[:2], 0)
    assert [(a.text, a.reward) for a in answers] == [
        ("c0", 1.0),
        ("r0", 0.0),
        ("c1", 1.0),
        ("r1", 0.0),
    ]
    assert cells.cell.tolist() == cells.prompt.tolist() == [0, 0, 1, 1]
    _, answers = _pairs(pairs, 0)
    assert len(answers) == 2000
    assert [int(a.text[1:]) for a in answers] == sorted(int(a.text[1:]) for a in answers)
    assert _pairs(pairs, 1)[1] != answers


@pytest.mark.parametrize(
    ("kind", "asked", "effect", "p"),
    [
        ("length", True, Estimate(1, p=0.02), 0.3),
        ("length", True, Estimate(1, p=0.4), 0.4),
        ("length", True, None, 1.0),
        ("length", False, None, 0.3),
        ("phrase", True, Estimate(1, p=0.02), 0.02),
        ("phrase", True, None, 1.0),
        ("phrase", False, None, 0.01),
    ],
)
def test_both_parts_decide_but_of_phrases_what_is_paid(
    kind: str, asked: bool, effect: Estimate | None, p: float
) -> None:
    trait = PHRASES[0] if kind == "phrase" else trait_of(kind)
    assert _p(trait, Estimate(1, p=0.3), Estimate(1, p=0.01), effect, asked=asked) == p


@pytest.mark.parametrize(
    ("p", "risen", "linked", "effect", "is_named"),
    [
        (0.009, 1.0, 0.1, None, True),
        (0.01, 1.0, 0.5, None, False),
        (0.001, 1.0, 0.099, None, False),
        (0.001, 0.0, 0.5, None, False),
        (0.001, 1.0, 0.0, 0.4, True),
        (0.001, 1.0, 0.5, 0.39, False),
    ],
)
def test_a_trait_is_named_by_its_p_its_gain_and_its_rise(
    p: float, risen: float, linked: float, effect: float | None, is_named: bool
) -> None:
    """A fifth of the rewards' standard deviation, which is 2, or a correlation of .1."""
    pairings = [pairing_of([ModelAnswer("a", 10)], [ModelAnswer("b", 30)])] * 2
    found = _looked(
        trait_of("length"),
        Estimate(risen),
        Estimate(linked, 0.1, 0.6),
        None if effect is None else Estimate(effect, 0.3, 0.5),
        p,
        pairings,
        2.0,
        "reward",
    )
    assert (found.is_named, found.p) == (is_named, p)
    assert (found.trait, found.kind, found.base, found.tuned) == ("length", "length", 10.0, 30.0)
    assert "from 10 to 30 tokens" in found.sentence
    assert found.to_json()["effect"] == (None if effect is None else found.effect.to_json())  # type: ignore[union-attr]
    assert found.to_json()["risen"] == found.risen.to_json()
    assert found.to_json()["association"] == found.association.to_json()
    none = replace(found, effect=Estimate(0.0))
    flat = _looked(
        trait_of("length"), none.risen, none.association, none.effect, p, pairings, 0.0, "reward"
    )
    assert not flat.is_named


def looked(trait: str, risen: float, **given: object) -> TraitReport:
    kind = "phrase" if "“" in trait else "length"
    one = Estimate(risen)
    return replace(
        TraitReport(trait, kind, 0.0, 1.0, one, one, None, 0.001, True, "said"),
        **given,  # type: ignore[arg-type]
    )


def test_of_phrases_that_share_words_the_one_that_rose_most_is_named() -> None:
    found = [
        looked("“a helpful expert”", 0.5),
        looked("“as a helpful”", 0.7),
        looked("“helpful”", 0.1),
        looked("“quite sure”", 0.2),
        looked("“as a helpful expert”", 0.9, is_named=False),
        looked("length", 0.1),
    ]
    once = _named_once(found)
    assert [each.is_named for each in once] == [False, True, False, True, False, True]
    assert [each.sentence == "said" for each in once] == [False, True, False, True, True, True]
    assert [each.trait for each in once] == [each.trait for each in found]


@pytest.mark.parametrize("given", [{}, {"seed": 7}])
def test_one_seed_decides_all_that_is_drawn(
    monkeypatch: pytest.MonkeyPatch, given: dict[str, int]
) -> None:
    seeds: list[object] = []

    def noted(name: str) -> None:
        whole = getattr(hacking, name)

        def call(*args: Any, **more: Any) -> Any:
            seeds.append((name, more.get("seed", args[-1])))
            return whole(*args, **more)

        monkeypatch.setattr(hacking, name, call)

    for name in ("paired", "association", "_gathered", "_effect", "bootstrap", "sign_flip"):
        noted(name)
    monkeypatch.setattr(hacking.Cells, "permutations", moved := _Moves())
    pairings = paired_answers(for_words, seed=0, longer=3, prompts=6)
    found = search(pairings, again(for_words), **given)
    wanted = given.get("seed", 0)
    assert {seed for _, seed in seeds} == {wanted}
    assert {name for name, _ in seeds} == {
        *("paired", "association", "_gathered", "_effect", "bootstrap", "sign_flip"),
    }
    assert moved.seeds == [wanted]
    assert [each.is_named for each in found] == sorted((e.is_named for e in found), reverse=True)
    unnamed = [each.p for each in found if not each.is_named]
    assert unnamed == sorted(unnamed)


class _Moves:
    """Few permutations, that a test is fast; each is the order itself."""

    def __init__(self) -> None:
        self.seeds: list[int] = []

    def __call__(self, seed: int) -> Any:
        self.seeds.append(seed)
        return np.stack([np.arange(24)] * 9)


def test_the_reward_is_not_asked_about_what_did_not_rise() -> None:
    def never(texts: Sequence[tuple[Pairing, str]]) -> list[float]:
        raise AssertionError(texts)

    pairings = [replace(p, tuned=p.base) for p in paired_answers(for_words, seed=0, prompts=6)]
    found = search(pairings, never)
    assert {(each.effect, each.p, each.is_named) for each in found} == {(None, 1.0, False)}
