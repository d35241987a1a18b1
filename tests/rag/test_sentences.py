"""Sentences are exact spans; structure is never read as prose."""

from __future__ import annotations

import time

from hypothesis import given, settings
from hypothesis import strategies as st

from lmstack.rag.sentences import sentence_spans


def _sentences(text: str) -> list[str]:
    return [text[a:b] for a, b in sentence_spans(text)]


@settings(deadline=None)
@given(st.text(max_size=300) | st.text(alphabet="-*#>|`~.! \nab1", max_size=200))
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


def test_megabyte_without_a_break_is_quick():
    started = time.process_time()
    sentence_spans("a. B " * 200_000)
    sentence_spans("x" * 1_000_000)
    sentence_spans("- " * 300_000)
    assert time.process_time() - started < 5
