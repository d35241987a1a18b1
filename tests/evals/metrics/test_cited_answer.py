"""Answers about documents: every figure against one that is worked out by hand."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.errors import about
from tests.evals.metrics.outputs import figure

from lmstack.core import InputError, Likelihood
from lmstack.evals.metrics import CitedAnswer, CitedGold
from lmstack.evals.metrics.cited_answer import holds, without_marks
from lmstack.evals.metrics.cited_facts import CitedFacts, FactSpan
from lmstack.evals.task import ModelOutput, Sample

EVIDENCE = {"path": "fares.md", "quote": "expires two years"}
CARD = {"answers": ["two years", "2 years"], "evidence": [EVIDENCE]}
UNKNOWN: dict[str, Any] = {"answerable": False}
# Offsets are those of an imagined file fares.md.
FOUND = [
    {"source": "history.md", "start": 0, "end": 40, "text": "The ferry began in 1901."},
    {"source": "fares.md", "start": 100, "end": 160, "text": "The card expires two years after."},
    {"source": "fares.md", "start": 200, "end": 260, "text": "A child pays half."},
]
AT = [[{"source": "fares.md", "spans": [[109, 126]]}]]


def question(row: dict[str, Any]) -> Sample:
    return Sample("q", "How long?", metadata={"gold": CitedGold.of_row(row).to_json()})


def cited(
    start: int = 100, end: int = 133, quote: str = "The card expires two years after.", **more: Any
) -> dict[str, Any]:
    place = {"id": 1, "source": "fares.md", "start": start, "end": end}
    return {**place, "quote": quote, "text": quote, "page": None, "text_page": None, **more}


def said(
    text: str = "The card expires two years after. [1]",
    *citations: dict[str, Any],
    likelihoods: tuple[Likelihood, ...] = (),
    **facts: Any,
) -> ModelOutput:
    usual = {"abstained": False, "confidence": 0.8, "passages": FOUND, "read": 2, "evidence": AT}
    facts = {**usual, "citations": list(citations or (cited(),)), **facts}
    return ModelOutput(text, likelihoods=likelihoods, facts=facts)


def scores(row: dict[str, Any], output: ModelOutput, **settings: Any) -> dict[str, float]:
    return dict(CitedAnswer(**settings).score(question(row), output))


def test_a_right_answer_with_its_evidence() -> None:
    found = scores(CARD, said())
    for name in ("correct", "answer_correct", "answered", "answer_in_passages", "citations"):
        assert found[name] == 1, name
    assert (found["valid_citations"], found["precise_citations"]) == (1, 1)
    assert (found["evidence_cited"], found["evidence"], found["evidence_found"]) == (1, 1, 1)
    assert found["wrongly_refused"] == 0
    assert math.isnan(found["wrongly_answered"])


def test_search_is_of_documents_each_at_its_first_place() -> None:
    found = scores(CARD, said())
    assert found["recall@10"] == 1
    assert found["mrr@10"] == 0.5
    assert found["ndcg@10"] == pytest.approx(1 / math.log2(3))
    narrow = scores(CARD, said(), k=1)
    assert (narrow["recall@1"], narrow["mrr@1"], narrow["evidence_found"]) == (0, 0, 0)


def test_what_was_found_and_not_read_cannot_be_answered_from() -> None:
    assert scores(CARD, said(read=1))["answer_in_passages"] == 0


def test_a_refusal_is_wrong_where_there_is_an_answer_and_right_where_there_is_none() -> None:
    refused = said("Closest: two years", abstained=True)
    found = scores(CARD, refused)
    assert (found["correct"], found["answer_correct"], found["wrongly_refused"]) == (0, 0, 1)
    assert (found["exact_match"], found["f1"]) == (0, 0)
    right = scores(UNKNOWN, refused)
    assert (right["correct"], right["wrongly_answered"]) == (1, 0)
    wrong = scores(UNKNOWN, said(evidence=[]))
    assert (wrong["correct"], wrong["wrongly_answered"]) == (0, 1)
    for name in ("wrongly_refused", "answer_correct", "ndcg@10", "precise_citations"):
        assert math.isnan(wrong[name]), name


def test_words_are_compared_without_the_numbers_of_citations() -> None:
    exact = scores(CARD, said("Two years [1]."))
    assert (exact["exact_match"], exact["f1"]) == (1, 1)
    # Of 6 words 2 are right: precision 1/3, recall 1. SQuAD leaves out "The".
    longer = scores(CARD, said("The card expires two years after now. [1]"))
    assert longer["exact_match"] == 0
    assert longer["f1"] == pytest.approx(2 * (1 / 3) * 1 / (1 / 3 + 1))


@pytest.mark.parametrize(
    ("citation", "text"),
    [
        (cited(text="The card expires two weeks after."), "x [1]"),
        (cited(text=None), "x [1]"),
        (cited(id=2), "x [1]"),
        (cited(page=3, text_page=4), "x [1]"),
        (cited(start=90), "x [1]"),
        (cited(source="other.md"), "x [1]"),
    ],
)
def test_a_citation_is_invalid_that_cannot_be_looked_up(
    citation: dict[str, Any], text: str
) -> None:
    found = scores(CARD, said(text, citation))
    assert (found["citations"], found["valid_citations"]) == (1, 0)


def test_a_citation_is_precise_that_touches_evidence_or_holds_an_answer() -> None:
    beside = cited(200, 260, "A child pays half.")
    also = cited(200, 260, "Cards of 2 years are blue.")
    touching = cited(126 - 1, 160, "s after.")
    found = scores(CARD, said("x [1]", beside, also, touching))
    assert (found["precise_citations"], found["citations_on_evidence"]) == (2, 1)
    apart = cited(126, 160, " after.")
    assert scores(CARD, said("x [1]", apart))["citations_on_evidence"] == 0


def test_where_only_documents_are_known_a_citation_of_one_is_precise() -> None:
    row = {"sources": ["fares.md"]}
    there, elsewhere = cited(200, 260, "A child pays half."), cited(source="history.md")
    found = scores(row, said("x [1]", there, elsewhere, evidence=[]))
    assert found["precise_citations"] == 1
    assert math.isnan(found["correct"])
    assert math.isnan(found["evidence"])


def test_all_parts_of_a_question_have_to_be_answered_and_cited() -> None:
    row = {
        "answers": [["two years"], ["18 crowns", "18 kr"]],
        "evidence": [[EVIDENCE], [{"path": "fares.md", "quote": "for 18 crowns"}]],
    }
    both = [*AT, [{"source": "fares.md", "spans": [[300, 313]]}]]
    half = scores(row, said(evidence=both))
    assert half["correct"] == 0
    assert (half["evidence"], half["evidence_cited"], half["evidence_found"]) == (2, 1, 1)
    assert math.isnan(half["f1"])
    assert scores(row, said("two years and 18 kr. [1]", evidence=both))["correct"] == 1


def test_accepted_answers_may_be_patterns() -> None:
    row = {"answers": [r"(two|2)\s+years?"]}
    assert scores(row, said("TWO  YEARS"), patterns=True)["correct"] == 1
    assert scores(row, said("two years"))["correct"] == 0
    with pytest.raises(InputError, match="no regular expression", check=about("answers")):
        scores({"answers": ["("]}, said(), patterns=True)


def test_faithfulness_is_what_is_gained_over_all_tokens() -> None:
    pairs = [
        (Likelihood(-2.0, 4, True), Likelihood(-10.0, 4, True)),
        (Likelihood(-6.0, 12, True), Likelihood(-6.0, 12, True)),
        (),
    ]
    metric = next(m for m in CitedAnswer().metrics if m.name == "faithfulness")
    table = [scores(CARD, said(likelihoods=each)) for each in pairs]
    assert figure(metric, table) == pytest.approx((8 + 0) / (4 + 12))
    with pytest.raises(InputError, match="1 likelihoods", check=about("scorer")):
        scores(CARD, said(likelihoods=pairs[0][:1]))


def test_shares_of_citations_are_of_all_citations() -> None:
    one = said("x [1]", cited())
    three = said("x [1]", cited(), cited(text=None), cited(200, 260, "A child.", text="B"))
    table = [scores(CARD, each) for each in (one, three)]
    by_name = {metric.name: metric for metric in CitedAnswer().metrics}
    assert figure(by_name["citation_validity"], table) == 2 / 4
    assert figure(by_name["citation_precision"], table) == 3 / 4
    assert figure(by_name["citation_recall"], table) == 1
    assert figure(by_name["evidence_recall@10"], table) == 1


def test_confidence_that_is_not_said_is_the_decision() -> None:
    metric = next(m for m in CitedAnswer().metrics if m.name == "confidence_auc")
    sure = [(CARD, 0.9), (CARD, 0.3), (UNKNOWN, 0.5), (UNKNOWN, 0.1)]
    table = [scores(row, said(confidence=each, evidence=[])) for row, each in sure]
    assert figure(metric, table) == 3 / 4
    decided = [(CARD, False), (CARD, True), (UNKNOWN, True), (UNKNOWN, True)]
    table = [scores(row, said(confidence=None, abstained=no, evidence=[])) for row, no in decided]
    assert figure(metric, table) == 3 / 4


def test_metrics_are_those_that_the_questions_can_have() -> None:
    def names(*rows: dict[str, Any]) -> set[str]:
        samples = [question(row) for row in rows]
        return {metric.name for metric in CitedAnswer().metrics_for(samples)}

    every = {metric.name for metric in CitedAnswer().metrics}
    assert names(CARD, UNKNOWN) == every
    assert names(CARD) == every - {"wrongly_answered", "confidence_auc"}
    plain = names({"answers": "two years"})
    assert not plain & {"ndcg@10", "citation_recall", "evidence_recall@10"}
    assert {"correct", "wrongly_answered", "citation_validity"} <= names(UNKNOWN)
    assert not names(UNKNOWN) & {"answer_correct", "f1", "citation_precision", "wrongly_refused"}
    assert CitedAnswer().metrics[0].name == "correct"


@pytest.mark.parametrize(
    ("text", "answer", "found"),
    [
        ("It costs 1,200 crowns.", "1200", True),
        ("It costs 11,200 crowns.", "1200", False),
        ("It costs 12.50.", "12", False),
        ("It costs 12.", "12", True),
        ("Version 1.5", "5", False),
        ("in TWO\n years", "two years", True),
        ("twofold", "two", False),
    ],
)
def test_an_answer_is_held_as_words_and_numbers_of_its_own(
    text: str, answer: str, found: bool
) -> None:
    assert holds(text, answer) is found


@given(st.text(alphabet="ab 1", max_size=12), st.integers(1, 99))
def test_marks_leave_no_trace(text: str, number: int) -> None:
    assert without_marks(f"{text} [{number}]") == text.strip()


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"answerable": True}, "neither answer nor source"),
        ({"answerable": False, "answers": ["x"]}, "an answer or a source"),
        ({"answerable": "no"}, "not true or false"),
        ({"answers": [{"x": 1}]}, "not text"),
        ({"sources": "fares.md"}, "write a list"),
        ({"evidence": [{"path": "a.md", "qoute": "x"}]}, "did you mean 'quote'?"),
        ({"evidence": [{"path": "a.md"}]}, "without a path and either"),
        ({"evidence": [{"path": "a.md", "pattern": "("}]}, "no regular expression"),
        ({"evidence": {"path": "a.md"}}, "not a list"),
    ],
)
def test_a_row_that_contradicts_itself_is_refused(row: dict[str, Any], message: str) -> None:
    with pytest.raises(
        InputError, check=about("answerable", "answers", "evidence", "sources")
    ) as error:
        CitedGold.of_row(row)
    assert message in f"{error.value.message} {error.value.hint}"


def test_what_is_known_survives_json() -> None:
    row = {
        "answers": [["a", "b"], ["c"]],
        "sources": ["x.md"],
        "evidence": [[EVIDENCE], [EVIDENCE]],
    }
    gold = CitedGold.of_row(row)
    assert CitedGold.of(Sample("q", "?", metadata={"gold": gold.to_json()})) == gold
    assert CitedGold.of_row({"answers": 18}).parts == (("18",),)


def test_other_outputs_are_no_answers_about_documents() -> None:
    with pytest.raises(InputError, match="says nothing of passages", check=about("scorer")):
        CitedAnswer().score(question(CARD), ModelOutput("two years"))
    with pytest.raises(InputError, match="no question about documents", check=about("scorer")):
        CitedAnswer().score(Sample("q", "?"), said())


def test_each_citation_is_counted_by_itself() -> None:
    """Two on the evidence, one of them twice, before one that is not; two marks of three."""
    first, second = cited(), cited(id=2)
    apart = cited(200, 260, "A child pays half.", id=3)
    found = scores(CARD, said("x [1] y [2]", first, second, apart))
    assert (found["citations"], found["valid_citations"]) == (3, 2)
    assert (found["citations_on_evidence"], found["precise_citations"]) == (2, 2)
    assert scores(CARD, said(evidence=[]))["evidence_cited"] == 0


def test_a_quote_that_answers_in_part_is_precise_and_without_answers_the_document_is_enough() -> (
    None
):
    row = {"answers": [["18 crowns"], ["two years"]], "evidence": [[EVIDENCE], [EVIDENCE]]}
    away = cited(500, 530, "It costs 18 crowns.")
    assert scores(row, said("x [1]", away, evidence=[*AT, *AT]))["precise_citations"] == 1
    unanswered = {"evidence": [EVIDENCE]}
    assert scores(unanswered, said("x [1]", away))["precise_citations"] == 0


def test_what_is_asked_of_the_judge_of_words_is_the_best_of_the_answers() -> None:
    found = scores({"answers": ["blue", "expires two years"]}, said("It expires two. [1]"))
    assert found["f1"] == pytest.approx(2 * (2 / 3) * (2 / 3) / (2 / 3 + 2 / 3))
    assert found["exact_match"] == 0
    assert scores({"answers": ["blue", "green"]}, said("Green"))["exact_match"] == 1
    patterns = scores({"answers": ["b.ue"]}, said("Blue"), patterns=True)
    assert patterns["correct"] == 1
    assert math.isnan(patterns["exact_match"])


def test_metrics_by_the_questions_that_are_there() -> None:
    def missing(*rows: dict[str, Any], **settings: Any) -> set[str]:
        scorer = CitedAnswer(**settings)
        found = scorer.metrics_for([question(row) for row in rows])
        return {each.name for each in scorer.metrics} - {each.name for each in found}

    of_search = {"ndcg@3", "recall@3", "mrr@3"}
    sources = {"sources": ["fares.md"]}
    assert missing(sources, UNKNOWN, k=3) == {
        *("answer_correct", "right_when_answered", "exact_match", "f1", "answer_in_passages"),
        *("citation_recall", "evidence_recall@3"),
    }
    several = {"answers": [["a"], ["b"]], "sources": ["fares.md"]}
    assert missing(several, UNKNOWN, k=3) == {
        *("exact_match", "f1", "citation_recall", "evidence_recall@3"),
    }
    plain = {"answers": ["a"]}
    assert missing(plain, UNKNOWN, k=3) == {*of_search, "citation_recall", "evidence_recall@3"}
    assert missing(several, CARD, UNKNOWN) == set()
    assert {"exact_match", "f1"} & {m.name for m in CitedAnswer(patterns=True).metrics} == set()
    better = {metric.name: metric.better for metric in CitedAnswer().metrics}
    assert {name for name, each in better.items() if each == "lower"} == {
        "wrongly_refused",
        "wrongly_answered",
    }
    assert {m.name for m in CitedAnswer().metrics if m.is_share} == {
        *("correct", "answer_correct", "wrongly_refused", "wrongly_answered"),
        *("exact_match", "answer_in_passages"),
    }
    assert (CitedAnswer().k, CitedAnswer().patterns) == (10, False)


@pytest.mark.parametrize(
    ("span", "touches", "lies_in"),
    [
        ((10, 20), True, True),
        ((5, 10), False, False),
        ((5, 11), True, False),
        ((20, 25), False, False),
        ((19, 25), True, False),
        ((12, 15), True, True),
        ((5, 25), True, False),
    ],
)
def test_spans_touch_where_they_share_a_character(
    span: tuple[int, int], touches: bool, lies_in: bool
) -> None:
    others = [FactSpan("b.md", 0, 99), FactSpan("a.md", 10, 20)]
    found = FactSpan("a.md", *span)
    assert (found.touches(others), found.lies_in(others)) == (touches, lies_in)
    assert not found.touches(others[:1])
    assert not found.lies_in([])


@pytest.mark.parametrize(
    ("row", "param", "hint"),
    [
        ({"evidence": [3]}, "evidence", "write {path"),
        ({"evidence": [{"path": "a.md", "xyzzy": "x"}]}, "evidence", "write {path"),
        ({"evidence": [{"path": "a.md", "quote": "x", "pattern": "y"}]}, "evidence", "write {path"),
        ({"evidence": [{"path": "a.md", "quote": " "}]}, "evidence", "write {path"),
        ({"evidence": [{"path": 1, "quote": "x"}]}, "evidence", "write {path"),
        ({"evidence": [{"path": "a.md", "pattern": "("}]}, "evidence", None),
        ({"sources": [""]}, "sources", "write a list"),
        ({"sources": [1]}, "sources", "write a list"),
        ({"answerable": 1, "answers": ["x"]}, "answerable", None),
        ({"answerable": False, "sources": ["x"]}, "answerable", "correct one"),
        ({"answerable": True}, "answerable", "correct one"),
    ],
)
def test_which_field_of_a_row_is_wrong(row: dict[str, Any], param: str, hint: str | None) -> None:
    with pytest.raises(InputError, check=about(param)) as error:
        CitedGold.of_row(row)
    assert (error.value.hint or "").startswith(hint or "")


def test_what_a_row_says_is_read_by_part() -> None:
    quoted = CitedGold.of_row({"evidence": [{"path": "a.md", "quote": "x  (y)"}]})
    assert quoted.evidence[0][0].pattern == r"x\s+\(y\)"
    assert (quoted.sources, quoted.answerable) == (("a.md",), True)
    two = CitedGold.of_row({"evidence": [EVIDENCE, EVIDENCE], "answers": []})
    assert (len(two.evidence), two.sources, two.parts) == (2, ("fares.md",), ())
    nested = CitedGold.of_row({"evidence": [[EVIDENCE], []], "sources": ["b.md"], "texts": "x"})
    assert (len(nested.evidence), nested.sources, nested.parts) == (1, ("b.md",), ())
    assert CitedGold.of_row({"texts": "x", "answers": "y"}, "texts").parts == (("x",),)
    assert CitedGold.of_row({}) == CitedGold(False)
    assert not CitedGold.of_row({"sources": None}).answerable


def test_facts_are_read_and_a_ranking_has_each_source_once() -> None:
    facts = CitedFacts.of(question(CARD), said(confidence="0.5", abstained=0, read="1"))
    assert (facts.confidence, facts.abstained, facts.read) == (0.5, False, 1)
    assert facts.ranking == ["history.md", "fares.md"]
    assert facts.evidence == ((FactSpan("fares.md", 109, 126),),)
    assert facts.citations[0].is_true
    lone = {"id": 1, "source": "a", "start": 0, "end": 1, "quote": "q", "text": "q"}
    assert CitedFacts.of(question(CARD), said("x", lone)).citations[0].is_true
    for broken in ({"read": "x"}, {"evidence": [[{"spans": [[1, 2]]}]]}, {"passages": None}):
        with pytest.raises(InputError, check=about("scorer")):
            CitedFacts.of(question(CARD), said(**broken))


@pytest.mark.parametrize(
    ("page", "text_page", "is_true"),
    [(3, 3, True), (3, 4, False), (3, None, False), (None, 3, False)],
)
def test_the_page_that_is_named_is_the_one_that_has_it(
    page: Any, text_page: Any, is_true: bool
) -> None:
    facts = CitedFacts.of(question(CARD), said("x", cited(page=page, text_page=text_page)))
    assert facts.citations[0].is_true is is_true
    assert facts.citations[0].id == 1


def test_what_was_read_is_one_text_of_all_passages() -> None:
    """An answer may begin in one and end in the next."""
    parts = [{**FOUND[0], "text": "It is two"}, {**FOUND[1], "text": "years long"}]
    assert scores(CARD, said(passages=parts, read=2))["answer_in_passages"] == 1
    assert scores(CARD, said(passages=parts, read=1))["answer_in_passages"] == 0
