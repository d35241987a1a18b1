"""A file is what its first bytes say, whatever its name says."""

from __future__ import annotations

import gzip

import pytest

from lmstack.rag.formats.load import ProblemError, parse_document


def test_pdf_by_another_name_is_read_as_a_pdf(make):
    data = make.typeset("Words of a report.")
    for name in ("a.txt", "a.docx", "a.html"):
        document = parse_document(name, data)
        assert (document.format, document.text) == ("pdf", "Words of a report.")


def test_word_document_by_another_name_is_read_as_one(make):
    data = make.word("<w:p><w:r><w:t>Words.</w:t></w:r></w:p>")
    for name in ("a.md", "a.pdf"):
        assert parse_document(name, data).format == "docx"


@pytest.mark.parametrize(
    ("name", "data", "says"),
    [
        ("a.md", b"\x89PNG\r\n\x1a\n", "a PNG picture"),
        ("a.txt", gzip.compress(b"x", mtime=0), "a gzip archive"),
        ("a.html", b"\x7fELF", "a program"),
        ("a.md", b"{\\rtf1 x}", "rich text"),
        ("a.pdf", b"words", "no PDF"),
        ("a.docx", b"words", "no Word document"),
        ("a.txt", b"PK\x03\x04" + b"x" * 50, "a ZIP archive"),
    ],
)
def test_wrong_ending_is_named(name, data, says):
    with pytest.raises(ProblemError, match=says) as caught:
        parse_document(name, data)
    assert caught.value.kind == "format"


def test_text_about_pdf_stays_text():
    data = b"The first bytes of a PDF are %PDF-1.7, says the standard."
    assert parse_document("a.txt", data).format == "text"
