"""Pairs and windows equal those of transformers' fast tokenizers, cut for cut."""

from __future__ import annotations

from pathlib import Path

import pytest
import tokenizers
import transformers
from hypothesis import given
from hypothesis import strategies as st
from tests.byte_tokens import byte_level
from tokenizers import models, normalizers, pre_tokenizers, processors

from lmstack.core import ContextLengthError, InputError
from lmstack.text import Tokenizer, Window, encode_windows
from lmstack.text.windows import Cut, count_window_tokens, numbered_words

PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefgh", "##a", "##b", "##c"]
words = st.text("abcdefgh ,", max_size=40)
LIMIT = 12


@pytest.fixture(scope="module")
def backend() -> tokenizers.Tokenizer:
    made = tokenizers.Tokenizer(
        models.WordPiece({p: i for i, p in enumerate(PIECES)}, unk_token="[UNK]")
    )
    made.normalizer = normalizers.BertNormalizer()
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    return made


@pytest.fixture(scope="module")
def ours(backend: tokenizers.Tokenizer) -> Tokenizer:
    return Tokenizer.from_json(backend.to_str(), {"cls_token": "[CLS]", "pad_token": "[PAD]"})


@pytest.fixture(scope="module")
def theirs(backend: tokenizers.Tokenizer) -> transformers.PreTrainedTokenizerFast:
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizers.Tokenizer.from_str(backend.to_str()),
        pad_token="[PAD]",
        cls_token="[CLS]",
    )


def as_window(encoding: tokenizers.Encoding) -> Window:
    return Window(
        tuple(encoding.ids),
        tuple(encoding.type_ids),
        tuple(encoding.offsets),
        tuple(encoding.sequence_ids),
        tuple(encoding.word_ids),
    )


CUTS = {"longest": "longest_first", "first": "only_first", "second": "only_second"}


@given(left=words, right=words, cut=st.sampled_from(list(CUTS)))
def test_a_pair_is_cut_as_transformers_cuts_it(
    ours: Tokenizer,
    theirs: transformers.PreTrainedTokenizerFast,
    left: str,
    right: str,
    cut: str,
) -> None:
    try:
        [[window]] = encode_windows(ours, [left], [right], max_length=LIMIT, cut=cut)
    except ContextLengthError:
        kept = right if cut == "first" else left
        assert len(theirs(kept, add_special_tokens=False)["input_ids"]) >= LIMIT - 3
        return
    expected = theirs([left], [right], max_length=LIMIT, truncation=CUTS[cut])
    assert window == as_window(expected[0])


@given(question=st.text("abc ", max_size=5), document=words, stride=st.integers(0, 3))
def test_windows_over_the_second_text_are_those_of_transformers(
    ours: Tokenizer,
    theirs: transformers.PreTrainedTokenizerFast,
    question: str,
    document: str,
    stride: int,
) -> None:
    [windows] = encode_windows(
        ours, [question], [document], max_length=LIMIT, cut="second", stride=stride
    )
    expected = theirs(
        [question],
        [document],
        max_length=LIMIT,
        truncation="only_second",
        stride=stride,
        return_overflowing_tokens=True,
    )
    assert windows == [as_window(encoding) for encoding in expected.encodings]


@given(text=words, stride=st.integers(0, 3))
def test_windows_over_a_single_text_are_those_of_transformers(
    ours: Tokenizer, theirs: transformers.PreTrainedTokenizerFast, text: str, stride: int
) -> None:
    [windows] = encode_windows(ours, [text], max_length=LIMIT, cut="first", stride=stride)
    expected = theirs(
        text, max_length=LIMIT, truncation=True, stride=stride, return_overflowing_tokens=True
    )
    assert windows == [as_window(encoding) for encoding in expected.encodings]


@given(texts=st.lists(words, max_size=5))
def test_many_texts_are_encoded_as_each_alone(ours: Tokenizer, texts: list[str]) -> None:
    together = encode_windows(ours, texts, max_length=LIMIT, cut="longest")
    assert together == [
        encode_windows(ours, [text], max_length=LIMIT, cut="longest")[0] for text in texts
    ]


def test_nothing_is_cut_unless_asked(ours: Tokenizer) -> None:
    with pytest.raises(ContextLengthError, match="text 1 has 14 tokens, the model sees 12"):
        encode_windows(ours, ["a", "a b c d e f g h a b c d"], max_length=LIMIT)


def test_a_word_of_several_tokens_has_one_span(ours: Tokenizer) -> None:
    [[window]] = encode_windows(ours, ["d"], ["h abc e"])
    assert [window.word_span(token) for token in range(len(window))] == [
        *[None, (0, 1), None],
        *[(0, 1), (2, 5), (2, 5), (2, 5), (6, 7), None],
    ]


