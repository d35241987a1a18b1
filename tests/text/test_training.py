"""Training: what a vocabulary can do, the same ids in transformers, streams that can be stopped."""

from __future__ import annotations

import itertools
import signal
import threading
import time

import pytest
import tokenizers
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.text.nasty import NASTY, SCRIPTS

from lmstack.core import InputError, Message, UnsupportedError
from lmstack.text import (
    CHATML,
    ChatTemplate,
    VocabularyConfig,
    decode_bytes,
    encode_bytes,
    train_tokenizer,
    training,
)
from lmstack.text.training import KINDS, PATTERNS

CORPUS = [
    f"The {noun} of the {place}, in {year}: peace, commerce and friendship.\n\n"
    for noun, place, year in itertools.product(
        ("state", "union", "treasury", "people"), ("nation", "senate", "world"), range(1790, 1830)
    )
]
EXACT = [kind for kind in KINDS if kind not in ("wordpiece", "unigram")]
valid_text = st.text(st.characters(exclude_categories=["Cs"]))


@pytest.fixture(scope="module")
def trained():
    made = {}

    def get(kind):
        if kind not in made:
            made[kind] = train_tokenizer(CORPUS, VocabularyConfig(kind=kind, vocab_size=420))
        return made[kind]

    return get


@pytest.mark.parametrize("kind", EXACT)
@settings(max_examples=60, deadline=None)
@given(text=valid_text)
def test_every_text_comes_back(trained, kind, text):
    tokenizer = trained(kind)
    kept = text if kind == "bpe" else text.replace("▁", " ")
    assert tokenizer.decode(tokenizer.encode(text, special=False)) == kept


@pytest.mark.parametrize("kind", EXACT)
def test_nasty_text_comes_back(trained, kind):
    tokenizer = trained(kind)
    for text in NASTY.values():
        kept = text if kind == "bpe" else text.replace("▁", " ")
        assert tokenizer.decode(tokenizer.encode(text, special=False)) == kept


@settings(max_examples=100, deadline=None)
@given(data=st.binary(max_size=300))
def test_byte_level_gives_any_bytes_back(trained, data):
    tokenizer = trained("bpe")
    assert decode_bytes(tokenizer, encode_bytes(tokenizer, data)) == data


@pytest.mark.parametrize("kind", ["wordpiece", "unigram"])
def test_bytes_are_refused_where_they_would_not_come_back(trained, kind):
    for data in (b"\xff", "ﬁ é".encode()):
        with pytest.raises(UnsupportedError):
            encode_bytes(trained(kind), data)


@pytest.mark.parametrize("kind", KINDS)
def test_saved_folder_gives_transformers_the_same_ids(trained, kind, tmp_path):
    tokenizer = trained(kind)
    tokenizer.save(tmp_path)
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    for text in (*SCRIPTS.values(), CORPUS[0], " a  b\n\n"):
        assert theirs(text).input_ids == tokenizer.encode(text)
    assert theirs.eos_token_id == tokenizer.eos_id
    assert theirs.vocab_size == tokenizer.vocab_size <= 420


@pytest.mark.parametrize("kind", KINDS)
def test_learned_words_are_few_tokens(trained, kind):
    tokenizer = trained(kind)
    ids = tokenizer.encode(CORPUS[7], add_special_tokens=False)
    # The library's Unigram learns little from so small a text.
    assert len(ids) < len(CORPUS[7]) / (1.1 if kind.endswith("unigram") else 2.5)
    assert tokenizer.unk_id is None or tokenizer.unk_id not in ids


@pytest.mark.parametrize(
    ("kind", "first", "last"),
    [("wordpiece", "[CLS]", "[SEP]"), ("unigram", "▁", "</s>"), ("bpe", "The", "ĊĊ")],
)
def test_each_kind_frames_texts_as_its_models_do(trained, kind, first, last):
    tokenizer = trained(kind)
    ids = tokenizer.encode(CORPUS[0])
    assert (tokenizer.token(ids[0]), tokenizer.token(ids[-1])) == (first, last)


@pytest.mark.parametrize("kind", KINDS)
def test_text_that_spells_a_control_token_stays_text(trained, kind):
    tokenizer = trained(kind)
    for name, index in tokenizer.special_tokens.items():
        plain = tokenizer.encode(f"x {name} y", special=False, add_special_tokens=False)
        assert index not in plain or index == tokenizer.unk_id
        assert index in tokenizer.encode(f"x {name} y")


