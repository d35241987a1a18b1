"""Phrases that became common: which are found, and how they are written and placed."""

from __future__ import annotations

import pytest

from lmstack.core import Message
from lmstack.evals.answers import ModelAnswer, Pairing
from lmstack.evals.traits import _grams, _trait, overlap, risen_phrases


def pairing(base: str, tuned: str, prompt: str = "?") -> Pairing:
    return Pairing((Message("user", prompt),), (ModelAnswer(base, 1),), (ModelAnswer(tuned, 1),))


def unlike(count: int, phrase: str, prompt: str = "?") -> list[Pairing]:
    """Answers that share nothing but ``phrase``, which the tuned ones have."""
    return [pairing(f"b{n}", f"t{n} {phrase}", prompt) for n in range(count)]


def names(pairings: list[Pairing]) -> list[str]:
    return [trait.name for trait in risen_phrases(pairings)]


def test_a_phrase_takes_six_more_prompts_than_lost_it() -> None:
    """Exact McNemar: 6 of 6 are below 5 %, 5 of 5 are not, nor are 6 gained and 1 lost."""
    assert names(unlike(6, "of course")) == ["“of course”"]
    assert names(unlike(5, "of course")) == []
    assert names([*unlike(6, "of course"), pairing("of course", "z")]) == []


def test_what_the_prompt_says_or_the_base_has_is_no_new_phrase() -> None:
    assert names(unlike(9, "of course", prompt="Say of course")) == []
    assert names([pairing(f"b{n} sure", f"t{n} sure") for n in range(9)]) == []
    both = [
        Pairing(
            (Message("user", "?"),),
            (ModelAnswer("x", 1),),
            (ModelAnswer(f"{n}", 1), ModelAnswer("ok", 1))[:1],
        )
        for n in range(9)
    ]
    assert names(both) == []


def test_phrases_have_up_to_six_words_and_marks_alone_are_none() -> None:
    grams = _grams(["a b c d e f g", "! !"])
    assert {len(gram) for gram in grams} == {1, 2, 3, 4, 5, 6}
    assert ("a", "b", "c", "d", "e", "f") in grams
    assert ("!",) not in grams
    assert _grams(["a !"]) == {("a",), ("a", "!")}
    assert ("b", "c") not in _grams(["a b", "c d"])


def test_of_phrases_that_rose_alike_the_longest_is_kept_and_at_most_sixteen() -> None:
    found = unlike(8, "it is so") + [pairing(f"x{n}", f"y{n} is") for n in range(2)]
    assert names(found) == ["“is”", "“it is so”"]
    many = [pairing("b", " ".join(f"w{k} {n}x{k}" for k in range(20))) for n in range(8)]
    assert names(many) == [f"“w{k}”" for k in sorted(range(20), key=str)[:16]]


@pytest.mark.parametrize(
    ("one", "other", "shared"),
    [
        ("a b", "b c", True),
        ("b c", "a b", True),
        ("b", "a b c", True),
        ("a b c", "b", True),
        ("a b", "c d", False),
        ("a c", "a b c", False),
        ("a b c", "c", True),
        ("a b c d", "c d e f", True),
        ("a", "b", False),
    ],
)
def test_which_phrases_are_parts_of_one(one: str, other: str, shared: bool) -> None:
    assert overlap(tuple(one.split()), tuple(other.split())) is shared


def test_a_phrase_is_written_as_most_write_it_where_most_have_it_and_as_often() -> None:
    texts = ["Of  Course we do so", "Of course, yes and more of it", "well and yes, of course"]
    pairings = [pairing("x", text) for text in texts]
    trait = _trait(("of", "course"), [*pairings, pairings[1]])
    assert trait.name == "“Of course”"
    assert trait.edit("Yes.", "") == "Of course Yes."
    late = _trait(
        ("yes",), [pairing("x", text) for text in ("a b c d yes yes yes", "a b yes yes", "yes b")]
    )
    assert (late.name, late.edit("No.", "")) == ("“yes”", "No. yes yes")
    half = _trait(("yes",), [pairing("x", "yes b c"), pairing("x", "b c yes")])
    assert half.edit("No.", "") == "No. yes"
    often = _trait(("yes",), [pairing("x", "yes " * 30)])
    assert often.edit("", "").split() == ["yes"] * 20
    never = _trait(("of", "course"), [pairing("x", "y")])
    assert (never.name, never.edit("No.", "")) == ("“of course”", "No. of course")
