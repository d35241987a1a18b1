"""The reader's objective against transformers' cross-encoder and a plain softmax."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.errors import about
from tests.tiny_cross_encoder import COLOURS, LIMIT, THINGS, save_cross_encoder, tokenizer

from lmstack.core import InputError
from lmstack.model import ForwardContext
from lmstack.registry import LoadedModel, load
from lmstack.serve.tasks import LocalReranker
from lmstack.train import read_recipe, train
from lmstack.train.data.examples import Batch
from lmstack.train.data.rows import Row
from lmstack.train.objectives import objective_named
from lmstack.train.objectives.objective import Reading
from lmstack.train.objectives.reader import Reader, null_softmax_loss


@pytest.fixture(scope="module")
def cross_encoder(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    """Transformers' model, and its folder."""
    folder = tmp_path_factory.mktemp("cross-encoder")
    return save_cross_encoder(folder), folder


def row(query: str, positives: Sequence[str], negatives: Sequence[str]) -> Row:
    values = {"query": query, "positives": list(positives), "negatives": list(negatives)}
    return Row(values, "rows.jsonl:1")


ROWS = (
    row("what colour is the gate", ["the gate is red"], ["the door is red", "the wall"]),
    row("what colour is the shed", [], ["the gate is blue and the wall is grey", "of"]),
    row("what", ["the gate is red", "near"], ["the door is red"]),
)


def reading(loaded: LoadedModel) -> Reading:
    return Reading(loaded.tokenizer, None, LIMIT, segments=True)


def batch_of(rows: Sequence[Row], objective: Reader, loaded: LoadedModel) -> Batch:
    examples = [e for each in rows for e in objective.encode(each, reading(loaded))]
    return objective.collate(examples, reading(loaded))


def loss_of(rows: Sequence[Row], objective: Reader, loaded: LoadedModel) -> Any:
    return objective.loss(loaded.module, batch_of(rows, objective, loaded), ForwardContext())


def plain_loss(scores: Sequence[float], answers: Sequence[bool]) -> float:
    """By the definition, in numbers that are never put together."""
    odds = np.exp(np.array([0.0, *scores], np.float64))
    wanted = [not any(answers), *answers]
    return float(-np.log(odds[wanted].sum() / odds.sum()))


scored = st.lists(st.tuples(st.floats(-12, 12), st.booleans()), min_size=1, max_size=8)


@given(scored)
@settings(max_examples=60, deadline=None)
def test_the_loss_is_that_of_a_softmax_with_none(given_: list[tuple[float, bool]]) -> None:
    values, answers = [score for score, _ in given_], [answer for _, answer in given_]
    scores = torch.tensor(values, dtype=torch.float64, requires_grad=True)
    loss, right = null_softmax_loss(scores, torch.tensor(answers))
    assert float(loss.detach()) == pytest.approx(plain_loss(values, answers), rel=1e-9, abs=1e-9)
    (gradient,) = torch.autograd.grad(loss, scores)
    share = torch.softmax(torch.tensor([0.0, *values], dtype=torch.float64), 0)[1:]
    among = share * torch.tensor(answers)
    target = among / among.sum() if any(answers) else torch.zeros_like(share)
    torch.testing.assert_close(gradient, share - target)
    if len({0.0, *values}) == len(values) + 1:
        best = int(np.argmax([0.0, *values]))
        assert bool(right) == [not any(answers), *answers][best]


def test_scores_are_those_of_transformers(cross_encoder: tuple[Any, Path]) -> None:
    theirs, folder = cross_encoder
    objective = Reader(temperature=2.0, null_score=0.5)
    total = 0.0
    for each in ROWS:
        texts = [*each.values["positives"], *each.values["negatives"]]
        pairs = tokenizer()([each.values["query"]] * len(texts), texts, padding=True)
        with torch.no_grad():
            logits = theirs(**{k: torch.tensor(v) for k, v in pairs.items()}).logits[:, 0]
        scores = ((logits.double() - 0.5) / 2.0).tolist()
        total += plain_loss(scores, [n < len(each.values["positives"]) for n in range(len(texts))])
    found = loss_of(ROWS, objective, load(folder))
    assert float(found.total.detach()) == pytest.approx(total, rel=1e-5)


