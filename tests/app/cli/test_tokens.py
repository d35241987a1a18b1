"""`lmstack tokenizer count`: counts side by side, pieces to be seen, a page not to be hacked."""

from __future__ import annotations

import io
import json
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import tokenizers
from hypothesis import given
from hypothesis import strategies as st
from tests.byte_tokens import byte_level
from tokenizers import models, normalizers, pre_tokenizers

from lmstack.app.cli.commands.tokenizer_count import terminal_view
from lmstack.app.cli.help import spread
from lmstack.app.cli.output import Output
from lmstack.app.inspect.token_page import token_page
from lmstack.app.inspect.token_view import first_tokens
from lmstack.text import Tokenizer, TokenPiece, pieces

if TYPE_CHECKING:
    from tests.app.conftest import Run


@pytest.fixture
def vocabularies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two folders, ``bytes`` (byte-level) and ``words`` (lower case, no emoji)."""
    monkeypatch.chdir(tmp_path)
    known = {"[UNK]": 0, "one": 1, "two": 2}
    by_words = tokenizers.Tokenizer(models.WordLevel(known, unk_token="[UNK]"))
    by_words.normalizer = normalizers.Lowercase()
    by_words.pre_tokenizer = pre_tokenizers.Whitespace()
    for name, made in (("bytes", byte_level()), ("words", by_words)):
        (tmp_path / name).mkdir()
        made.save(str(tmp_path / name / "tokenizer.json"))
    return tmp_path


def test_tokenizers_are_compared_on_the_same_text(run: Run, vocabularies: Path) -> None:
    (vocabularies / "text.txt").write_text("One two é", encoding="utf-8")
    ran = run("tokenizer", "count", "text.txt", "--compare", "bytes", "words", "--json")
    assert ran.code == 0, ran.err
    assert (ran.json["characters"], ran.json["bytes"], ran.json["words"]) == (9, 10, 3)
    by_bytes, by_words = ran.json["tokenizers"]
    assert (by_bytes["tokens"], by_bytes["bytes_per_token"], by_bytes["unknowns"]) == (10, 1.0, 0)
    assert by_bytes["exact"]
    assert (by_words["tokens"], by_words["tokens_per_word"], by_words["unknowns"]) == (3, 1.0, 1)
    assert not by_words["exact"]
    assert by_words["pieces"][0] == {"text": "One", "start": 0, "end": 3, "ids": [1]}


def test_a_price_is_for_all_or_for_one_and_a_line_has_the_unit_it_was_given_in(
    run: Run, vocabularies: Path
) -> None:
    typed = ["tokenizer", "count", "one two", "--compare", "bytes", "words"]
    priced = run(*typed, "--price", "2", "--price", "words=1e6", "--json").json["tokenizers"]
    assert [entry["price"] for entry in priced] == [7 * 2 / 1e6, 2.0]
    assert "PRICE" in run(*typed, "--price", "2").out
    assert "PRICE" not in run(*typed).out


def test_the_text_may_come_from_standard_input(
    run: Run, vocabularies: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO("é".encode())))
    assert run("tokenizer", "count", "-", "--compare", "bytes", "--json").json["bytes"] == 2


def test_pieces_in_a_pipe_have_bars_between_and_no_colour(run: Run, vocabularies: Path) -> None:
    out = run("tokenizer", "count", "One ok\ntwo", "--compare", "words").out
    assert out.endswith("words\nOne │ok?↵\ntwo\n")
    assert "\x1b" not in out


def test_only_as_many_tokens_are_shown_as_asked_for(run: Run, vocabularies: Path) -> None:
    typed = ["tokenizer", "count", "One two one", "--compare", "words"]
    assert run(*typed, "--show", "2").out.endswith("One │two …\n")
    assert run(*typed, "--show", "3").out.endswith("One │two │one\n")
    assert "one" not in run(*typed, "--show", "0").out


def test_colours_differ_between_neighbours_and_the_unknown_is_marked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("lmstack.app.cli.output.is_colourful", lambda stream: True)
    found = [
        TokenPiece("a", 0, 1, (1,)),
        TokenPiece("b", 1, 2, (2,)),
        TokenPiece("c", 2, 3, (0,), unknown=True),
    ]
    view = terminal_view(Output(), found, colour=True)
    codes = re.findall(r"\x1b\[([\d;]+)m([abc])\x1b\[0m", view)
    assert [letter for _, letter in codes] == ["a", "b", "c"]
    assert len({code for code, _ in codes}) == 3
    assert codes[2][0].startswith("4;")  # underlined, for who cannot tell red


@given(text=st.text(st.characters(exclude_categories=["Cs"]), max_size=30))
def test_a_text_cannot_move_the_cursor_from_its_pieces(text: str) -> None:
    found = [TokenPiece(c, i, i + 1, (1,)) for i, c in enumerate(text)]
    view = terminal_view(Output(), found, colour=False)
    assert not any((ord(c) < 32 and c != "\n") or 127 <= ord(c) < 160 for c in view)


@given(texts=st.lists(st.text(max_size=12) | st.sampled_from(["<script>", '"', "&lt;"])))
def test_a_document_cannot_write_markup_into_the_page(texts: list[str]) -> None:
    found = [TokenPiece(text, 0, len(text), (1,)) for text in texts]
    page = token_page("".join(texts), ["A"], [texts], [("".join(texts), found, True)])
    empty = token_page(
        "", ["A"], [[""] * len(texts)], [("", [TokenPiece("", 0, 0, (1,))] * len(found), True)]
    )
    assert re.findall("<[^>]*>", page) == re.findall("<[^>]*>", empty)
    assert "<script" not in page
    assert "http" not in re.sub('http-equiv="', "", page) or any("http" in t for t in texts)


def test_the_page_is_written_with_every_token_and_its_number(run: Run, vocabularies: Path) -> None:
    ran = run(
        "tokenizer", "count", "One <b>", "--compare", "words", "--html", "out.html", "--show", "0"
    )
    assert ran.code == 0
    page = (vocabularies / "out.html").read_text()
    assert '<span class="t0" title="1">One</span>' in page
    assert "&lt;" in page
    assert "<b>" not in page


@pytest.mark.parametrize(
    ("typed", "code", "named"),
    [
        (["tokenizer", "count", "x", "--compare", "nothing"], 1, "nothing"),
        (["tokenizer", "count", "x", "--compare", "words", "--price", "cheap"], 2, "'cheap'"),
        (["tokenizer", "count", "x", "--compare", "words", "--price", "other=1"], 2, "'other'"),
        (["tokenizer", "count", "x", "--compare", "words", "--price", "nan"], 2, "'nan'"),
        (["tokenizer", "count", "words", "--compare", "words"], 1, "is a folder"),
        (["tokenizer", "count", "latin.txt", "--compare", "words"], 1, "byte 0xe9 at 1"),
        (["tokenizer", "count", "--compare", "words", "latin.txt"], 2, "needs TEXT"),
        (["tokenizer", "count", "x", "--compare", "latin.txt"], 1, "latin.txt"),
        (
            ["tokenizer", "count", "x", "--compare", "words", "--html", "no/such/file.html"],
            1,
            "no/such",
        ),
    ],
)
def test_what_is_wrong_is_said_in_two_lines(
    run: Run, vocabularies: Path, typed: list[str], code: int, named: str
) -> None:
    (vocabularies / "latin.txt").write_bytes(b"n\xe9e")
    ran = run(*typed)
    assert ran.code == code
    first, second = ran.err.splitlines()
    assert named in first
    assert second.startswith("try: ")


def test_a_long_text_says_how_far_it_is_and_a_short_one_does_not(
    run: Run, vocabularies: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    typed = ["tokenizer", "count", "one two", "--compare", "bytes", "words"]
    assert run(*typed).err == ""
    monkeypatch.setattr("lmstack.app.cli.commands.tokenizer_count.LONG", 3)
    assert "Counting: 2 tokenizers" in run(*typed).err
    assert run(*typed, "--quiet").err == ""


def test_a_file_name_that_is_not_there_is_counted_but_said(run: Run, vocabularies: Path) -> None:
    ran = run("tokenizer", "count", "txt.txt", "--compare", "bytes")
    assert ran.code == 0
    assert "no file 'txt.txt'" in ran.err


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ("x --c A B", "x --c A --c B"),
        ("--c A B --d C x", "--c A --c B --d C x"),
        ("--c A -- B", "--c A -- B"),
        ("--c A B -q x", "--c A --c B -q x"),
        ("--c -", "--c -"),
        ("--c", "--c"),
        ("--c --d", "--c --d"),
        ("x y", "x y"),
    ],
)
def test_an_option_of_several_words_ends_at_the_next_option(typed: str, expected: str) -> None:
    assert spread(typed.split(), ("--c",)) == expected.split()


def test_the_first_tokens_are_counted_without_what_the_tokenizer_drops(
    vocabularies: Path,
) -> None:
    text = (vocabularies / "words" / "tokenizer.json").read_text()
    words = Tokenizer.from_json(text, json.loads("{}"))
    found, goes_on = first_tokens(pieces(words, "one   two"), 2)
    assert [piece.text for piece in found] == ["one", "   ", "two"]
    assert not goes_on
