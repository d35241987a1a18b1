"""Copies are those that exact sets say, the first is kept, and none is on both sides."""

from __future__ import annotations

import json
import random
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lmstack.rag.catalogue import duplicates as of_the_index
from lmstack.text import VocabularyConfig, train_tokenizer
from lmstack.train.data.copies import Copies, CopyFinder, place_of, shingles_of
from lmstack.train.data.personal import personal_kinds
from lmstack.train.data.prepare import DataSelection, prepare
from lmstack.train.data.report import DataReport
from lmstack.train.data.split import Split
from lmstack.train.objectives.causal import CausalLM
from lmstack.train.objectives.objective import Reading

WORDS = [f"w{n}" for n in range(500)]


def sets_of(text: str) -> set[tuple[str, ...]]:
    words = re.findall(r"\w+", text.lower())
    return {tuple(words[n : n + 5]) for n in range(max(len(words) - 4, min(len(words), 1)))}


def jaccard(one: str, other: str) -> float:
    first, second = sets_of(one), sets_of(other)
    return len(first & second) / len(first | second) if first and second else 0.0


def copies_of(folder: Path, texts: list[str], threshold: float = 0.8) -> Copies:
    finder = CopyFinder(folder, threshold)
    for text in texts:
        finder.add(text)
    return finder.copies()


def varied(rng: random.Random, text: str, changes: int) -> str:
    words = text.split()
    for _ in range(changes):
        words[rng.randrange(len(words))] = rng.choice(WORDS)
    return " ".join(words)


@given(st.text(st.sampled_from("ab, .Ä日\n"), max_size=60))
def test_shingles_are_those_of_the_index(text: str) -> None:
    assert np.array_equal(shingles_of(text), of_the_index.shingles_of(text))
    assert len(shingles_of(text)) == len(sets_of(text))


@pytest.mark.parametrize("threshold", [0.5, pytest.param(0.8, marks=pytest.mark.long), 0.95])
def test_near_copies_are_those_of_the_exact_jaccard_index(tmp_path: Path, threshold: float) -> None:
    rng = random.Random(7)
    texts = []
    for group in range(40):
        first = " ".join(rng.choices(WORDS, k=120))
        texts += [first, *(varied(rng, first, changes) for changes in (1, 2, 3, 5, 9)[: group % 6])]
    rng.shuffle(texts)
    expected = list(range(len(texts)))
    for row, text in enumerate(texts):
        for earlier in range(row):
            if jaccard(text, texts[earlier]) >= threshold:
                low, high = sorted((expected[row], expected[earlier]))
                expected = [low if root == high else root for root in expected]
    assert len(set(expected)) < len(texts)
    assert copies_of(tmp_path, texts, threshold).first.tolist() == expected


def test_exact_copies_differ_in_nothing_but_case_and_space(tmp_path: Path) -> None:
    texts = ["One two.", "one  TWO.\n", "ｏｎｅ two.", "one two!", "one two", "", " ", "x"]
    found = copies_of(tmp_path, texts)
    assert found.exact.tolist() == [False, True, True, False, False, False, True, False]
    # Punctuation alone is a near copy.
    assert found.first.tolist() == [0, 0, 0, 0, 0, 5, 5, 7]
    assert found.grouped == {0, 5}


def test_from_the_threshold_on_texts_are_copies(tmp_path: Path) -> None:
    """Of nine words there are five shingles, of eight four of them, of seven three."""
    words = list("abcdefghi")
    for kept, is_copy in ((8, True), (7, False)):
        texts = [" ".join(words), " ".join(words[:kept])]
        assert copies_of(tmp_path, texts).first.tolist() == [0, 0 if is_copy else 1]


def test_half_a_surrogate_pair_is_a_text_too(tmp_path: Path) -> None:
    assert copies_of(tmp_path, ["\ud800", "\ud800", "x"]).exact.tolist() == [False, True, False]


def test_what_is_held_out_stays_held_out_in_every_version() -> None:
    assert (place_of("0 7"), place_of("")) == pytest.approx(
        (0.3788525185212482, 0.8894159948913374)
    )


def test_a_thousand_of_one_kind_take_no_square(tmp_path: Path) -> None:
    base = " ".join(WORDS[:200])
    found = copies_of(tmp_path, [f"{base} {n}" for n in range(1000)])
    assert (found.first == 0).all()


TEXTS = st.lists(st.text(st.sampled_from("ab c"), max_size=8), min_size=1, max_size=30)


