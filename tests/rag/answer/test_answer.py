"""A question is answered by a quotation, by what is closest, or by nothing; never made up."""

from __future__ import annotations

import asyncio
import json

import pytest
from tests.word_reranker import CALIBRATION, WordReranker

from lmstack.core import InputError, Message, ScriptedModel
from lmstack.rag import (
    NOTHING,
    AnswerConfig,
    AnswerDone,
    Answerer,
    CitationFound,
    Index,
    OutcomeKnown,
    PassagesFound,
    SentenceChecked,
    TextDelta,
)
from lmstack.rag.retrieve.rewriting import is_follow_up, retrieval_query, turns_of

QUESTION = "How many requests may a client send a minute?"
# Some of its words are in the documents, and all of them together in no passage.
UNANSWERED = "Who won the chess match in the winter of peace?"


async def test_the_best_passage_is_quoted_and_no_model_is_asked(make_answerer, assert_valid):
    model = ScriptedModel()
    answer = await make_answerer(model).answer(QUESTION)
    assert answer.answer == (
        "A client may send sixty requests a minute. More are answered with status 429. [1]"
    )
    (citation,) = answer.citations
    assert (citation.path, citation.section) == ("docs/serving.md", ("Serving", "Limits"))
    assert citation.point == "A client may send sixty requests a minute."
    assert answer.outcome == "answer"
    assert answer.supported
    assert not model.requests
    assert answer.usage.total_tokens == 0
    assert_valid(answer)


async def test_without_a_reranker_the_embedder_chooses(index, assert_valid):
    answer = await Answerer(index, ScriptedModel()).answer("client requests a minute, how many?")
    assert answer.answer.startswith("A client may send sixty requests a minute.")
    assert_valid(answer)


async def test_a_model_that_nobody_fitted_answers_without_a_confidence(index):
    for reranker in (None, WordReranker()):
        answer = await Answerer(index, ScriptedModel(), reranker=reranker).answer(UNANSWERED)
        assert (answer.outcome, answer.confidence) == ("answer", None)
        assert len(answer.citations) == 2  # which of them is likelier, nobody knows


def _confidence(question: str, answer) -> float:
    hit = answer.hits[0]
    (share,) = WordReranker().score(question, [f"{hit.prefix}\n{hit.text}"])
    return CALIBRATION(float(share))


async def test_the_confidence_is_that_of_the_first_passage(make_answerer):
    for question in (QUESTION, UNANSWERED):
        answer = await make_answerer().answer(question)
        assert answer.confidence == pytest.approx(_confidence(question, answer), abs=1e-4)


@pytest.mark.parametrize(
    ("min_confidence", "min_closest", "outcome"),
    [
        (0.0, 0.0, "answer"),
        (0.09, 1.0, "answer"),
        (0.3, 0.0, "closest"),
        (0.3, 0.09, "closest"),
        (1.0, 0.09, "closest"),
        (0.3, 0.2, "nothing"),
        (0.3, 1.0, "nothing"),
    ],
)
async def test_how_certain_the_best_passage_is_decides_what_is_shown(
    make_answerer, assert_valid, min_confidence, min_closest, outcome
):
    answerer = make_answerer(min_confidence=min_confidence, min_closest=min_closest)
    answer = await answerer.answer(UNANSWERED)
    assert 0.09 < answer.confidence < 0.2
    assert answer.outcome == outcome
    assert answer.supported == (outcome == "answer")
    assert len(answer.citations) == {"answer": 1, "closest": 3, "nothing": 0}[outcome]
    assert (answer.answer == NOTHING) == (outcome == "nothing")
    assert answer.hits
    assert_valid(answer)


async def test_at_0_something_is_always_shown_and_at_1_only_what_is_certain(make_answerer):
    shown = await make_answerer(min_closest=0).answer("zyzzyva qwertz?")
    assert shown.outcome == "closest"
    assert shown.citations
    refused = make_answerer(min_closest=1)
    assert (await refused.answer("zyzzyva qwertz?")).outcome == "nothing"
    assert (await refused.answer(QUESTION)).outcome == "answer"


