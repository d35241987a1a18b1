"""Sentence vectors equal those of sentence-transformers, on awkward texts too."""

from __future__ import annotations

import random
import threading

import numpy as np
import pytest

from lmstack.core import Embedder, InputError, UnsupportedError
from lmstack.serve.embedder import LocalEmbedder

pytestmark = pytest.mark.weights

AWKWARD = (
    "",
    " ",
    "\n\t ",
    "a",
    "?",
    "\x00",
    "漢",
    "漢字かな交じり文と한국어 텍스트",
    "Ünïcödé: naïve café, Straße, İstanbul",
    "🙂 emoji 👩‍👩‍👧‍👦 and flags 🇫🇷",
    "e\u0301 combining, \u200b zero width, \ufeff mark",
    "[CLS] [SEP] [MASK] [PAD] [UNK]",
    "UPPER lower MiXeD",
    "http://example.org/a?b=c&d=%20#frag",
    "word " * 1000,
    "x" * 5000,
    "ab-" * 900,
    "one two three " * 84,
)
WORDS = (
    *("the", "a", "of", "river", "stone", "model", "index", "passage", "answer", "light"),
    *("engine", "window", "quietly", "runs", "under", "seventeen", "lighthouse", "keepers"),
    *("nobody", "measures", "gradient", "tokens,", "cached;", "(really)", "Paris", "1844"),
    *("48-metre", "tower's", "e.g.", "décor", "über"),
)


def texts(count: int, low: int = 1, high: int = 60, seed: int = 0) -> list[str]:
    chooser = random.Random(seed)
    return [" ".join(chooser.choices(WORDS, k=chooser.randint(low, high))) for _ in range(count)]


@pytest.fixture(scope="module")
def embedder(minilm):
    return LocalEmbedder.load(minilm, weights="float32")


@pytest.fixture(scope="module")
def oracle(minilm):
    from sentence_transformers import SentenceTransformer

    return SentenceTransformer(str(minilm.path), device="cpu")


@pytest.mark.parametrize("count", [12, pytest.param(182, marks=pytest.mark.long)])
def test_vectors_equal_those_of_sentence_transformers(embedder, oracle, count):
    sample = [*AWKWARD, *texts(count)]
    expected = oracle.encode(sample, batch_size=16, show_progress_bar=False)
    vectors = embedder.embed(sample)
    np.testing.assert_allclose(vectors, expected, rtol=0, atol=1e-5)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)


def test_it_is_an_embedder_of_the_model_that_it_names(embedder, minilm, oracle):
    assert isinstance(embedder, Embedder)
    assert embedder.info.digest == minilm.digest
    assert embedder.dimensions == 384
    assert embedder.max_tokens == oracle.max_seq_length == 256


def test_a_vector_does_not_depend_on_its_batch(embedder):
    few = texts(16, seed=3)
    together = embedder.embed(few)
    alone = np.concatenate([embedder.embed([text]) for text in few])
    np.testing.assert_allclose(together, alone, rtol=0, atol=2e-6)


def test_order_is_that_of_the_texts(embedder):
    few = texts(12, seed=4)
    np.testing.assert_allclose(
        embedder.embed(few[::-1])[::-1], embedder.embed(few), rtol=0, atol=2e-6
    )


def test_nothing_in_gives_nothing_out(embedder):
    assert embedder.embed([]).shape == (0, 384)
    assert embedder.count_tokens([]) == []


def test_text_past_the_limit_is_not_seen(embedder):
    start = "word " * 254
    same, other = embedder.embed([start + "tail", start + "quite another end"])
    np.testing.assert_allclose(same, other, rtol=0, atol=2e-6)
    longer, shorter = embedder.embed(["word " * 254, "word " * 253 + "end"])
    assert np.abs(longer - shorter).max() > 1e-3


