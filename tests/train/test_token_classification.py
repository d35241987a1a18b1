"""Tags of words: transformers' loss, seqeval's entities, windows over long sentences."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from hypothesis import given
from hypothesis import strategies as st
from tests.errors import about
from tests.train.bases import BASES, base_folder, recipe_for, write_rows

import lmstack
from lmstack.core import InputError
from lmstack.model import ForwardContext, load_module
from lmstack.registry import load
from lmstack.text import Tokenizer
from lmstack.train import read_recipe, train
from lmstack.train.data.examples import IGNORED
from lmstack.train.data.rows import Row
from lmstack.train.objectives.objective import Reading
from lmstack.train.objectives.token_classification import TokenClassification, entities_of

TAGS = ("B-LOC", "B-ORG", "B-PER", "I-ORG", "I-PER", "O")
SENTENCES = [
    (["ada", "lovelace", "works", "in", "london"], ["B-PER", "I-PER", "O", "O", "B-LOC"]),
    (["acme", "corp", ",", "paris"], ["B-ORG", "I-ORG", "O", "B-LOC"]),
    (["who", "wrote", "it"], ["O", "O", "O"]),
]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LMSTACK_HOME", str(tmp_path / "home"))
    torch.set_num_threads(1)


def reading_of(folder: Path, max_length: int = 32) -> Reading:
    return Reading(Tokenizer.from_folder(folder), None, max_length)


def row_of(words: list[str], tags: list[str]) -> Row:
    return Row({"tokens": words, "tags": tags}, "")


def test_loss_and_gradient_equal_those_of_transformers(tmp_path: Path) -> None:
    base_folder("bert", tmp_path)
    theirs = transformers.AutoModelForTokenClassification.from_pretrained(
        tmp_path, num_labels=len(TAGS)
    )
    theirs.save_pretrained(tmp_path)
    theirs.eval()
    ours, reading, objective = (
        load_module(tmp_path),
        reading_of(tmp_path),
        TokenClassification(TAGS),
    )
    examples = [e for pair in SENTENCES for e in objective.encode(row_of(*pair), reading)]
    batch = objective.collate(examples, reading)
    found = objective.loss(ours, batch, ForwardContext())
    loss = found.total / batch.weight
    loss.backward()  # type: ignore[no-untyped-call]
    # transformers' recipe, run_ner.py
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path)
    inputs = tokenizer(
        [words for words, _ in SENTENCES],
        is_split_into_words=True,
        padding=True,
        return_tensors="pt",
    )
    labels = []
    for index, (_, tags) in enumerate(SENTENCES):
        ids, before = [], None
        for word in inputs.word_ids(index):
            is_first = word is not None and word != before
            ids.append(TAGS.index(tags[word]) if is_first else IGNORED)
            before = word
        labels.append(ids)
    read = theirs(**inputs, labels=torch.tensor(labels))
    expected = read.loss
    expected.backward()
    assert float(found.sums["accuracy"]) == (read.logits.argmax(-1) == torch.tensor(labels)).sum()
    torch.testing.assert_close(loss, expected, rtol=1e-5, atol=1e-6)
    assert ours.classifier is not None
    torch.testing.assert_close(
        ours.classifier.weight.grad, theirs.classifier.weight.grad, rtol=1e-3, atol=1e-5
    )


# What seqeval 1.2.2 gives.
CASES = [
    ([], []),
    (["O", "O"], []),
    (["B-PER", "I-PER", "O", "B-LOC"], [("PER", 0, 1), ("LOC", 3, 3)]),
    (["I-PER", "I-PER"], [("PER", 0, 1)]),
    (["B-PER", "B-PER"], [("PER", 0, 0), ("PER", 1, 1)]),
    (["I-PER", "I-LOC"], [("PER", 0, 0), ("LOC", 1, 1)]),
    (["O", "I-PER", "B-PER"], [("PER", 1, 1), ("PER", 2, 2)]),
    (["S-A", "B-A", "E-A", "I-A"], [("A", 0, 0), ("A", 1, 2), ("A", 3, 3)]),
    (["E-A", "E-A"], [("A", 0, 0), ("A", 1, 1)]),
    (["B-first-name", "I-first-name"], [("first-name", 0, 1)]),
    (["B", "I", "O"], [("_", 0, 1)]),
    (["O", "E-A", "I-A"], [("A", 1, 1), ("A", 2, 2)]),
    (["B-A", "S-A", "I-A"], [("A", 0, 0), ("A", 1, 1), ("A", 2, 2)]),
    (["B-A", "O", "I-A"], [("A", 0, 0), ("A", 2, 2)]),
    (["E-A", "I-B"], [("A", 0, 0), ("B", 1, 1)]),
]


@pytest.mark.parametrize(("tags", "entities"), CASES)
def test_entities_are_those_of_seqeval(
    tags: list[str], entities: list[tuple[str, int, int]]
) -> None:
    assert entities_of(tags) == entities


@given(st.lists(st.sampled_from(["O", "B-X", "I-X", "B-Y", "I-Y"]), max_size=12))
def test_every_word_with_a_tag_is_in_one_entity(tags: list[str]) -> None:
    covered = [place for _, first, last in entities_of(tags) for place in range(first, last + 1)]
    assert covered == [place for place, tag in enumerate(tags) if tag != "O"]


@given(st.data())
def test_each_word_of_a_long_sentence_counts_once_and_entities_stay_whole(
    tiny_tokenizer: Tokenizer, data: st.DataObject
) -> None:
    words = data.draw(
        st.lists(st.sampled_from(["ada", "lovelaces", "in", "londonings", "."]), min_size=1,
                 max_size=40)
    )  # fmt: skip
    tags = [data.draw(st.sampled_from(TAGS)) for _ in words]
    length = data.draw(st.integers(10, 24))
    objective = TokenClassification(TAGS)
    examples = list(objective.encode(row_of(words, tags), Reading(tiny_tokenizer, None, length)))
    labels = [[int(x) for x in e.labels if x != IGNORED] for e in examples if e.labels is not None]
    assert [TAGS[x] for part in labels for x in part] == tags
    assert all(len(e.sequences[0]) <= length for e in examples)
    longest = max([b - a + 1 for _, a, b in entities_of(tags)], default=0)
    if longest <= 1 and not any(tag.startswith("I-") for tag in tags):
        found = sum(len(entities_of([TAGS[x] for x in part])) for part in labels)
        assert found == len(entities_of(tags))


@pytest.fixture(scope="module")
def tiny_tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    return Tokenizer.from_folder(base_folder("bert", tmp_path_factory.mktemp("tokenizer")))


def test_windows_overlap_by_a_quarter_of_what_they_hold(tiny_tokenizer: Tokenizer) -> None:
    row = row_of(["in"] * 20, ["O"] * 20)
    count = len(tiny_tokenizer.encode("in", add_special_tokens=False))
    for length, overlap in ((10, 2), (13, 2), (14, 3)):
        found = TokenClassification(TAGS).encode(row, Reading(tiny_tokenizer, None, length))
        steps = range(0, 20 * count - overlap, length - 2 - overlap)
        inside = [min(length - 2, 20 * count - start) for start in steps]
        assert [len(example.sequences[0]) - 2 for example in found] == inside


def test_windows_do_not_change_inside_an_entity(tiny_tokenizer: Tokenizer) -> None:
    objective = TokenClassification(TAGS)
    words = ["ada"] * 30
    for start in range(30 - 4):
        tags = ["O"] * 30
        tags[start : start + 4] = ["B-PER", "I-PER", "I-PER", "I-PER"]
        found = []
        for example in objective.encode(row_of(words, tags), Reading(tiny_tokenizer, None, 22)):
            assert example.labels is not None
            part = [TAGS[x] for x in example.labels if x != IGNORED]
            found += [kind for kind, _, _ in entities_of(part)]
        assert found == ["PER"]


@pytest.mark.parametrize("name", ["bert", "roberta", "deberta", "modernbert", "llama"])
def test_the_result_has_equal_logits_in_transformers(name: str, tmp_path: Path) -> None:
    base = base_folder(name, tmp_path / "base")
    rows = [{"tokens": words, "tags": tags} for words, tags in SENTENCES] * 3
    data = write_rows(tmp_path / "rows.jsonl", rows)
    result = train(read_recipe(recipe_for(tmp_path, base, "token-classification", data)))
    theirs = transformers.AutoModelForTokenClassification.from_pretrained(result.folder).eval()
    assert type(theirs).__name__ == f"{BASES[name][2]}ForTokenClassification"
    loaded = load(result.folder)
    assert (loaded.kind, loaded.labels) == ("token-classify", TAGS)
    assert theirs.config.id2label == dict(enumerate(TAGS))
    ids = torch.tensor([[2, 7, 8, 9, 3]])
    with torch.no_grad():
        expected, found = theirs(ids).logits, loaded.module(ids).logits
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


def test_a_tagger_learns_and_runs_as_a_task(tmp_path: Path) -> None:
    base = base_folder("bert", tmp_path / "base")
    rows = [{"tokens": words, "tags": tags} for words, tags in SENTENCES] * 4
    data = write_rows(tmp_path / "rows.jsonl", rows)
    held = write_rows(tmp_path / "held.jsonl", rows[:3])
    recipe = recipe_for(
        tmp_path, base, "token-classification", data,
        steps=60, lr=3e-3, validation=[str(held)], metric="f1",
    )  # fmt: skip
    result = train(read_recipe(recipe))
    assert result.values["f1"] == result.values["precision"] == result.values["recall"] == 1
    task = lmstack.task("ner", str(result.folder))
    found = task("ada lovelace works in london")
    assert [(e.label, e.start, e.end) for e in found.entities] == [("PER", 0, 12), ("LOC", 22, 28)]


def test_numbers_count_through_the_names_that_are_given(tmp_path: Path) -> None:
    folder = base_folder("bert", tmp_path)
    row = Row({"tokens": ["ada", "works"], "tags": [2, 5]}, "")
    (example,) = TokenClassification(TAGS).encode(row, reading_of(folder))
    assert example.labels is not None
    np.testing.assert_array_equal(example.labels[example.labels != IGNORED], [2, 5])


def test_an_unknown_tag_is_said(tmp_path: Path) -> None:
    folder = base_folder("bert", tmp_path)
    with pytest.raises(InputError, match="the tag 'B-CAR'") as said:
        list(TokenClassification(TAGS).encode(row_of(["a"], ["B-CAR"]), reading_of(folder)))
    assert said.value.hint == ", ".join(TAGS)
    many = tuple(f"B-{number}" for number in range(30))
    with pytest.raises(InputError) as said:
        list(TokenClassification(many).encode(row_of(["a"], ["B-CAR"]), reading_of(folder)))
    assert said.value.hint == ", ".join(many[:20])


def test_tags_follow_from_the_data_unless_they_are_given(tmp_path: Path) -> None:
    base = load(base_folder("bert", tmp_path))

    def fitted(*tags: list[str] | list[int], labels: tuple[str, ...] = ()) -> tuple[str, ...]:
        rows = [Row({"tokens": ["a"] * len(each), "tags": each}, "") for each in tags]
        of = dataclasses.replace(base, labels=labels)
        return TokenClassification().fitted(of, lambda: iter([Row({}, ""), *rows])).tags

    assert fitted(["O", "B-X"], ["B-A"]) == ("B-A", "B-X", "O")
    assert fitted([10, 9], [2]) == ("2", "9", "10")
    assert fitted(["O", "B-X"], labels=("O", "B-X")) == ("O", "B-X")  # the base's head goes on
    assert fitted(["O", "B-X"], labels=("O", "B-Y")) == ("B-X", "O")
    given_tags = TokenClassification(("x", 3)).fitted(base, lambda: iter([]))
    assert given_tags.tags == given_tags.labels(base) == ("x", "3")
    with pytest.raises(InputError, match="the data has 1 tags: O", check=about("data")):
        fitted(["O", "O", ""])


@pytest.mark.parametrize(
    ("tags", "names"),
    [
        ((), ["precision", "recall", "f1"]),
        (TAGS, ["precision", "recall", "f1"]),
        (("NOUN", "VERB"), []),
    ],
)
def test_entities_are_reported_of_tags_that_have_some(
    tags: tuple[str, ...], names: list[str]
) -> None:
    found = TokenClassification(tags).metrics()
    assert [metric.name for metric in found] == ["loss", "accuracy", *names]
    assert all(metric.higher_is_better for metric in found[1:])


def test_what_is_right_of_entities_is_counted_sentence_by_sentence() -> None:
    objective = TokenClassification(TAGS)

    def places(tags: str) -> torch.Tensor:
        return torch.tensor([TAGS.index(tag) for tag in tags.split()])

    predicted = places("B-PER I-PER O B-LOC B-LOC O")
    wanted = places("B-PER I-PER B-LOC O B-LOC O")
    (counts,) = objective._entities(predicted, wanted, [2, 4]).values()
    assert counts.tolist() == [2, 3, 3]
    # Where a sentence ends an entity does, too.
    (counts,) = objective._entities(places("B-PER I-PER"), places("B-PER I-PER"), [1, 1]).values()
    assert counts.tolist() == [2, 2, 2]
    found = objective.reported({"loss": 1.0}, {"entities": torch.tensor([1.0, 2.0, 4.0])})
    assert found == {"loss": 1.0, "precision": 0.5, "recall": 0.25, "f1": 2 / 6}
    nothing = objective.reported({}, {"entities": torch.zeros(3)})
    assert nothing == {"precision": 0.0, "recall": 0.0, "f1": 0.0}
    assert objective.reported({"loss": 1.0}, {}) == {"loss": 1.0}


@pytest.mark.parametrize(
    ("inner", "change"),
    [((), 4), ((4,), 3), ((4, 5), 3), ((3, 4), 5), ((3, 4, 5), 4), ((1,), 4)],
)
def test_windows_change_near_the_middle_of_what_they_share_and_in_no_entity(
    inner: tuple[int, ...], change: int
) -> None:
    objective = TokenClassification(tags=("O", "B-city", "I-city"))
    tags = [2 if n in inner else 1 if n + 1 in inner else 0 for n in range(9)]
    windows: list[dict[int, int]] = [dict.fromkeys(range(6), 0), dict.fromkeys(range(3, 9), 0)]
    assert objective._bounds(windows, tags) == [(0, change), (change, 9)]
    apart = [dict.fromkeys(range(4), 0), {}, dict.fromkeys(range(4, 9), 0)]
    assert objective._bounds(apart, tags) == [(0, 4), (4, 4), (4, 9)]
