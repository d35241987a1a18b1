"""The language is told where it is sure, and not told where it is not."""

from __future__ import annotations

import pytest

from lmstack.rag.formats.decoding import language_among
from lmstack.rag.formats.load import parse_document

ENGLISH = "The tower is of granite, and it is not the tallest of those that were built by them. "
TEXTS = {
    "en": "The lighthouse was lit in 1844 by Alan Stevenson.",
    "de": "Der Leuchtturm wurde im Jahr 1844 in Betrieb genommen.",
    "fr": "Le phare est allumé depuis 1844 et se voit de très loin.",
    "es": "El faro se encendió por primera vez en el año 1844.",
    "it": "Il faro fu acceso per la prima volta nel 1844.",
    "nl": "De vuurtoren werd voor het eerst ontstoken in 1844.",
    "pl": "Latarnia morska została zapalona po raz pierwszy w 1844 roku.",
    "ru": "Маяк был впервые зажжён в тысяча восемьсот сорок четвёртом году.",
    "ja": "この灯台は千八百四十四年に初めて点灯されました。",
    "ar": "أضيئت المنارة لأول مرة في عام ألف وثمانمائة وأربعة وأربعين.",
}


@pytest.mark.parametrize("code", TEXTS)
def test_language_of_one_sentence(code):
    assert parse_document("a.txt", TEXTS[code].encode()).language == code


def test_plain_english_needs_no_model(monkeypatch):
    def none():
        raise AssertionError("the model was loaded")

    monkeypatch.setattr("lmstack.rag.formats.decoding._model", none)
    assert parse_document("a.md", ENGLISH.encode() * 4).language == "en"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.txt", "Skerryvore"),
        ("a.txt", "4711 0815 +49 / 2024-01-02"),
        ("a.py", ENGLISH * 4),
        ("a.csv", "a,b\n" + ENGLISH * 4),
        ("a.md", "```\n" + ENGLISH * 4 + "\n```\n"),
    ],
)
def test_what_has_no_language_gets_none(name, text):
    assert parse_document(name, text.encode()).language == ""


def test_page_that_says_its_language_is_believed():
    document = parse_document("a.html", f"<html lang=gd><p>{ENGLISH}</p>".encode())
    assert document.language == "gd"
    assert "language" not in document.fields


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("Who runs the library?", "en"),
        ("Und am Wochenende?", "de"),
        ("¿Y los sábados?", "es"),
        ("Combien coûte une visite ?", "fr"),
        ("本棚はどこですか。", "ja"),
        ("Kali Linux Ubuntu", ""),
        ("4711", ""),
        ("", ""),
    ],
)
def test_a_few_words_are_told_among_the_languages_that_they_may_be_in(text, language):
    assert language_among(text, ("en", "de", "es", "fr", "ja", "it")) == language


def test_a_language_is_one_of_those_that_are_named():
    assert language_among("Und am Wochenende?", ("fr", "de")) == "de"
    assert language_among("Und am Wochenende?", ()) == ""
