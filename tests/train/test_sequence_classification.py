"""Classification of texts: losses of transformers, F1 of scikit-learn, labels as rows have them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.errors import about
from tests.oracles import metrics
from tests.train.bases import base_folder, recipe_for, write_rows

from lmstack.core import InputError
from lmstack.model import ForwardContext, load_module
from lmstack.registry import load
from lmstack.text import Tokenizer
from lmstack.train import read_recipe, train
from lmstack.train.data.rows import Row
from lmstack.train.measures import correlation, macro_f1, moments
from lmstack.train.objectives.objective import Reading
from lmstack.train.objectives.sequence_classification import SequenceClassification

SINGLE, SEVERAL, SCORE = (
    "single_label_classification",
    "multi_label_classification",
    "regression",
)
NAMES = ("firm", "person", "place")
TEXTS = (
    "ada works in london",
    "acme corp is green and it was in paris",
    "who wrote the first engine program",
    "a",
    "the green fields of london, the note and the engine",
)
TARGETS: Mapping[str, list[Any]] = {
    SINGLE: ["firm", "person", "place", "firm", "firm"],
    SEVERAL: [["firm"], [], ["place", "firm"], ["person"], ["firm", "person", "place"]],
    SCORE: [0.5, 1.0, -2.0, 0.0, 3.25],
}


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LMSTACK_HOME", str(tmp_path / "home"))
    torch.set_num_threads(1)


def classifier(tmp_path: Path, problem: str) -> Any:
    """A classifier of transformers, in a folder that both load."""
    base_folder("bert", tmp_path)
    count = 1 if problem == SCORE else len(NAMES)
    model = transformers.AutoModelForSequenceClassification.from_pretrained(
        tmp_path, num_labels=count, problem_type=problem
    )
    model.save_pretrained(tmp_path)
    return model.eval()


def rows_of(problem: str, *, pairs: bool) -> list[Row]:
    key = "labels" if problem == SEVERAL else "label"
    found = []
    for place, (text, label) in enumerate(zip(TEXTS, TARGETS[problem], strict=True)):
        texts = {"sentence1": text, "sentence2": TEXTS[place - 1]} if pairs else {"text": text}
        found.append(Row({**texts, key: label}, f"rows:{place}"))
    return found


def reading_of(folder: Path, max_length: int = 32) -> Reading:
    return Reading(Tokenizer.from_folder(folder), None, max_length, segments=True)


@pytest.mark.parametrize("pairs", [False, True], ids=["texts", "pairs"])
@pytest.mark.parametrize("problem", TARGETS)
def test_loss_and_gradient_equal_those_of_transformers(
    problem: str, pairs: bool, tmp_path: Path
) -> None:
    theirs = classifier(tmp_path, problem)
    objective = SequenceClassification(problem, () if problem == SCORE else NAMES)
    ours, reading = load_module(tmp_path), reading_of(tmp_path, 16)
    examples = [e for row in rows_of(problem, pairs=pairs) for e in objective.encode(row, reading)]
    batch = objective.collate(examples, reading)
    loss = objective.loss(ours, batch, ForwardContext()).total / batch.weight
    loss.backward()  # type: ignore[no-untyped-call]
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path)
    others = [TEXTS[place - 1] for place in range(len(TEXTS))] if pairs else None
    inputs = tokenizer(
        list(TEXTS), others, padding=True, truncation=True, max_length=16, return_tensors="pt"
    )
    targets = {
        SINGLE: lambda: torch.tensor([NAMES.index(x) for x in TARGETS[SINGLE]]),
        SEVERAL: lambda: torch.tensor([[float(n in x) for n in NAMES] for x in TARGETS[SEVERAL]]),
        SCORE: lambda: torch.tensor(TARGETS[SCORE]),
    }
    expected = theirs(**inputs, labels=targets[problem]()).loss
    expected.backward()
    torch.testing.assert_close(loss, expected, rtol=1e-5, atol=1e-6)
    assert ours.classifier is not None
    pairs_of_grads = (
        (ours.classifier.weight.grad, theirs.classifier.weight.grad),
        (ours.embed.weight.grad, theirs.bert.embeddings.word_embeddings.weight.grad),
    )
    for found, wanted in pairs_of_grads:
        torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-5)


def test_class_weights_are_those_of_torch(tmp_path: Path) -> None:
    classifier(tmp_path, SINGLE)
    weights = {"firm": 0.2, "place": 5.0}
    objective = SequenceClassification(SINGLE, NAMES, weights)
    module, reading = load_module(tmp_path), reading_of(tmp_path)
    rows = rows_of(SINGLE, pairs=False)
    batch = objective.collate([e for r in rows for e in objective.encode(r, reading)], reading)
    with torch.no_grad():
        found = objective.loss(module, batch, ForwardContext()).total / batch.weight
        logits = module(**batch.inputs).logits
    expected = torch.nn.CrossEntropyLoss(torch.tensor([0.2, 1.0, 5.0]))(logits, batch.labels)
    torch.testing.assert_close(found, expected)


def test_balanced_weights_are_those_of_scikit_learn(tmp_path: Path) -> None:
    from sklearn.utils.class_weight import compute_class_weight

    base = load(base_folder("bert", tmp_path))
    rows = rows_of(SINGLE, pairs=False)
    found = SequenceClassification(class_weights="balanced").fitted(base, lambda: iter(rows))
    expected = compute_class_weight("balanced", classes=np.array(NAMES), y=TARGETS[SINGLE])
    assert found.classes == NAMES
    np.testing.assert_allclose([found.class_weights[name] for name in NAMES], expected)


LABELS = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=40)


@settings(deadline=None)
@given(pairs=LABELS, cut=st.integers(0, 40))
def test_macro_f1_is_that_of_scikit_learn_however_the_rows_are_cut(
    pairs: list[tuple[int, int]], cut: int
) -> None:
    actual, predicted = ([pair[side] for pair in pairs] for side in (0, 1))
    counts = torch.zeros(3, 5)
    for part in (pairs[:cut], pairs[cut:]):
        for one, other in part:
            counts[0, one] += one == other
            counts[1, other] += 1
            counts[2, one] += 1
    expected = metrics.f1_score(actual, predicted, average="macro", zero_division=0)
    assert macro_f1(counts) == pytest.approx(expected)


@given(st.lists(st.tuples(st.floats(-9, 9), st.floats(-9, 9)), min_size=3, max_size=30))
def test_correlation_is_pearson(pairs: list[tuple[float, float]]) -> None:
    x, y = np.array(pairs).T
    if min(x.std(), y.std()) < 1e-3:
        return
    found = correlation(moments(torch.from_numpy(x), torch.from_numpy(y)))
    assert found == pytest.approx(np.corrcoef(x, y)[0, 1], abs=1e-6)


def test_the_evaluation_is_of_all_rows_together(tmp_path: Path) -> None:
    base = base_folder("bert", tmp_path / "base")
    rows = [
        {"text": text, "label": label} for text, label in zip(TEXTS, TARGETS[SINGLE], strict=True)
    ]
    data = write_rows(tmp_path / "rows.jsonl", rows)
    held = write_rows(tmp_path / "held.jsonl", rows)
    recipe = recipe_for(
        tmp_path, base, "sequence-classification", data,
        validation=[str(held)], batch=2, micro_tokens=8, steps=1,
    )  # fmt: skip
    result = train(read_recipe(recipe))
    tokenizer = transformers.AutoTokenizer.from_pretrained(result.folder)
    model = transformers.AutoModelForSequenceClassification.from_pretrained(result.folder).eval()
    with torch.no_grad():
        logits = model(**tokenizer(list(TEXTS), padding=True, return_tensors="pt")).logits
    predicted = [model.config.id2label[int(i)] for i in logits.argmax(-1)]
    actual = TARGETS[SINGLE]
    assert result.values["accuracy"] == pytest.approx(metrics.accuracy_score(actual, predicted))
    expected = metrics.f1_score(actual, predicted, average="macro", zero_division=0)
    assert result.values["f1"] == pytest.approx(expected)


@pytest.mark.parametrize(
    ("labels", "problem", "classes"),
    [
        ([0, 1, 10, 2], SINGLE, ("0", "1", "2", "10")),
        ([True, False], SINGLE, ("0", "1")),
        (["b", "a", "b"], SINGLE, ("a", "b")),
        ([0.5, 1], SCORE, ()),
    ],
)
def test_the_problem_and_the_classes_follow_from_the_data(
    labels: list[Any], problem: str, classes: tuple[str, ...], tmp_path: Path
) -> None:
    base = load(base_folder("bert", tmp_path))
    rows = [Row({"text": "a", "label": label}, "") for label in labels]
    found = SequenceClassification().fitted(base, lambda: iter(rows))
    assert (found.problem_type, found.classes) == (problem, classes)


def test_numbers_count_through_the_names_that_are_given(tmp_path: Path) -> None:
    folder = base_folder("bert", tmp_path)
    objective = SequenceClassification(SINGLE, ("ham", "spam"))
    (example,) = objective.encode(Row({"text": "a", "label": 1}, ""), reading_of(folder))
    assert example.labels is not None
    assert example.labels.tolist() == [1]


@pytest.mark.parametrize("label", ["eggs", 2, [], None, float("nan")])
def test_a_label_that_is_no_class_is_said(label: Any, tmp_path: Path) -> None:
    objective = SequenceClassification(SINGLE, ("ham", "spam"))
    with pytest.raises(InputError, match="label"):
        list(
            objective.encode(
                Row({"text": "a", "label": label}, ""), reading_of(base_folder("bert", tmp_path))
            )
        )


def test_bad_settings_are_said() -> None:
    with pytest.raises(
        InputError, match="problem_type is 'regresion'", check=about("problem_type")
    ):
        SequenceClassification("regresion")
    with pytest.raises(InputError, match="class_weights is 3", check=about("class_weights")):
        SequenceClassification(class_weights=3)


@pytest.mark.parametrize(
    ("settings_", "values", "labels", "found"),
    [
        ({}, [["b"], ["a", "c"]], (), (SEVERAL, ("a", "b", "c"))),
        ({}, [[], ["a"]], (), (SEVERAL, ("a",))),
        ({}, ["x", "b", None, "10", "9"], (), (SINGLE, ("9", "10", "b", "x"))),
        ({}, ["b", "a"], ("b", "a"), (SINGLE, ("b", "a"))),  # the head of the base goes on
        ({}, ["b", "a"], ("b", "c"), (SINGLE, ("a", "b"))),
        ({"classes": ("a", "b")}, ["b", "a"], ("b", "a"), (SINGLE, ("a", "b"))),
        ({"problem_type": SINGLE}, [0.5, 1, "a"], (), (SINGLE, ("1", "0.5", "a"))),
        ({"problem_type": SCORE}, [1, 2], (), (SCORE, ())),
    ],
)
def test_classes_are_those_of_the_data_the_base_or_the_recipe(
    settings_: dict[str, Any],
    values: list[Any],
    labels: tuple[str, ...],
    found: tuple[str, tuple[str, ...]],
) -> None:
    rows = [
        Row({"text": "t", "labels" if isinstance(value, list) else "label": value}, "")
        for value in values
    ]
    base: Any = SimpleNamespace(labels=labels)
    fitted = SequenceClassification(**settings_).fitted(base, lambda: iter(rows))
    assert (fitted.problem_type, fitted.classes) == found
    wanted = ("LABEL_0",) if fitted.problem_type == SCORE else fitted.classes
    assert fitted.labels(base) == wanted


def test_one_class_alone_is_no_problem_to_learn() -> None:
    base: Any = SimpleNamespace(labels=())
    with pytest.raises(InputError, match="the data has 1 classes: a", check=about("data")):
        SequenceClassification().fitted(base, lambda: iter([Row({"text": "t", "label": "a"}, "")]))


@pytest.mark.parametrize(
    ("problem", "names"),
    [
        (None, ["loss", "accuracy", "f1", "pearson"]),
        (SCORE, ["loss", "pearson"]),
        (SINGLE, ["loss", "accuracy", "f1"]),
        (SEVERAL, ["loss", "accuracy", "f1"]),
    ],
)
def test_metrics_follow_from_the_problem(problem: str | None, names: list[str]) -> None:
    found = SequenceClassification(problem, ("a", "b")).metrics()
    assert [metric.name for metric in found] == names
    assert [metric.higher_is_better for metric in found] == [False] + [True] * (len(names) - 1)


def test_targets_are_places_scores_or_ones_where_a_class_is() -> None:
    several = SequenceClassification(SEVERAL, ("a", "b", "c"))
    assert several._target(("c", "a")).tolist() == [1, 0, 1]
    assert several._target((1,)).tolist() == [0, 1, 0]
    assert several._target(()).tolist() == [0, 0, 0]
    assert SequenceClassification(SCORE)._target(0.25).tolist() == [0.25]
    numbers = SequenceClassification(SINGLE, ("1", "0"))
    assert [numbers._target(value).tolist() for value in (1, 0, "1")] == [[0], [1], [0]]
    wrong: list[tuple[str, Any, str]] = [
        (SEVERAL, "a", "not a list of labels"),
        (SEVERAL, ("a", "d"), "not a list of labels"),
        (SINGLE, ("a",), "not one of the classes"),
        (SINGLE, 3, "not one of the classes"),
        (SINGLE, -1, "not one of the classes"),
        (SCORE, "a", "not a number"),
        (SCORE, ("a",), "not a number"),
    ]
    for problem, value, said in wrong:
        with pytest.raises(InputError, match=f"the label is .*, {said}"):
            SequenceClassification(problem, ("a", "b", "c"))._target(value)


def test_names_of_classes_are_text() -> None:
    assert SequenceClassification(classes=[0, True]).classes == ("0", "True")  # type: ignore[arg-type]


def test_weights_are_of_classes_that_there_are() -> None:
    found = SequenceClassification(SINGLE, ("a", "b"), {"b": 0.5})._weights()
    assert found.tolist() == [1.0, 0.5]
    with pytest.raises(InputError, match="names 'c', which is no", check=about("class_weights")):
        SequenceClassification(SINGLE, ("a", "b"), {"d": 1, "c": 1})._weights()
    for given_weights in ({"a": -0.1}, {"a": "x"}, "equal"):
        with pytest.raises(InputError, match="class_weights is", check=about("class_weights")):
            SequenceClassification(class_weights=given_weights)
    assert SequenceClassification(class_weights={"a": 0}).class_weights == {"a": 0}


def test_accuracy_is_of_rows_and_f1_of_classes() -> None:
    several = SequenceClassification(SEVERAL, ("a", "b"))
    counts = {"rows": torch.tensor([1, 4]), "classes": torch.tensor([[1, 0], [2, 0], [2, 1]])}
    assert several.reported({"loss": 2.0}, counts) == {"loss": 2.0, "accuracy": 0.25, "f1": 0.25}
    nothing = {"rows": torch.tensor([0, 0]), "classes": torch.zeros(3, 2)}
    assert several.reported({}, nothing) == {"accuracy": 0.0, "f1": 0.0}
    assert several.reported({"loss": 2.0}, {}) == {"loss": 2.0}


def test_several_labels_are_right_where_all_of_a_row_are(tmp_path: Path) -> None:
    classifier(tmp_path, SEVERAL)
    objective, reading = SequenceClassification(SEVERAL, NAMES), reading_of(tmp_path)
    rows = rows_of(SEVERAL, pairs=False)
    batch = objective.collate([e for r in rows for e in objective.encode(r, reading)], reading)
    assert batch.tokens == sum(batch.inputs["lengths"])
    module = load_module(tmp_path).eval()
    with torch.no_grad():
        predicted = (module(**batch.inputs).logits > 0).long()
        labels = predicted.float()
        labels[2:, 0] = 1 - labels[2:, 0]
        batch = dataclasses.replace(batch, labels=labels)
        counts = objective.loss(module, batch, ForwardContext()).counts
    assert counts["rows"].tolist() == [2, len(rows)]
    assert counts["classes"][1].tolist() == predicted.sum(0).tolist()


def test_what_was_cut_of_a_row_is_counted(tmp_path: Path) -> None:
    folder = base_folder("bert", tmp_path)
    objective, tokenizer = SequenceClassification(SINGLE, ("a", "b")), Tokenizer.from_folder(folder)
    for values in ({"text": TEXTS[0]}, {"sentence1": TEXTS[0], "sentence2": TEXTS[1]}):
        row = Row({**values, "label": "b"}, "")
        (whole,) = objective.encode(row, Reading(tokenizer, None, 64, segments=True))
        (cut,) = objective.encode(row, Reading(tokenizer, None, 6, segments=True))
        assert (whole.left_out, cut.tokens) == (0, 6)
        assert cut.left_out == whole.tokens - 6
        assert bool(len(whole.sequences[1])) == ("sentence2" in values)
    (plain,) = objective.encode(row, Reading(tokenizer, None, 64))
    assert len(plain.sequences[1]) == 0
