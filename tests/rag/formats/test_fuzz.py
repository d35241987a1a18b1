"""Whatever the bytes, a file becomes a document or a problem; and hostile structures end soon."""

from __future__ import annotations

import json
import time
import zlib
from email.message import EmailMessage

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lmstack.rag.documents import Document
from lmstack.rag.formats.load import ProblemError, parse_document


def outcome(name: str, data: bytes) -> Document | ProblemError:
    try:
        return parse_document(name, data)
    except ProblemError as error:
        return error


def check(name: str, data: bytes) -> Document | None:
    """The document, which is in order, or None for a problem; anything else raised is a bug."""
    found = outcome(name, data)
    if isinstance(found, ProblemError):
        # "could not be parsed" hides an exception that nobody thought of.
        assert not found.message.startswith("could not be parsed"), found.message
        assert found.hint
        return None
    document = found
    length = len(document.text)
    position = 0
    for block in document.blocks:
        assert position <= block.start <= block.end <= length
        position = block.end
        assert block.header is None or 0 <= block.header[0] < block.header[1] <= length
    starts = [section.start for section in document.sections]
    assert starts == sorted(starts)
    assert (starts[0], document.sections[-1].end) == (0, length)
    position = 0
    for page in document.pages:
        assert position <= page.start <= page.end <= length
        position = page.end
    json.dumps(dict(document.fields))
    return document


@pytest.fixture(scope="module")
def valid(make):
    """A small sound file of each kind that is not plain text."""
    table = [["Code", "Meaning"], ["E3", "Fault"]]
    body = (
        "<w:p><w:pPr><w:pStyle w:val='A'/></w:pPr><w:r><w:t>Words</w:t></w:r></w:p>"
        "<w:tbl><w:tr><w:tc><w:p><w:r><w:t>a</w:t></w:r></w:p></w:tc></w:tr></w:tbl>"
    )
    mail = EmailMessage()
    mail["From"], mail["Subject"] = "Ada <a@example.org>", "Größe"
    mail.set_content("Words.\n\n> quoted\n")
    mail.add_attachment(b"a,b\n1,2\n", maintype="text", subtype="csv", filename="t.csv")
    cell = {"cell_type": "code", "source": ["x"], "outputs": [{"data": {"text/plain": "1"}}]}
    notebook = json.dumps({"cells": [cell, {"cell_type": "markdown", "source": "# A"}]})
    styles = "<w:style w:styleId='A'><w:name w:val='heading 1'/></w:style>"
    page = "<title>T</title><h1>A</h1><table><tr><th>a<th>b<tr><td>1</table><dl><dt class=sig>f"
    return {
        "a.pdf": make.typeset(("Heading1", "Lights"), "Some words.", table, None, "More."),
        "a.docx": make.word(body, styles=styles),
        "a.eml": mail.as_bytes(),
        "a.ipynb": notebook.encode(),
        "a.html": page.encode(),
        "a.csv": b'name,metres\n"Bell ""Rock""",35\n',
        "a.jsonl": b'{"a": [1, "x"]}\n{"a": {}}\n',
        "a.md": b"---\ntitle: x\naccess: [hr]\ntags:\n- a\n---\n# A\n\n| a |\n|---|\n| 1 |\n",
        "a.py": b'@x\ndef f():\n    """doc"""\n\nclass A: pass\n',
    }  # fmt: skip


NAMES = ["a.pdf", "a.docx", "a.eml", "a.ipynb", "a.html", "a.csv", "a.jsonl", "a.md", "a.py"]


@pytest.mark.parametrize("name", NAMES)
@given(st.data())
@settings(max_examples=25, deadline=None)
def test_damaged_file_is_a_document_or_a_problem(valid, name, data):
    broken = bytearray(valid[name])
    assert check(name, bytes(broken)) is not None
    for _ in range(data.draw(st.integers(0, 6))):
        at = data.draw(st.integers(0, len(broken) - 1))
        broken[at] = data.draw(st.integers(0, 255))
    start = data.draw(st.integers(0, len(broken)))
    end = data.draw(st.integers(start, len(broken)))
    check(name, bytes(broken[:start] + broken[end:]))


@pytest.mark.parametrize("name", NAMES)
@given(st.binary(max_size=200))
@settings(max_examples=20, deadline=None)
def test_noise_is_a_problem_or_a_document(name, data):
    check(name, data)


def numbered(objects, root=1):
    """A PDF of these objects, numbered from 1."""
    data = b"%PDF-1.7\n"
    places = []
    for number, body in enumerate(objects, 1):
        places.append(len(data))
        data += b"%d 0 obj\n%s\nendobj\n" % (number, body)
    table = len(data)
    data += b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1)
    data += b"".join(b"%010d 00000 n \n" % place for place in places)
    data += b"trailer\n<< /Size %d /Root %d 0 R >>\n" % (len(objects) + 1, root)
    return data + b"startxref\n%d\n%%%%EOF\n" % table


def stream(content, entries=b""):
    packed = zlib.compress(content, 9)
    head = b"<< /Filter /FlateDecode /Length %d %s >>\n" % (len(packed), entries)
    return head + b"stream\n" + packed + b"\nendstream"