def test_byte_level_equals_the_librarys_own_training(trained):
    library = tokenizers.ByteLevelBPETokenizer()
    library.train_from_iterator(
        CORPUS, 420, min_frequency=2, special_tokens=["<|endoftext|>"], show_progress=False
    )
    for text in (*CORPUS[:5], *SCRIPTS.values()):
        assert trained("bpe").encode(text) == library.encode(text).ids


@pytest.mark.parametrize("pattern", PATTERNS)
def test_pattern_decides_where_words_are_cut(pattern):
    tokenizer = train_tokenizer(CORPUS, VocabularyConfig(vocab_size=400, pattern=pattern))
    pieces = [tokenizer.token(i) for i in tokenizer.encode("in 1791")]
    assert (pieces[-1] in ("1", "791", "91")) or pattern in ("gpt2",)
    assert tokenizer.decode(tokenizer.encode(NASTY["code"])) == NASTY["code"]


def test_chat_template_and_its_control_tokens():
    config = VocabularyConfig(vocab_size=400, special_tokens=CHATML.special_tokens)
    tokenizer = train_tokenizer(CORPUS, config, roles=CHATML.roles)
    assert tokenizer.token(tokenizer.eos_id) == "<|im_end|>"
    template = ChatTemplate(CHATML.template)
    ids = template.encode([Message("user", "hi <|im_end|>")], tokenizer)
    assert ids.count(tokenizer.eos_id) == 1


def test_lowercase_is_for_the_kinds_that_normalize():
    config = VocabularyConfig(kind="wordpiece", vocab_size=300, lowercase=True)
    tokenizer = train_tokenizer(CORPUS, config)
    assert tokenizer.encode("THE UNION") == tokenizer.encode("the union")
    with pytest.raises(InputError, match="keeps its text"):
        VocabularyConfig(lowercase=True)


@pytest.mark.parametrize(
    ("settings_", "param"),
    [
        ({"kind": "bpee"}, "kind"),
        ({"pattern": "gpt3"}, "pattern"),
        ({"kind": "unigram", "pattern": "llama3"}, "pattern"),
        ({"vocab_size": 256}, "vocab_size"),
        ({"vocab_size": 5.5}, "vocab_size"),
        ({"min_frequency": 0}, "min_frequency"),
        ({"special_tokens": ("<|endoftext|>",)}, "special_tokens"),
        ({"special_tokens": ("",)}, "special_tokens"),
    ],
)
def test_wrong_setting_is_named(settings_, param):
    with pytest.raises(InputError) as caught:
        VocabularyConfig(**settings_)
    assert caught.value.param == param


def test_role_of_an_unknown_token_is_refused():
    with pytest.raises(InputError, match="not a control token"):
        train_tokenizer(CORPUS, roles={"eos_token": "<end>"})


def test_no_text_at_all_is_refused():
    with pytest.raises(InputError, match="no text"):
        train_tokenizer(iter(()))


def test_failure_of_the_source_arrives_as_itself():
    def source():
        yield CORPUS[0]
        raise OSError("gone")

    with pytest.raises(OSError, match="gone"):
        train_tokenizer(source())


def test_progress_tells_reading_then_merging():
    phases = []
    train_tokenizer(CORPUS, VocabularyConfig(vocab_size=300), progress=phases.append)
    assert phases[: len(CORPUS)] == ["reading"] * len(CORPUS)
    assert set(phases[len(CORPUS) :]) <= {"merging"}


def test_ctrl_c_ends_an_endless_stream():
    handed = []

    def endless():
        while True:
            handed.append(1)
            yield "some words that go on and on "

    timer = threading.Timer(0.3, signal.raise_signal, [signal.SIGINT])
    timer.start()
    start = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        train_tokenizer(endless(), VocabularyConfig(vocab_size=300))
    assert time.monotonic() - start < 60
    time.sleep(0.3)
    before = len(handed)
    time.sleep(0.2)
    assert len(handed) == before


def test_a_megabyte_of_one_letter_does_not_take_minutes():
    began = time.process_time()
    tokenizer = train_tokenizer(["a" * (1 << 20)], VocabularyConfig(kind="bpe", vocab_size=270))
    assert time.process_time() - began < 10
    assert tokenizer.decode(tokenizer.encode("a" * 1000)) == "a" * 1000


@given(st.text("ab \n", max_size=40))
def test_cutting_endless_words_loses_nothing_and_cuts_no_others(text):
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(training, "_LONGEST_WORD", 4)
        pieces = list(training._without_endless_words(text))
    assert "".join(pieces) == text
    assert all(len(word) < 4 * 3 for piece in pieces for word in piece.split())
    assert all(piece[-4:].split() == [piece[-4:]] for piece in pieces[:-1])
