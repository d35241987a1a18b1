"""Token classification equals transformers' pipeline: strategies, words, windows."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import lmstack
from lmstack.core import ContextLengthError, InputError
from lmstack.serve.tasks import Entity
from lmstack.serve.tasks.tagging import is_seam, without_overlaps

from .conftest import TEXTS, Both, Make

LABELS = ("O", "B-PER", "I-PER", "B-LOC", "I-LOC", "MISC")
STRATEGIES = ("none", "simple", "first", "average", "max")
LONG = " ".join(TEXTS) * 6

pytestmark = pytest.mark.filterwarnings("ignore:Tokenizer does not support real words")


@pytest.fixture(scope="module")
def bert(make: Make) -> Both:
    return make("BertForTokenClassification", LABELS)


@pytest.fixture(scope="module")
def roberta(make: Make) -> Both:
    return make("RobertaForTokenClassification", LABELS)


def theirs(found: list[dict[str, Any]]) -> list[Entity]:
    return [
        Entity(
            label=each.get("entity", each.get("entity_group")),
            score=pytest.approx(float(each["score"]), abs=1e-5),
            word=each["word"],
            start=each["start"],
            end=each["end"],
            index=each.get("index"),
        )
        for each in found
    ]


@pytest.mark.parametrize("aggregation", STRATEGIES)
@pytest.mark.parametrize("family", ["bert", "roberta"])
def test_every_strategy_gives_what_transformers_gives(
    request: pytest.FixtureRequest, family: str, aggregation: str
) -> None:
    both: Both = request.getfixturevalue(family)
    expected = both.pipeline("token-classification", aggregation_strategy=aggregation)
    ours = lmstack.task("ner", both.ours, aggregation=aggregation)
    texts = [text for text in TEXTS if len(text) < 60]
    for text, found in zip(texts, ours(texts), strict=True):
        assert list(found.entities) == theirs(expected(text))


def test_the_strategies_differ_on_these_texts(bert: Both) -> None:
    ner = lmstack.task("ner", bert.ours)
    found = {strategy: str(ner(TEXTS, aggregation=strategy)) for strategy in STRATEGIES}
    assert len(set(found.values())) == len(STRATEGIES)


def test_by_default_what_is_written_together_is_one_entity(
    bert: Both, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Here every token begins one, as the model has it."""
    ner = lmstack.task("ner", bert.ours)
    begins = torch.eye(len(LABELS))[LABELS.index("B-PER")] * 9
    monkeypatch.setattr(
        ner.encoder, "logits", lambda windows: [begins.repeat(len(each), 1) for each in windows]
    )
    text = "ada-love at paris"
    entities = ner(text).entities
    assert [text[each.start : each.end] for each in entities] == ["ada-love", "at", "paris"]
    assert {each.label for each in entities} == {"PER"}
    apart = ner(text, aggregation="first").entities
    assert [text[each.start : each.end] for each in apart] == ["ada", "-", "love", "at", "paris"]


@pytest.mark.parametrize(
    ("text", "end", "start", "together"),
    [
        ("bob@example", 3, 3, True),
        ("bob@example", 4, 4, True),
        ("bob @example", 3, 4, False),
        ("张三李四", 2, 2, False),
        ("bobalice", 3, 3, False),
        ("(555", 1, 1, True),
    ],
)
def test_only_punctuation_holds_together_what_the_model_begins_anew(
    text: str, end: int, start: int, together: bool
) -> None:
    assert is_seam(text, end, start) == together


def test_ignored_labels_are_left_out(bert: Both) -> None:
    options = {"ignore_labels": ["PER", "O"]}
    expected = bert.pipeline("ner", aggregation_strategy="simple", **options)(TEXTS[0])
    found = lmstack.task("ner", bert.ours, aggregation="simple", **options)(TEXTS[0])
    assert list(found.entities) == theirs(expected)
    assert "PER" not in {entity.label for entity in found.entities}


@pytest.mark.parametrize("stride", [0, 7, 30])
@pytest.mark.parametrize("aggregation", ["simple", "first", "max"])
def test_a_long_text_is_tagged_in_windows_as_transformers_does(
    bert: Both, aggregation: str, stride: int
) -> None:
    expected = bert.pipeline("ner", aggregation_strategy=aggregation, stride=stride)(LONG)
    found = lmstack.task("ner", bert.ours, aggregation=aggregation, stride=stride)(LONG)
    assert list(found.entities) == theirs(expected)
    assert found.entities[-1].end > len(LONG) - 20


def test_the_end_of_a_long_text_is_tagged_without_being_asked(bert: Both) -> None:
    found = lmstack.task("ner", bert.ours)(LONG)
    assert found.entities[-1].end > len(LONG) - 20


def test_single_tokens_of_a_text_longer_than_the_window_are_refused(bert: Both) -> None:
    with pytest.raises(ContextLengthError, match="longer than the 64 tokens"):
        lmstack.task("ner", bert.ours, aggregation="none")(LONG)


def test_a_text_without_words_has_no_entities(bert: Both) -> None:
    assert lmstack.task("ner", bert.ours)("").entities == ()


def test_of_overlapping_entities_the_longest_then_the_surest_stays() -> None:
    def entity(start: int, end: int, score: float) -> Entity:
        return Entity("PER", score, "", start, end)

    given = [entity(0, 4, 0.9), entity(2, 8, 0.1), entity(9, 12, 0.5), entity(9, 12, 0.7)]
    assert without_overlaps(given) == [given[1], given[3]]


def test_an_unknown_strategy_names_those_there_are(bert: Both) -> None:
    with pytest.raises(InputError, match="none, simple, first, average, max"):
        lmstack.task("ner", bert.ours, aggregation="best")
