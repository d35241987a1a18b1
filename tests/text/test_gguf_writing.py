"""Vocabularies written to GGUF: read back, they give the same ids."""

from __future__ import annotations

import pytest

from lmstack.core import UnsupportedError
from lmstack.text import ChatTemplate, Tokenizer
from lmstack.text.gguf_writing import gguf_metadata
from lmstack.text.vocab.gguf_pre import PRE_TOKENIZERS, pre_tokenizer

TEXTS = (
    "", "hello", " hello", "Hello, world! It's 1234 o'clock.", "a\n\n b\t c  ", "naïve e\u0301 ½",
    "日本語 中文 한국어", "😀👩‍👩‍👧", "IT'S snake_case 3.14", "<s>hello</s>",
)  # fmt: skip
HARD = ("x!!\n--\r\n\n y", "12345 a1b22", "l'été (x) #1 `a`~", "…。 ١٢٣ ñandú", "\u00a0a \n \n  b")


def same(one: Tokenizer, other: Tokenizer) -> None:
    assert other.vocab_size == one.vocab_size
    assert other.special_ids == one.special_ids
    for text in TEXTS:
        assert other.encode(text) == one.encode(text), text
        assert other.encode(text, special=False) == one.encode(text, special=False), text


@pytest.mark.parametrize("name", sorted(PRE_TOKENIZERS))
def test_the_name_that_is_found_cuts_as_the_tokenizer_does(name, make_byte_level):
    tokenizer = Tokenizer.from_gguf(make_byte_level(name))
    written = gguf_metadata(tokenizer)
    found, expected = pre_tokenizer(written["tokenizer.ggml.pre"]), pre_tokenizer(name)
    assert (found.composes, found.whole) == (expected.composes, expected.whole)
    back = Tokenizer.from_gguf(written)
    for text in (*TEXTS, *HARD):
        cut = [t.backend.pre_tokenizer.pre_tokenize_str(text) for t in (tokenizer, back)]
        assert cut[0] == cut[1], text
    same(tokenizer, back)


def test_a_sentencepiece_vocabulary_joins_in_the_same_order(sentencepiece):
    written = gguf_metadata(sentencepiece)
    assert written["tokenizer.ggml.model"] == "llama"
    same(sentencepiece, Tokenizer.from_gguf(written))


def test_a_saved_tokenizer_is_written_as_well_as_the_original(sentencepiece, tmp_path):
    """tokenizer.json has merges where SentencePiece has scores."""
    sentencepiece.save(tmp_path)
    saved = Tokenizer.from_json((tmp_path / "tokenizer.json").read_text(encoding="utf-8"))
    back = Tokenizer.from_gguf(gguf_metadata(saved))
    for text in TEXTS:
        ids = saved.encode(text, add_special_tokens=False)
        assert back.encode(text, add_special_tokens=False) == ids, text


def test_the_template_comes_along(sentencepiece):
    source = "{{ messages[0]['content'] }}"
    written = gguf_metadata(sentencepiece, ChatTemplate(source).source)
    assert written["tokenizer.chat_template"] == source


def test_a_unigram_vocabulary_is_refused():
    text = (
        '{"version": "1.0", "added_tokens": [], "model":'
        ' {"type": "Unigram", "unk_id": 0, "vocab": [["<unk>", 0.0], ["a", -1.0]]}}'
    )
    with pytest.raises(UnsupportedError, match="'Unigram'"):
        gguf_metadata(Tokenizer.from_json(text))


def test_a_way_to_cut_without_a_name_is_refused(make_byte_level):
    import json

    spec = json.loads(Tokenizer.from_gguf(make_byte_level("gpt-2")).backend.to_str())
    spec["pre_tokenizer"]["pretokenizers"].insert(
        0, {"type": "Split", "pattern": {"String": "e"}, "behavior": "Isolated", "invert": False}
    )
    with pytest.raises(UnsupportedError, match="no pre-tokenizer"):
        gguf_metadata(Tokenizer.from_json(json.dumps(spec)))


@pytest.mark.weights
def test_a_wordpiece_vocabulary_keeps_its_words(minilm):
    tokenizer = Tokenizer.from_folder(minilm.path)
    written = gguf_metadata(tokenizer)
    tokens = written["tokenizer.ggml.tokens"]
    assert tokens[tokenizer.id_of("hello")] == "▁hello"
    assert tokens[tokenizer.id_of("##ing")] == "ing"
    back = Tokenizer.from_gguf(written)
    for text in TEXTS[:-1]:
        ids = tokenizer.encode(text, add_special_tokens=False)
        assert back.encode(text, add_special_tokens=False) == ids, text


@pytest.mark.weights
def test_the_vocabulary_of_smollm2_is_written_as_its_file_has_it(smollm2, tmp_path):
    from lmstack.model import read_gguf

    with read_gguf(smollm2.gguf) as file:
        metadata = file.metadata
    Tokenizer.from_gguf(metadata).save(tmp_path)
    written = gguf_metadata(Tokenizer.from_folder(tmp_path))
    for key in ("model", "pre", "tokens", "merges", "bos_token_id", "eos_token_id"):
        assert written[f"tokenizer.ggml.{key}"] == metadata[f"tokenizer.ggml.{key}"], key
