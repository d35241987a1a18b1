"""Fill-mask equals transformers' pipeline: several masks, targets, spaces."""

from __future__ import annotations

from typing import Any

import pytest

import lmstack
from lmstack.core import InputError
from lmstack.serve.tasks import Fill

from .conftest import Both, Make

BERT_TEXTS = (
    "Ada [MASK] in London.",
    "[MASK]",
    "the [MASK] wrote the first [MASK], and it was [MASK]!",
    "who is in London? he was in [MASK]...",
)


@pytest.fixture(scope="module")
def bert(make: Make) -> Both:
    return make("BertForMaskedLM")


@pytest.fixture(scope="module")
def roberta(make: Make) -> Both:
    return make("RobertaForMaskedLM")


def fills(found: list[dict[str, Any]]) -> tuple[Fill, ...]:
    return tuple(
        Fill(e["token_str"], pytest.approx(e["score"], abs=1e-5), e["token"], e["sequence"])
        for e in found
    )


def all_masks(found: list[Any]) -> tuple[tuple[Fill, ...], ...]:
    """theirs gives one list for one mask, a list of lists for several."""
    return tuple(fills(e) for e in (found if isinstance(found[0], list) else [found]))


@pytest.mark.parametrize("top_k", [1, 5, 69])
@pytest.mark.parametrize("text", BERT_TEXTS)
def test_fills_are_those_of_transformers(bert: Both, text: str, top_k: int) -> None:
    expected = bert.pipeline("fill-mask")(text, top_k=top_k)
    assert lmstack.task("fill-mask", bert.ours)(text, top_k=top_k).masks == all_masks(expected)


@pytest.mark.parametrize("text", ["Ada <mask> in", "<mask>", "a <mask> b <mask>.", "in<mask> the"])
def test_spaces_before_a_mask_are_those_of_transformers(roberta: Both, text: str) -> None:
    expected = roberta.pipeline("fill-mask")(text)
    assert lmstack.task("fill-mask", roberta.ours)(text).masks == all_masks(expected)


@pytest.mark.parametrize("architecture", ["BertForMaskedLM", "RobertaForMaskedLM"])
@pytest.mark.parametrize("tight", [True, False])
def test_spaces_before_marks_go_where_a_tokenizer_says_so_and_has_word_pieces(
    make: Make, architecture: str, tight: bool
) -> None:
    both = make(architecture)
    both.tokenizer.clean_up_tokenization_spaces = tight
    both.ours.tokenizer.config["clean_up_tokenization_spaces"] = tight
    text = f"ada {both.tokenizer.mask_token} . who is in london ? no , it ' green !"
    expected = both.pipeline("fill-mask")(text)
    [found] = lmstack.task("fill-mask", both.ours)(text).masks
    assert (found,) == all_masks(expected)
    is_tight = ["it'green" in fill.sequence for fill in found]
    assert is_tight == [tight and architecture.startswith("Bert")] * len(found)


@pytest.mark.parametrize("text", BERT_TEXTS)
def test_targets_are_scored_as_in_transformers(bert: Both, text: str) -> None:
    targets = ["paris", "engine", "##s"]
    expected = bert.pipeline("fill-mask")(text, targets=targets)
    assert lmstack.task("fill-mask", bert.ours, targets=targets)(text).masks == all_masks(expected)


def test_a_target_may_be_written_as_text(roberta: Both) -> None:
    expected = roberta.pipeline("fill-mask")("it is <mask>", targets="Ġin")
    found = lmstack.task("fill-mask", roberta.ours, targets=" in")("it is <mask>")
    assert found.masks == all_masks(expected)


def test_a_target_of_several_tokens_is_refused_and_shown(bert: Both) -> None:
    with pytest.raises(InputError, match=r"'lovelaces' is 3 tokens: \['love', '##lace', '##s'\]"):
        lmstack.task("fill-mask", bert.ours, targets=["paris", "lovelaces"])("[MASK]")


def test_a_text_without_a_mask_says_how_to_write_one(bert: Both) -> None:
    with pytest.raises(InputError) as caught:
        lmstack.task("fill-mask", bert.ours)("nothing missing")
    assert caught.value.hint == "write [MASK] where a word is missing"
