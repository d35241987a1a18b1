"""Every pooling recipe that loads gives the vectors of sentence-transformers, on a tiny model."""

from __future__ import annotations

import json

import numpy as np
import pytest
import tokenizers
import torch
import transformers
from tests.oracles import modules, sentence_transformers

from lmstack.core import InputError
from lmstack.registry import load
from lmstack.serve.embedder import LocalEmbedder

WORDS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", *"abcdefgh", "query:", "passage:")
TEXTS = ("a", "b c", "", "h g f e d", "a unknown b", "a b c d e f g h a b c d e f g h", "c")


@pytest.fixture
def make(tmp_path):
    """A sentence-transformers folder with a random BERT of 12 positions."""

    def build(
        mode: str, prompts: dict[str, str] | None = None
    ) -> sentence_transformers.SentenceTransformer:
        from sentence_transformers.sentence_transformer.modules import Transformer

        backend = tokenizers.Tokenizer(
            tokenizers.models.WordLevel({w: i for i, w in enumerate(WORDS)}, unk_token="[UNK]")
        )
        backend.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
        backend.post_processor = tokenizers.processors.TemplateProcessing(
            single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
        )
        transformers.PreTrainedTokenizerFast(
            tokenizer_object=backend, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]",
            sep_token="[SEP]", model_max_length=12,
        ).save_pretrained(tmp_path / "bert")  # fmt: skip
        torch.manual_seed(0)
        config = transformers.BertConfig(
            vocab_size=len(WORDS), hidden_size=32, num_hidden_layers=2, num_attention_heads=2,
            intermediate_size=48, max_position_embeddings=12, initializer_range=0.5,
        )  # fmt: skip
        transformers.BertModel(config).eval().save_pretrained(tmp_path / "bert")
        body = Transformer(str(tmp_path / "bert"))
        oracle = sentence_transformers.SentenceTransformer(
            modules=[body, modules.Pooling(32, pooling_mode=mode)], device="cpu", prompts=prompts
        )
        oracle.save(str(tmp_path / "model"))
        return oracle

    return build


OLD_FLAGS = {
    "mean": "pooling_mode_mean_tokens",
    "cls": "pooling_mode_cls_token",
    "max": "pooling_mode_max_tokens",
    "lasttoken": "pooling_mode_lasttoken",
    "mean_sqrt_len_tokens": "pooling_mode_mean_sqrt_len_tokens",
}


def spell_as_before(folder, mode: str) -> None:
    """As sentence-transformers 2 to 5.0 wrote it, and with it most models that exist."""
    settings = {"word_embedding_dimension": 32, OLD_FLAGS[mode]: True}
    (folder / "1_Pooling/config.json").write_text(json.dumps(settings))


@pytest.mark.parametrize("mode", OLD_FLAGS)
def test_each_pooling_equals_sentence_transformers(mode, make, tmp_path):
    oracle = make(mode)
    expected = oracle.encode(list(TEXTS), normalize_embeddings=True, show_progress_bar=False)
    found = LocalEmbedder(load(tmp_path / "model")).embed(TEXTS)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)
    spell_as_before(tmp_path / "model", mode)
    found = LocalEmbedder(load(tmp_path / "model")).embed(TEXTS)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", ["query", "passage"])
def test_prefixes_are_put_before_texts_as_in_sentence_transformers(kind, make, tmp_path):
    oracle = make("mean", {"query": "query: ", "document": "passage: "})
    encode = oracle.encode_query if kind == "query" else oracle.encode_document
    expected = encode(list(TEXTS), normalize_embeddings=True, show_progress_bar=False)
    embedder = LocalEmbedder(load(tmp_path / "model"))
    np.testing.assert_allclose(embedder.embed(TEXTS, kind), expected, rtol=0, atol=1e-5)
    assert embedder.count_tokens(["a"]) == [4]


def test_the_limit_is_that_of_the_positions_where_none_is_stated(make, tmp_path):
    make("mean")
    assert LocalEmbedder(load(tmp_path / "model")).max_tokens == 12


def test_slices_of_many_texts_do_not_show(make, tmp_path, monkeypatch):
    make("mean")
    embedder = LocalEmbedder(load(tmp_path / "model"))
    whole = embedder.embed(TEXTS)
    monkeypatch.setattr("lmstack.serve.text_embedder._SLICE", 3)
    monkeypatch.setattr("lmstack.serve.text_embedder.BATCH_TOKENS", 4)
    np.testing.assert_allclose(embedder.embed(TEXTS), whole, rtol=0, atol=1e-6)


@pytest.mark.parametrize("texts", ["one text", [b"bytes"], ["fine", None]])
def test_what_is_not_a_list_of_texts_is_refused_by_name(texts, make, tmp_path):
    make("mean")
    embedder = LocalEmbedder(load(tmp_path / "model"))
    for method in (embedder.embed, embedder.count_tokens):
        with pytest.raises(InputError, match="texts"):
            method(texts)


def test_a_kind_of_text_that_is_not_known_is_refused(make, tmp_path):
    make("mean")
    with pytest.raises(InputError, match="'document'"):
        LocalEmbedder(load(tmp_path / "model")).embed(["a"], "document")