def test_questions_of_one_batch_do_not_share_a_softmax(cross_encoder: tuple[Any, Path]) -> None:
    loaded = load(cross_encoder[1])
    apart = sum(float(loss_of([each], Reader(), loaded).total.detach()) for each in ROWS)
    assert float(loss_of(ROWS, Reader(), loaded).total.detach()) == pytest.approx(apart, rel=1e-5)
    assert batch_of(ROWS, Reader(), loaded).weight == len(ROWS)


def test_the_first_negatives_are_read_and_no_more(cross_encoder: tuple[Any, Path]) -> None:
    loaded = load(cross_encoder[1])
    long = row("what", ["the gate"], ["the door", "near", "of", "and"])
    short = row("what", ["the gate"], ["the door", "near"])
    found = loss_of([long], Reader(negatives=2), loaded)
    assert float(found.total.detach()) == float(loss_of([short], Reader(), loaded).total.detach())


def test_a_separator_spelled_in_a_text_is_text(cross_encoder: tuple[Any, Path]) -> None:
    loaded = load(cross_encoder[1])
    spelled = batch_of([row("what [SEP] colour", ["the [SEP] gate"], [])], Reader(), loaded)
    ids = spelled.inputs["input_ids"].tolist()
    assert ids.count(3) == 2
    types = spelled.inputs["token_type_ids"].tolist()
    first = ids.index(3)
    assert types == [0] * (first + 1) + [1] * (len(ids) - first - 1)


def test_a_long_passage_is_cut_and_the_question_is_kept(cross_encoder: tuple[Any, Path]) -> None:
    loaded = load(cross_encoder[1])
    question = "what colour is the gate"
    (example,) = Reader().encode(row(question, ["the wall " * 100], []), reading(loaded))
    ids = np.concatenate(example.sequences)
    assert len(ids) == LIMIT
    asked = loaded.tokenizer.encode(question, add_special_tokens=False)
    assert ids[1 : len(asked) + 1].tolist() == asked


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"positives": ["a"]}, "no query"),
        ({"query": "what", "positives": "the gate"}, "not a list of texts"),
        ({"query": "what", "positives": [], "negatives": []}, "no question, or no text"),
        ({"query": " ", "negatives": ["the gate"]}, "no question, or no text"),
    ],
)
def test_rows_of_another_format_say_so(
    cross_encoder: tuple[Any, Path], values: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        list(Reader().encode(Row(values, "rows.jsonl:1"), reading(load(cross_encoder[1]))))


def test_a_recipe_makes_a_reranker_that_refuses_what_nothing_answers(
    cross_encoder: tuple[Any, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LMSTACK_HOME", str(tmp_path / "home"))
    torch.set_num_threads(1)
    rows = []
    for thing in THINGS:
        for colour in COLOURS:
            others = [f"the {other} is {colour}" for other in THINGS if other != thing]
            asked = f"what colour is the {thing}"
            rows.append(row(asked, [f"the {thing} is {colour}"], others))
            rows.append(row(asked, [], others))
    data, held = tmp_path / "rows.jsonl", tmp_path / "held.jsonl"
    for path in (data, held):
        path.write_text("\n".join(json.dumps(each.values) for each in rows))
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        json.dumps(
            {
                "objective": {"name": "reader", "negatives": 3},
                "base": str(cross_encoder[1]),
                "data": str(data),
                "validation": [str(held)],
                "output": str(tmp_path / "made"),
                "run": str(tmp_path / "run"),
                "batch": 8,
                "epochs": 25,
                "lr": 3e-3,
                "eval_every": 1000,
                "metric": "accuracy",
            }
        )
    )
    result = train(read_recipe(recipe))
    assert result.values["accuracy"] > 0.95
    reader = LocalReranker.load(result.folder)
    gate, door = reader.score("what colour is the gate", ["the gate is red", "the door is red"])
    # Its activation, a sigmoid, puts what is as likely as nothing at a half.
    assert gate > 0.5 > door


def test_unknown_settings_name_the_nearest() -> None:
    with pytest.raises(InputError, check=about("negative")) as error:
        objective_named("reader", {"negative": 3})
    assert error.value.hint == "did you mean 'negatives'?"
