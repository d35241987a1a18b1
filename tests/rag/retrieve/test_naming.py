"""Documents that look alike are told apart by the name or number that is asked for."""

from __future__ import annotations

import pytest

from lmstack.rag import Index, IndexConfig
from lmstack.rag.retrieve.hybrid import SearchConfig

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


def test_a_name_is_found_in_documents_that_write_it_otherwise(tmp_path, make_embedder):
    folder = tmp_path / "minutes"
    folder.mkdir()
    for n in range(1, 29):
        (folder / f"{n:02}.txt").write_text(f"The board met on {n} May 2019. {FILLER}")
    with Index.open(tmp_path / "index", make_embedder()) as index:
        index.update([folder])
        for asked in ("May 14, 2019", "2019-05-14", "14.05.2019"):
            hits = index.search(f"board of {asked}", 3)
            assert hits[0].path.endswith("14.txt"), asked
            assert [hit.named > 0 for hit in hits] == [True, False, False]


def test_two_names_that_others_have_one_by_one_choose_who_has_both(reports, tmp_path):
    folder = tmp_path / "tickets"
    folder.mkdir()
    said = "Ticket T-{} of {}."
    for n in range(12):
        (folder / f"{n:02}.txt").write_text(
            said.format(400 + n // 4, ("Olmo", "Casa", "Halden", "Lark")[n % 4])
        )
    reports.update([folder])
    best = max(reports.search("agent for Casa, T-401", 50), key=lambda hit: hit.named)
    assert best.path.endswith("05.txt")
    assert best.named > 3


def test_documents_with_the_name_are_found_where_many_mention_it(tmp_path, make_embedder):
    """Evidence of eight is next to nothing, and each of the others has a higher cosine."""
    folder = tmp_path / "letters"
    folder.mkdir()
    for n in range(40):
        person = "Orla Vogt" if n % 5 == 0 else f"Emil Roth{n}"
        text = "Salary of a clerk." if n % 5 else FILLER * 3
        (folder / f"{n:02}.txt").write_text(f"{text} Signed by {person}.")
    with Index.open(tmp_path / "index", make_embedder()) as index:
        index.update([folder])
        hits = index.search("Salary of clerk Orla Vogt", 20)
        assert sum("Orla" in hit.text for hit in hits) == 8


def test_of_many_that_hold_a_name_those_that_begin_with_it_are_found(tmp_path, make_embedder):
    folder = tmp_path / "letters"
    folder.mkdir()
    for n in range(40):
        person = "Orla Vogt" if n == 17 else f"Emil Roth{n}"
        text = f"To {person}. {FILLER * 4}\n\nSalary of a clerk: {n}. {FILLER * 2} From Orla Vogt."
        (folder / f"{n:02}.txt").write_text(text)
    (folder / "other.txt").write_text("Where to park.")
    embedder = make_embedder(1024, max_tokens=48)
    config = IndexConfig(search=SearchConfig(depth=20))
    with Index.open(tmp_path / "index", embedder, config=config) as index:
        index.update([folder])
        hits = index.search("Salary of clerk Orla Vogt", 6)
        assert any(hit.path.endswith("17.txt") for hit in hits)


def _index(tmp_path, make_embedder, texts):
    folder = tmp_path / "files"
    folder.mkdir()
    for n, text in enumerate(texts):
        (folder / f"{n:02}.md").write_text(text)
    index = Index.open(tmp_path / "index", make_embedder())
    index.update([folder])
    return index


@pytest.mark.parametrize("asked", ["DN204817", "dn204817", "DN-204817", "204817", "204 817"])
def test_a_number_is_found_in_whatever_pieces_the_text_writes_it(tmp_path, make_embedder, asked):
    """Every other note has the same pieces, and not beside one another."""
    notes = [
        f"Note DN {n} 500. Pallets: {204 + n % 2 * 613}, of 817 and 204." for n in range(300, 330)
    ]
    notes[7] = f"Note DN 204 817. {FILLER}"
    with _index(tmp_path, make_embedder, notes) as index:
        hits = index.search(f"weight on note {asked}", 10)
        assert [hit.path[-5:] for hit in hits if hit.named > 0] == ["07.md"]


def test_words_of_a_date_in_one_passage_are_no_date(tmp_path, make_embedder):
    days = [
        f"Record of 2{n % 8}.0{n % 9 + 1}.20{n + 10}. June, 15 guests, 2024." for n in range(40)
    ]
    days[7] = f"Record of 15.06.2024. {FILLER}"
    with _index(tmp_path, make_embedder, days) as index:
        hits = index.search("record of the 15th of june 2024", 10)
        assert [hit.path[-5:] for hit in hits if hit.names["2024-06-15"] > 0] == ["07.md"]
        assert [hit.path[-5:] for hit in hits if hit.named > 0] == ["07.md"]


def test_words_without_a_capital_are_names_where_the_documents_write_them_so(
    tmp_path, make_embedder
):
    people = ["Karim", "Okke", "Malte", "Jana"]
    letters = [f"Report on the sample of {people[n % 4]} Wulff. {FILLER}" for n in range(44)]
    letters[7] = f"Report on the sample of J\u00f6rg M\u00fcller. {FILLER}"
    with _index(tmp_path, make_embedder, letters) as index:
        first, second, *_ = index.search("sample of joerg mueller", 10)
        assert first.path.endswith("07.md")
        assert set(first.names) == {"joerg", "mueller"}
        assert first.named > 0 == second.named
        # These are written small, or in every second document.
        assert not index.search("pump of wulff", 1)[0].names


def test_an_abbreviation_that_no_document_writes_says_nothing(tmp_path, make_embedder):
    pages = [f"Operating procedure LAB-{n:03}, version 4.{n % 6}" for n in range(1, 30)]
    with _index(tmp_path, make_embedder, pages) as index:
        (first,) = index.search("approver SOP LAB 007 4.1", 1)
        assert first.path.endswith("06.md")
        assert set(first.names) == {"LAB-007", "4.1"}
