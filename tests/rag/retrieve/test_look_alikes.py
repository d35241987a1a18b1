"""Documents look alike by what is no name or number."""

from __future__ import annotations

from lmstack.rag.retrieve.hybrid import Hit
from lmstack.rag.retrieve.look_alikes import look_alikes


def _hits(*texts: str, document: int | None = None) -> list[Hit]:
    return [
        Hit(n, 1.0, "a", 0, 1, text, None, {}, n, document or n, "", (), "", None)
        for n, text in enumerate(texts, 1)
    ]


REPORTS = (
    "The code of report 7 is AK. It was issued by Anna.",
    "The code of report 8 is BQ. It was issued by Otto.",
)


def test_what_differs_only_in_names_and_numbers_looks_alike():
    badge = "Visitors sign in at the desk and wear a green badge."
    assert look_alikes(_hits(*REPORTS, badge)) == {1, 2}
    assert look_alikes(_hits(badge)) == set()


def test_passages_of_one_document_do_not_make_it_look_like_another():
    assert look_alikes(_hits(*REPORTS, document=9)) == set()


def test_passages_without_words_look_like_nothing():
    assert look_alikes(_hits("4711", "4712", "")) == set()
