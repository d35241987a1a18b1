"""Reranking equals sentence-transformers' cross-encoder and ColBERT's own arithmetic."""

from __future__ import annotations

import json
import string
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from tests.oracles import sentence_transformers

import lmstack
from lmstack.core import ContextLengthError, InputError, Reranker, UnsupportedError
from lmstack.registry import LoadedModel, load
from lmstack.serve.tasks import LocalReranker, LocalTokenEmbedder
from lmstack.serve.tasks.reranking import LateInteractionScorer

from .conftest import LIMIT, TEXTS, Both, Make

QUERY = "where is the first engine?"
LONG = "ada works in london, " * 30
DOCUMENTS = [*TEXTS, LONG, "."]


@pytest.fixture(scope="module")
def cross(make: Make) -> Both:
    return make("BertForSequenceClassification", ("relevance",))


def expected(both: Both, **options: Any) -> list[tuple[int, float]]:
    theirs = sentence_transformers.CrossEncoder(str(both.folder), device="cpu", **options)
    ranked = theirs.rank(QUERY, DOCUMENTS)
    return [(r["corpus_id"], pytest.approx(float(r["score"]), abs=1e-5)) for r in ranked]


def test_ranks_and_scores_are_those_of_sentence_transformers(cross: Both) -> None:
    found = lmstack.task("rerank", cross.ours)(DOCUMENTS, query=QUERY)
    assert [(r.index, r.score) for r in found.results] == expected(cross)
    assert all(r.text == DOCUMENTS[r.index] for r in found.results)


@pytest.mark.parametrize(
    ("name", "activation"), [("Sigmoid", torch.nn.Sigmoid()), ("Identity", torch.nn.Identity())]
)
@pytest.mark.parametrize("nested", [True, False])
def test_the_activation_that_a_model_states_is_used(
    cross: Both, name: str, activation: torch.nn.Module, nested: bool
) -> None:
    path = f"torch.nn.modules.linear.{name}"
    stated = (
        {"sentence_transformers": {"activation_fn": path}}
        if nested
        else {"sbert_ce_default_activation_function": path}
    )
    ours = cross.named(config={**cross.ours.config, **stated})
    found = lmstack.task("rerank", ours)(DOCUMENTS, query=QUERY)
    theirs = expected(cross, activation_fn=activation)
    assert [(r.index, r.score) for r in found.results] == theirs


def test_several_queries_are_ranked_as_each_alone(cross: Both) -> None:
    asked = [{"query": q, "documents": DOCUMENTS[i:]} for i, q in enumerate([QUERY, "a", "who"])]
    rerank = lmstack.task("text-ranking", cross.ours, top_k=3)
    for together, alone in zip(rerank(asked), map(rerank, asked), strict=True):
        assert [r.index for r in together.results] == [r.index for r in alone.results]


def test_a_query_is_needed_and_documents_are_a_list(cross: Both) -> None:
    rerank = lmstack.task("rerank", cross.ours)
    with pytest.raises(InputError, match="comes without a query"):
        rerank(DOCUMENTS)
    with pytest.raises(InputError, match="the documents of the input are 'one'"):
        rerank("one", query=QUERY)


def test_a_classifier_is_no_reranker(make: Make) -> None:
    with pytest.raises(UnsupportedError, match="cannot do reranking"):
        lmstack.task("rerank", make("BertForSequenceClassification", ("a", "b")).ours)


def test_the_served_reranker_cuts_nothing_unless_told(cross: Both) -> None:
    served = LocalReranker(cross.ours)
    assert isinstance(served, Reranker)
    assert served.info.context_length == LIMIT
    with pytest.raises(ContextLengthError):
        served.score(QUERY, DOCUMENTS)
    whole = served.count_tokens(QUERY, [LONG])[0]
    assert whole == len(cross.tokenizer(QUERY, LONG)["input_ids"])
    cut = served.score(QUERY, [LONG], max_passage_tokens=8)
    short = served.score(QUERY, ["ada works in london, ada works"])
    assert cut == pytest.approx(short, abs=1e-6)


# -- late interaction --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def colbert(make: Make, tmp_path_factory: pytest.TempPathFactory) -> Both:
    """A BERT with PyLate's settings and projection."""
    both = make("BertModel")
    generator = torch.Generator().manual_seed(1)
    settings = {
        "query_prefix": "[unused0]",
        "document_prefix": "[unused1]",
        "query_length": 16,
        "document_length": 40,
        "do_query_expansion": True,
        "attend_to_expansion_tokens": False,
        "skiplist_words": list(string.punctuation),
    }
    stages = [("Transformer", ""), ("Dense", "1_Dense")]
    modules = [
        {"idx": i, "name": str(i), "path": path, "type": f"pylate.models.{kind}"}
        for i, (kind, path) in enumerate(stages)
    ]
    (both.folder / "config_sentence_transformers.json").write_text(json.dumps(settings))
    (both.folder / "modules.json").write_text(json.dumps(modules))
    dense = both.folder / "1_Dense"
    dense.mkdir()
    (dense / "config.json").write_text(json.dumps({"activation_function": "torch.nn.Identity"}))
    weight = torch.randn(12, 32, generator=generator)
    save_file({"linear.weight": weight}, dense / "model.safetensors")
    return Both(both.model, both.tokenizer, load(both.folder), both.folder)