def test_a_stride_as_long_as_the_window_is_refused(ours: Tokenizer) -> None:
    with pytest.raises(InputError, match="the stride is 10"):
        encode_windows(ours, ["a " * 30], max_length=LIMIT, cut="first", stride=10)


def test_a_limit_below_the_added_tokens_is_refused(ours: Tokenizer) -> None:
    with pytest.raises(InputError, match="the tokenizer itself adds 2"):
        encode_windows(ours, ["a"], max_length=2)


def test_spaces_of_a_byte_level_vocabulary_are_trimmed_from_offsets_once() -> None:
    made = byte_level(merges=[("Ġ", "b")])
    made.post_processor = processors.ByteLevel(trim_offsets=True)
    tokenizer = Tokenizer.from_json(made.to_str())
    [[window]] = encode_windows(tokenizer, ["a b"])
    [encoding] = tokenizer.encode_batch(["a b"])
    assert window.offsets == encoding.offsets == tuple(made.encode("a b").offsets)


def test_a_mask_that_swallows_the_space_before_it_still_does() -> None:
    made = byte_level(tokenizers.AddedToken("<mask>", lstrip=True, normalized=False))
    tokenizer = Tokenizer.from_json(made.to_str(), {"mask_token": "<mask>"})
    assert tokenizer.encode("a <mask>") == made.encode("a <mask>").ids
    assert len(tokenizer.encode("a <mask>")) == 2


def test_a_saved_tokenizer_still_tells_transformers_of_its_segments(
    ours: Tokenizer, tmp_path: Path
) -> None:
    ours.save(tmp_path)
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    assert theirs("a", "b")["token_type_ids"] == [0, 0, 0, 1, 1]


def test_a_control_token_in_a_text_that_others_wrote_ends_nothing(ours: Tokenizer) -> None:
    [[trusted]] = encode_windows(ours, ["a"], ["b [CLS] c"])
    [[window]] = encode_windows(ours, ["a"], ["b [CLS] c"], special=False)
    assert trusted.ids.count(2) == 2
    assert window.ids.count(2) == 1
    assert window.sequences[-1] is None


@pytest.mark.parametrize("cut", ["longest", "first", "second"])
@given(query=words, documents=st.lists(words, min_size=1, max_size=4))
def test_a_text_that_pairs_share_is_cut_for_each_of_them_anew(
    ours: Tokenizer, cut: Cut, query: str, documents: list[str]
) -> None:
    def windows(first: list[str], second: list[str]) -> list[list[Window]]:
        try:
            return encode_windows(ours, first, second, max_length=LIMIT, cut=cut)
        except ContextLengthError:  # the text that is not to be cut is too long alone
            return []

    alone = [windows([query], [text]) for text in documents]
    if all(alone):
        assert windows([query] * len(documents), documents) == [found for [found] in alone]


def test_a_query_of_many_documents_is_encoded_once(
    ours: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was for each of them: one request could keep a server busy for hours."""
    seen: list[str] = []
    encode = Tokenizer.unfinished

    def counted(self: Tokenizer, texts: list[str], **options: bool) -> list[tokenizers.Encoding]:
        seen.extend(texts)
        return encode(self, texts, **options)

    monkeypatch.setattr(Tokenizer, "unfinished", counted)
    documents = [letter * 2 for letter in "abcdefgh"]
    encode_windows(ours, ["abc"] * 8, documents)
    assert sorted(seen) == sorted(["abc", *documents])
    seen.clear()
    count_window_tokens(ours, ["abc"] * 8, documents)
    assert sorted(seen) == sorted(["abc", *documents])


@given(first=st.lists(words, max_size=3), second=words)
def test_tokens_are_counted_as_many_as_windows_have(
    ours: Tokenizer, first: list[str], second: str
) -> None:
    for other in (None, [second] * len(first)):
        encoded = encode_windows(ours, first, other)
        assert count_window_tokens(ours, first, other) == [len(window) for [window] in encoded]


def test_words_without_a_cut_into_words_begin_at_white_space() -> None:
    pieces = [(piece, -1.0) for piece in ("▁", "a", "b", "▁a", "▁ab", ",")]
    uncut = tokenizers.Tokenizer(models.Unigram([("<unk>", 0.0), *pieces], unk_id=0))
    uncut.normalizer = normalizers.Replace(" ", "▁")
    tokenizer = Tokenizer.from_json(uncut.to_str(), {"unk_token": "<unk>"})
    text = "ab, ab ba b"
    [[window]] = encode_windows(tokenizer, [text])
    assert set(window.words) == {0}
    words = numbered_words(window, text)
    starts = [
        window.offsets[words.index(n)][0] for n in sorted({w for w in words if w is not None})
    ]
    assert [text[start:].split()[0] for start in starts] == ["ab,", "ab", "ba", "b"]
