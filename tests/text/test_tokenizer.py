"""Encoding and decoding on small vocabularies; the real ones are in test_real_vocabularies.py."""

from __future__ import annotations

import contextlib
import json
import threading

import pytest
import transformers
from hypothesis import example, given, settings
from hypothesis import strategies as st

from lmstack.core import (
    FormatError,
    InputError,
    LmstackError,
    NotFoundError,
    UnsupportedError,
)
from lmstack.text import Tokenizer

valid_text = st.text(st.characters(exclude_categories=["Cs"]))


@given(valid_text)
def test_byte_level_decode_gives_the_text_back(byte_level, text):
    assert byte_level.decode(byte_level.encode(text, special=False)) == text


@given(valid_text)
def test_bytes_of_tokens_join_to_the_bytes_of_the_text(byte_level, text):
    ids = byte_level.encode(text, special=False)
    assert b"".join(byte_level.token_bytes(i) for i in ids) == text.encode()


@given(valid_text)
def test_sentencepiece_with_byte_fallback_loses_nothing(sentencepiece, text):
    ids = sentencepiece.encode(text, special=False, add_special_tokens=False)
    # SentencePiece's own space mark cannot be told from a space: that is the format.
    assert sentencepiece.decode(ids) == text.replace("▁", " ")


@given(st.lists(st.sampled_from(["<|im_end|>", "<|im_start|>", "<|im_", "end|>", "<", " ", "x"])))
def test_untrusted_text_never_gives_a_control_token(byte_level, pieces):
    ids = byte_level.encode("".join(pieces), special=False)
    assert byte_level.special_ids.isdisjoint(ids)


def test_control_strings_count_in_trusted_text(byte_level):
    assert byte_level.encode("<|im_end|>") == [byte_level.eos_id]


def test_untrusted_text_keeps_the_tokens_that_the_tokenizer_adds(wordpiece):
    ids = wordpiece.encode("hello [SEP]", special=False)
    assert [wordpiece.token(ids[0]), wordpiece.token(ids[-1])] == ["[CLS]", "[SEP]"]
    assert wordpiece.encode("[SEP]", special=True, add_special_tokens=False) == [3]
    assert 3 not in wordpiece.encode("[SEP]", special=False, add_special_tokens=False)


def test_control_token_that_plain_words_spell_is_still_refused(make_wordpiece):
    # A vocabulary whose end token is an ordinary word, reached without any special matching.
    spec = json.loads(make_wordpiece())
    spec["added_tokens"].append({**spec["added_tokens"][3], "id": 9, "content": "hello"})
    spec["added_tokens"][-1]["id"] = 4
    tokenizer = Tokenizer.from_json(json.dumps(spec))
    assert 4 in tokenizer.special_ids
    assert 4 not in tokenizer.encode("say hello", special=False)


def test_token_named_end_in_the_configuration_is_a_control_token(make_byte_level):
    metadata = make_byte_level()
    metadata["tokenizer.ggml.token_type"] = [1] * len(metadata["tokenizer.ggml.tokens"])
    tokenizer = Tokenizer.from_gguf(metadata)
    assert tokenizer.eos_id in tokenizer.special_ids
    assert tokenizer.encode("<|im_end|>") == [tokenizer.eos_id]


@pytest.mark.parametrize("text", ["\ud83d", "a\udc00b", "\udfff" * 3])
def test_lone_surrogate_is_refused_with_its_place(byte_level, text):
    with pytest.raises(InputError, match="half a surrogate"):
        byte_level.encode(text)
    with pytest.raises(InputError, match=r"texts\[1\]"):
        byte_level.encode_batch(["fine", text])


@pytest.mark.parametrize("value", [None, b"bytes", 3])
def test_what_is_no_text_is_refused(byte_level, value):
    with pytest.raises(InputError, match="not text"):
        byte_level.encode(value)


def test_padding_and_truncation_of_the_file_are_off(wordpiece):
    assert len(wordpiece.encode("hello")) == 3
    assert len(wordpiece.encode("hello " * 50)) == 52


def test_offsets_are_characters_not_bytes(byte_level):
    text = "é日🎉 hello"
    encoding = byte_level.encode_batch([text])[0]
    spans = {text[start:end] for start, end in encoding.offsets}
    assert {"é", "日", "🎉", "hello"} <= spans
    assert max(end for _, end in encoding.offsets) == len(text)


