"""Text appears token by token and never has to be taken back."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from lmstack.text import Detokenizer

chunks = st.lists(
    st.one_of(
        st.binary(max_size=5),
        st.text(st.characters(exclude_categories=["Cs"]), max_size=3).map(str.encode),
        st.sampled_from([b"\xf0\x9f", b"\x98\x80", b"\xe2\x82", b"\xc0", b"\xed\xa0\x80"]),
    )
)


def stream(pieces):
    decoder = Detokenizer(lambda index, at_start: pieces[index])
    return [decoder.push(i) for i in range(len(pieces))], decoder.flush()


@given(chunks)
def test_pushes_join_to_the_decoded_whole(pieces):
    pushed, rest = stream(pieces)
    assert "".join(pushed) + rest == b"".join(pieces).decode("utf-8", "replace")


@given(st.text(st.characters(exclude_categories=["Cs"])), st.data())
def test_valid_text_cut_anywhere_never_shows_a_replacement_character(text, data):
    raw = text.encode()
    cuts = sorted(data.draw(st.lists(st.integers(0, len(raw)))))
    pieces = [raw[a:b] for a, b in zip([0, *cuts], [*cuts, len(raw)], strict=True)]
    pushed, rest = stream(pieces)
    assert rest == ""
    assert "".join(pushed) == text


@given(chunks)
def test_text_once_pushed_is_a_prefix_of_every_later_text(pieces):
    pushed, _ = stream(pieces)
    whole = b"".join(pieces).decode("utf-8", "replace")
    for count in range(len(pushed)):
        assert whole.startswith("".join(pushed[: count + 1]))


def test_half_a_character_waits_for_its_other_half():
    pushed, rest = stream([b"a\xf0\x9f", b"\x98", b"\x80b"])
    assert (pushed, rest) == (["a", "", "😀b"], "")


def test_bytes_that_can_no_longer_be_a_character_show_at_once():
    pushed, rest = stream([b"\xf0\x9f", b"x"])
    assert (pushed, rest) == (["", "\ufffdx"], "")


def test_unfinished_character_is_replaced_only_at_the_end():
    pushed, rest = stream([b"ok\xe2\x82"])
    assert (pushed, rest) == (["ok"], "\ufffd")


def test_real_vocabulary_streams_like_it_decodes(byte_level):
    ids = byte_level.encode("héllo 🎉 wörld", special=False)
    for cut in range(len(ids)):
        part = [*ids[:cut], *ids[cut + 1 :]]  # one byte missing somewhere
        decoder = byte_level.detokenizer()
        assert "".join(map(decoder.push, part)) + decoder.flush() == byte_level.decode(part)


def test_skipped_control_token_does_not_end_the_start_of_the_text(sentencepiece):
    ids = sentencepiece.encode("hello")
    decoder = sentencepiece.detokenizer(skip_special_tokens=True)
    assert "".join(map(decoder.push, ids)) + decoder.flush() == "hello"