PAGES = b"<< /Type /Pages /Count 1 /Kids [3 0 R] >>"
CATALOG = b"<< /Type /Catalog /Pages 2 0 R >>"
FONT = b"/Font << /F << /Type /Font /Subtype /Type1 /BaseFont /Helvetica >> >>"


def page(content, resources=b""):
    return [
        CATALOG,
        PAGES,
        b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 600 800] /Contents 4 0 R /Resources << "
        + FONT + resources + b" >> >>",
        content,
    ]  # fmt: skip


HOSTILE_PDF = {
    "pages that hold themselves": numbered(
        [CATALOG, b"<< /Type /Pages /Count 1 /Kids [2 0 R] >>"]
    ),
    "pages declared, none there": numbered([CATALOG, b"<< /Type /Pages /Count 9000 /Kids [] >>"]),
    "one page a thousand times": numbered(
        [
            CATALOG,
            b"<< /Type /Pages /Count 1000 /Kids [" + b"3 0 R " * 1000 + b"] >>",
            b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 9 9] >>",
        ]
    ),
    "a form that draws itself": numbered(
        [
            *page(stream(b"/X Do"), b"/XObject << /X 5 0 R >>"),
            stream(
                b"BT /F 9 Tf (x) Tj ET /X Do",
                b"/Type /XObject /Subtype /Form /BBox [0 0 9 9] "
                b"/Resources << /XObject << /X 5 0 R >> >>",
            ),
        ]
    ),
    "a stream that unfolds": numbered(page(stream(b" " * 20_000_000))),
    "a huge page": numbered(
        [CATALOG, PAGES, b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 1e30 1e30] >>"]
    ),
    "deep nesting": numbered([b"[" * 50_000 + b"]" * 50_000, CATALOG]),
    "many rules": numbered(page(stream(b"0 0 m 9 9 l 0 0 500 500 re S " * 30_000))),
    "text over text": numbered(page(stream(b"BT /F 9 Tf " + b"(ab) Tj 0 0 Td " * 3_000 + b"ET"))),
    "endless trailer": b"%PDF-1.7\ntrailer\n<< /Prev 0 /Root 1 0 R >>\nstartxref\n9\n%%EOF",
    "only a head": b"%PDF-1.7\n",
}  # fmt: skip


@pytest.mark.parametrize("shape", HOSTILE_PDF)
def test_hostile_pdf_ends_soon(shape):
    started = time.process_time()
    check("a.pdf", HOSTILE_PDF[shape])
    assert time.process_time() - started < 5


def test_pages_declared_beyond_the_limit_are_refused():
    kids = b"3 0 R " * 10_001
    data = numbered(
        [
            CATALOG,
            b"<< /Type /Pages /Count 10001 /Kids [" + kids + b"] >>",
            b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 9 9] >>",
        ]
    )
    with pytest.raises(ProblemError, match="10,001 pages"):
        parse_document("a.pdf", data)


SHAPES = {
    "quotes.csv": lambda n: '"' * n,
    "commas.csv": lambda n: "," * n,
    "open quotes.csv": lambda n: 'a,"b\n' * (n // 5),
    "triple.py": lambda n: "\"\"\"'''" * (n // 6),
    "comments.py": lambda n: "# a\n" * (n // 4) + "def f(): pass",
    "defs.py": lambda n: "def f():\n" * (n // 9),
    "nested defs.py": lambda n: "".join(" " * (k % 80) + "def f():\n" for k in range(n // 50)),
    "matter.md": lambda n: "---\na: [" + "'" * n,
    "matter lines.md": lambda n: "---\na:\n" + "- x\n" * (n // 4),
    "open matter.md": lambda n: "---\n" + "a\n" * (n // 2),
    "tables.html": lambda n: "<table>" * 900 + "<td>a" * (n // 5),
    "nested lists.html": lambda n: "<ul><li>" * 800 + "<a href=x>a</a>" * (n // 15),
    "classes.html": lambda n: "<div class='menu'>a</div>" * (n // 25),
    "signatures.html": lambda n: "<dl><dt class=sig>f(x)<dd>" * min(n // 26, 900) + "a" * n,
    "cells.html": lambda n: "<table>" + "<tr><td colspan=50>a" * (n // 20),
    "encoded.eml": lambda n: "Subject: " + "=?utf-8?q?a?= " * (n // 14) + "\n\nx",
    "addresses.eml": lambda n: "To: " + "<" * n + "\n\nx",
    "quoted.eml": lambda n: "From: a\n\n" + "> a\nb\n" * (n // 6),
    "brackets.jsonl": lambda n: "[1]\n" * (n // 4),
    "cells.ipynb": lambda n: json.dumps({"cells": [{"source": "x"}] * (n // 15)}),
}  # fmt: skip


@pytest.mark.parametrize("name", SHAPES)
def test_hostile_text_takes_time_in_proportion_to_its_size(name):
    def seconds(size: int) -> float:
        data = SHAPES[name](size).encode()
        started = time.process_time()
        check(name, data)
        return time.process_time() - started

    assert any(seconds(120_000) < 8 * seconds(30_000) + 0.3 for _ in range(3))
