"""What a passage bears out, and what it only seems to."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from lmstack.core import ModelInfo
from lmstack.rag.answer.support import OverlapSupport, clauses, invented, numerals


class Agreeing:
    """Finds every two texts the same, so that words alone decide."""

    info = ModelInfo("agreeing")
    dimensions = 1
    max_tokens = 100

    def embed(self, texts: Sequence[str], kind: str = "passage") -> np.ndarray:
        return np.ones((len(texts), 1), np.float32)

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        return [len(text.split()) for text in texts]


def best(claim: str, *evidence: str) -> float:
    return max(OverlapSupport(Agreeing()).score([claim], evidence)[0])


# What is true of the evidence, in its words or others; and what was changed in it.
CASES = [
    (
        "Anna signs contracts above 5,000 euros.",
        ["Contracts above 5,000 euros are signed by Anna.", "Anna signs them."],
        [
            "Anna signs contracts above 50,000 euros.",
            "Paul signs contracts above 5,000 euros.",
            "Contracts above 5,000 euros are signed by Paul.",
            "Anna does not sign contracts above 5,000 euros.",
            "Anna never signs contracts above 5,000 euros.",
        ],
    ),
    (
        "The server does not need a key, and it starts at boot.",
        ["The server needs no key.", "The server starts at boot.", "It doesn't need a key."],
        ["The server needs a key.", "The server does not start at boot."],
    ),
    (
        "Letters are kept for ten years.",
        ["Letters are kept for 10 years.", "For ten years, letters are kept."],
        ["Letters are kept for twelve years.", "Letters aren't kept for ten years."],
    ),
    (
        "Briefe werden zehn Jahre aufbewahrt.",
        ["Zehn Jahre werden Briefe aufbewahrt."],
        [
            "Briefe werden nicht zehn Jahre aufbewahrt.",
            "Briefe werden zwölf Jahre aufbewahrt.",
            "Keine Briefe werden zehn Jahre aufbewahrt.",
        ],
    ),
    (
        "Le contrat ne peut pas être résilié avant un an.",
        ["On ne peut pas résilier le contrat avant un an."],
        ["Le contrat peut être résilié avant un an."],
    ),
    (
        "El servidor no guarda las contraseñas.",
        ["El servidor no guarda contraseñas."],
        ["El servidor guarda las contraseñas."],
    ),
    ("この機能は使用できません。", ["この機能は使用できません。"], ["この機能は使用できます。"]),
    (
        "Use the blue valve; never open the red valve.",
        ["Never open the red valve.", "Use the blue valve."],
        ["Open the red valve.", "Never use the blue valve."],
    ),
]


@pytest.mark.parametrize(
    ("evidence", "claim"), [(evidence, claim) for evidence, true, _ in CASES for claim in true]
)
def test_what_the_evidence_says_in_other_words_is_supported(evidence: str, claim: str) -> None:
    assert best(evidence, evidence) == 1
    assert best(claim, evidence) >= 0.5


@pytest.mark.parametrize(
    ("evidence", "claim"), [(evidence, claim) for evidence, _, false in CASES for claim in false]
)
def test_what_was_changed_in_it_is_not(evidence: str, claim: str) -> None:
    assert best(claim, evidence) <= 0.2


def test_a_name_of_the_passages_that_stands_first_is_a_name() -> None:
    evidence = ("Signed by Anna on Monday, the contract is valid.", "The deputy of Anna is Paul.")
    assert best("Paul signed the contract on Monday.", *evidence) <= 0.2


def test_a_quotation_from_a_denial_is_no_quotation() -> None:
    assert best("letters are kept", "In no case letters are kept for ten years.") <= 0.2


@pytest.mark.parametrize(
    ("text", "negated"),
    [
        ("It runs, not walks.", [False, True]),
        ("Version 1.5, no key", [False, True]),
        ("Don’t stop: go", [True, False]),
        ("動きません。動きます。", [True, False]),
        ("", []),
    ],
)
def test_clauses_end_at_marks_and_know_whether_they_deny(text: str, negated: list[bool]) -> None:
    assert [denied for _, denied in clauses(text)] == negated
    assert "".join(clause for clause, _ in clauses(text)) == text


def test_numerals_are_numbers_in_words() -> None:
    assert numerals("Ten or zwölf, vingt, never once") == {"10", "12", "20"}


@pytest.mark.parametrize(
    ("claim", "missing"),
    [
        ("Hep-2 and LC-MS were used on 3 May 2024.", []),
        ("It was used on 4 May 2024 by Ada.", ["4", "Ada"]),
        ("It used HEK-293 in 0.5 litres.", ["0.5", "HEK", "293"]),
        ("Thirteen were used.", ["13"]),
    ],
)
def test_numbers_and_names_that_stand_nowhere_are_invented(claim, missing):
    evidence = "used on 2024-05-03: hep-2, may we ask; lc-ms"
    assert sorted(invented(claim, evidence)) == sorted(missing)
    assert "HEK" not in invented("It used HEK here", evidence, capitals=False)
