"""Pages of the planted-fact corpus as files: Markdown, HTML, DOCX and PDF, the same every time."""

from __future__ import annotations

import datetime
import html
import io
import pathlib
import zipfile
from dataclasses import dataclass, field

import docx
from reportlab.lib import colors
from reportlab.lib.pagesizes import A4
from reportlab.lib.styles import getSampleStyleSheet
from reportlab.platypus import PageBreak, Paragraph, SimpleDocTemplate, Spacer, Table

__all__ = ["Body", "Page", "write_page"]

EPOCH = datetime.datetime(2024, 1, 1)


@dataclass
class Body:
    """A section. The first row of ``table`` is its header. ``break_before``: begins a page where
    the format has pages."""

    heading: str
    paragraphs: list[str] = field(default_factory=list)
    table: list[tuple[str, str]] = field(default_factory=list)
    break_before: bool = False


@dataclass
class Page:
    title: str
    opening: str = ""
    fields: dict[str, str] = field(default_factory=dict)
    bodies: list[Body] = field(default_factory=list)


def write_page(path: pathlib.Path, page: Page) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    writers = {".md": _markdown, ".html": _html, ".docx": _docx, ".pdf": _pdf}
    path.write_bytes(writers[path.suffix](page))


def _markdown(page: Page) -> bytes:
    lines = []
    if page.fields:
        lines += ["---", *(f"{name}: {value}" for name, value in page.fields.items()), "---", ""]
    lines += [f"# {page.title}", "", page.opening]
    for body in page.bodies:
        lines += ["", f"## {body.heading}"]
        for paragraph in body.paragraphs:
            lines += ["", paragraph]
        for n, row in enumerate(body.table):
            lines += [""] * (n == 0) + [f"| {' | '.join(row)} |"] + ["|---|---|"] * (n == 0)
    return ("\n".join(lines) + "\n").encode()


def _html(page: Page) -> bytes:
    metas = "".join(
        f'<meta name="{name}" content="{html.escape(value)}">'
        for name, value in page.fields.items()
    )
    parts = [
        f"<!doctype html><html lang='en'><head><title>{html.escape(page.title)}</title>{metas}"
        "</head><body><nav><a href='/'>Home</a> <a href='/all'>All documents</a></nav><main>",
        f"<h1>{html.escape(page.title)}</h1><p>{html.escape(page.opening)}</p>",
    ]
    for body in page.bodies:
        parts.append(f"<h2>{html.escape(body.heading)}</h2>")
        parts += [f"<p>{html.escape(paragraph)}</p>" for paragraph in body.paragraphs]
        if body.table:
            cells = [
                "".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in row)
                for n, row in enumerate(body.table)
                for tag in ("th" if n == 0 else "td",)
            ]
            parts.append("<table>" + "".join(f"<tr>{row}</tr>" for row in cells) + "</table>")
    parts.append("</main><footer>Printed copies are not kept up to date.</footer></body></html>\n")
    return "\n".join(parts).encode()


def _docx(page: Page) -> bytes:
    document = docx.Document()
    document.core_properties.title = page.title
    document.core_properties.created = document.core_properties.modified = EPOCH
    if "date" in page.fields:
        issued = datetime.datetime.fromisoformat(page.fields["date"])
        document.core_properties.created = document.core_properties.modified = issued
        document.core_properties.version = page.fields["version"]
    document.add_heading(page.title, 0)
    document.add_paragraph(page.opening)
    for body in page.bodies:
        if body.break_before:
            document.add_page_break()
        document.add_heading(body.heading, 1)
        for paragraph in body.paragraphs:
            document.add_paragraph(paragraph)
        if body.table:
            table = document.add_table(rows=0, cols=2, style="Table Grid")
            for row in body.table:
                for cell, text in zip(table.add_row().cells, row, strict=True):
                    cell.text = text
    made = io.BytesIO()
    document.save(made)
    return _without_times(made.getvalue())


def _without_times(data: bytes) -> bytes:
    """The same archive with one time for all its members."""
    made = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(made, "w") as new:
        for name in old.namelist():
            member = zipfile.ZipInfo(name, EPOCH.timetuple()[:6])
            member.compress_type = zipfile.ZIP_DEFLATED
            new.writestr(member, old.read(name))
    return made.getvalue()


def _pdf(page: Page) -> bytes:
    made = io.BytesIO()
    styles = getSampleStyleSheet()
    document = SimpleDocTemplate(
        made,
        pagesize=A4,
        title=page.title,
        subject=", ".join(f"{name}: {value}" for name, value in page.fields.items()),
        invariant=1,
    )
    story = [Paragraph(html.escape(page.title), styles["Title"])]
    story.append(Paragraph(html.escape(page.opening), styles["BodyText"]))
    for body in page.bodies:
        if body.break_before:
            story.append(PageBreak())
        story.append(Paragraph(html.escape(body.heading), styles["Heading2"]))
        story += [Paragraph(html.escape(text), styles["BodyText"]) for text in body.paragraphs]
        if body.table:
            ruled = [("GRID", (0, 0), (-1, -1), 0.5, colors.black)]
            story += [Spacer(1, 8), Table(body.table, style=ruled), Spacer(1, 8)]

    def footer(canvas, _):  # type: ignore[no-untyped-def]
        canvas.drawCentredString(A4[0] / 2, 30, f"{page.title} · page {canvas.getPageNumber()}")

    document.build(story, onFirstPage=footer, onLaterPages=footer)
    return made.getvalue()
