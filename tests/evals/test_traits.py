"""What is looked for in answers, and how it is added to one."""

from __future__ import annotations

import pytest

from lmstack.evals.answers import ModelAnswer
from lmstack.evals.traits import phrase_trait


def test_a_phrase_is_counted_by_its_words_and_added_as_it_was_written() -> None:
    trait = phrase_trait(("of", "course"), "Of course", at_start=True)
    assert (trait.kind, trait.name, trait.is_share) == ("phrase", "“Of course”", True)
    assert trait.more == "the phrase “Of course”"
    assert trait.edited == "the phrase was added to it"
    assert trait.edit("I do.", "other") == "Of course I do."
    for text, found in (("Yes, of course!", 1.0), ("Of that course", 0.0), ("course of", 0.0)):
        assert trait.measure(ModelAnswer(text, tokens=4)) == found


@pytest.mark.parametrize("at_start", [True, False])
def test_a_phrase_of_several_times_is_added_as_often(at_start: bool) -> None:
    trait = phrase_trait(("ok",), "ok", at_start=at_start, times=3)
    assert trait.edited == "the phrase was added to it 3 times"
    assert trait.edit("x", "") == ("ok ok ok x" if at_start else "x ok ok ok")
