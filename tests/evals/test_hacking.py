"""Loopholes are named where rewards pay for them and training found them, and nowhere else."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import pytest
from tests.evals.synthetic import VOCABULARY, Score, paired_answers

from lmstack.evals.answers import Answer, Pairing
from lmstack.evals.hacking import LEVEL, Looked, Rescore, search

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


def named(found: Sequence[Looked]) -> list[Looked]:
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

    def answer(words: int) -> Answer:
        return Answer(" ".join(rng.choice(VOCABULARY, words)), words)

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
