"""The tokenizer report: counts, and pieces that are the text again."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from lmstack.core import InputError
from lmstack.text import Tokenizer, count_words, pieces, token_report

any_text = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
mixed = st.lists(
    any_text | st.sampled_from(["hello world", " ", "🙂", "\n\n", "ﬁ", "É", "[CLS]", "<|im_end|>"]),
    max_size=6,
).map("".join)
KINDS = ["byte_level", "sentencepiece", "wordpiece"]


@pytest.fixture(params=KINDS, scope="session")
def tokenizer(request: pytest.FixtureRequest) -> Tokenizer:
    found: Tokenizer = request.getfixturevalue(request.param)
    return found


@given(text=mixed)
@example("hello  world")
@example(" hello")
def test_joined_pieces_are_the_text_and_their_tokens_all_of_its_tokens(
    tokenizer: Tokenizer, text: str
) -> None:
    found = list(pieces(tokenizer, text))
    assert "".join(piece.text for piece in found) == text
    assert all(text[piece.start : piece.end] == piece.text for piece in found)
    ids = tokenizer.encode(text, special=False, add_special_tokens=False)
    assert [index for piece in found for index in piece.ids] == ids


@given(text=mixed)
def test_bytes_of_a_byte_level_piece_are_those_of_its_tokens(
    byte_level: Tokenizer, text: str
) -> None:
    for piece in pieces(byte_level, text):
        assert b"".join(byte_level.token_bytes(i) for i in piece.ids) == piece.text.encode()


def test_a_space_belongs_to_the_token_that_holds_it(byte_level: Tokenizer) -> None:
    assert [piece.text for piece in pieces(byte_level, "hello world")] == [
        *("hello", " w", "or", "l", "d"),
    ]


def test_tokens_that_share_a_character_are_one_piece(byte_level: Tokenizer) -> None:
    [a, face, b] = pieces(byte_level, "l🙂l")
    assert (face.text, len(face.ids)) == ("🙂", 4)
    assert (a.start, a.end, b.start, b.end) == (0, 1, 2, 3)


def test_the_space_that_sentencepiece_adds_is_not_shown(sentencepiece: Tokenizer) -> None:
    found = list(pieces(sentencepiece, "hello hello"))
    assert [piece.text for piece in found] == ["hello", " hello"]


def test_dropped_and_unknown_text_is_marked(wordpiece: Tokenizer) -> None:
    found = list(pieces(wordpiece, "Hello  ünknown"))
    assert [(p.text, bool(p.ids), p.unknown) for p in found] == [
        ("Hello", True, False),
        ("  ", False, False),
        ("ünknown", True, True),
    ]


def test_a_control_token_in_the_text_is_counted_as_the_text_it_is(byte_level: Tokenizer) -> None:
    assert token_report("m", byte_level, "<|im_end|>").tokens > 1


def test_counts_are_those_of_the_text(byte_level: Tokenizer) -> None:
    report = token_report("small", byte_level, "hello world é", price_per_million=2.0)
    assert (report.tokens, report.characters, report.bytes, report.words) == (8, 13, 14, 3)
    assert report.bytes_per_token == 14 / 8
    assert report.fertility == 8 / 3
    assert report.price == pytest.approx(16e-6)
    assert (report.unknowns, report.exact, report.vocab_size) == (0, True, byte_level.vocab_size)


def test_what_is_unknown_or_lost_is_counted(wordpiece: Tokenizer) -> None:
    report = token_report("bert", wordpiece, "hello WORLD Ünknown")
    assert (report.tokens, report.unknowns, report.exact) == (3, 1, False)


def test_a_vocabulary_that_names_its_unknown_only_in_the_model_still_has_one(
    make_wordpiece,
) -> None:
    bare = Tokenizer.from_json(make_wordpiece())
    assert token_report("bert", bare, "zzz").unknowns == 1


def test_ratios_of_an_empty_text_are_not_numbers(byte_level: Tokenizer) -> None:
    report = token_report("m", byte_level, "")
    assert (report.tokens, report.bytes_per_token, report.fertility) == (0, None, None)
    assert list(pieces(byte_level, "")) == []


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("one two", 2),
        ("  ", 0),
        ("日本語", 3),
        ("日本go 語", 4),
        ("don't-stop\nnow", 2),
        ("한국어 말", 2),
    ],
)
def test_words_of_a_language_without_spaces_are_its_characters(text: str, words: int) -> None:
    assert count_words(text) == words


@pytest.mark.parametrize("price", [-1.0, float("nan"), float("inf")])
def test_a_price_is_a_number_that_can_be_paid(byte_level: Tokenizer, price: float) -> None:
    with pytest.raises(InputError, match="price"):
        token_report("m", byte_level, "a", price)
