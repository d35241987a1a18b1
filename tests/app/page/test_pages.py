"""The pages of a PDF file on the page: the cited quote is marked where it stands on the paper."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Page, expect
from reportlab.lib.pagesizes import A4
from reportlab.pdfgen.canvas import Canvas

from lmstack.app.page.view import PageView
from lmstack.core import InputError, NotFoundError

QUOTE = "The pump must be bled before winter."
SECOND = "Roses are watered in the morning."


def write_pdf(path: Path, *pages: str) -> None:
    canvas = Canvas(str(path), pagesize=A4, invariant=True)
    for page in pages:
        for number, line in enumerate(page.split("\n")):
            canvas.drawString(72, 720 - 24 * number, line)
        canvas.showPage()
    canvas.save()


@pytest.fixture
def manual(docs: Path, make: Any, until: Any) -> PageView:
    """A workspace with a PDF of two pages, the quote on the second."""
    write_pdf(docs / "manual.pdf", f"First of all.\n{SECOND}", f"Care of the pump.\n{QUOTE}")
    workspace: PageView = make()
    workspace.start_indexing()
    until(lambda: workspace.status()["state"] == "ready")
    return workspace


def pdf_of(workspace: PageView) -> tuple[int, str]:
    """The id of the manual, and its text."""
    rows = workspace.documents("manual.pdf")["documents"]
    return rows[0]["id"], workspace.document_text(rows[0]["id"])


def boxes(workspace: PageView) -> dict[str, Any]:
    identity, text = pdf_of(workspace)
    start = text.index(QUOTE)
    [page] = workspace.boxes(identity, start, start + len(QUOTE))["pages"]
    return dict(page)


def test_boxes_of_a_quote_lie_on_its_line_of_its_page(manual: PageView) -> None:
    page = boxes(manual)
    assert page["number"] == 2
    assert (page["width"], page["height"]) == pytest.approx(A4, abs=1)
    [(left, top, right, bottom)] = page["boxes"]
    baseline = A4[1] - (720 - 24)
    assert left == pytest.approx(72, abs=3)
    assert top < baseline < bottom + 3
    assert right > left + 150


def test_picture_has_ink_inside_the_boxes(manual: PageView) -> None:
    page = boxes(manual)
    data, _ = manual.picture(pdf_of(manual)[0], 2, 800)
    ink = np.asarray(Image.open(io.BytesIO(data)).convert("L")) < 128
    assert ink.shape[1] == 800
    scale = 800 / page["width"]
    [(left, top, right, bottom)] = [[round(v * scale) for v in box] for box in page["boxes"]]
    assert ink[top:bottom, left:right].mean() > 0.05
    assert ink[bottom + 2 : bottom + 60].mean() == 0


def test_file_that_changed_since_is_not_drawn(manual: PageView, docs: Path) -> None:
    identity, text = pdf_of(manual)
    write_pdf(docs / "manual.pdf", "Something else.")
    with pytest.raises(NotFoundError, match="changed since it was indexed"):
        manual.boxes(identity, 0, len(text))
    with pytest.raises(NotFoundError, match="changed since it was indexed"):
        manual.picture(identity, 1, 800)


def test_only_pages_that_there_are_are_drawn(manual: PageView) -> None:
    identity, _ = pdf_of(manual)
    with pytest.raises(NotFoundError, match="no page 3"):
        manual.picture(identity, 3, 800)
    with pytest.raises(InputError, match="no passage"):
        manual.boxes(identity, 5, 5)
    [garden] = manual.documents("garden.md")["documents"]
    with pytest.raises(NotFoundError, match="no pages"):
        manual.picture(garden["id"], 1, 800)


def test_width_is_bounded(manual: PageView) -> None:
    data, _ = manual.picture(pdf_of(manual)[0], 1, 10**9)
    assert Image.open(io.BytesIO(data)).width <= 3_000


class Quoting:
    """The workspace, but every answer cites the quote."""

    def __init__(self, workspace: PageView, scripted: Any, point: str = "") -> None:
        identity, text = pdf_of(workspace)
        start = text.index(QUOTE)
        place: dict[str, Any] = {"start": start, "end": start + len(QUOTE), "quote": QUOTE}
        if point:
            place["focus"] = [at := start + QUOTE.index(point), at + len(point)]
        source = {"id": 1, "path": "docs/manual.pdf", "document_id": identity, **place}
        self._workspace = workspace
        self._script = scripted.script("Bleed it [1].", [{**source, "ranks": {"dense": 1}}])

    def __getattr__(self, name: str) -> Any:
        return getattr(self._workspace, name)

    async def ask(self, *_: Any, **__: Any) -> Any:
        for step in self._script:
            if not isinstance(step, (int, float)):
                yield step


@pytest.fixture
def cited(manual: PageView, workspace: Any, open_page: Any, ask: Any) -> Page:
    page: Page = open_page(Quoting(manual, workspace))
    ask(page, "What about the pump?")
    page.locator(".answer .cite").first.click()
    return page


@pytest.mark.browser
def test_citation_of_a_pdf_opens_its_page_with_the_quote_marked(cited: Page, shot: Any) -> None:
    mark = cited.locator(".page-mark")
    expect(mark).to_have_count(1)
    expect(mark).to_be_in_viewport()
    expect(cited.locator(".page-number")).to_have_text("Page 2 of 2")
    sheet, box = cited.locator(".sheet").bounding_box(), mark.bounding_box()
    assert sheet is not None
    assert box is not None
    scale = sheet["width"] / A4[0]
    assert box["x"] - sheet["x"] == pytest.approx(72 * scale, abs=4)
    assert (box["y"] - sheet["y"]) / scale < A4[1] - 696 < (box["y"] - sheet["y"]) / scale + 20
    shot(cited, "pdf-page")


@pytest.mark.browser
def test_point_of_the_quote_is_marked_on_its_page_too(
    manual: PageView, workspace: Any, open_page: Any, ask: Any
) -> None:
    page: Page = open_page(Quoting(manual, workspace, QUOTE.split()[-1]))
    ask(page, "What about the pump?")
    page.locator(".answer .cite").first.click()
    whole, point = page.locator(".page-mark:not(.focus)"), page.locator(".page-mark.focus")
    expect(point).to_have_count(1)
    expect(point).to_be_in_viewport()
    outer, inner = whole.bounding_box(), point.bounding_box()
    assert outer is not None
    assert inner is not None
    assert inner["width"] < outer["width"] / 2
    assert inner["x"] > outer["x"] + outer["width"] / 2


@pytest.mark.browser
def test_pages_turn_and_zoom_and_text_is_a_button_away(cited: Page, shot: Any) -> None:
    expect(cited.locator(".page-mark")).to_have_count(1)
    cited.get_by_role("button", name="Previous page").click()
    expect(cited.locator(".page-number")).to_have_text("Page 1 of 2")
    expect(cited.locator(".page-mark")).to_have_count(0)
    cited.get_by_role("button", name="Next page").click()
    cited.get_by_role("button", name="Zoom in").click()
    expect(cited.locator(".page-mark")).to_be_in_viewport()
    shot(cited, "pdf-zoomed")
    cited.get_by_role("button", name="Text").click()
    expect(cited.locator("mark")).to_have_text(QUOTE)
    cited.get_by_role("button", name="Page", exact=True).click()
    expect(cited.locator(".page-mark")).to_have_count(1)


@pytest.mark.browser
def test_pdf_that_changed_since_shows_its_text_and_says_so(
    manual: PageView, workspace: Any, docs: Path, open_page: Any, ask: Any
) -> None:
    page: Page = open_page(Quoting(manual, workspace), expect="404")
    ask(page, "What about the pump?")
    page.locator(".answer .cite").first.wait_for()
    write_pdf(docs / "manual.pdf", "Something else.")
    page.locator(".answer .cite").first.click()
    expect(page.locator(".panel-note")).to_contain_text("changed since it was indexed")
    expect(page.locator("mark")).to_have_text(QUOTE)