def test_too_long_text_is_an_error_unless_cutting_is_asked_for(wordpiece):
    with pytest.raises(InputError, match="has 5 tokens, more than 2"):
        wordpiece.encode_batch(["hello " * 5], max_length=4)


@pytest.mark.parametrize(
    ("side", "kept"), [("right", "hello world"), ("left", "world do")], ids=["right", "left"]
)
def test_cutting_keeps_the_added_tokens(wordpiece, side, kept):
    [encoding] = wordpiece.encode_batch(["hello world do"], max_length=4, truncation=side)
    assert wordpiece.decode(encoding.ids) == f"[CLS] {kept} [SEP]"


def test_length_below_the_added_tokens_is_refused(wordpiece):
    with pytest.raises(InputError, match="less than the 2"):
        wordpiece.encode_batch(["hello"], max_length=1, truncation="right")


def test_batch_equals_one_by_one(byte_level):
    texts = ["", "hello", "a b  c", "<|im_end|>"]
    assert [list(e.ids) for e in byte_level.encode_batch(texts)] == [
        byte_level.encode(text) for text in texts
    ]


@pytest.mark.parametrize("max_length", [None, 2, 3, 6])
def test_ids_alone_are_those_of_the_encodings(wordpiece, byte_level, max_length):
    texts = ["", "hello", "hello world do hello", "<|im_end|> [SEP]", "é日🎉 a b"]
    for tokenizer in (wordpiece, byte_level):
        encodings = tokenizer.encode_batch(texts, max_length=max_length, truncation="right")
        ids = tokenizer.encode_ids(texts, max_length=max_length)
        assert ids == [list(encoding.ids) for encoding in encodings]


def test_ids_alone_are_refused_what_encodings_are(wordpiece):
    with pytest.raises(InputError, match="less than the 2"):
        wordpiece.encode_ids(["hello"], max_length=1)
    with pytest.raises(InputError, match=r"texts\[1\] holds half a surrogate"):
        wordpiece.encode_ids(["hello", "\ud800"])


@pytest.mark.parametrize("index", [-1, 10**6])
def test_id_outside_the_vocabulary_is_refused(byte_level, index):
    for ask in (byte_level.token, byte_level.token_bytes, lambda i: byte_level.decode([i])):
        with pytest.raises(InputError, match="outside the vocabulary"):
            ask(index)


def test_control_tokens_have_no_bytes_but_can_be_shown(byte_level):
    ids = byte_level.encode("<|im_start|>hello<|im_end|>")
    assert byte_level.token_bytes(byte_level.eos_id) == b""
    assert byte_level.decode(ids) == "<|im_start|>hello<|im_end|>"
    assert byte_level.decode(ids, skip_special_tokens=True) == "hello"


def test_wordpiece_bytes_carry_the_space_between_words(wordpiece):
    assert [wordpiece.token_bytes(wordpiece.id_of(t)) for t in ("hello", "##s", ".")] == [
        b" hello",
        b"s",
        b".",
    ]


def test_wordpiece_decode_equals_the_library(wordpiece, make_wordpiece):
    import tokenizers

    library = tokenizers.Tokenizer.from_str(make_wordpiece())
    for ids in ([4, 6, 5], [6, 4], [11, 7, 8, 9, 10], [2, 4, 10, 3], [], [8, 8]):
        assert wordpiece.decode(ids) == library.decode(ids, skip_special_tokens=False)


def test_start_token_is_added_where_the_file_says_so(make_byte_level):
    tokenizer = Tokenizer.from_gguf(make_byte_level(**{"tokenizer.ggml.add_bos_token": True}))
    assert tokenizer.adds_bos
    assert tokenizer.encode("hello")[0] == tokenizer.bos_id
    assert tokenizer.encode("hello", add_special_tokens=False)[0] != tokenizer.bos_id


def test_threads_get_the_same_ids(byte_level):
    texts = [f"hello {n} <|im_end|> wörld" for n in range(50)]
    expected = [byte_level.encode(text, special=False) for text in texts]
    failures = []

    def work():
        failures.extend(
            text
            for text, ids in zip(texts, expected, strict=True)
            if byte_level.encode(text, special=False) != ids
        )

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


@pytest.mark.parametrize("kind", ["byte_level", "sentencepiece", "wordpiece"])
def test_saved_folder_gives_transformers_the_same_ids(kind, request, tmp_path):
    tokenizer = request.getfixturevalue(kind)
    tokenizer.save(tmp_path)
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    again = Tokenizer.from_folder(tmp_path)
    for text in ("hello world", "  a 12 \n", "é🎉", ""):
        assert theirs(text).input_ids == tokenizer.encode(text) == again.encode(text)
    assert (again.eos_id, again.special_ids) == (tokenizer.eos_id, tokenizer.special_ids)


