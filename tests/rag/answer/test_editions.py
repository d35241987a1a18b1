"""Editions are told apart by what documents say, and the one that is asked for stands first."""

from __future__ import annotations

import pytest

from lmstack.rag.answer.conflicts import Edition, edition_of, in_force
from lmstack.rag.documents import Document


def _document(path="a/fees.md", text="", title="Fees", **fields):
    return Document(path, text, "markdown", title, (), (), fields=fields)


@pytest.mark.parametrize(
    ("document", "date", "version"),
    [
        (_document(text="Version 2.1, in force from 3 March 2021."), "2021-03-03", (2, 1)),
        (_document(text="Status: July 4, 2020"), "2020-07-04", ()),
        (_document(text="Valid from 2019-05-06."), "2019-05-06", ()),
        (_document(text="It opened on 3 March 1921.", date="2018-01-02"), "2018-01-02", ()),
        (_document(path="fees-v3.md"), "", (3,)),
        (_document(path="fees-2017.md"), "2017-01-01", ()),
        # What a program wrote when it made the file is less than what the text says.
        (_document(text="Effective 1 May 2022", date="2000-01-01"), "2022-05-01", ()),
        (_document(text="Dated 31 February 2020"), "", ()),
    ],
)
def test_date_and_version_are_read_where_they_are_stated(document, date, version):
    edition = edition_of(document)
    assert (edition.date, edition.version) == (date, version)


def test_versions_and_years_in_names_do_not_make_other_works():
    one = edition_of(_document(path="x/archive/fees-v1.pdf", title=""))
    two = edition_of(_document(path="x/fees-v2.pdf", title=""))
    assert one.work == two.work == "x fees"
    common = [edition_of(_document(path=f"{name}/README.md", title="Readme")) for name in "ab"]
    assert common[0].work != common[1].work
    assert edition_of(_document(title="Rents")).work != one.work


def test_the_newest_edition_is_in_force_and_in_a_year_that_of_then():
    editions = {
        1: Edition("fees", "2019-01-01", (1,)),
        2: Edition("fees", "2022-01-01", (2,)),
        3: Edition("rents", "2020-01-01", ()),
    }
    assert in_force(editions, None) == {1: 2}
    assert in_force(editions, 2020) == {2: 1}
    assert in_force(editions, 2015) == {2: 1}


def test_an_archived_copy_stands_behind_one_that_is_not():
    editions = {1: Edition("fees", "", (), is_aside=True), 2: Edition("fees", "", ())}
    assert in_force(editions, None) == {}
    dated = {1: Edition("fees", "", (1,), is_aside=True), 2: Edition("fees", "", (1,))}
    assert in_force(dated, None) == {1: 2}


def test_documents_that_cannot_be_told_apart_are_left_alone():
    editions = {1: Edition("fees", "2020-01-01", ()), 2: Edition("fees", "2020-01-01", ())}
    assert in_force(editions, None) == {}
