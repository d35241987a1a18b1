"""What a question asks for is read off its wording, and of nothing else."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmstack.rag.answers.asked import fits_kind, is_of_another, question_parts, read_question


@pytest.mark.parametrize(
    ("question", "text", "year"),
    [
        ("As of 2019, what is the fee?", "What is the fee?", 2019),
        ("Back in 2021, who ran the hall?", "Who ran the hall?", 2021),
        ("In the 2020 edition, what is the fee?", "What is the fee?", 2020),
        ("What was the limit as of 2018?", "What was the limit ?", 2018),
        ("As things stand today, who runs it?", "Who runs it?", None),
        ("Who runs it at present?", "Who runs it?", None),
        ("How many came in 2019?", "How many came in 2019?", None),
        ("What is the fee?", "What is the fee?", None),
    ],
)
def test_a_time_of_the_document_is_told_from_a_time_in_the_question(question, text, year):
    asked = read_question(question)
    assert (asked.text, asked.year) == (text, year)


@pytest.mark.parametrize(
    ("question", "parts"),
    [
        (
            "Which is heavier, the Delta 7 pump or the Ember 300 kiln?",
            ["Which is heavier, the Delta 7 pump?", "Which is heavier, the Ember 300 kiln?"],
        ),
        (
            "Who runs Arden depot, and when does Forth terminal close?",
            ["Who runs Arden depot?", "When does Forth terminal close?"],
        ),
        ("Who wrote it and when?", ["Who wrote it and when?"]),
        ("Is tea or coffee served?", ["Is tea or coffee served?"]),
        ("What do salt and pepper cost?", ["What do salt and pepper cost?"]),
    ],
)
def test_parts_are_questions_about_things_with_names(question, parts):
    assert question_parts(question) == parts


@given(st.text(max_size=200))
def test_any_text_is_at_least_one_question(text):
    assert question_parts(read_question(text).text)


@pytest.mark.parametrize(
    ("question", "sentence", "fits"),
    [
        ("Who runs the hall?", "Vera Ulrich is in charge of the hall.", True),
        ("Who runs the hall?", "The hall will be reviewed on 3 March.", False),
        ("How long is the warranty?", "The warranty is 24 months.", True),
        ("How long is the warranty?", "Customers bought 927 units.", False),
        ("How heavy is it?", "It weighs 40 kg.", True),
        ("How heavy is it?", "It costs €40.", False),
        ("How much does it cost?", "It is sold for €40.", True),
        ("When did the hall open?", "The hall opened in 1902.", True),
        ("How many units of the Brisk 240 are there?", "The Brisk 240 is blue.", False),
        ("Why is it blue?", "It is blue.", True),
    ],
)
def test_the_kind_of_an_answer(question, sentence, fits):
    assert fits_kind(question, sentence) is fits


@pytest.mark.parametrize(
    ("question", "sentence", "other"),
    [
        ("What do we pay Ashworth Catering?", "We pay Ashford Catering €10.", True),
        ("How heavy is the Brisk 240 pump?", "The Brisk 420 pump weighs 7 kg.", True),
        ("Who runs the Balfour library?", "Vera Ulrich runs the Balmoral library.", True),
        ("Who runs the Balfour library?", "The library is run by Vera Ulrich.", False),
        ("Who runs the Balfour library?", "Balfour library is run by Vera Ulrich.", False),
        ("Who runs it?", "Vera Ulrich runs the Balmoral library.", False),
    ],
)
def test_a_like_thing_of_another_name_is_noticed(question, sentence, other):
    assert is_of_another(question, sentence) is other
