"""Sentence embeddings: sentence-transformers' losses, and one step however it is cut."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.errors import about
from tests.oracles import losses, modules, sentence_transformers
from tests.train.bases import base_folder, recipe_for, write_rows

from lmstack.core import InputError
from lmstack.model import ForwardContext, Transformer, load_module
from lmstack.registry import load
from lmstack.registry.defaults import Pooling as VectorPooling
from lmstack.serve.embedder import LocalEmbedder
from lmstack.text import Tokenizer, VocabularyConfig, train_tokenizer
from lmstack.train import read_recipe, train
from lmstack.train.data.examples import Batch, Example
from lmstack.train.data.rows import Row
from lmstack.train.objectives.contrastive import Contrastive, cosent, in_batch_losses
from lmstack.train.objectives.objective import Reading

QUERIES = ["where is acme corp", "who wrote the engine", "is ada in london", "green fields"]
PASSAGES = ["acme corp is in paris", "ada wrote the note", "she works in london", "the fields are"]
NEGATIVES = ["in paris", "the first program", "he was in lon", "it was green and no"]
SCORES = [1.0, 0.25, 0.25, 0.0]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LMSTACK_HOME", str(tmp_path / "home"))
    torch.set_num_threads(1)


def oracle(
    tmp_path: Path, mode: str = "mean", **prompts: str
) -> sentence_transformers.SentenceTransformer:
    base_folder("bert", tmp_path / "bert")
    parts = [modules.Transformer(str(tmp_path / "bert")), modules.Pooling(32, pooling_mode=mode)]
    model = sentence_transformers.SentenceTransformer(
        modules=parts, device="cpu", prompts=prompts or None
    ).eval()
    model.save(str(tmp_path / "model"))
    return model


def batches_of(
    objective: Contrastive, rows: Sequence[dict[str, Any]], folder: Path, size: int
) -> list[Batch]:
    reading = Reading(Tokenizer.from_folder(folder), None, 32)
    found = [e for row in rows for e in objective.encode(Row(row, ""), reading)]
    parts = [found[i : i + size] for i in range(0, len(found), size)]
    batches = [objective.collate(part, reading) for part in parts]
    assert {batch.more["scores"].dtype for batch in batches} == {torch.float32}
    return batches


def stepped(objective: Contrastive, model: Transformer, batches: Sequence[Batch]) -> float:
    """Loss of a step over ``batches``, with its gradient, as the trainer has it."""
    context = ForwardContext()

    def embed(place: int, forward: Any) -> torch.Tensor:
        with torch.no_grad():
            found: torch.Tensor = forward(model, batches[place], context)
            return found

    linked = objective.linked(batches, embed, lambda tensor: [tensor])
    weight, total = sum(batch.weight for batch in batches), 0.0
    model.zero_grad()
    for batch in linked:
        loss = objective.loss(model, batch, context).total / weight
        loss.backward()  # type: ignore[no-untyped-call]
        total += float(loss.detach())
    return total


def pairs(negatives: bool = True) -> list[dict[str, Any]]:
    rows = zip(QUERIES, PASSAGES, NEGATIVES, strict=True)
    return [
        {"query": q, "positive": p, **({"negatives": [n]} if negatives else {})} for q, p, n in rows
    ]


def scored() -> list[dict[str, Any]]:
    rows = zip(QUERIES, PASSAGES, SCORES, strict=True)
    return [{"sentence1": a, "sentence2": b, "score": s} for a, b, s in rows]


CASES: dict[str, tuple[dict[str, Any], list[dict[str, Any]], Any]] = {
    "pairs": ({}, pairs(negatives=False), lambda model: losses.MultipleNegativesRankingLoss(model)),
    "negatives": ({}, pairs(), lambda model: losses.MultipleNegativesRankingLoss(model)),
    "cosent": ({}, scored(), lambda model: losses.CoSENTLoss(model)),
    "mse": ({"scored_loss": "mse"}, scored(), lambda model: losses.CosineSimilarityLoss(model)),
    "matryoshka": (
        {"matryoshka": [8, 16]},
        pairs(),
        lambda model: losses.MatryoshkaLoss(
            model, losses.MultipleNegativesRankingLoss(model), [32, 16, 8]
        ),
    ),
}


@pytest.mark.parametrize("mode", ["mean", "cls"])
@pytest.mark.parametrize("name", CASES)
def test_loss_and_gradient_equal_those_of_sentence_transformers(
    name: str, mode: str, tmp_path: Path
) -> None:
    given_settings, rows, make_loss = CASES[name]
    theirs = oracle(tmp_path, mode)
    base = load(tmp_path / "model")
    objective = Contrastive(**given_settings).fitted(base, lambda: (Row(r, "") for r in rows))
    assert objective.pooling == mode
    found = stepped(objective, base.module, batches_of(objective, rows, tmp_path / "bert", 99))
    columns = [[row.get("query", row.get("sentence1")) for row in rows]]
    columns.append([row.get("positive", row.get("sentence2")) for row in rows])
    if "negatives" in rows[0]:
        columns.append([row["negatives"][0] for row in rows])
    inputs = [theirs.preprocess(column) for column in columns]
    labels = torch.tensor([row.get("score", 0.0) for row in rows])
    expected = make_loss(theirs)(inputs, labels)
    expected.backward()
    assert found == pytest.approx(float(expected.detach()), rel=1e-5)
    ours = base.module.embed.weight.grad
    wanted = theirs[0].auto_model.embeddings.word_embeddings.weight.grad
    torch.testing.assert_close(ours, wanted, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("size", [1, 3])
@pytest.mark.parametrize("name", CASES)
def test_a_step_is_the_same_however_it_is_cut(name: str, size: int, tmp_path: Path) -> None:
    given_settings, rows, _ = CASES[name]
    folder = base_folder("bert", tmp_path)
    base = load(folder)
    objective = Contrastive(**given_settings).fitted(base, lambda: (Row(r, "") for r in rows))
    whole = stepped(objective, base.module, batches_of(objective, rows, folder, 99))
    expected = [w.grad.clone() for w in base.module.parameters() if w.grad is not None]
    cut = stepped(objective, base.module, batches_of(objective, rows, folder, size))
    found = [w.grad for w in base.module.parameters() if w.grad is not None]
    assert cut == pytest.approx(whole, rel=1e-5)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-5)


def test_two_processes_are_one_step(tmp_path: Path) -> None:
    """What each is told adds up to the whole step's gradient."""
    folder = base_folder("bert", tmp_path)
    base, rows = load(folder), pairs()
    objective = Contrastive().fitted(base, lambda: (Row(r, "") for r in rows))
    model, context = base.module, ForwardContext()
    stepped(objective, model, batches_of(objective, rows, folder, 99))
    assert model.embed.weight.grad is not None
    expected = model.embed.weight.grad.clone()
    sides = [batches_of(objective, rows[rank::2], folder, 1) for rank in (0, 1)]

    def vectors(side: list[Batch]) -> list[torch.Tensor]:
        with torch.no_grad():
            return [objective._vectors(model, batch, context) for batch in side]

    held = [vectors(side) for side in sides]
    known = [
        {
            "own": torch.cat(held[rank]),
            **{n: torch.cat([b.more[n] for b in side]) for n in ("counts", "keys", "scores")},
        }
        for rank, side in enumerate(sides)
    ]
    model.zero_grad()
    for rank, side in enumerate(sides):
        names = iter(["own", "counts", "keys", "scores"])

        def gather(tensor: torch.Tensor, rank: int = rank, names: Any = names) -> Any:
            if not len(tensor):
                return [tensor, tensor]
            name = next(names)
            return [tensor if i == rank else known[i][name] for i in (0, 1)]

        linked = objective.linked(side, lambda place, f, r=rank: held[r][place], gather)
        for batch in linked:
            (objective.loss(model, batch, context).total / 4).backward()  # type: ignore[no-untyped-call]
    torch.testing.assert_close(model.embed.weight.grad, expected, rtol=1e-3, atol=1e-5)


