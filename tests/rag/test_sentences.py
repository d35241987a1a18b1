"""Sentences are exact spans; structure is never read as prose."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lmstack.rag.sentences import sentence_spans


def _sentences(text: str) -> list[str]:
    return [text[a:b] for a, b in sentence_spans(text)]


@settings(deadline=None)
@given(st.text(max_size=300) | st.text(alphabet="-*#>|`~.! \nab1。「」！กข", max_size=200))
def test_spans_ascend_and_have_no_space_at_their_ends(text):
    position = 0
    for start, end in sentence_spans(text):
        assert position <= start < end <= len(text)
        assert text[start:end] == text[start:end].strip()
        position = end


@given(st.lists(st.sampled_from(["Plain words here.", "- item one", "1. item two"]), max_size=8))
def test_no_word_is_lost(lines):
    text = "\n\n".join(lines)
    kept = " ".join(_sentences(text))
    words = [w for line in lines for w in line.split() if w.strip("-.1")]
    assert all(word in kept for word in words)


def test_headings_items_and_fences_do_not_run_together():
    text = (
        "# Head\nFirst one. Second\none.\n- item a\n- item b\n```sh\nrun it\n\nrun on\n```\n"
        "| a | b |\n|---|---|\n"
    )
    assert _sentences(text) == [
        "Head",
        "First one.",
        "Second\none.",
        "item a",
        "item b",
        "run it",
        "run on",
        "| a | b |",
    ]


def test_abbreviations_do_not_end_sentences():
    assert len(_sentences("Dr. Smith met Mr. Jones, e.g. in 1844. They talked.")) == 2


@pytest.mark.parametrize(
    "sentences",
    [
        ["これは文です。", "次の文です！", "本当ですか？", "はい。"],
        ["中文句子。", "他说：“走吧。”然后走了。", "（括号。也是）完"],
        ["彼は「行く。すぐに。」と言った。", "次。"],
        ["値は３．１４です．", "次の文です．", "ｱｲｳ｡", "ｴｵ｡"],
        ["本当?", "はい!", "版2.0が出た。"],
        ["これは1)番です。", "次です。"],  # a bracket without its other half
        ["閉じない「括弧。", "次の文。"],
        ["यह एक वाक्य है।", "यह दूसरा है।"],
    ],
)
@pytest.mark.parametrize("between", ["", " "])
def test_full_stops_of_other_scripts_end_sentences_with_no_space_after(sentences, between):
    assert _sentences(between.join(sentences)) == sentences


def test_thai_ends_sentences_at_spaces_between_its_letters():
    text = "สวัสดีครับ ผมชื่อสมชาย อายุ 30 ปี"
    assert _sentences(text) == ["สวัสดีครับ", "ผมชื่อสมชาย", "อายุ 30 ปี"]


@pytest.mark.parametrize(
    "sentences",
    [
        ["Wir treffen uns am 3. Mai im Rathaus.", "Der Termin steht."],
        ["Der 2. Absatz regelt die Fristen.", "Er gilt ab sofort."],
        ["Siehe Nr. 5 der Liste.", "Dort steht es."],
        ["Bis zum 31. 12. 2024 gilt die Satzung der Gemeinde.", "Danach nicht."],
        ["Im 18. Jahrhundert, am 1.\nJanuar 1750, starb er.", "Im Jahr 2024."],
        ["Das Haus im 6. Stock steht leer.", "Es war das Haus Nr. 3.", "Das Dach ist neu."],
        ["Die Zahl stieg im Jahr 2024.", "Menschen aus der Stadt zogen weg."],
    ],
)
def test_german_ordinals_end_no_sentence(sentences):
    assert _sentences(" ".join(sentences)) == sentences


@pytest.mark.parametrize(
    "sentences",
    [
        ["It opened in 2024.", "The town grew."],
        ["The rules are in chapter 3.", "London is not one of them."],
        ["We counted them, and there were 12.", "2024 was the last of those years."],
        ["Le phare se trouve au numéro 3.", "Elle est très visible de la ville."],
    ],
)
def test_a_number_ends_a_sentence_in_other_languages(sentences):
    assert _sentences(" ".join(sentences)) == sentences


def test_long_text_without_spaces_is_cut_after_a_full_stop():
    text = "これは長い段落の文です。" * 4000
    assert set(_sentences(text)) == {"これは長い段落の文です。"}


def test_english_is_cut_as_before():
    text = 'He said (it was so. Really!). "Is it?" asked the other. Version 2.0 came out.'
    assert _sentences(text) == [
        "He said (it was so. Really!).",
        '"Is it?" asked the other.',
        "Version 2.0 came out.",
    ]


def test_long_text_without_a_break_is_quick():
    started = time.process_time()
    sentence_spans("a. B " * 50_000)
    sentence_spans("x" * 250_000)
    sentence_spans("- " * 75_000)
    sentence_spans("「。" * 25_000)
    sentence_spans("am 3. Mai\n\n" * 1_250)
    assert time.process_time() - started < 2
