"""Cross-encoders: sentence-transformers' losses for labelled pairs and for lists."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.oracles import sentence_transformers
from tests.train.bases import base_folder, recipe_for, write_rows
from torch import nn

import lmstack
from lmstack.core import InputError
from lmstack.model import ForwardContext
from lmstack.registry import load
from lmstack.text import Tokenizer
from lmstack.train import read_recipe, train
from lmstack.train.data.rows import Row
from lmstack.train.heads import with_head_for
from lmstack.train.objectives.objective import Reading
from lmstack.train.objectives.reranking import Reranking

QUERIES = ["where is acme corp", "who wrote the engine", "is ada in london"]
PASSAGES = ["acme corp is in paris", "ada wrote the note and the program", "she works in london"]
NEGATIVES = [["in paris"], ["the first program", "a", "he"], ["he was in lon", "no"]]
LABELS = [1.0, 0.0, 0.3]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LMSTACK_HOME", str(tmp_path / "home"))
    torch.set_num_threads(1)


@pytest.fixture
def theirs(tmp_path: Path) -> sentence_transformers.CrossEncoder:
    """A cross-encoder of sentence-transformers, saved for both."""
    model = sentence_transformers.CrossEncoder(
        str(base_folder("bert", tmp_path / "base")), num_labels=1, device="cpu"
    )
    model.save_pretrained(str(tmp_path / "model"))
    return model.eval()


def labelled() -> list[dict[str, Any]]:
    rows = zip(QUERIES, PASSAGES, LABELS, strict=True)
    return [{"sentence1": q, "sentence2": p, "label": y} for q, p, y in rows]


def lists() -> list[dict[str, Any]]:
    rows = zip(QUERIES, PASSAGES, NEGATIVES, strict=True)
    return [{"query": q, "positive": p, "negatives": n} for q, p, n in rows]


def step(folder: Path, objective: Reranking, rows: list[dict[str, Any]]) -> tuple[Any, Any, Any]:
    base = load(folder)
    reading = Reading(Tokenizer.from_folder(folder), None, 32, segments=True)
    objective = objective.fitted(base, lambda: (Row(row, "") for row in rows))
    examples = [e for row in rows for e in objective.encode(Row(row, ""), reading)]
    batch = objective.collate(examples, reading)
    loss = objective.loss(base.module, batch, ForwardContext())
    (loss.total / batch.weight).backward()  # type: ignore[no-untyped-call]
    return float(loss.total.detach() / batch.weight), base.module.embed.weight.grad, loss.sums


def test_labelled_pairs_equal_sentence_transformers(
    theirs: sentence_transformers.CrossEncoder, tmp_path: Path
) -> None:
    found, grad, sums = step(tmp_path / "model", Reranking(positive_weight=2.0), labelled())
    make = sentence_transformers.cross_encoder.losses.BinaryCrossEntropyLoss(
        theirs, pos_weight=torch.tensor(2.0)
    )
    expected = make([QUERIES, PASSAGES], torch.tensor(LABELS))
    expected.backward()
    assert found == pytest.approx(float(expected.detach()), rel=1e-5)
    wanted = theirs.model.bert.embeddings.word_embeddings.weight.grad
    torch.testing.assert_close(grad, wanted, rtol=1e-3, atol=1e-5)
    with torch.no_grad():
        scores = theirs.predict(list(zip(QUERIES, PASSAGES, strict=True)))
    assert int(sums["accuracy"]) == sum((scores > 0.5) == (np.array(LABELS) > 0.5))


def test_lists_equal_sentence_transformers(
    theirs: sentence_transformers.CrossEncoder, tmp_path: Path
) -> None:
    found, grad, sums = step(tmp_path / "model", Reranking(), lists())
    make = sentence_transformers.cross_encoder.losses.MultipleNegativesRankingLoss(
        theirs, num_negatives=None, scale=1, activation_fn=nn.Identity()
    )
    # A row at a time there are no negatives but its own.
    rows = zip(QUERIES, PASSAGES, NEGATIVES, strict=True)
    parts = [make([[q], [p], *([n] for n in many)], torch.ones(1)) for q, p, many in rows]
    expected = torch.stack(parts).mean()
    expected.backward()
    assert found == pytest.approx(float(expected.detach()), rel=1e-5)
    wanted = theirs.model.bert.embeddings.word_embeddings.weight.grad
    torch.testing.assert_close(grad, wanted, rtol=1e-3, atol=1e-5)
    ranks = []
    for query, passage, many in zip(QUERIES, PASSAGES, NEGATIVES, strict=True):
        scores = theirs.predict([(query, text) for text in (passage, *many)])
        ranks.append(1 + int((scores[1:] >= scores[0]).sum()))
    assert float(sums["mrr"]) == pytest.approx(sum(1 / rank for rank in ranks))
    assert int(sums["accuracy"]) == ranks.count(1)


@pytest.mark.parametrize("rows", [labelled(), lists()], ids=["labelled", "lists"])
def test_the_result_scores_as_in_sentence_transformers(
    rows: list[dict[str, Any]], tmp_path: Path
) -> None:
    base = base_folder("bert", tmp_path / "base")
    data = write_rows(tmp_path / "rows.jsonl", rows * 3)
    folder = train(read_recipe(recipe_for(tmp_path, base, "reranking", data, lr=1e-2))).folder
    assert load(folder).kind == "rerank"
    found = lmstack.task("rerank", str(folder))(PASSAGES, query=QUERIES[0])
    expected = sentence_transformers.CrossEncoder(str(folder), device="cpu").predict(
        [(QUERIES[0], p) for p in PASSAGES]
    )
    scores = {each.text: each.score for each in found.results}
    np.testing.assert_allclose([scores[p] for p in PASSAGES], expected, rtol=0, atol=1e-5)


def test_the_head_of_a_reranker_goes_on(
    theirs: sentence_transformers.CrossEncoder, tmp_path: Path
) -> None:
    data = write_rows(tmp_path / "rows.jsonl", lists() * 3)
    recipe = recipe_for(tmp_path, tmp_path / "model", "reranking", data, lr=1e-12)
    made = load(train(read_recipe(recipe)).folder).module
    assert made.classifier is not None
    torch.testing.assert_close(made.classifier.weight, theirs.model.classifier.weight)


def test_rows_that_teach_nothing_are_said(tmp_path: Path) -> None:
    folder = base_folder("bert", tmp_path)
    with pytest.raises(InputError, match="no negatives"):
        step(folder, Reranking(), [{"query": "a", "positive": "b"}])
    reading = Reading(Tokenizer.from_folder(folder), None, 32)
    wrong = Row({"sentence1": "a", "sentence2": "b", "label": 3}, "")
    with pytest.raises(InputError, match="the label is 3"):
        list(Reranking(rows="labelled").encode(wrong, reading))
    with pytest.raises(InputError, match="the row has a label"):
        list(Reranking(rows="lists").encode(wrong, reading))


def test_a_passage_that_scores_as_the_positive_is_before_it(tmp_path: Path) -> None:
    """A model that gives one score to all finds nothing first."""
    folder = base_folder("bert", tmp_path)
    base = load(folder)
    base, _ = with_head_for(Reranking(), base)
    torch.nn.init.zeros_(base.module.classifier.weight)
    objective = Reranking().fitted(base, lambda: (Row(row, "") for row in lists()))
    reading = Reading(Tokenizer.from_folder(folder), None, 32, segments=True)
    examples = [e for row in lists() for e in objective.encode(Row(row, ""), reading)]
    sums = objective.loss(base.module, objective.collate(examples, reading), ForwardContext()).sums
    assert int(sums["accuracy"]) == 0
    assert float(sums["mrr"]) == pytest.approx(sum(1 / (1 + len(many)) for many in NEGATIVES))