async def test_the_closest_are_quotations_apart_of_the_first_three_passages(
    make_answerer, assert_valid
):
    answer = await make_answerer(min_confidence=1).answer("Where was the tower lit, and when?")
    assert answer.outcome == "closest"
    assert len(answer.hits) > 3
    assert [c.passage for c in answer.citations] == [1, 2, 3]
    parts = answer.answer.split("\n\n")
    assert [part[-4:] for part in parts] == [" [1]", " [2]", " [3]"]
    assert answer.citations[0].path == "docs/more/lighthouse.txt"
    assert_valid(answer)


async def test_an_empty_index_answers_nothing(tmp_path, embedder):
    with Index.open(tmp_path / "empty", embedder) as index:
        answerer = Answerer(index, ScriptedModel(), AnswerConfig(min_closest=0))
        answer = await answerer.answer("anything?")
        assert not answerer.may_answer(await anext(answerer.stream("anything?")))
    assert (answer.outcome, answer.answer, answer.confidence) == ("nothing", NOTHING, None)


@pytest.mark.parametrize("question", [QUESTION, UNANSWERED])
async def test_the_first_event_tells_whether_an_answer_follows(make_answerer, question):
    answerer = make_answerer()
    events = [event async for event in answerer.stream(question)]
    assert answerer.may_answer(events[0]) == (events[-1].answer.outcome == "answer")


@pytest.mark.parametrize("question", [QUESTION, UNANSWERED])
async def test_events_come_in_order_and_make_the_answer(make_answerer, question):
    events = [event async for event in make_answerer().stream(question)]
    first, known, *between, last = events
    assert isinstance(first, PassagesFound)
    assert isinstance(known, OutcomeKnown)
    assert isinstance(last, AnswerDone)
    done = last.answer
    assert (first.hits, first.query, first.confidence) == (done.hits, done.query, done.confidence)
    assert known.outcome == done.outcome
    assert "".join(e.text for e in between if isinstance(e, TextDelta)) == done.answer
    for number, citation in enumerate(done.citations, 1):
        cited = between.index(CitationFound(citation))
        told = [e.text if isinstance(e, TextDelta) else "" for e in between]
        assert cited < next(n for n, text in enumerate(told) if f"[{number}]" in text)
    checked = [e.sentence for e in between if isinstance(e, SentenceChecked)]
    assert checked == list(done.sentences)


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"min_confidence": 0.3}, "0.16, less than 0.30"),
        ({"min_closest": 1, "min_confidence": 0.9}, "0.16, less than 0.90"),
        ({"min_confidence": 0.01}, ""),
    ],
)
async def test_the_reason_tells_how_certain_and_how_certain_is_enough(
    make_answerer, settings, reason
):
    events = [event async for event in make_answerer(**settings).stream(UNANSWERED)]
    assert events[1].reason.endswith(reason)
    assert bool(events[1].reason) == bool(reason)


async def test_quote_over_lines_and_markers_is_exact_in_the_file(
    index, docs, make_answerer, assert_valid
):
    (docs / "serving.md").write_text("- *Odd*   marks\n  stay in zebra quotes. Next.\n")
    index.update()
    answer = await make_answerer().answer("zebra quotes?")
    assert answer.citations[0].quote == "*Odd*   marks\n  stay in zebra quotes. Next."
    assert answer.answer == "*Odd* marks stay in zebra quotes. Next. [1]"
    assert_valid(answer)


async def test_a_quotation_is_as_long_as_it_may_be(make_answerer):
    short = await make_answerer(max_quote_chars=60).answer(QUESTION)
    assert short.answer == "A client may send sixty requests a minute. [1]"
    assert short.citations[0].quote == short.citations[0].point


@pytest.mark.parametrize(
    ("other", "quoted"),
    [
        ("The ferry to Iona is small.", 2),  # as many words as the first
        ("The ferry is small.", 1),
        ("It is small.", 1),
    ],
)
async def test_the_second_passage_is_quoted_too_where_it_is_as_likely_to_answer(
    index, docs, make_answerer, assert_valid, other, quoted
):
    (docs / "one.md").write_text("The ferry to Iona sails at nine.\n")
    (docs / "other.md").write_text(f"{other}\n")
    index.update()
    answer = await make_answerer().answer("When does the ferry to Iona leave?")
    assert answer.outcome == "answer"
    assert {c.path for c in answer.citations} <= {"docs/one.md", "docs/other.md"}
    assert quoted == 2 or answer.citations[0].path == "docs/one.md"
    assert len(answer.citations) == len(answer.answer.split("\n\n")) == quoted
    assert_valid(answer)


