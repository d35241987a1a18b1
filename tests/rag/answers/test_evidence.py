"""Evidence reads a sentence as its reader does: under its headings, after the one before."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from lmstack.core import ModelInfo, ScriptedModel
from lmstack.rag import AnswerConfig, Answerer, Index
from lmstack.rag.answers.evidence import choose_candidates, read_sentences, weigh_sentences
from lmstack.rag.search.hybrid import Hit
from lmstack.rag.search.lexical import content_words
from lmstack.rag.search.words import covered_share, name_words

HELP = """# Lamps

```text
How do I light the lamp? lamp --light
  --light   Light the lamp.
```

## When the oil runs out

The flame says so and turns blue. Fill the tank again.

## Codes

| Code | Meaning |
|---|---|
| E3 | Wick too long |
| E4 | Glass cracked |
"""


@pytest.fixture
def answerer(tmp_path, embedder, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "lamps.md").write_text(HELP)
    with Index.open(tmp_path / "index", embedder) as opened:
        opened.update(["lamps.md"])
        config = AnswerConfig(
            strategy="similarity", min_evidence=0.0, heading_share=0.9, opening_bonus=0
        )
        yield Answerer(opened, ScriptedModel(), config)


async def test_sentence_under_a_heading_that_holds_the_question_is_found(answerer):
    answer = await answerer.answer("What happens when the oil runs out?")
    assert answer.answer.startswith("The flame says so")


async def test_row_answers_with_the_words_of_its_header(answerer):
    answer = await answerer.answer("What is the meaning of code E4?")
    assert answer.answer == "Code: E4; Meaning: Glass cracked [1]"
    assert answer.citations[0].quote == "| E4 | Glass cracked |"


async def test_code_that_repeats_the_question_is_not_quoted_where_there_is_prose(answerer):
    answer = await answerer.answer("How do I light the lamp?")
    assert "--light" not in answer.answer


async def test_code_is_quoted_where_there_is_nothing_else(answerer, tmp_path):
    (tmp_path / "lamps.md").write_text("```\nlamp --light\n```\n")
    answerer.index.update()
    answer = await answerer.answer("How do I light the lamp?")
    assert answer.answer == "lamp --light [1]"


async def test_header_of_a_table_that_was_cut_is_found_above_the_passage(answerer, tmp_path):
    rows = "\n".join(f"| F{n} | Fault of the kind number {n} in the lamp |" for n in range(60))
    (tmp_path / "lamps.md").write_text(f"| Code | Meaning |\n|---|---|\n{rows}\n")
    answerer.index.update()
    answer = await answerer.answer("F55 code meaning?")
    assert len(answer.hits) > 1
    assert answer.answer == "Code: F55; Meaning: Fault of the kind number 55 in the lamp [1]"


async def test_document_that_goes_while_it_is_read_does_no_harm(answerer, tmp_path):
    hits = answerer.index.search("oil", 8)
    (tmp_path / "lamps.md").write_text("Other text.\n")
    answerer.index.update()
    answerer.index.search = lambda *_, **__: hits
    assert not (await answerer.answer("What when the oil runs out?")).abstained


REFERENCE = """# 4.6. The wick

4.6. The wick

See also the wick of the heater. What of the wick? It is woven from cotton.

## lamp.trim()

lamp.trim(length)

Shorten what burns, and set the flame anew.

The wick is never trimmed by lamp.trim when it is wet.

## lamp.fill()

