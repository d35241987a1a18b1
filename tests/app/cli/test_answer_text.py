"""An answer on a terminal: lines break between words, and code keeps its own."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st
from tests.app.cli.test_text import wrapped

CODE = "if dark:\n    lamp --light   # at once\n\n    wait\nend"
QUOTED = f"Light it so, and read on for a while:\n```\n{CODE}\n```\n[1]\n\nThen wait. [2]"


def test_lines_break_between_words_and_paragraphs_stay() -> None:
    assert wrapped(["One two three four five six.\n\nSeven\neight."]) == (
        "  One two three four\n  five six.\n\n  Seven\n  eight.\n"
    )


def test_code_keeps_its_lines_and_spaces_and_an_empty_line_stands_for_its_fence() -> None:
    assert wrapped([QUOTED], width=14).splitlines() == [
        *("  Light it so,", "  and read on", "  for a while:"),
        *("", "  if dark:", "      lamp --light   # at once", "", "      wait", "  end", ""),
        *("  [1]", "", "  Then wait. [2]"),
    ]


def test_an_answer_may_begin_with_an_indented_line_of_code() -> None:
    assert wrapped(["```\n    a = 1\n  b\n```\n[1]"]) == "      a = 1\n    b\n\n  [1]\n"


def test_text_after_code_is_wrapped_again() -> None:
    after = wrapped(["```\na\n```\nOne two three four five."], width=10)
    assert after == "  a\n\n  One two\n  three four\n  five.\n"


@given(st.lists(st.integers(0, len(QUOTED))))
def test_it_is_the_same_however_the_text_is_cut(cuts: list[int]) -> None:
    places = [0, *sorted(cuts), len(QUOTED)]
    pieces = [QUOTED[a:b] for a, b in pairwise(places)]
    assert wrapped(pieces) == wrapped([QUOTED])


def test_what_a_terminal_would_obey_is_notwrapped() -> None:
    assert "\x1b" not in wrapped(["```\n\x1b[2J\n```\n"])
