"""Documents look alike by what is no name or number."""

from __future__ import annotations

from dataclasses import replace

from lmstack.rag.name_forms import holds_together
from lmstack.rag.names import name_groups
from lmstack.rag.retrieve.hybrid import Hit
from lmstack.rag.retrieve.look_alikes import (
    look_alikes,
    names_of_others,
    unheld,
)


def _hits(*texts: str, document: int | None = None) -> list[Hit]:
    return [
        Hit(n, 1.0, "abcdef"[n - 1], 0, 1, text, None, {}, n, document or n, "", (), "", None)
        for n, text in enumerate(texts, 1)
    ]


REPORTS = (
    "The code of report 7 is AK. It was issued by Anna.",
    "The code of report 8 is BQ. It was issued by Otto.",
)


def test_what_differs_only_in_names_and_numbers_looks_alike():
    badge = "Visitors sign in at the desk and wear a green badge."
    alike, kinds = look_alikes(_hits(*REPORTS, badge))
    assert alike == {1, 2}
    assert kinds[1] == kinds[2] != kinds[3]
    assert look_alikes(_hits(badge))[0] == set()


def test_a_file_called_as_look_alikes_are_but_for_numbers_is_of_their_kind():
    hits = _hits(*REPORTS, "Expert's opinion: a pipe burst", "Sign here")
    hits = [replace(hit, path=f"reports/{hit.rank:03}.txt") for hit in hits[:3]] + hits[3:]
    alike, kinds = look_alikes(hits)
    assert alike == {1, 2}
    assert kinds[1] == kinds[2] == kinds[3] != kinds[4]
    # Where nothing looks alike, the names of files tell nothing.
    assert len(set(look_alikes(hits[1:])[1].values())) == 3


def test_passages_of_one_document_do_not_make_it_look_like_another():
    assert look_alikes(_hits(*REPORTS, document=9))[0] == set()


def test_passages_without_words_look_like_nothing():
    assert look_alikes(_hits("4711", "4712", ""))[0] == set()


class _Nothing:
    def of(self, hit: Hit) -> None:
        return None


def _others(question: str, *hits: Hit) -> dict[int, tuple[str, ...]]:
    """The names of ``question`` are rare, and each is held where its words are."""
    groups = name_groups(question)
    asked = [
        replace(
            hit,
            names={n: 5.0 if holds_together(hit.text, (n,)) else -5.0 for g in groups for n in g},
        )
        for hit in hits
    ]
    return names_of_others(question, groups, asked, _Nothing())


def test_a_document_with_a_number_of_its_own_before_the_one_asked_for_only_mentions_it():
    said = "Report {}. It follows up report {} of the boiler house."
    own, mention = said.format(4711, 4600), said.format(4800, 4711)
    assert _others("boiler of report 4711?", *_hits(mention, own)) == {1: ("4711",), 2: ()}
    # Nobody else has it: then the one that mentions it is all that there is.
    other = said.format(4800, 4599)
    assert _others("boiler of report 4711?", *_hits(mention, other)) == {1: (), 2: ("4711",)}


def test_a_person_who_signs_is_not_the_one_whom_a_letter_is_about():
    said = "To {}: you will work in the team of {} from now on."
    own = said.format("Orla Vogt", "Emil Roth")
    mention = said.format("Ida Moser", "Orla Vogt")
    assert _others("In whose team does Orla Vogt work?", *_hits(mention, own)) == {
        1: ("Orla", "Vogt"),
        2: (),
    }


def test_what_holds_the_name_need_not_look_like_those_that_lack_it():
    """Another template made it: those of one template are still not what is meant."""
    page = "Dear customers, we have released Kassa 8.2.1 at last."
    names = _others("How much disk space does Kassa 8.2.1 need?", *_hits(*REPORTS, page))
    assert names == {1: ("Kassa", "8.2.1"), 2: ("Kassa", "8.2.1"), 3: ()}


def test_words_before_a_number_tell_nothing_where_another_name_stands_beside_it():
    """Half of the tickets do not say "ticket"."""
    said = "{} / T-{}. The router was faulty and was exchanged."
    texts = [said.format("Casa Verde", 431), said.format("Olmo Tiles", 430), "Ticket T-77"]
    question = "What was faulty at Casa Verde (ticket T-431)?"
    assert _others(question, *_hits(*texts))[1] == ()


def test_a_short_number_is_not_that_of_another_word_before_it():
    said = "Outline of BIO {}, {} {}. There is a reading list in the library."
    texts = [said.format(119, "autumn", 2008), said.format(119, "spring", 2008)]
    texts.append(said.format(120, "spring", 2009))
    lacking = _others("room of BIO 119 in spring 2008?", *_hits(*texts))
    assert lacking == {1: ("BIO-119", "2008"), 2: (), 3: ("BIO-119", "2008")}
    # A number of five digits is that number after whatever word.
    said = "Following your offer we send {} {}. All pallets are exchanged."
    texts = [said.format("number", 48207), said.format("order", 48206)]
    assert _others("who placed order 48207?", *_hits(*texts)) == {1: (), 2: ("48207",)}