def test_folder_without_tokenizer_says_how_to_make_one(tmp_path):
    with pytest.raises(NotFoundError, match="save_pretrained"):
        Tokenizer.from_folder(tmp_path)


@pytest.mark.parametrize("frame", ["single", "pair"])
def test_a_frame_of_a_token_that_is_not_defined_is_a_format_error(frame):
    """The library panics over it at the first text, past every handler of exceptions."""
    processor = {
        "type": "TemplateProcessing",
        "single": [{"Sequence": {"id": "A", "type_id": 0}}],
        "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": {},
    }
    processor[frame] = [{"SpecialToken": {"id": "[CLS]", "type_id": 0}}, *processor[frame]]
    spec = {
        "version": "1.0",
        "added_tokens": [],
        "normalizer": None,
        "pre_tokenizer": None,
        "post_processor": processor,
        "decoder": None,
        "model": {"type": "WordLevel", "vocab": {"a": 0}, "unk_token": "a"},
    }
    with pytest.raises(FormatError, match=r"tokenizer\.json cannot be used"):
        Tokenizer.from_json(json.dumps(spec))


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "null", "{}", '{"model": {"type": "Nonsense"}}', '{"added_tokens": 3}'],
)
def test_damaged_tokenizer_json_is_a_format_error(tmp_path, text):
    (tmp_path / "tokenizer.json").write_text(text, encoding="utf-8")
    with pytest.raises(FormatError):
        Tokenizer.from_folder(tmp_path)


json_values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.text(max_size=4)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=4), inner, max_size=3)
    ),
    max_leaves=4,
)
CONFIG_KEYS = ["bos_token", "eos_token", "additional_special_tokens", "extra_special_tokens"]


@settings(max_examples=60)
@given(key=st.sampled_from(CONFIG_KEYS), value=json_values)
def test_configuration_of_any_type_is_read_or_refused(make_wordpiece, key, value):
    with contextlib.suppress(LmstackError):
        Tokenizer.from_json(make_wordpiece(), {key: value})


@settings(max_examples=100)
@example(key="decoder", value=[""])
@given(
    key=st.sampled_from(["added_tokens", "normalizer", "decoder", "post_processor", "model"]),
    value=json_values,
)
def test_tokenizer_json_of_any_type_is_read_or_refused(make_wordpiece, key, value):
    with contextlib.suppress(LmstackError):
        Tokenizer.from_json(make_wordpiece(**{key: value})).decode([4])


def test_tokenizer_json_that_is_not_text_is_a_format_error(tmp_path):
    (tmp_path / "tokenizer.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(FormatError, match="UTF-8"):
        Tokenizer.from_folder(tmp_path)


def test_token_id_that_would_need_gigabytes_is_refused(make_wordpiece):
    spec = json.loads(make_wordpiece())
    spec["model"]["vocab"]["far"] = 2**32 - 1
    with pytest.raises(FormatError, match="4294967295"):
        Tokenizer.from_json(json.dumps(spec))


def test_word_that_the_vocabulary_cannot_write_is_an_input_error(make_wordpiece):
    spec = json.loads(make_wordpiece())
    spec["model"] = {"type": "WordLevel", "vocab": {"hello": 4, "[CLS]": 2, "[SEP]": 3},
                     "unk_token": "[NONE]"}  # fmt: skip
    spec["added_tokens"] = []
    tokenizer = Tokenizer.from_json(json.dumps(spec))
    assert tokenizer.encode("hello", add_special_tokens=False) == [4]
    for texts in (["other"], ["hello", "other"]):
        with pytest.raises(InputError, match="cannot write"):
            tokenizer.encode_batch(texts)
    for special in (True, False):
        with pytest.raises(InputError, match="cannot write"):
            tokenizer.encode("other", special=special)


def test_decoder_that_cannot_stream_is_refused_by_name(make_wordpiece):
    tokenizer = Tokenizer.from_json(make_wordpiece(decoder={"type": "CTC", "pad_token": "x",
        "word_delimiter_token": "|", "cleanup": True}))  # fmt: skip
    with pytest.raises(UnsupportedError, match="CTC"):
        tokenizer.decode([4])
