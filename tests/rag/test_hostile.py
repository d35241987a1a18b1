"""No text is slow to read: the work grows with its length, whatever its structure."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

import pytest

from lmstack.rag.chunking import chunk_document
from lmstack.rag.formats.load import parse_document

_LINE = "a line of ordinary words and signs\n"
_SHAPES: dict[str, Callable[[int], str]] = {
    "headings.md": lambda n: _fill("# a\n", n),
    "levels.md": lambda n: _fill("# a\n## b\n### c\n#### d\n##### e\n###### f\n", n),
    "underlined.md": lambda n: _fill("a\n=\n", n),
    "letters.md": lambda n: _fill("a\n", n),
    "letters.txt": lambda n: _fill("a\n", n),
    "returns.md": lambda n: _fill("a\r", n),
    "paragraphs.txt": lambda n: _fill("a\n\n", n),
    "paragraphs.md": lambda n: _fill("a\n\n", n),
    "one word.md": lambda n: "x" * n,
    "one line.txt": lambda n: _fill("word ", n),
    "blank.md": lambda n: "a" + "\n" * n + "b",
    "space.txt": lambda n: "a" + " " * n + "b",
    "list.md": lambda n: _fill("- a\n", n),
    "long list.md": lambda n: _fill("- " + _LINE + "\n", n),
    "deep list.md": lambda n: "".join("  " * (i % 100) + "- a\n" for i in range(n // 104)),
    "list in list.md": lambda n: "- " * (n // 2) + "a",
    "lazy quote.md": lambda n: "> " * 50 + _fill(_LINE, n),
    "deep quote.md": lambda n: ">" * n + "a",
    "quotes.md": lambda n: _fill("> - a\n> > 1. b\n", n),
    "table.md": lambda n: "| a | b |\n|---|---|\n" + _fill("| 1 | 2 |\n", n),
    "wide table.md": lambda n: "|".join("a" * (n // 4)) + "\n" + "|".join("-" * (n // 4)) + "\n",
    "tables.md": lambda n: _fill("|a|\n|-|\n|1|\n\n", n),
    "open fence.md": lambda n: "```\n" + _fill("a\n", n),
    "fences.md": lambda n: _fill("```\na\n~~~\n", n),
    "backticks.md": lambda n: _fill("`` ` ", n),
    "brackets.md": lambda n: "[" * n,
    "definitions.md": lambda n: _fill("[r]: " + _LINE, n),
    "open title.md": lambda n: '[a]: b "' + _fill(_LINE, n),
    "open label.md": lambda n: "[" + _fill(_LINE, n) + "]",
    "stars.md": lambda n: _fill("*a **b ", n),
    "rules.md": lambda n: _fill("---\n", n),
    "matter.md": lambda n: "---\na: b\n" + _fill("--- x\n", n),
    "tags.md": lambda n: _fill("<a\n\n<!--\n", n),
    "signs.txt": lambda n: _fill("?!", n),
    "signs and brackets.txt": lambda n: _fill('!)."', n),
    "enumeration.txt": lambda n: _fill("1. ", n),
    "marks.txt": lambda n: "e" + "\u0301" * n,
    "han.txt": lambda n: _fill("\u65e5\u672c\u8a9e\u3002", n),
    "siblings.html": lambda n: _fill("<p>a</p>", n),
    "breaks.html": lambda n: _fill("a<br>", n),
    "headings.html": lambda n: _fill("<h1>a</h1>", n),
    "nested.html": lambda n: _fill("<div>" * 250 + "a" + "</div>" * 250, n),
    "items.html": lambda n: "<ul>" + _fill("<li>a", n),
    "rows.html": lambda n: "<table>" + _fill("<tr><td>a<td>b", n),
    "entities.html": lambda n: _fill("&amp;&#x41;", n),
    "open.html": lambda n: _fill("<", n),
    "pre.html": lambda n: "<pre>" + _fill("a\n", n),
}


def _fill(unit: str, length: int) -> str:
    return (unit * (length // len(unit) + 1))[:length]


def _work(name: str, length: int, count: Callable[[Sequence[str]], list[int]]) -> tuple[int, int]:
    """(calls of functions, characters counted as tokens) to read and cut one shape."""
    data = _SHAPES[name](length).encode()
    calls = characters = 0

    def counting(texts: Sequence[str]) -> list[int]:
        nonlocal characters
        characters += sum(map(len, texts)) + len(texts)
        return count(texts)

    def profile(_frame: object, event: str, _argument: object) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    sys.setprofile(profile)
    try:
        chunk_document(parse_document(name, data), counting, 256)
    finally:
        sys.setprofile(None)
    return calls, characters


@pytest.mark.parametrize("name", _SHAPES)
def test_work_grows_with_length_and_not_faster(name, embedder, monkeypatch):
    monkeypatch.setattr("lmstack.rag.formats.markdown.FEW_LINES", 300)
    small, large = (_work(name, n, embedder.count_tokens) for n in (3_000, 12_000))
    assert large[0] <= 6 * small[0] + 12_000
    assert large[1] <= 16 * 12_000


def test_very_many_tiny_lines_are_read_as_plain_text():
    document = parse_document("a.md", b"# a\n" * 30_000)
    assert len(document.sections) == 1
    assert len(document.blocks) == 1


def test_long_glossary_keeps_its_headings():
    text = "".join(f"## Term {n}\n\nMeans the thing that it names.\n\n" for n in range(5_000))
    assert len(parse_document("a.md", text.encode()).sections) == 5_000