def test_counts_are_of_whole_texts_with_the_added_tokens(embedder, oracle):
    sample = ["", "a", "three small words", "word " * 1000]
    expected = [len(oracle.tokenizer(t, truncation=False)["input_ids"]) for t in sample]
    assert embedder.count_tokens(sample) == expected == [2, 3, 5, 1002]


def test_a_query_and_a_passage_are_alike_for_a_model_without_prompts(embedder):
    query, passage = (embedder.embed(["light"], kind)[0] for kind in ("query", "passage"))
    assert np.array_equal(query, passage)


def test_threads_share_one_embedder(embedder):
    batches = [texts(4, seed=seed) for seed in range(4)]
    expected = [embedder.embed(batch) for batch in batches]
    found: list[np.ndarray | None] = [None] * len(batches)

    def work(i: int) -> None:
        found[i] = embedder.embed(batches[i])

    threads = [threading.Thread(target=work, args=(i,)) for i in range(len(batches))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=2e-6)


def test_a_lone_surrogate_is_refused_by_name(embedder):
    with pytest.raises(InputError, match="surrogate"):
        embedder.embed(["fine", "\ud800"])


def test_a_model_that_generates_is_refused(smollm2):
    with pytest.raises(UnsupportedError, match="all-minilm-l6-v2"):
        LocalEmbedder.load(smollm2)


@pytest.mark.parametrize(
    "limit", [16, *(pytest.param(n, marks=pytest.mark.long) for n in (128, 255))]
)
def test_reading_less_of_a_text_is_as_in_sentence_transformers(embedder, oracle, limit):
    shorter = LocalEmbedder(embedder.loaded, max_tokens=limit)
    sample = ["word " * 400, *texts(3, 10, 60, seed=5)]
    oracle.max_seq_length = limit
    try:
        expected = oracle.encode(sample, show_progress_bar=False)
    finally:
        oracle.max_seq_length = 256
    assert shorter.max_tokens == limit
    np.testing.assert_allclose(shorter.embed(sample), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("size", [1, 64, 383])
def test_shorter_vectors_are_those_of_sentence_transformers(embedder, oracle, size):
    shorter = LocalEmbedder(embedder.loaded, dimensions=size)
    sample = texts(4, seed=6)
    oracle.truncate_dim = size
    try:
        expected = oracle.encode(sample, normalize_embeddings=True, show_progress_bar=False)
    finally:
        oracle.truncate_dim = None
    assert shorter.dimensions == size
    np.testing.assert_allclose(shorter.embed(sample), expected, rtol=0, atol=1e-5)


def test_shape_is_part_of_what_names_the_vectors(embedder):
    names = {
        LocalEmbedder(embedder.loaded, max_tokens=tokens, dimensions=size).info.digest
        for tokens in (None, 128, 256)
        for size in (None, 64, 384)
    }
    plain = embedder.loaded.digest
    assert names == {plain, f"{plain}+128tokens", f"{plain}+64d", f"{plain}+128tokens+64d"}


@pytest.mark.parametrize(
    "shape", [{"max_tokens": 257}, {"max_tokens": 2}, {"dimensions": 385}, {"dimensions": 0}]
)
def test_more_than_the_model_has_is_refused(embedder, shape):
    with pytest.raises(InputError, match="all-minilm-l6-v2 takes"):
        LocalEmbedder(embedder.loaded, **shape)


@pytest.mark.long
def test_bge_pools_its_first_token_and_prefixes_queries_as_sentence_transformers(bge):
    """On a tiny model: `test_embedder_recipes.py`."""
    from sentence_transformers import SentenceTransformer

    theirs = SentenceTransformer(str(bge.path), device="cpu")
    ours = LocalEmbedder.load(bge)
    sample = texts(8, seed=7)
    for kind, name in (("query", "query"), ("passage", None)):
        expected = theirs.encode(
            sample, prompt_name=name, normalize_embeddings=True, show_progress_bar=False
        )
        np.testing.assert_allclose(ours.embed(sample, kind), expected, rtol=0, atol=1e-5)
    assert ours.counts_by_word