def test_a_copy_of_the_positive_is_no_negative(tmp_path: Path) -> None:
    folder = base_folder("bert", tmp_path)
    base = load(folder)
    objective = Contrastive().fitted(base, lambda: iter([Row(pairs()[0], "")]))
    two = [pairs(negatives=False)[0], {"query": QUERIES[1], "positive": PASSAGES[0]}]
    assert stepped(objective, base.module, batches_of(objective, two, folder, 9)) == 0
    # One query with two positives: neither is a negative of the other.
    two = [pairs(negatives=False)[0], {"query": QUERIES[0], "positive": PASSAGES[1]}]
    assert stepped(objective, base.module, batches_of(objective, two, folder, 9)) == 0


@settings(deadline=None, max_examples=30)
@given(st.lists(st.tuples(st.floats(-1, 1), st.integers(0, 3)), min_size=1, max_size=8))
def test_cosent_is_its_formula(values: list[tuple[float, int]]) -> None:
    cosines, scores = (
        torch.tensor(part, dtype=torch.float64) for part in zip(*values, strict=True)
    )
    total = 1 + sum(
        float(torch.exp(20 * (cosines[j] - cosines[i])))
        for i in range(len(values))
        for j in range(len(values))
        if scores[i] > scores[j]
    )
    assert float(cosent(cosines, scores, 20)) == pytest.approx(np.log(total), rel=1e-6, abs=1e-9)


