"""Documents that look alike are told apart by the name or number that is asked for."""

from __future__ import annotations

import pytest

from lmstack.rag import Index

REPORTS = 40
# Where the code of a report stands among so many other words, its cosine is lower than those of
# all other reports.
FILLER = "The pump was opened and cleaned, and all seals were renewed before it was closed. "


@pytest.fixture
def reports(tmp_path, make_embedder):
    folder = tmp_path / "reports"
    folder.mkdir()
    for n in range(REPORTS):
        filler = FILLER * 3 if n == 7 else ""
        text = f"The release code of report {48200 + n} is K{n}K. {filler}"
        (folder / f"{n:02}.txt").write_text(text)
    with Index.open(tmp_path / "index", make_embedder()) as index:
        index.update([folder])
        yield index


def test_the_number_that_one_document_has_is_not_drowned_by_cosines(reports):
    question = "release code of report 48207?"
    (first, *others) = reports.search(question, 10)
    assert first.path.endswith("07.txt")
    assert first.similarity < min(hit.similarity for hit in others)
    assert first.names.keys() == {"48207"}
    assert first.names["48207"] > 0 > others[0].names["48207"]
    assert first.named > 0 == others[0].named


def test_a_name_that_many_documents_hold_chooses_none_of_them(reports):
    (first, *_) = reports.search("What does Report say of the release code?", 10)
    assert first.names["Report"] > 0
    assert first.named == 0


def test_passages_of_the_named_document_are_found_that_do_not_repeat_its_name(
    tmp_path, make_embedder
):
    folder = tmp_path / "invoices"
    folder.mkdir()
    for n in range(30):
        (folder / f"{n:02}.txt").write_text(
            f"Invoice number {7100 + n}. {FILLER * 2}\n\nTotal due: {n}.50 francs."
        )
    embedder = make_embedder(1024, max_tokens=48)
    with Index.open(tmp_path / "index", embedder) as index:
        index.update([folder])
        hits = index.search("total due of invoice 7112", 2)
        assert {hit.path.rpartition("/")[2] for hit in hits} == {"12.txt"}
        assert any("12.50" in hit.text and "7112" not in hit.text for hit in hits)


def test_hidden_documents_say_nothing_of_who_is_named(tmp_path, make_embedder):
    """A second document with the number would halve the evidence, and tell that it exists."""
    seen, hidden = tmp_path / "seen", tmp_path / "hidden"
    for folder in (seen, hidden):
        folder.mkdir()
        for n in range(3):
            (folder / f"{n}.txt").write_text(f"The code of report {900 + n} is K{n}.")
    with Index.open(tmp_path / "both", make_embedder()) as index:
        index.add([seen])
        index.add([hidden], labels=["secret"])
        of_both = index.seen_by(frozenset()).search("code of report 901?", 3)
    with Index.open(tmp_path / "alone", make_embedder()) as index:
        index.update([seen])
        alone = index.search("code of report 901?", 3)
    assert [hit.named for hit in of_both] == [hit.named for hit in alone] != [0, 0, 0]


def test_words_of_a_name_in_passages_far_apart_are_no_name(tmp_path, make_embedder):
    folder = tmp_path / "lists"
    folder.mkdir()
    people = ("Anna Moser", "Otto Keller", "Ida Roth", "Emil Vogt")
    for n, person in enumerate(people):
        filler = FILLER * 4
        (folder / f"{n}.txt").write_text(f"About {person}.\n\n{filler}\n\nAlso {people[n - 3]}.")
    with Index.open(tmp_path / "index", make_embedder(1024, max_tokens=48)) as index:
        index.update([folder])
        assert {hit.named for hit in index.search("phone of Anna Keller", 8)} == {0.0}
        assert max(hit.named for hit in index.search("phone of Anna Moser", 8)) > 0


def test_names_are_of_a_document_that_begins_with_them_and_else_of_their_place(
    tmp_path, make_embedder
):
    folder = tmp_path / "files"
    folder.mkdir()
    (folder / "a.txt").write_text(f"Report 4711.\n\n{FILLER * 4}\n\nSee also 4712.")
    (folder / "b.txt").write_text("Nothing.")
    with Index.open(tmp_path / "index", make_embedder(1024, max_tokens=48)) as index:
        index.update([folder])
        for number, own in (("4711", ("4711",)), ("4712", ())):
            hits = index.search(f"seals of {number}", 8)
            assert {hit.own_names for hit in hits if hit.path.endswith("a.txt")} == {own}
