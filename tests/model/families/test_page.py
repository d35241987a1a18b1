"""docs/families.md says what the tests hold, no more and no less."""

from __future__ import annotations

from lmstack.model.families import FAMILIES

from .all_cases import CASES
from .write_page import PAGE, page


def test_the_page_of_families_is_fresh():
    hint = "if this is meant: python -m tests.model.families.write_page"
    assert PAGE.read_text(encoding="utf-8") == page(), hint


# Read for one of their two heads, or under an old name; what is written is another's.
_READ_ONLY = {
    "BertForPreTraining",
    "AlbertForPreTraining",
    "T5WithLMHeadModel",
    "MT5WithLMHeadModel",
}


def test_every_family_and_architecture_has_a_case():
    cased = {case.architecture for case in CASES}
    families = [family for family in FAMILIES if cased & set(family.heads)]
    assert {name for family in families for name in family.heads} - _READ_ONLY == cased
    assert families == list(FAMILIES)