def test_the_positive_is_found_among_rows_of_different_sizes() -> None:
    vectors = torch.eye(4)[[0, 0, 1, 2, 1, 1]]  # query 0: positive, two negatives; query 1
    losses_, right = in_batch_losses(vectors, torch.tensor([0, 4]), torch.arange(6), 20.0)
    assert right[0] == 1
    assert losses_[0] < 1e-6
    # The first negative of the first row is as near to the second query as its positive.
    assert float(losses_[1]) == pytest.approx(np.log(2), abs=1e-6)


def test_a_tuned_embedder_is_that_of_sentence_transformers(tmp_path: Path) -> None:
    base_folder("bert", tmp_path / "base")
    data = write_rows(tmp_path / "rows.jsonl", pairs() * 3)
    objective = {"name": "contrastive", "query_prompt": "who ", "pooling": "cls"}
    recipe = recipe_for(tmp_path, tmp_path / "base", objective, data, micro_tokens=8)
    result = train(read_recipe(recipe))
    embedder = LocalEmbedder.load(result.folder)
    assert embedder.loaded.kind == "embed"
    theirs = sentence_transformers.SentenceTransformer(str(result.folder), device="cpu")
    for kind, encode in (("query", theirs.encode_query), ("passage", theirs.encode_document)):
        expected = encode(QUERIES, normalize_embeddings=True, show_progress_bar=False)
        found = embedder.embed(QUERIES, kind)  # type: ignore[arg-type]
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", ["bert without a pooler", "llama"])
def test_any_base_becomes_an_embedder(name: str, tmp_path: Path) -> None:
    base = base_folder(name, tmp_path / "base")
    data = write_rows(tmp_path / "rows.jsonl", pairs() * 3)
    result = train(read_recipe(recipe_for(tmp_path, base, "contrastive", data)))
    stated = json.loads((result.folder / "1_Pooling/config.json").read_text())
    assert stated["pooling_mode_lasttoken"] == (name == "llama")
    assert load_module(result.folder).config.head == "none"
    assert LocalEmbedder.load(result.folder).embed(["ada"]).shape == (1, 32)


def test_rows_of_two_kinds_are_said(tmp_path: Path) -> None:
    folder = base_folder("bert", tmp_path)
    with pytest.raises(InputError, match="the row has a score, and the others are pairs"):
        batches_of(Contrastive(rows="pairs"), scored(), folder, 1)
    with pytest.raises(InputError, match="the row has no score, and the others are scored"):
        batches_of(Contrastive(rows="scored"), pairs(), folder, 1)
    for size in (33, 0, 0.5):
        with pytest.raises(InputError, match=f"has {size}, .* 32 dim", check=about("matryoshka")):
            Contrastive(matryoshka=(size,)).fitted(load(folder), lambda: iter([]))
    sizes = Contrastive(matryoshka=[1, 32]).fitted(load(folder), lambda: iter([])).matryoshka
    assert sizes == (1, 32)