SHARED = "The old pump of the north hall was opened and cleaned on the same day"


def _reports(docs, numbers):
    for n in numbers:
        text = f"The release code of report {n} is K{n % 100}K. {SHARED}.\n"
        (docs / f"r{n}.md").write_text(text)


async def test_of_look_alikes_only_the_one_that_is_named_is_quoted(index, docs, make_answerer):
    _reports(docs, range(48200, 48220))
    index.update()
    question = f"What is the release code of report 48207? {SHARED}."
    answer = await make_answerer().answer(question)
    assert answer.outcome == "answer"
    assert [c.path for c in answer.citations] == ["docs/r48207.md"]


async def test_another_documents_value_is_no_answer_where_the_named_one_is_not_there(
    index, docs, make_answerer
):
    _reports(docs, range(48200, 48220))
    index.update()
    answerer = make_answerer(min_closest=0)
    events = [e async for e in answerer.stream("What is the release code of report 48307?")]
    assert not answerer.may_answer(events[0])
    assert events[0].confidence > 0.9  # what is found is about nothing else
    known = next(e for e in events if isinstance(e, OutcomeKnown))
    assert (known.outcome, known.reason.rpartition(": ")[2]) == ("closest", "48307")


async def test_a_number_of_another_thing_is_another_number(index, docs, make_answerer):
    for n, thing in enumerate(("pump", "valve", "lamp", "gate", "lift") * 4):
        text = f"Bulletin for {thing} controller version 4.{n}. Its boot key is K{n}K.\n"
        (docs / f"b{n}.md").write_text(text)
    index.update()
    ask = make_answerer(min_closest=0).answer
    answer = await ask("What is the boot key of valve controller version 4.1?")
    assert [c.path for c in answer.citations] == ["docs/b1.md"]
    assert (await ask("What is the boot key of pump controller version 4.1?")).outcome == "closest"


async def test_a_row_answers_with_the_names_of_its_columns(
    index, docs, make_answerer, assert_valid
):
    rows = "\n".join(f"| F{n} | Fault of kind {n} in the lamp | Wait |" for n in range(90))
    (docs / "codes.md").write_text(f"| Code | Meaning | Help |\n|---|---|---|\n{rows}\n")
    index.update()
    answer = await make_answerer(max_quote_chars=50).answer("F77 code meaning?")
    assert answer.answer == "Code: F77; Meaning: Fault of kind 77 in the lamp; Help: Wait [1]"
    assert answer.citations[0].quote == "| F77 | Fault of kind 77 in the lamp | Wait |"
    assert_valid(answer)


async def test_code_keeps_its_lines_and_its_fence_is_closed_before_the_number(
    index, docs, make_answerer, assert_valid
):
    (docs / "lamps.md").write_text("# Light the lamp\n\n```\nif dark:\n    lamp --light\n```\n")
    index.update()
    answer = await make_answerer().answer("light the lamp if dark?")
    assert answer.answer == "```\nif dark:\n    lamp --light\n```\n[1]"
    assert_valid(answer)


async def test_numbers_in_brackets_of_a_document_are_not_taken_for_citations(
    index, docs, make_answerer, assert_valid
):
    (docs / "zebra.md").write_text("Zebra stripes are unique [7], see [1].\n")
    index.update()
    answer = await make_answerer().answer("zebra stripes?")
    assert answer.answer == "Zebra stripes are unique (7), see (1). [1]"
    assert_valid(answer)


async def test_only_the_first_passages_are_read(make_answerer):
    answer = await make_answerer(min_confidence=1, passages=2).answer(QUESTION)
    assert [c.passage for c in answer.citations] == [1, 2]
    few = await make_answerer(min_confidence=1, retrieve=1, passages=1).answer(QUESTION)
    assert (len(few.hits), len(few.citations)) == (1, 1)


async def test_a_passage_that_says_nothing_does_not_keep_others_from_being_read(
    index, docs, make_answerer
):
    (docs / "lamps.md").write_text("# Light the old brass lamp\n\n***\n\n## Oil\n\nStrike it.\n")
    index.update()
    found = make_answerer(passages=1).find("light the old brass lamp?")
    assert all(passage.readable for passage in found.read)
    assert len(found.read) == 1


