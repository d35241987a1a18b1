"""Documents that say the same are found, and no others are called so."""

from __future__ import annotations

import os
import random
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmstack.core import InputError
from lmstack.rag import Index
from lmstack.rag.catalogue.duplicates import (
    VALUES,
    group_similar,
    jaccard,
    load_sketch,
    shingles_of,
    sketch_of,
)

_WORDS = [f"word{n}" for n in range(2000)]


def _text(dice: random.Random, length: int = 200) -> str:
    return " ".join(dice.choices(_WORDS, k=length))


def _edited(text: str, share: float, dice: random.Random) -> str:
    """``text`` with about so many of its words replaced, in runs."""
    words = text.split()
    left = int(len(words) * share)
    while left > 0:
        run = min(left, dice.randint(1, 8))
        at = dice.randrange(len(words) - run)
        words[at : at + run] = dice.choices(_WORDS, k=run)
        left -= run
    return " ".join(words)


def _sets(text: str) -> set[tuple[str, ...]]:
    words = text.split()
    return {tuple(words[i : i + 5]) for i in range(len(words) - 4)}


_SMALL = st.lists(st.sampled_from(list("abc")), min_size=5, max_size=40).map(" ".join)


@given(_SMALL, _SMALL)
def test_similarity_is_that_of_the_sets_of_shingles(first, second):
    one, two = _sets(first), _sets(second)
    want = len(one & two) / len(one | two)
    assert jaccard(shingles_of(first), shingles_of(second)) == pytest.approx(want)


def test_sketches_estimate_the_similarity():
    dice = random.Random(1)
    off = []
    for _ in range(60):
        text = _text(dice)
        other = _edited(text, dice.uniform(0, 0.3), dice)
        exact = jaccard(shingles_of(text), shingles_of(other))
        same = load_sketch(sketch_of(text)) == load_sketch(sketch_of(other))
        off.append(np.count_nonzero(same) / VALUES - exact)
    assert abs(np.mean(off)) < 0.015
    assert np.std(off) < 0.05


def test_case_and_punctuation_count_for_nothing_and_few_words_are_no_trouble():
    assert jaccard(shingles_of("One, two. THREE!"), shingles_of("one two three")) == 1
    assert jaccard(shingles_of("one two three"), shingles_of("one two four")) == 0
    assert jaccard(shingles_of("..."), shingles_of("!!!")) == 0


def test_planted_duplicates_are_found_and_nothing_else():
    dice = random.Random(2)
    texts = [_text(dice) for _ in range(400)]
    for number in range(60):
        texts.append(_edited(texts[number], dice.uniform(0, 0.12), dice))
    sets = [shingles_of(text) for text in texts]
    groups = group_similar([load_sketch(sketch_of(t)) for t in texts], sets.__getitem__, 0.8)
    found = {(i, j) for i, j in combinations(range(len(texts)), 2) if groups[i] == groups[j]}
    planted = [(n, 400 + n) for n in range(60)]
    wanted = {pair for pair in planted if jaccard(sets[pair[0]], sets[pair[1]]) >= 0.8}
    assert len(wanted) > 15
    assert found == wanted


def test_versions_of_one_text_are_one_group_even_if_the_ends_differ():
    dice = random.Random(3)
    texts = [_text(dice)]
    for _ in range(6):
        texts.append(_edited(texts[-1], 0.03, dice))
    sets = [shingles_of(text) for text in texts]
    assert jaccard(sets[0], sets[-1]) < 0.8
    groups = group_similar([load_sketch(sketch_of(t)) for t in texts], sets.__getitem__, 0.8)
    assert set(groups) == {0}


def test_crowd_that_shares_a_template_is_not_compared_pair_by_pair():
    dice = random.Random(4)
    template = _text(dice, 60)
    texts = [f"{template} {_text(dice, 60)}" for _ in range(400)]
    sets = [shingles_of(text) for text in texts]
    asked = 0

    def counted(number: int):
        nonlocal asked
        asked += 1
        return sets[number]

    groups = group_similar([load_sketch(sketch_of(t)) for t in texts], counted, 0.8)
    assert len(set(groups)) == 400
    assert asked < 400 * 20


def test_no_documents_have_no_duplicates():
    assert group_similar([], [].__getitem__, 0.8) == []


@pytest.fixture
def index(tmp_path, embedder):
    dice = random.Random(5)
    docs = tmp_path / "docs"
    docs.mkdir()
    text = _text(dice)
    for number, content in enumerate([text, text, _edited(text, 0.02, dice), _text(dice)]):
        (docs / f"{number}.txt").write_text(content)
        os.utime(docs / f"{number}.txt", (1_700_000_000 + number, 1_700_000_000 + number))
    with Index.open(tmp_path / "index", embedder) as opened:
        opened.update([docs])
        yield opened


def test_group_says_which_is_newest_and_how_alike_the_others_are(index):
    (group,) = index.duplicates()
    assert [os.path.basename(d.path) for d in group.documents] == ["2.txt", "1.txt", "0.txt"]
    assert [d.newest for d in group.documents] == [True, False, False]
    assert [d.exact for d in group.documents] == [True, False, False]
    assert 0.8 <= group.similarity < 1
    assert group.documents[0].modified == "2023-11-14T22:13:22Z"


def test_only_equal_texts_are_left_at_full_similarity(index):
    (group,) = index.duplicates(1.0)
    assert [os.path.basename(d.path) for d in group.documents] == ["1.txt", "0.txt"]
    assert all(d.exact for d in group.documents)


def test_documents_without_a_sketch_are_found_all_the_same(index):
    before = index.duplicates()
    with index._database.writing() as connection:
        connection.exec_driver_sql("UPDATE texts SET sketch = NULL")
    assert index.duplicates() == before


def test_similarity_out_of_range_is_refused(index):
    with pytest.raises(InputError, match="similarity"):
        index.duplicates(0.1)
