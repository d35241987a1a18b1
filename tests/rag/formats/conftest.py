"""Documents made in code: PDFs by reportlab, Word documents by python-docx."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest
from reportlab.lib import colors
from reportlab.lib.pagesizes import A4
from reportlab.lib.styles import getSampleStyleSheet
from reportlab.pdfgen.canvas import Canvas
from reportlab.platypus import PageBreak, Paragraph, SimpleDocTemplate, Spacer, Table, TableStyle

from lmstack.rag.documents import Document
from lmstack.rag.formats.load import parse_document

Draw = Callable[[Canvas], None]
STYLES = getSampleStyleSheet()


def drawn(*pages: Draw, **settings: Any) -> bytes:
    """A PDF whose pages are drawn by ``pages``."""
    file = io.BytesIO()
    canvas = Canvas(file, pagesize=A4, invariant=True, **settings)
    for draw in pages:
        draw(canvas)
        canvas.showPage()
    canvas.save()
    return file.getvalue()


def typeset(*parts: Any) -> bytes:
    """A PDF set from: text (a paragraph), (style, text), rows of cells (a ruled table), or None
    (a new page)."""
    file = io.BytesIO()
    story: list[Any] = []
    for part in parts:
        if part is None:
            story.append(PageBreak())
        elif isinstance(part, str):
            story += [Paragraph(part, STYLES["BodyText"]), Spacer(1, 4)]
        elif isinstance(part, tuple):
            story.append(Paragraph(part[1], STYLES[part[0]]))
        else:
            table = Table(part)
            table.setStyle(TableStyle([("GRID", (0, 0), (-1, -1), 0.5, colors.black)]))
            story += [table, Spacer(1, 8)]
    SimpleDocTemplate(file, pagesize=A4, invariant=True, title="A report").build(story)
    return file.getvalue()


def pdf(data: bytes) -> Document:
    return parse_document("a.pdf", data)


def archive(entries: Mapping[str, bytes | str]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as packed:
        for name, content in entries.items():
            packed.writestr(name, content)
    return file.getvalue()


def word(body: str, **parts: str) -> bytes:
    """A Word document with this content of ``w:body``; other parts by name (``styles=…``)."""
    name = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"
    head = f'<?xml version="1.0"?><w:{{}} xmlns:w="{name}">'
    entries = {
        "word/document.xml": f"{head.format('document')}<w:body>{body}</w:body></w:document>"
    }
    for part, content in parts.items():
        entries[f"word/{part}.xml"] = f"{head.format(part)}{content}</w:{part}>"
    return archive(entries)


def texts(document: Document, kind: str) -> Sequence[str]:
    return [document.text[b.start : b.end] for b in document.blocks if b.kind == kind]


@pytest.fixture(scope="session")
def make() -> Any:
    """The functions above, for tests that lie in other modules."""
    return type(
        "Make",
        (),
        {
            "drawn": staticmethod(drawn),
            "typeset": staticmethod(typeset),
            "pdf": staticmethod(pdf),
            "archive": staticmethod(archive),
            "word": staticmethod(word),
            "texts": staticmethod(texts),
        },
    )