def test_what_has_a_name_sooner_only_outdoes_what_looks_like_it():
    """Else the diary of a foreman comes before the letter about the patient of that name."""
    diary = "Erika Singh had the site with 390 workers."
    letter = "Dear Dr Ida Moser, thank you for sending us {}, who was on ward {}."
    hits = _hits(diary, letter.format("Erika Singh", "D5"), letter.format("Otto Roth", "F7"))
    assert _others("Which ward was Erika Singh on?", *hits) == {
        1: (),
        2: (),
        3: ("Erika", "Singh"),
    }


def test_where_nothing_is_named_no_document_is_another():
    assert _others("who issued it?", *_hits(*REPORTS)) == {}


def test_a_year_decides_between_those_that_hold_what_is_rarer():
    said = "Inspection KN-JX 799 / {}. Compare report KN-JX 799 / {}, which is in the papers."
    own, mention = said.format(2018, 2020), said.format(2016, 2018)
    groups = [("JX-799",), ("2018",)]
    hits = [replace(hit, names={"JX-799": 7.0, "2018": 1.5}) for hit in _hits(mention, own)]
    names = names_of_others("mileage of JX 799 in 2018", groups, hits, _Nothing())
    assert names[2] == ()
    assert "2018" in names[1]


def test_a_name_that_nobody_holds_does_not_hide_who_holds_the_others():
    said = "Report of the laboratory on {}. The sample was centrifuged at once."
    hits = [
        replace(hit, names={"Ahlborn": -9.0, "Tanja": held, "Roth": held})
        for hit, held in zip(
            _hits(said.format("Tanja Roth"), said.format("Otto Vogt")), (5.0, -5.0), strict=True
        )
    ]
    groups = [("Ahlborn",), ("Tanja", "Roth")]
    names = names_of_others("Ms Ahlborn asks about Tanja Roth", groups, hits, _Nothing())
    assert unheld(hits) == {"Ahlborn"}
    # No answer, and still the one that comes first.
    assert names == {1: ("Ahlborn",), 2: ("Ahlborn", "Tanja", "Roth")}


def test_what_is_named_by_parts_that_many_have_is_what_says_all_of_them_at_its_head():
    """An animal and its owner, a house and a flat: each part is said by others as well."""
    said = "{}\n\nOwner: {}\n\n" + "The animal was weighed and looked well. " * 5 + "Lives with {}."
    own = said.format("Ziggy", "Bolitho", "Alfie")
    mention = said.format("Alfie", "Bolitho", "Ziggy")
    other = said.format("Ziggy", "Curnow", "Duke")
    names = _others("weight of Ziggy Bolitho", *_hits(mention, other, own))
    assert names == {1: ("Ziggy",), 2: ("Bolitho",), 3: ()}


def test_what_all_of_a_kind_only_mention_is_no_answer():
    said = "{}\n\n" + "The animal was weighed and looked well. " * 5 + "Lives with {} of {}."
    hits = _hits(said.format("Alfie", "Ziggy", "Curnow"), said.format("Ziggy", "Duke", "Uren"))
    groups = [("Ziggy",), ("Curnow",)]
    hits = [replace(hit, names={"Ziggy": 5.0, "Curnow": 5.0}) for hit in hits]
    question = "weight of Ziggy of Curnow"
    strict = names_of_others(question, groups, hits, _Nothing(), strict=True)
    assert all(strict.values())
    assert "Ziggy" in strict[1]


def test_a_number_is_that_of_the_word_beside_it_where_pages_have_it_so():
    said = "Section {}, row {}, grave {}\n\nThe stone was cleaned, and the hedge was cut."
    hits = _hits(said.format("B", 12, 15), said.format("B", 15, 12))
    groups = [("12",), ("15",)]
    hits = [replace(hit, names={"12": 2.5, "15": 2.5}) for hit in hits]
    names = names_of_others("who lies in row 12, grave 15", groups, hits, _Nothing(), strict=True)
    assert names == {1: (), 2: ("12", "15")}


def test_files_with_numbers_for_names_are_of_one_kind_only_if_half_of_them_look_alike():
    hits = [
        *_hits(*REPORTS, "Expert's opinion: report 9 was signed by Otto", "A pump of class 9"),
        *_hits("An old boiler lay in a yard", "Gates open at noon"),
    ]
    files = [f"{n:05}.txt" for n in range(6)]
    hits = [
        replace(hit, path=file, document_id=n)
        for n, (hit, file) in enumerate(zip(hits, files, strict=True))
    ]
    asked = [replace(hit, names={"9": 5.0 if "9" in hit.text else -5.0}) for hit in hits]
    question, groups = "report 9", [("9",)]

    def meant(hits: list[Hit]) -> list[int]:
        names = names_of_others(question, groups, hits, _Nothing(), strict=True)
        return [hit.document_id for hit in hits if not names.get(hit.document_id)]

    assert meant(asked[:4]) == [2]
    assert meant(asked) == [2, 3, 4, 5]


def test_an_abbreviation_that_no_page_of_a_kind_has_is_no_part_of_its_name():
    said = "{} Chapel Street\n\nThe meters were read when the keys were given back."
    hits = [
        replace(hit, names={"12": 3.0, "Chapel": 5.0, "St": 3.0})
        for hit in _hits(said.format(12), said.format(13))
    ]
    groups = [("12", "Chapel", "St")]
    names = names_of_others("meter of 12 Chapel St", groups, hits, _Nothing(), strict=True)
    assert names == {1: (), 2: ("12",)}
