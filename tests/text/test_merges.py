"""Merges recovered from ranks: equal to merging by rank itself, on vocabularies nobody trained."""

from __future__ import annotations

import base64

import tiktoken
from hypothesis import example, given, settings
from hypothesis import strategies as st

from lmstack.text import TiktokenEncoding, Tokenizer
from lmstack.text.vocab.merges import merges_of
from lmstack.text.vocab.tiktoken import tiktoken_json

WORDS = r"\S+|\s+"
# Few letters and long tokens: what overlaps itself, and what no merge reaches, turns up at once.
pieces = st.text("ab", min_size=2, max_size=6).map(str.encode)


def encoders(extra):
    """Ours and tiktoken's for all bytes and ``extra`` tokens, ranked in the order given."""
    tokens = [bytes([value]) for value in range(256)]
    tokens += [token for token in dict.fromkeys(extra) if token not in tokens]
    ranks = {token: rank for rank, token in enumerate(tokens)}
    data = b"".join(b"%s %d\n" % (base64.b64encode(t), r) for t, r in ranks.items())
    ours = Tokenizer(*tiktoken_json(data, TiktokenEncoding(WORDS, {})))
    theirs = tiktoken.Encoding("x", pat_str=WORDS, mergeable_ranks=ranks, special_tokens={})
    return ours, theirs


@settings(max_examples=150, deadline=None)
@example(extra=[b"ab", b"ba", b"aba"], texts=["ababa", "abaaba"])
@example(extra=[b"aa", b"aaa"], texts=["a" * 7])
@example(extra=[b"aba", b"ab", b"ba"], texts=["aba ababab"])
@given(
    extra=st.lists(pieces, max_size=14),
    texts=st.lists(st.text("ab ", max_size=30), min_size=1, max_size=8),
)
def test_ids_of_any_ranked_vocabulary_equal_tiktoken(extra, texts):
    ours, theirs = encoders(extra)
    for text in texts:
        assert ours.encode(text) == theirs.encode_ordinary(text)


def test_a_token_that_no_merge_reaches_is_taken_only_whole():
    ours, theirs = encoders([b"abcd"])
    assert ours.encode("abcd") == theirs.encode_ordinary("abcd") == [256]
    assert len(ours.encode("abcde")) == len(theirs.encode_ordinary("abcde")) == 5


def test_every_token_has_at_most_one_merge():
    ranks = {"a": 9, "b": 8, "ab": 1, "ba": 2, "aba": 3, "bab": 4}
    assert merges_of(ranks) == [("a", "b"), ("b", "a"), ("ab", "a"), ("b", "ab")]
