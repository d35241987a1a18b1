"""SentencePiece models against the original library: trained here in all the ways it offers."""

from __future__ import annotations

import contextlib

import pytest
import sentencepiece
import transformers
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tests.text.nasty import NASTY, SCRIPTS
from tests.text.spm import model_bytes, trained_model

from lmstack.core import FormatError, LmstackError, UnsupportedError
from lmstack.text import Tokenizer
from lmstack.text.vocab.sentencepiece import is_sentencepiece, read_sentencepiece

# Combining marks, compatibility forms, jamo, odd spaces, controls, and what the models saw.
ODD = "ab e\u0301\u0323ｶﾞ㌔ﬁ①\u1112\u119e\u3000\u00a0\u0085\u200b\t\n\x1a▁<0x41>日é😀"
texts = st.one_of(st.text(ODD, max_size=24), st.text(st.characters(exclude_categories=["Cs"])))
CORPUS = [*SCRIPTS.values(), *("the cat sat on the mat and that was that " * 3,) * 9] * 4
WAYS = {
    "bpe as in Llama": {
        "model_type": "bpe",
        "normalization_rule_name": "identity",
        "remove_extra_whitespaces": False,
        "byte_fallback": True,
        "split_digits": True,
    },
    "bpe as in Gemma": {
        "model_type": "bpe",
        "normalization_rule_name": "identity",
        "remove_extra_whitespaces": False,
        "add_dummy_prefix": False,
        "byte_fallback": True,
        "user_defined_symbols": ["▁▁", "▁▁▁", "\n\n", "<b>"],
    },
    "bpe that normalizes": {"model_type": "bpe", "byte_fallback": True},
    "bpe that normalizes and keeps spaces": {
        "model_type": "bpe",
        "remove_extra_whitespaces": False,
        "user_defined_symbols": ["[NL]", "ﬁx"],
    },
    "bpe with own pieces and prefix": {
        "model_type": "bpe",
        "normalization_rule_name": "identity",
        "remove_extra_whitespaces": False,
        "byte_fallback": True,
        "user_defined_symbols": ["[REF]", "ab"],
    },
    "unigram as in T5": {
        "model_type": "unigram",
        "unk_id": 2,
        "eos_id": 1,
        "pad_id": 0,
        "bos_id": -1,
    },
    "unigram with bytes": {"model_type": "unigram", "byte_fallback": True},
    "unigram with own pieces": {
        "model_type": "unigram",
        "user_defined_symbols": ["<sep>", "the cat", "é"],
    },
    "unigram that folds case": {"model_type": "unigram", "normalization_rule_name": "nmt_nfkc_cf"},
}


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Ours and theirs for each way, trained when first asked for."""
    folder, made = tmp_path_factory.mktemp("models"), {}

    def get(way):
        if way not in made:
            data = trained_model(CORPUS, vocab_size=700, character_coverage=0.98, **WAYS[way])
            path = folder / f"{len(made)}.model"
            path.write_bytes(data)
            theirs = sentencepiece.SentencePieceProcessor(model_proto=data)
            made[way] = Tokenizer.from_file(path), theirs
        return made[way]

    return get


def plain(tokenizer, text):
    return tokenizer.encode(text, special=False, add_special_tokens=False)


@pytest.mark.parametrize("way", WAYS)
def test_ids_equal_sentencepiece_on_nasty_text(models, way):
    ours, theirs = models(way)
    wrong = [name for name, text in NASTY.items() if plain(ours, text) != theirs.encode(text)]
    assert wrong == []


@pytest.mark.parametrize("way", WAYS)
@settings(max_examples=60, deadline=None)
@example(text="\x1a")
@example(text="ab[REF] ab")
@given(text=texts)
def test_ids_equal_sentencepiece_on_any_text(models, way, text):
    ours, theirs = models(way)
    assert plain(ours, text) == theirs.encode(text)


@pytest.mark.parametrize("way", ["bpe as in Llama", "bpe as in Gemma"])
@settings(max_examples=60, deadline=None)
@given(text=texts)
def test_byte_fallback_without_normalization_loses_nothing(models, way, text):
    ours, _ = models(way)
    assert ours.decode(plain(ours, text)) == text.replace("▁", " ")


@pytest.mark.parametrize("way", WAYS)
def test_offsets_point_at_the_text_a_token_stands_for(models, way):
    ours, _ = models(way)
    text = "the ｶﾞ㌔ cat"
    [encoding] = ours.encode_batch([text], special=False, add_special_tokens=False)
    spans = [span for span in encoding.offsets if span != (0, 0)]
    assert spans == sorted(spans)
    assert all(0 <= start < end <= len(text) for start, end in spans)
    covered = {i for start, end in spans for i in range(start, end)}
    # Of the two halves of ｶﾞ the last tells where it stands.
    assert covered >= {1, 2, 5, 6, 8, 9, 10}


@pytest.mark.parametrize("way", WAYS)
def test_saved_folder_is_read_again_to_the_last_id(models, way, tmp_path):
    ours, _ = models(way)
    ours.save(tmp_path)
    again = Tokenizer.from_folder(tmp_path)
    assert [plain(again, t) for t in NASTY.values()] == [plain(ours, t) for t in NASTY.values()]


@pytest.mark.parametrize("way", [way for way in WAYS if "own" not in way])
def test_saved_folder_gives_transformers_equal_ids_on_common_text(models, way, tmp_path):
    ours, _ = models(way)
    ours.save(tmp_path)
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    # Where the format's own normalizer and its float64 differ, see `vocab.exact`.
    others = ("japanese", "mathematical")
    scripts = [text for name, text in SCRIPTS.items() if name not in others]
    for text in (*scripts, "the cat sat on the mat", "a  b\n"):
        assert theirs(text).input_ids == ours.encode(text)


def test_two_threads_get_the_ids_of_one(models):
    ours, _ = models("unigram as in T5")
    batch = list(NASTY.values()) * 3
    assert [list(e.ids) for e in ours.encode_batch(batch)] == [ours.encode(t) for t in batch]


def test_user_defined_piece_is_found_after_normalization_of_what_stands_around_it(models):
    ours, theirs = models("bpe that normalizes and keeps spaces")
    for text in ("ﬁx", "[NL]ｶﾞ", "a[NL][NL]b", "[NL", "①[NL]①"):
        assert plain(ours, text) == theirs.encode(text)


def test_control_token_in_trusted_text_counts_and_in_other_text_does_not(models):
    ours, theirs = models("unigram as in T5")
    assert ours.encode("the</s>")[-1] == 1
    assert plain(ours, "the</s>") == theirs.encode("the</s>")


PIECES = [("<unk>", 0.0, 2), ("<s>", 0.0, 3), ("a", -1.0, 1), ("b", -2.0, 1), ("ab", -0.5, 1)]


@pytest.mark.parametrize(
    ("trainer", "normalizer", "message"),
    [
        ({3: 3}, {}, "word"),
        ({3: 4}, {}, "char"),
        ({3: 2, 24: 1}, {}, "unusual spaces"),
        ({3: 2}, {5: 0}, "unusual spaces"),
    ],
)
def test_kinds_that_are_not_read_are_refused_by_name(trainer, normalizer, message):
    with pytest.raises(UnsupportedError, match=message):
        read_sentencepiece(model_bytes(PIECES, trainer, normalizer))


def test_unused_pieces_are_refused(tmp_path):
    (tmp_path / "spiece.model").write_bytes(model_bytes([*PIECES, ("c", 0.0, 5)], {3: 2}))
    with pytest.raises(UnsupportedError, match="1 pieces as unused"):
        Tokenizer.from_folder(tmp_path)


def test_charsmap_of_noise_is_a_format_error_not_a_crash(tmp_path):
    for blob in (b"\x01", b"\xff\xff\xff\xff", b"\x08\0\0\0" + b"\xff" * 9):
        (tmp_path / "spiece.model").write_bytes(model_bytes(PIECES, {}, {2: blob}))
        with contextlib.suppress(FormatError):
            Tokenizer.from_folder(tmp_path).encode("aé\u0301b")


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_damaged_model_is_an_error_of_ours(data):
    whole = model_bytes(PIECES, {3: 2, 40: 0}, {2: b"\x04\0\0\0\0\0\0\0x\0"})
    at = data.draw(st.integers(0, len(whole) - 1))
    damaged = whole[:at] + data.draw(st.binary(max_size=3)) + whole[at + 1 :]
    assert is_sentencepiece(damaged) in (True, False)
    with contextlib.suppress(LmstackError):
        read_sentencepiece(damaged)


def test_piece_that_is_no_text_is_a_format_error():
    with pytest.raises(FormatError, match="UTF-8"):
        read_sentencepiece(b"\x0a\x04\x0a\x02\xff\xfe")