@given(TEXTS, st.integers(0, 30), st.floats(0, 1), st.booleans())
@settings(max_examples=60, deadline=None)
def test_no_copy_is_on_both_sides(
    tmp_path_factory: pytest.TempPathFactory,
    texts: list[str],
    own: int,
    share: float,
    deduplicate: bool,
) -> None:
    copies = copies_of(tmp_path_factory.mktemp("copies"), texts)
    split, report = (
        Split(copies, copies.hashes, own, share, 3, deduplicate=deduplicate),
        DataReport(),
    )
    sides = [split.side(row, report) for row in range(len(texts))]
    for side in ("train", "validation"):
        found = [int(copies.first[row]) for row, each in enumerate(sides) if each == side]
        if deduplicate:
            assert len(found) == len(set(found))
    both = [
        {int(copies.first[row]) for row, each in enumerate(sides) if each == side}
        for side in ("train", "validation")
    ]
    if deduplicate or own >= len(texts):
        assert not both[0] & both[1]
    used = {int(copies.first[row]) for row, each in enumerate(sides) if each}
    assert used == set(copies.first.tolist()), "of every group one is used"
    assert report.copies_left_out == sides.count(None)
    assert report.exact_copies + report.near_copies == len(texts) - len(set(copies.first.tolist()))
    if not deduplicate:
        assert report.leaked == sum(
            1
            for row, each in enumerate(sides[:own])
            if each
            and int(copies.first[row]) in both[1]
            and row < own
            and int(copies.first[row]) in set(copies.first[own:].tolist())
        )


@pytest.fixture(scope="module")
def reading() -> Reading:
    return Reading(train_tokenizer(WORDS, VocabularyConfig(vocab_size=300)), None, 2048)


def test_a_run_keeps_the_first_and_counts_the_rest(tmp_path: Path, reading: Reading) -> None:
    rng = random.Random(3)
    firsts = [" ".join(rng.choices(WORDS, k=60)) for _ in range(30)]
    rows = [text for first in firsts for text in (first, first.upper(), varied(rng, first, 1))]
    data = tmp_path / "f.jsonl"
    data.write_text("".join(json.dumps({"id": n, "text": t}) + "\n" for n, t in enumerate(rows)))

    def run(**settings: object) -> tuple[DataReport, list[str], list[str]]:
        selection = DataSelection([str(data)], **settings)  # type: ignore[arg-type]
        found = prepare(selection, CausalLM(), reading, tmp_path / "examples")
        decode = reading.tokenizer.decode
        texts = [
            [decode(e.sequences[0], skip_special_tokens=True) for e in side]
            for side in (found.train, found.validation)
        ]
        return found.report, texts[0], texts[1]

    report, train, held = run(validation=0.3, deduplicate=True)
    assert sorted(train + held) == sorted(firsts)
    assert 0 < len(held) < 30
    assert (report.exact_copies, report.near_copies, report.copies_left_out) == (30, 30, 60)
    report, train, held = run(validation=0.3)
    assert len(train) + len(held) == 90
    assert not {jaccard(a, b) >= 0.8 for a in train for b in held} - {False}
    assert report.copies_left_out == report.leaked == 0
    apart = tmp_path / "held.jsonl"
    apart.write_text(json.dumps({"text": varied(rng, firsts[0], 1)}))
    report, train, held = run(validation=[str(apart)])
    assert (report.leaked, len(train), len(held)) == (3, 90, 1)
    report, train, held = run(validation=[str(apart)], deduplicate=True)
    assert (report.leaked, len(train), len(held)) == (3, 29, 1)


@pytest.mark.parametrize(
    ("text", "kinds"),
    [
        ("write to jo.doe+x@mail.example.org now", {"email"}),
        ("@name and a@b and x@y.z", set()),
        ("call +49 (89) 1234-5678", {"phone"}),
        ("1 + 1234567 is a sum; +12", set()),
        ("card 4111 1111 1111 1111.", {"card"}),
        ("card 4111-1111-1111-1112", set()),
        ("amex 3782 822463 10005", {"card"}),
        ("card 5555 5555 5555 4444", {"card"}),
        ("order 12345678901234567890123", set()),
        ("IBAN DE89 3704 0044 0532 0130 00, please", {"iban"}),
        ("IBAN DE89 3704 0044 0532 0130 01", set()),
        ("GB82WEST12345698765432", {"iban"}),
        ("the shortest that there is: NO93 8601 1117 947", {"iban"}),
        ("XX44123456789012345678901234567890", {"iban"}),
        ("one digit too many: XX881234567890123456789012345678901", set()),
        ("nothing here", set()),
    ],
)
def test_personal_data_is_known_by_its_form_and_its_check_digits(
    text: str, kinds: set[str]
) -> None:
    assert personal_kinds(text) == kinds


@given(st.text(st.sampled_from("1234567890 -@.+aDE"), max_size=60))
def test_personal_data_is_looked_for_in_any_text(text: str) -> None:
    assert personal_kinds(text) <= {"email", "phone", "card", "iban"}
