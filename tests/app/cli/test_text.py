"""Text for people: wrapping while streaming, sources, figures, columns, control characters."""

from __future__ import annotations

import textwrap

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmstack.app.cli.output import _PlainProgress
from lmstack.app.cli.printed_answer import (
    WrappedStream,
    quoted,
    source_lines,
    status_line,
)
from lmstack.app.formats import columns, figures, printable, seconds, size
from lmstack.app.server.told_answer import line_numbers, place_text


def wrapped(pieces: list[str], width: int = 20) -> str:
    written: list[str] = []
    stream = WrappedStream(written.append, width)
    for piece in pieces:
        stream.push(piece)
    stream.close()
    return "".join(written)


words = st.lists(st.text(alphabet="abcxyz", min_size=1, max_size=9), min_size=1, max_size=30)


@given(words, st.data())
def test_a_streamed_answer_is_wrapped_as_the_whole_text_would_be(
    chosen: list[str], data: st.DataObject
) -> None:
    text = " ".join(chosen)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=8)))
    pieces = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    expected = textwrap.fill(
        text, 22, initial_indent="  ", subsequent_indent="  ", break_long_words=False
    )
    assert wrapped(pieces) == expected + "\n"


def test_paragraphs_of_an_answer_stay_apart_even_if_the_break_is_split() -> None:
    assert wrapped(["one\n", "\ntwo"]) == "  one\n\n  two\n"


def test_code_keeps_its_indentation_after_an_empty_line() -> None:
    assert wrapped(["```\na\n\n", "  b\n```"]) == "  a\n\n    b\n"


def test_nothing_streamed_writes_nothing() -> None:
    assert wrapped(["", " "]) == ""


def test_model_text_cannot_move_the_cursor() -> None:
    assert "\x1b" not in wrapped(["a\x1b[2J", "b\r\x07"])


@given(st.text())
def test_printable_text_has_no_control_characters_left(text: str) -> None:
    left = printable(text, one_line=True)
    assert not any(ord(c) < 32 or 127 <= ord(c) < 160 for c in left)


def test_a_right_to_left_override_in_a_file_name_is_shown() -> None:
    assert printable("a\u202egnp.exe") == "a\\u202egnp.exe"


@pytest.mark.parametrize(
    ("start", "end", "expected"),
    [(0, 3, (1, 1)), (0, 4, (1, 1)), (4, 7, (2, 2)), (0, 7, (1, 2)), (8, 8, (3, 3))],
)
def test_lines_of_a_quote_do_not_count_the_newline_that_ends_it(
    start: int, end: int, expected: tuple[int, int]
) -> None:
    assert line_numbers("one\ntwo\nend", start, end) == expected


def test_sources_are_aligned_and_one_line_each() -> None:
    places = [place_text("docs/serving.md", (12, 14), None), place_text("a.html", None, None)]
    lines = source_lines([(1, places[0], "Start\nit."), (10, places[1], "Click.")])
    assert lines == [
        '[1] docs/serving.md:12-14   "Start it."',
        '[10] a.html                 "Click."',
    ]


def test_a_long_quote_is_cut_between_words() -> None:
    cut = quoted("word " * 60)
    assert cut.endswith('word …"')
    assert len(cut) < 120


def test_the_status_line_reads_as_in_the_description() -> None:
    line = status_line(
        model="smollm2-135m-instruct",
        digest="sha256:3f2a91c" + "0" * 57,
        first_word_s=9.1,
        indexing_s=7.04,
        writing_s=1.0,
        tokens=153,
        cited=2,
        passages=8,
    )
    assert line == (
        "smollm2-135m-instruct@3f2a91c · 9.1 s to first word (7.0 s indexing) · 152 tokens/s"
        " · 2 of 8 passages cited"
    )


def test_a_remote_model_has_no_digest_and_one_token_no_speed() -> None:
    line = status_line(
        model="m",
        digest=None,
        first_word_s=1.0,
        indexing_s=0.1,
        writing_s=0.0,
        tokens=1,
        cited=0,
        passages=3,
    )
    assert line == "m · 1.0 s to first word · 0 of 3 passages cited"


def test_wide_characters_count_two_columns() -> None:
    assert columns([("日本", "x"), ("abcd", "y")]) == ["日本   x", "abcd   y"]


@pytest.mark.parametrize(
    ("value", "text"), [(0, "0 B"), (999, "999 B"), (98_362_432, "98.4 MB"), (5e12, "5.0 TB")]
)
def test_sizes_are_decimal(value: float, text: str) -> None:
    assert size(value) == text


@pytest.mark.parametrize(
    ("value", "text"), [(0.44, "0.4 s"), (125, "2 min 05 s"), (3720, "1 h 02 min")]
)
def test_durations_use_two_units_at_most(value: float, text: str) -> None:
    assert seconds(value) == text


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ((5, 14, "files", 2.0), "5 of 14 files, 2.5 files/s, 3.6 s left"),
        ((0, 14, "files", 2.0), "0 of 14 files"),
        ((5, None, "files", 2.0), "5 files, 2.5 files/s"),
        ((40_000_000, 90_000_000, "bytes", 4.0), "40.0 MB of 90.0 MB, 10.0 MB/s, 5.0 s left"),
    ],
)
def test_progress_says_how_far_how_fast_and_when_it_ends(
    arguments: tuple[int, int | None, str, float], text: str
) -> None:
    assert figures(*arguments) == text


def test_a_download_that_goes_on_is_as_fast_as_what_comes_now() -> None:
    """Not as if what was there already had come in the same seconds."""
    found = figures(900_000_000, 1_000_000_000, "bytes", 10.0, 800_000_000)
    assert found == "900.0 MB of 1.0 GB, 10.0 MB/s, 10.0 s left"
    assert figures(8, 10, "bytes", 10.0, 8) == "8 B of 10 B"


def test_lines_of_a_download_leave_out_what_was_there(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = iter([0.0, 1.0, 21.0, 21.0])
    monkeypatch.setattr("time.monotonic", lambda: next(now))
    progress = _PlainProgress("Pulling m", "bytes")
    progress.update(40_000_000, 80_000_000)
    progress.update(60_000_000, 80_000_000)
    assert capsys.readouterr().err.splitlines() == [
        "Pulling m: 40.0 MB of 80.0 MB",
        "Pulling m: 60.0 MB of 80.0 MB, 952.4 kB/s, 21.0 s left",
    ]