def test_what_the_base_says_of_vectors_holds_unless_the_recipe_says_otherwise(
    tmp_path: Path,
) -> None:
    base = load(base_folder("bert", tmp_path))
    prompts = {"query": "ask: ", "passage": "old: ", "clustering": "sort: "}
    base = dataclasses.replace(base, pooling=VectorPooling("cls", False, 7, prompts))
    kept = Contrastive().fitted(base, lambda: iter([Row(scored()[0], "")]))
    assert (kept.rows, kept.pooling, kept.max_tokens) == ("scored", "cls", 7)
    assert (kept.query_prompt, kept.passage_prompt) == ("ask: ", "old: ")
    own = {"pooling": "last", "max_tokens": 9, "query_prompt": "", "passage_prompt": "p "}
    other = Contrastive(rows="pairs", **own).fitted(base, lambda: iter([Row(scored()[0], "")]))
    assert (other.rows, other.pooling, other.max_tokens) == ("pairs", "last", 9)
    assert (other.query_prompt, other.passage_prompt) == ("", "p ")
    made = other.made_of(base)
    stated = {"query": "", "document": "p ", "clustering": "sort: "}
    assert made.pooling == VectorPooling("last", False, 9, stated)
    assert (made.kind, made.labels) == ("embed", ())
    plain = dataclasses.replace(base, pooling=None, labels=("a",))
    assert Contrastive().labels(plain) == ()
    fresh = Contrastive().fitted(plain, lambda: iter([Row(pairs()[0], "")]))
    assert (fresh.rows, fresh.pooling, fresh.max_tokens) == ("pairs", "mean", None)
    stated = {"query": "", "document": ""}
    assert fresh.made_of(plain).pooling == VectorPooling("mean", True, None, stated)


def test_texts_are_read_with_their_prompts_within_the_shorter_length(tmp_path: Path) -> None:
    folder = base_folder("bert", tmp_path)
    tokenizer = Tokenizer.from_folder(folder)
    prompts = {"query_prompt": "who ", "passage_prompt": "the "}

    def read(values: dict[str, Any], length: int = 32, **more: Any) -> Example:
        objective = Contrastive(**prompts, **more)
        (found,) = objective.encode(Row(values, ""), Reading(tokenizer, None, length))
        return found

    def ids(*texts: str) -> list[list[int]]:
        return [list(each) for each in tokenizer.encode_ids(texts)]

    asked = read({**pairs()[0], "negatives": NEGATIVES[:2]}, rows="pairs")
    texts = ["who " + QUERIES[0], *("the " + t for t in (PASSAGES[0], *NEGATIVES[:2]))]
    assert [each.tolist() for each in asked.sequences] == ids(*texts)
    assert (asked.labels, asked.left_out) == (None, 0)
    two = read(scored()[1], rows="scored")
    assert [each.tolist() for each in two.sequences] == ids(
        "the " + QUERIES[1], "the " + PASSAGES[1]
    )
    assert two.labels.tolist() == [0.25]
    over = sum(max(len(each) - 4, 0) for each in ids(*texts))
    for lengths in ({"length": 4}, {"max_tokens": 4}, {"length": 4, "max_tokens": 9}):
        cut = read({**pairs()[0], "negatives": NEGATIVES[:2]}, rows="pairs", **lengths)
        assert {len(each) for each in cut.sequences} == {4}
        assert cut.left_out == over


def test_a_text_without_tokens_is_shown() -> None:
    reading = Reading(train_tokenizer(["a"], VocabularyConfig(vocab_size=258)), None, 8)
    with pytest.raises(InputError, match="'' has no tokens"):
        [*Contrastive(rows="pairs").encode(Row({"query": "a", "positive": ""}, ""), reading)]


def test_batches_count_rows_and_say_which_texts_are_equal(tmp_path: Path) -> None:
    folder = base_folder("bert", tmp_path)
    rows = [*pairs(), {"query": QUERIES[0], "positive": NEGATIVES[0]}]
    (batch,) = batches_of(Contrastive(rows="pairs"), rows, folder, 9)
    assert (batch.weight, batch.more["counts"].tolist()) == (5.0, [3, 3, 3, 3, 2])
    assert batch.tokens == sum(batch.inputs["lengths"])
    assert batch.inputs["lengths"] == sorted(batch.inputs["lengths"])
    keys = batch.more["keys"].tolist()
    assert (keys[0], keys[2]) == (keys[12], keys[13])
    assert len({*keys}) == len(keys) - 2
    (batch,) = batches_of(Contrastive(rows="scored"), scored(), folder, 9)
    assert batch.labels.tolist() == batch.more["scores"].tolist() == SCORES


