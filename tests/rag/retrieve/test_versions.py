"""Older versions are found out, demoted behind the newest, and nothing else moves."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmstack.rag.retrieve.hybrid import Hit
from lmstack.rag.retrieve.stages import Described, newest_first, superseded_by, unless_named


def doc(number: int, path: str, title: str = "", **fields: object) -> Described:
    return Described(number, path, title or path.rpartition("/")[2].rpartition(".")[0], fields)


def hit(chunk: int, document: int, score: float) -> Hit:
    return Hit(0, score, "p", 0, 1, "t", None, {}, chunk, document, "", (), "", None)


def test_document_that_names_what_it_supersedes():
    old, new = doc(1, "a/policy.md"), doc(2, "b/rules.md", supersedes="policy.md")
    assert superseded_by([old, new]) == {1: 2}


@pytest.mark.parametrize("name", ["a/policy.md", "./a/policy.md", "Policy", "POLICY.MD"])
def test_named_by_path_file_name_or_title(name):
    assert superseded_by([doc(1, "/x/a/policy.md"), doc(2, "/x/b.md", supersedes=name)]) == {1: 2}


def test_document_that_names_what_superseded_it():
    old = doc(1, "a.md", superseded_by=("Handbook",))
    assert superseded_by([old, doc(2, "b.md", "Handbook")]) == {1: 2}


def test_a_part_of_a_name_is_not_the_name():
    assert superseded_by([doc(1, "a/policy.md"), doc(2, "b.md", supersedes="licy.md")]) == {}


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("docs/policy-v1.md", "docs/policy-v2.md"),
        ("docs/policy_v9.pdf", "docs/policy_v10.pdf"),
        ("docs/Policy Version 1.2.docx", "docs/policy version 1.10.docx"),
        ("docs/policy.rev3.txt", "docs/policy.rev4.txt"),
        ("docs/v1-policy.md", "docs/v2-policy.md"),
    ],
)
def test_versions_in_paths(old, new):
    assert superseded_by([doc(1, old), doc(2, new)]) == {1: 2}
    assert superseded_by([doc(1, new), doc(2, old)]) == {2: 1}


@pytest.mark.parametrize(
    ("one", "two"),
    [
        ("docs/policy-v1.md", "other/policy-v2.md"),
        ("docs/policy-v1.md", "docs/pricing-v2.md"),
        ("docs/policy-2023.md", "docs/policy-2024.md"),
        ("docs/policy-v1.md", "docs/policy.md"),
        ("docs/ipv4.md", "docs/ipv6.md"),
        ("docs/part1.md", "docs/part2.md"),
    ],
)
def test_what_only_looks_like_a_version(one, two):
    assert superseded_by([doc(1, one), doc(2, two)]) == {}


def test_same_title_and_a_higher_version_field():
    old = doc(1, "x/a.md", "Travel policy", version="2.9")
    new = doc(2, "y/b.md", "Travel Policy", version="2.10")
    assert superseded_by([old, new]) == {1: 2}


def test_version_of_thousands_of_digits_costs_itself_only():
    endless = Described(1, "a.docx", "Plan", {"version": "9" * 5_000})
    assert superseded_by([endless, Described(2, "b.docx", "Plan", {"version": "2"})]) == {2: 1}


def test_chain_ends_at_the_newest():
    chain = [doc(1, "a.md"), doc(2, "b.md", supersedes="a.md"), doc(3, "c.md", supersedes="b.md")]
    assert superseded_by(chain) == {1: 3, 2: 3}


def test_circle_supersedes_nothing():
    circle = [doc(1, "a.md", supersedes="b.md"), doc(2, "b.md", supersedes="a.md")]
    assert superseded_by(circle) == {}


@given(st.permutations([doc(n, f"d/p-v{n}.md") for n in range(1, 6)]))
def test_order_of_documents_does_not_matter(documents):
    assert superseded_by(documents) == {1: 5, 2: 5, 3: 5, 4: 5}


hits = st.lists(st.integers(1, 5), max_size=12).map(
    lambda documents: [hit(i, d, 1 - i / 100) for i, d in enumerate(documents)]
)


@given(hits, st.dictionaries(st.sampled_from([1, 2]), st.sampled_from([3, 4])))
def test_newest_leads_its_family_and_the_others_keep_their_places(found, newest):
    ordered = newest_first(found, newest)
    assert sorted(h.chunk_id for h in ordered) == sorted(h.chunk_id for h in found)
    assert [h.score for h in ordered] == [h.score for h in found]
    for place, (before, after) in enumerate(zip(found, ordered, strict=True)):
        family = {newest.get(h.document_id, h.document_id) for h in (before, after)}
        assert len(family) == 1
        if after.document_id in newest:
            rest = ordered[place:]
            assert newest[after.document_id] not in {h.document_id for h in rest}


def test_nothing_moves_without_versions():
    found = [hit(1, 1, 0.5), hit(2, 2, 0.4)]
    assert newest_first(found, {}) == [replace(each) for each in found]


def test_a_version_that_is_asked_for_is_not_superseded():
    old, new = replace(hit(1, 1, 0.9), named=3.0), hit(2, 2, 0.8)
    assert unless_named({1: 2}, [old, new]) == {}
    assert unless_named({1: 2}, [replace(old, named=0.0), new]) == {1: 2}
    assert unless_named({1: 2}, [replace(old, named=0.0), replace(new, named=3.0)]) == {1: 2}
