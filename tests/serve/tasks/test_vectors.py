"""Features equal transformers', embeddings sentence-transformers'."""

from __future__ import annotations

import numpy as np
import pytest
from tests.oracles import sentence_transformers

import lmstack
from lmstack.core import ContextLengthError, InputError

from .conftest import TEXTS, Both, Make


@pytest.fixture(scope="module")
def bert(make: Make) -> Both:
    return make("BertModel")


@pytest.mark.parametrize("architecture", ["BertModel", "RobertaModel"])
def test_features_are_those_of_transformers(make: Make, architecture: str) -> None:
    both = make(architecture)
    theirs = both.pipeline("feature-extraction")
    texts = [text for text in TEXTS if len(text) < 60]
    for text, found in zip(texts, lmstack.task("features", both.ours)(texts), strict=True):
        np.testing.assert_allclose(found.vectors, theirs(text)[0], rtol=1.3e-6, atol=1e-5)
        ids = both.tokenizer(text)["input_ids"]
        assert list(found.tokens) == both.tokenizer.convert_ids_to_tokens(ids)


def test_features_of_a_model_with_a_head_are_its_hidden_states(make: Make) -> None:
    both = make("BertForTokenClassification", ("a", "b"))
    theirs = both.model.bert(**both.tokenizer(TEXTS[0], return_tensors="pt")).last_hidden_state
    found = lmstack.task("feature-extraction", both.ours)(TEXTS[0])
    np.testing.assert_allclose(found.vectors, theirs[0].detach(), rtol=1.3e-6, atol=1e-5)


def test_features_of_a_long_text_are_refused_or_cut(bert: Both) -> None:
    features = lmstack.task("feature-extraction", bert.ours)
    text = "ada works " * 50
    with pytest.raises(ContextLengthError):
        features(text)
    theirs = bert.pipeline("feature-extraction")(text, truncation=True)
    found = features(text, truncate=True)
    np.testing.assert_allclose(found.vectors, theirs[0], rtol=1.3e-6, atol=1e-5)


def test_embeddings_are_those_of_sentence_transformers(bert: Both) -> None:
    theirs = sentence_transformers.SentenceTransformer(str(bert.folder), device="cpu")
    expected = theirs.encode(list(TEXTS), normalize_embeddings=True)
    found = lmstack.task("embed", bert.ours)(TEXTS)
    np.testing.assert_allclose([e.vector for e in found], expected, rtol=1.3e-6, atol=1e-5)


def test_a_kind_that_is_neither_query_nor_passage_is_refused(bert: Both) -> None:
    with pytest.raises(InputError, match="kind is 'document'"):
        lmstack.task("embed", bert.ours, kind="document")