def test_what_is_reported_is_what_was_declared(tmp_path: Path) -> None:
    folder = base_folder("bert", tmp_path)
    model, context = load(folder).module, ForwardContext()
    for rows, given_rows, name in (("pairs", pairs(), "accuracy"), ("scored", scored(), "pearson")):
        objective = Contrastive(rows=rows)
        (batch,) = batches_of(objective, given_rows, folder, 9)
        loss = objective.loss(model, batch, context)
        means = {key: float(value) / 4 for key, value in loss.sums.items()}
        found = objective.reported({"loss": 1.0, **means}, loss.counts)
        assert {*found} == {metric.name for metric in objective.metrics()} == {"loss", name}
        assert all(
            metric.higher_is_better == (metric.name != "loss") for metric in objective.metrics()
        )
    with torch.no_grad():
        vectors = objective._vectors(model, batch, context)
    cosines = torch.nn.functional.cosine_similarity(vectors[::2], vectors[1::2])
    wanted = np.corrcoef(cosines.numpy(), SCORES)[0, 1]
    assert found["pearson"] == pytest.approx(wanted, rel=1e-4)
    assert [m.name for m in Contrastive().metrics()] == ["loss", "accuracy", "pearson"]


@pytest.mark.parametrize("name", ["negatives", "cosent"])
def test_passes_without_rows_change_nothing_and_evaluations_have_no_gradient(
    name: str, tmp_path: Path
) -> None:
    """A process that has fewer passes gets one without weight, at the place of the last."""
    given_settings, rows, _ = CASES[name]
    folder = base_folder("bert", tmp_path)
    base = load(folder)
    objective = Contrastive(**given_settings).fitted(base, lambda: (Row(r, "") for r in rows))
    whole = stepped(objective, base.module, batches_of(objective, rows, folder, 99))
    wanted = base.module.embed.weight.grad.clone()
    cut = batches_of(objective, rows, folder, 2)
    idle = dataclasses.replace(cut[0], weight=0.0, tokens=0)
    assert stepped(objective, base.module, [*cut, idle]) == pytest.approx(whole, rel=1e-5)
    torch.testing.assert_close(base.module.embed.weight.grad, wanted, rtol=1e-3, atol=1e-5)

    context = ForwardContext()
    (single,) = batches_of(objective, rows, folder, 99)
    with torch.no_grad():
        plain = objective.loss(base.module, single, context)
        linked = objective.linked(
            [*cut, idle], lambda i, f: f(base.module, [*cut, idle][i], context), lambda t: [t]
        )
        parts = [objective.loss(base.module, batch, context) for batch in linked]
    assert float(sum(part.total for part in parts)) == pytest.approx(float(plain.total), rel=1e-5)
    assert float(parts[-1].total) == 0
    for key, value in plain.sums.items():
        assert float(sum(part.sums[key] for part in parts)) == float(value)
    for key, value in plain.counts.items():
        found = sum(part.counts[key] for part in parts[:-1])
        torch.testing.assert_close(found, value, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("rows", [1, 3])
def test_a_model_that_gives_all_texts_one_vector_finds_nothing_first(rows: int) -> None:
    vectors = torch.tensor([[1.0, 0.0]]).repeat(3 * rows, 1)  # a query, its positive, a negative
    firsts = torch.arange(0, 3 * rows, 3)
    keys = torch.arange(3 * rows)
    losses, right = in_batch_losses(vectors, firsts, keys, 20.0)
    assert right.tolist() == [0.0] * rows
    assert losses.tolist() == pytest.approx([math.log(2 * rows)] * rows)
    vectors[firsts + 1] = torch.tensor([0.6, 0.8])
    vectors[firsts] = torch.tensor([0.6, 0.8])
    _, right = in_batch_losses(vectors, firsts, keys, 20.0)
    assert right.tolist() == [1.0 if rows == 1 else 0.0] * rows  # others' positives tie