async def test_a_document_that_goes_while_it_is_read_does_no_harm(index, docs, make_answerer):
    answerer = make_answerer()
    stream = answerer.stream(QUESTION)
    await anext(stream)
    (docs / "serving.md").unlink()
    index.update()
    rest = [event async for event in stream]
    assert rest[-1].answer.citations[0].path == "docs/serving.md"


async def test_json_of_an_answer_is_the_contract(make_answerer):
    answer = await make_answerer().answer(QUESTION)
    found = json.loads(json.dumps(answer.to_json()))
    assert list(found) == [
        *("answer", "outcome", "task", "unread", "unsupported"),
        *("confidence", "supported", "citations", "conflicts", "quotes"),
        *("model", "usage", "timings"),
    ]
    assert list(found["citations"][0]) == [
        *("id", "path", "start", "end", "quote", "focus", "section", "page")
    ]
    assert (found["supported"], found["outcome"]) == (True, "answer")
    assert found["model"] == {"name": "scripted", "digest": "sha256:" + "0" * 64}
    assert 0 < found["timings"]["retrieval_s"] <= found["timings"]["first_token_s"]
    assert found["timings"]["first_token_s"] <= found["timings"]["total_s"]


async def test_empty_question_is_refused(make_answerer):
    with pytest.raises(InputError, match="empty"):
        await make_answerer().answer("  ")


async def test_an_index_without_an_embedder_is_refused(tmp_path, docs, embedder):
    with Index.open(tmp_path / "plain", embedder) as index:
        index.update([docs])
    with Index.open(tmp_path / "plain") as index, pytest.raises(InputError, match="embedding"):
        Answerer(index, ScriptedModel())


@pytest.mark.parametrize(
    "settings",
    [
        {"strategy": "extractive"},
        {"unsupported": "abstain"},
        {"passages": 11},
        {"retrieve": 0},
        {"min_confidence": 1.1},
        {"min_closest": -0.1},
        {"min_evidence": 0.5},
    ],
)
def test_settings_that_mean_nothing_are_refused(settings):
    with pytest.raises(InputError, match=next(iter(settings))):
        AnswerConfig.from_mapping(settings)


async def test_many_questions_at_once_get_each_its_own_answer(make_answerer):
    answerer = make_answerer()
    questions = [QUESTION, "When was the lighthouse at Skerryvore lit?"] * 4
    answers = await asyncio.gather(*(answerer.answer(question) for question in questions))
    for n, answer in enumerate(answers):
        assert ("1844" in answer.answer, "sixty" in answer.answer) == (bool(n % 2), not n % 2)


async def test_follow_up_is_searched_with_the_question_before_it(make_answerer):
    history = [("Where is Skerryvore lighthouse?", "…")]
    answer = await make_answerer().answer("How tall is it?", history)
    assert answer.query == "Where is Skerryvore lighthouse? How tall is it?"
    assert "48 metres tall" in answer.answer
    alone = await make_answerer(history_turns=0).answer("How tall is it?", history)
    assert alone.query == "How tall is it?"


@pytest.mark.parametrize(
    ("question", "follows"),
    [
        ("How tall is it?", True),
        ("What about penguins in winter weather?", True),
        ("Why?", True),
        ("How many people live there?", True),
        ("Which one is cheaper?", True),
        ("What does that cost?", True),
        ("What is the price?", True),
        ("Is there a way to copy a file in two steps?", False),
        ("Does the ferry that leaves at noon carry cars?", False),
        ("How do I start the server and stop it?", False),
        ("Why must signatures be checked before a transfer?", False),
        ("What does E4 mean?", False),
        ("How many requests may a client send?", False),
        ("Where is the Skerryvore lighthouse?", False),
    ],
)
def test_follow_up_heuristic(question, follows):
    assert is_follow_up(question) is follows
    assert (retrieval_query(question, [("First?", "")], 1) != question) is follows
    assert retrieval_query(question, [], 1) == question


def test_turns_pair_questions_with_answers():
    messages = [
        Message("system", "s"),
        Message("user", "a"),
        Message("user", "b"),
        Message("assistant", "c"),
        Message("user", "d"),
    ]
    assert turns_of(messages) == [("a\nb", "c"), ("d", "")]