It does not trim the wick, as lamp.trim does, it fills the lamp.
"""


@pytest.fixture
def reference(answerer, tmp_path):
    (tmp_path / "lamps.md").write_text(REFERENCE)
    answerer.index.update()
    return answerer


def test_headings_with_numbers_signatures_and_references_are_not_quoted(reference):
    found = reference.find("What does lamp.trim do with the wick?")
    shown = {s.shown for s in found.sentences}
    assert "It is woven from cotton." in shown
    assert not shown & {"4.6.", "The wick", "lamp.trim(length)", "What of the wick?"}
    assert not [text for text in shown if text.startswith("See also")]


async def test_first_sentence_under_a_heading_that_asks_the_question_answers(reference):
    question = "What does lamp.trim do?"
    assert "as lamp.trim does" in (await reference.answer(question)).answer
    reference.config = reference.config.replace(opening_bonus=0.5)
    assert (await reference.answer(question)).answer.startswith("Shorten what burns")
    other = await reference.answer("Is the wick trimmed when it is wet?")
    assert "never trimmed" in other.answer


class Fond:
    """A reranker that likes passages with ``word``, and notes what it was given."""

    info = ModelInfo("fond")

    def __init__(self, word: str) -> None:
        self.word, self.read = word, list[str]()

    def score(self, query, passages):
        self.read += passages
        return np.array([8.0 if self.word in text else -8.0 for text in passages], np.float32)


async def test_reranker_chooses_among_what_bears_on_the_question(answerer):
    question = "What happens when the oil runs out?"
    fond = Answerer(
        answerer.index, ScriptedModel(), answerer.config, reranker=Fond("Fill the tank")
    )
    answer = await fond.answer(question)
    assert answer.answer.startswith("Fill the tank")
    assert answer.evidence == answerer.find(question).evidence


async def test_reranker_cannot_make_an_answer_of_what_bears_on_nothing(answerer):
    fond = Fond("tank")
    config = answerer.config.replace(min_evidence=0.9)
    asked = Answerer(answerer.index, ScriptedModel(), config, reranker=fond)
    assert (await asked.answer("What happens when the oil runs out?")).abstained
    assert fond.read == []


def test_sentences_that_the_reranker_did_not_read_count_as_the_worst(answerer):
    config = answerer.config.replace(reread=1, reread_weight=0.01)
    fond = Answerer(answerer.index, ScriptedModel(), config, reranker=Fond("no such words"))
    found = fond.find("What happens when the oil runs out?").sentences
    assert len(found) > 1
    assert [s.merit for s in found] == pytest.approx([s.evidence - 0.08 for s in found])


def test_name_that_nothing_mentions_lowers_the_evidence(answerer):
    known = answerer.find("Does the lamp work with E4?")
    unknown = answerer.find("Does the lamp work with E9?")
    assert known.unheard == []
    assert unknown.unheard == ["E9"]
    assert unknown.evidence < known.evidence - 0.1


async def test_abstention_names_what_nothing_mentions(answerer):
    answerer.config = answerer.config.replace(min_evidence=3)
    events = [event async for event in answerer.stream("Does the lamp run on Windows?")]
    assert any("none mentions Windows" in getattr(event, "reason", "") for event in events)


@pytest.mark.parametrize(
    ("question", "names"),
    [
        ("How do I run it on an iPhone?", ["iPhone"]),
        ("Who is Ada Lovelace?", ["Ada", "Lovelace"]),
        ("What does E4 mean, and I say so?", ["E4"]),
        ("HOW DOES THE LAMP WORK?", []),
        ("Lamps?", []),
        ("这是什么？", []),
        ("", []),
    ],
)
def test_names_are_capitals_and_digits(question, names):
    assert name_words(question) == names


@pytest.mark.parametrize(
    ("word", "text", "found"),
    [
        ("accurate", "Accuracy: 2 percent", True),
        ("batteries", "one battery", True),
        ("carry", "It carries coal", True),
        ("cats", "catalogue", False),
        ("import", "important", False),
        ("internal", "international", False),
        ("Leuchtturm".lower(), "des Leuchtturmes", True),
        ("", "text", False),
    ],
)
def test_words_of_one_family_count_and_others_do_not(word, text, found):
    assert covered_share({word: 1.0}, text) == found


def test_phrase_without_spaces_counts_by_its_pairs_of_characters():
    asked = {"图书馆几点开门": 1.0}
    assert covered_share(asked, "图书馆早上九点开门。") == pytest.approx(4 / 6)
    assert covered_share(asked, "今天下雨。") == 0


async def test_passages_of_code_do_not_keep_others_from_being_read(answerer, tmp_path):
    text = "# Lamps\n\n" + "".join(
        f"## Light the lamp {n}\n\n```\nlight the lamp {n}\n```\n\n" for n in range(5)
    )
    (tmp_path / "lamps.md").write_text(f"{text}## Other\n\nStrike a match.\n")
    answerer.index.update()
    answerer.config = answerer.config.replace(passages=1)
    found = answerer.find("How do I light the lamp?")
    assert "```" in found.hits[0].text
    assert [s.shown for s in found.sentences] == ["Strike a match."]
    assert [s.number for s in found.sentences] == [1]
    assert found.read == [found.hits[found.sentences[0].hit.rank - 1]]


class Cosines:
    """An embedder whose texts have the cosines that are given with every question, or 0."""

    info, dimensions, max_tokens = ModelInfo("cosines"), 2, 256

    def __init__(self, known: dict[str, float]) -> None:
        self.known = known

    def embed(self, texts, kind="passage"):
        if kind == "query":
            return np.array([[1.0, 0.0]] * len(texts), np.float32)
        cosines = np.array([self.known.get(text, 0.0) for text in texts], np.float32)
        return np.stack([cosines, np.sqrt(1 - cosines**2)], axis=1)

    def count_tokens(self, texts):
        return [len(text.split()) for text in texts]


ONLY = AnswerConfig(
    similarity_weight=1.0,
    coverage_weight=0.0,
    topic_weight=0.0,
    own_share=0.5,
    kind_penalty=0.0,
    name_penalty=0.3,
    number_penalty=0.25,
    opening_bonus=0.1,
)


def weighed(question, sentence, *, passage="", section=(), known=None):
    """``sentence`` as it is weighed in a passage that holds it."""
    text = passage or sentence
    ranks = {"dense": 1, "lexical": None}
    hit = Hit(1, 1.0, "a.md", 0, len(text), text, None, ranks, 1, 1, "", section, "", 0.5)
    words = dict.fromkeys(content_words(question), 1.0)
    candidates = read_sentences([hit], 1, 500)[1]
    found = weigh_sentences(candidates, question, words, Cosines(known or {}), ONLY)
    return next(candidate for candidate in found if candidate.shown == sentence)


@pytest.mark.parametrize(
    ("within", "alone", "similarity"), [(0.4, 0.8, 0.6), (0.8, 0.4, 0.8), (0.5, 0.5, 0.5)]
)
def test_headings_that_say_it_better_than_the_sentence_take_nothing_off(within, alone, similarity):
    known = {"Lamps\nIt burns.": within, "It burns.": alone}
    found = weighed("what burns?", "It burns.", section=("Lamps",), known=known)
    assert found.similarity == pytest.approx(similarity, abs=1e-6)


@pytest.mark.parametrize(
    ("question", "sentence", "passage", "taken_off"),
    [
        ("does it work with E4?", "It works with E4.", "", 0),
        ("does it work with E4?", "It works.", "", 0.3 + 0.25),
        ("does it work with E4?", "It works.", "It works. More is said of E4.", 0.3 / 2),
        (
            "does it work with E4?",
            "With E3 it works.",
            "With E3 it works. More is said of E4.",
            0.15 + 0.25,
        ),
        ("does it work with Ada?", "It works.", "", 0.3),
        ("does it work with Ada?", "It works.", "It works. Ada said so.", 0.3 / 2),
        ("who came on the 25 of May?", "On the 25th of May Ada came.", "", 0),
        ("who came on the 25th of May?", "On the 25 of May Ada came.", "", 0),
        ("who came on the 25th of May?", "On the 26th of May Ada came.", "", 0.3 + 0.25),
    ],
)
def test_names_that_a_reader_does_not_meet_take_off_by_how_far_they_are(
    question, sentence, passage, taken_off
):
    found = weighed(question, sentence, passage=passage)
    assert found.evidence == pytest.approx(-taken_off, abs=1e-6)


@pytest.mark.parametrize(
    ("question", "heading", "asks"),
    [
        ("what is the wick?", "Wick", True),
        ("what is the wick of the lamp?", "Wick", True),
        ("why does the wick of old brass lamps burn badly?", "Wick", False),
        ("what is the wick?", "Wick and burner care", False),
    ],
)
def test_first_sentence_gains_where_heading_and_question_ask_the_same(question, heading, asks):
    passage = f"# {heading}\n\nIt is woven from cotton."
    found = weighed(question, "It is woven from cotton.", passage=passage, section=(heading,))
    assert found.merit - found.evidence == pytest.approx(0.1 if asks else 0.0)


@pytest.mark.parametrize(
    ("given", "candidates", "chosen"),
    [
        ([(0.9, 0.4), (0.6, 0.6)], 4, [1]),  # evidence decides who may be quoted at all
        ([(0.3, 0.6), (0.2, 0.5)], 4, [0, 1]),
        ([(0.7, 0.6), (0.9, 0.6), (0.85, 0.9)], 4, [1, 2]),  # and merit who of them is
        ([(0.7, 0.6), (0.9, 0.6), (0.85, 0.9)], 1, [1]),
        ([(0.9, 0.4)], 4, []),
    ],
)
def test_candidates_have_enough_evidence_and_merit_near_the_best(given, candidates, chosen):
    made = weighed("what burns?", "It burns.")
    sentences = [
        dataclasses.replace(made, start=n, merit=merit, evidence=evidence)
        for n, (merit, evidence) in enumerate(given)
    ]
    config = AnswerConfig(min_evidence=0.5, candidate_margin=0.1, candidates=candidates)
    assert [s.start for s in choose_candidates(sentences, config)] == chosen


def test_sentences_are_embedded_as_passages_and_the_question_as_a_query(answerer, embedder):
    question = "What happens when the oil runs out?"
    embedder.kinds["query"].clear()
    answerer.find(question)
    assert question in embedder.kinds["query"]
    assert question not in embedder.kinds["passage"]
    assert not [text for text in embedder.kinds["query"] if "flame" in text]
