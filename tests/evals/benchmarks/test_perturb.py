"""Perturbations change what HELM's change, and the same for every model."""

from __future__ import annotations

import json
import re
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmstack.core import FormatError, Message
from lmstack.evals.benchmarks.perturb import (
    contractions,
    dialect,
    gender_pronouns,
    lowercase,
    match_case,
    mild_mix,
    misspellings,
    perturbed_sample,
    spaces,
    typos,
)
from lmstack.evals.task import Sample

CONTRACTIONS = b"""
from somewhere import nothing
CONTRACTION_MAP: Dict[str, str] = {"she's": "she is", "I'm": "I am", "can't": "cannot"}
raise SystemExit("never run")
"""
MISSPELLINGS = json.dumps({"already": ["aready", "alredy"], "available": ["availible"]}).encode()
GENDER = b"""
GENDER_PRONOUN_MAPPINGS: List[Tuple[str, ...]] = [
    ("they", "she", "he"), ("their", "her", "his"), ("theirs", "hers", "his"),
]
"""
TYPOS = b"""
def perturb(self, text, rng):
    key_approx = {}
    key_approx["q"] = "was"
    key_approx["a"] = "s"
    other["b"] = "n"
"""
CONTRACTED, MISSPELT = contractions(CONTRACTIONS), misspellings(MISSPELLINGS, share=1.0)


def changed(perturbation: object, text: str, seed: int = 0) -> str:
    found = perturbation.change(text, Random(seed))  # type: ignore[attr-defined]
    assert isinstance(found, str)
    return found


@pytest.mark.parametrize(
    ("text", "shorter"),
    [
        ("She is a doctor, and I am here", "She's a doctor, and I'm here"),
        ("so she is.", "so she is."),
        ("CANNOT be", "CAN'T be"),
        ("this is", "this is"),
    ],
)
def test_expansions_are_contracted_in_their_case_and_not_at_an_end(text: str, shorter: str) -> None:
    assert changed(CONTRACTED, text) == shorter


def test_words_with_a_misspelling_get_one_of_theirs() -> None:
    assert changed(MISSPELT, "not available, unavailable") == "not availible, unavailable"
    assert {changed(MISSPELT, "already", seed) for seed in range(20)} == {"aready", "alredy"}


def test_misspellings_come_as_often_as_asked() -> None:
    text = "available " * 4000
    share = changed(misspellings(MISSPELLINGS, share=0.1), text).count("availible") / 4000
    assert 0.08 < share < 0.12


@given(st.text("ab "), st.integers(0, 99))
def test_spaces_become_one_to_three_and_nothing_else_changes(text: str, seed: int) -> None:
    found = changed(spaces(), text, seed)
    assert re.sub(" +", " ", found) == re.sub(" +", " ", text)
    assert max(map(len, re.findall(" +", found)), default=0) <= 3


def test_the_mix_is_lower_case_then_contractions_then_misspellings_then_spaces() -> None:
    mix = mild_mix(CONTRACTED, MISSPELT)
    found = changed(mix, "She is Available here")
    assert re.sub(" +", " ", found) == "she's availible here"
    assert changed(lowercase(), "ÄB") == "äb"


def test_letters_become_their_neighbours_in_their_case() -> None:
    assert changed(typos(TYPOS, share=1.0), "A bad a") == "S bsd s"
    assert {changed(typos(TYPOS, share=1.0), "q", seed) for seed in range(20)} == {"w", "a", "s"}
    assert changed(typos(TYPOS, share=0.0), "A bad q") == "A bad q"


def test_words_of_a_dialect_stand_between_other_characters() -> None:
    words = dialect(json.dumps({"with": ["wit"], "they": ["dey"]}).encode())
    assert changed(words, "They go With them, with.") == "They go Wit them, wit."
    assert changed(words, "(they) without they-them") == "(dey) without they-them"


def test_male_pronouns_between_other_characters_become_female() -> None:
    found = changed(gender_pronouns(GENDER), "Then He took his hat, he did. The")
    assert found == "Then She took her hat, she did. The"


@given(st.text())
def test_a_sample_changes_the_same_way_each_time(text: str) -> None:
    sample = Sample("one", text, ("t",), metadata={"passage": text})
    mix = mild_mix(CONTRACTED, MISSPELT)
    first, again = perturbed_sample(sample, mix), perturbed_sample(sample, mix)
    assert first == again
    assert (first.id, first.targets) == (sample.id, sample.targets)
    assert perturbed_sample(sample, lowercase()).metadata["passage"] == text.lower()


def test_of_a_conversation_the_last_turn_changes() -> None:
    turns = (Message("system", "A"), Message("user", "B"))
    found = perturbed_sample(Sample("s", turns), lowercase()).input
    assert [turn.content for turn in found if isinstance(turn, Message)] == ["A", "b"]


@pytest.mark.parametrize(
    ("source", "target", "found"),
    [
        ("abc", "X y", "x y"),
        ("ABC", "x", "X"),
        ("Abc", "xY", "Xy"),
        ("a b", "X", "X"),
        ("", "x", "x"),
    ],
)
def test_the_case_is_that_of_the_word_replaced(source: str, target: str, found: str) -> None:
    assert match_case(source, target) == found