def vectors(both: Both, text: str, *, query: bool, settings: Any) -> np.ndarray:
    """As ColBERT's code does it: the marker in place of a token put in, masks for padding."""
    marker = "[unused0]" if query else "[unused1]"
    limit = settings.query_length if query else settings.document_length
    ids = both.tokenizer(text, truncation=True, max_length=limit - 1)["input_ids"]
    ids = [ids[0], both.tokenizer.convert_tokens_to_ids(marker), *ids[1:]]
    real = len(ids)
    if query and settings.expands_queries:
        ids += [both.tokenizer.mask_token_id] * (limit - real)
    mask = torch.zeros(1, len(ids))
    mask[:, : len(ids) if settings.attends_to_expansion else real] = 1
    with torch.no_grad():
        states = both.model(torch.tensor([ids]), mask).last_hidden_state[0].numpy()
    if settings.projection is not None:
        states = states @ settings.projection.numpy().T
    if not query:
        skipped = {both.tokenizer.convert_tokens_to_ids(word) for word in settings.skipped}
        skipped.discard(both.tokenizer.unk_token_id)
        kept = [i for i, index in enumerate(ids) if index not in skipped]
        states = states[kept]
    return states / np.linalg.norm(states, axis=1, keepdims=True)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"attends_to_expansion": True},
        {"expands_queries": False},
        {"projection": None},
        {"skipped": ()},
    ],
)
def test_late_interaction_is_the_sum_of_best_matches(
    colbert: Both, changes: dict[str, Any]
) -> None:
    assert colbert.ours.late is not None
    settings = replace(colbert.ours.late, **changes)
    ours = colbert.named(late=settings)
    found = lmstack.task("rerank", ours)(DOCUMENTS, query=QUERY)
    query = vectors(colbert, QUERY, query=True, settings=settings)
    theirs = [
        sum(
            max(float(q @ d) for d in vectors(colbert, text, query=False, settings=settings))
            for q in query
        )
        for text in DOCUMENTS
    ]
    assert {r.index: r.score for r in found.results} == pytest.approx(
        dict(enumerate(theirs)), abs=1e-4
    )
    order = sorted(range(len(theirs)), key=lambda i: -theirs[i])
    assert [r.index for r in found.results] == order


def test_each_setting_of_late_interaction_changes_scores(colbert: Both) -> None:
    assert colbert.ours.late is not None
    changes: list[dict[str, Any]] = [
        {},
        {"attends_to_expansion": True},
        {"expands_queries": False},
        {"projection": None},
        {"skipped": ()},
        {"query_marker": None},
        {"document_marker": None},
    ]
    scores = [_score(colbert.named(late=replace(colbert.ours.late, **c))) for c in changes]
    assert len({round(score, 3) for score in scores}) == len(changes)


def _score(loaded: LoadedModel) -> float:
    return float(LateInteractionScorer(loaded).score([(QUERY, DOCUMENTS[2])])[0])


def test_a_late_interaction_model_reranks_and_gives_features(colbert: Both) -> None:
    with pytest.raises(UnsupportedError) as caught:
        lmstack.task("ner", colbert.ours)
    assert caught.value.hint == "it can do feature-extraction, reranking"


def test_served_late_interaction_counts_markers_and_refuses_long_documents(
    colbert: Both, tmp_path: Path
) -> None:
    served = LocalReranker(colbert.ours)
    ids = colbert.tokenizer(QUERY)["input_ids"], colbert.tokenizer("a b")["input_ids"]
    assert served.count_tokens(QUERY, ["a b"]) == [len(ids[0]) + len(ids[1]) + 2]
    with pytest.raises(ContextLengthError):
        served.score(QUERY, [LONG])
    assert served.score(QUERY, [LONG], max_passage_tokens=5).shape == (1,)


def test_a_reranker_for_retrieval_reads_as_much_as_it_can(cross: Both) -> None:
    cutting = LocalReranker(cross.ours, cut=True)
    found = lmstack.task("rerank", cross.ours)(DOCUMENTS, query=QUERY)
    expected = {r.index: r.score for r in found.results}
    assert cutting.score(QUERY, DOCUMENTS) == pytest.approx(
        [expected[n] for n in range(len(DOCUMENTS))], abs=1e-6
    )


def test_late_interaction_over_token_vectors_orders_as_the_scorer_does(colbert: Both) -> None:
    tokens = LocalTokenEmbedder(colbert.ours)
    [query] = tokens.embed_tokens([QUERY], "query")
    passages = tokens.embed_tokens(DOCUMENTS)
    sums = [(query @ p.T).max(axis=1).sum() if len(p) else 0 for p in passages]
    scored = LateInteractionScorer(colbert.ours).score([(QUERY, each) for each in DOCUMENTS])
    assert sums == pytest.approx(scored.tolist(), abs=1e-5)