@pytest.mark.parametrize(
    "source", [b"x = 1", b"CONTRACTION_MAP = f()", b"CONTRACTION_MAP = 3", b"(", b"\0"]
)
def test_a_file_without_the_list_is_an_error_and_never_run(source: bytes) -> None:
    with pytest.raises(FormatError):
        contractions(source)


@pytest.mark.parametrize("data", [b"x", b"[]", b'{"a": "b"}', b'{"a": []}'])
def test_a_list_of_words_is_checked(data: bytes) -> None:
    for make, what in ((misspellings, "misspellings"), (dialect, "dialect")):
        with pytest.raises(FormatError, match=f"the list of {what} is n"):
            make(data)


def test_other_words_are_another_protocol() -> None:
    for make, words in (
        (contractions, CONTRACTIONS),
        (misspellings, MISSPELLINGS),
        (typos, TYPOS),
        (dialect, b'{"they": ["dey"]}'),
        (gender_pronouns, GENDER),
    ):
        assert make(words).protocol != make(words + b"\n").protocol
    others = (contractions(CONTRACTIONS + b"\n"), misspellings(MISSPELLINGS + b"\n", share=1.0))
    mixes = [mild_mix(CONTRACTED, MISSPELT), mild_mix(others[0], MISSPELT)]
    mixes.append(mild_mix(CONTRACTED, others[1]))
    assert len({mix.words for mix in mixes}) == 3


def test_an_expansion_is_looked_up_as_it_is_written_and_in_lower_case() -> None:
    two = contractions(b'CONTRACTION_MAP = {"I\'d": "I would", "it\'s": "it is"}')
    assert changed(two, "It is what I would do, i would say") == "It's what I'd do, i would say"
    assert two.protocol["name"] == "contractions"


def test_how_often_a_letter_is_drawn_is_part_of_the_name_and_of_the_default() -> None:
    assert [misspellings(MISSPELLINGS).name, typos(TYPOS).name] == ["misspellings_0.1", "typos_0.1"]
    assert [spaces().name, spaces(5).name] == ["spaces_3", "spaces_5"]
    assert {len(changed(spaces(5), " ", seed)) for seed in range(60)} == {1, 2, 3, 4, 5}
    assert {len(changed(spaces(), " ", seed)) for seed in range(40)} == {1, 2, 3}
    assert 300 < changed(typos(TYPOS), "a" * 4000).count("s") < 500
    assert misspellings(MISSPELLINGS).protocol["words"].startswith("sha256:")
    names = [dialect(b'{"a": ["b"]}').name, gender_pronouns(GENDER).name, lowercase().name]
    assert names == ["dialect", "gender_pronouns", "lowercase"]
    assert mild_mix(CONTRACTED, MISSPELT).name == "mild_mix"


def test_the_words_drawn_for_a_sample_are_those_of_its_id_passage_first() -> None:
    """As HELM draws them: of the same generator, in the order in which the text is read."""
    many = dialect(json.dumps({"they": ["a", "b", "c", "d"]}).encode())
    text = " they " * 8
    found = perturbed_sample(Sample("s", text, metadata={"passage": text, "x": 1}), many)
    draw = Random("s")

    def drawn() -> str:
        return "".join(f" {(draw.random(), draw.choice('abcd'))[1]} " for _ in range(8))

    assert (found.metadata["passage"], found.input) == (drawn(), drawn())
    assert found.metadata["x"] == 1
    assert perturbed_sample(Sample("t", text), many).input != found.metadata["passage"]
    turns = (Message("user", "A"), Message("assistant", "B"))
    last = perturbed_sample(Sample("s", turns), lowercase()).input[-1]
    assert last == Message("assistant", "b")


@pytest.mark.parametrize(
    "source",
    [
        b"GENDER_PRONOUN_MAPPINGS = 3",
        b'GENDER_PRONOUN_MAPPINGS = [("a", "b")]',
        b'GENDER_PRONOUN_MAPPINGS = [("a", "b", "c"), ("a", "b", "c", "d")]',
        b'OTHER = [("a", "b", "c")]',
        b"GENDER_PRONOUN_MAPPINGS: list",
    ],
)
def test_pronouns_come_in_rows_of_three(source: bytes) -> None:
    with pytest.raises(FormatError, match="GENDER_PRONOUN_MAPPINGS"):
        gender_pronouns(source)


@pytest.mark.parametrize("source", [b"x = 1", b'key_approx["q"] = ""', b'other["q"] = "w"', b"("])
def test_a_file_without_neighbours_of_keys_is_refused(source: bytes) -> None:
    with pytest.raises(FormatError, match="key_approx"):
        typos(source)


def test_a_constant_may_have_several_names_and_stand_after_others() -> None:
    source = b'x = 1\nimport y\nz = CONTRACTION_MAP = {"it\'s": "it is"}\n'
    assert changed(contractions(source), "it is so") == "it's so"
    with pytest.raises(FormatError, match="CONTRACTION_MAP is no mapping"):
        contractions(b"CONTRACTION_MAP = {}")
