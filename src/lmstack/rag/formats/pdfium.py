"""A PDF through PDFium: characters with boxes, ruling lines, properties, pictures of pages.

Coordinates are points with the origin at the top left of the page as it is shown: rotation and
crop box are undone here, once. PDFium is not safe to call from two threads; every function here
works on an open `Pdf`, and opening one takes the process-wide lock until it is closed. Does not
know what a line or a paragraph is (`lines`, `pdf`).
"""

from __future__ import annotations

import ctypes
import re
import struct
import threading
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pypdfium2  # noqa: F401  (importing it initialises the library)
import pypdfium2.raw as pdfium

from lmstack.rag.documents import Box, LoadConfig, ProblemError, too_long

__all__ = ["Pdf", "PdfPage", "iso_date", "open_pdf", "properties", "read_page", "render"]


Affine = tuple[float, float, float, float, float, float]
_LOCK = threading.RLock()
# Drawings of more pieces than this are pictures, not tables.
MAX_OBJECTS = 20_000
MAX_RULES = 4_000
MAX_FORM_DEPTH = 4
# A rule is at most this thick; what is shorter than the second number is a dash or a dot.
THICK, SHORT = 3.0, 6.0
_PRECISION = 100
_DATE = re.compile(r"D?:?(\d{4})(\d\d)?(\d\d)?(\d\d)?(\d\d)?(\d\d)?")
_KEYS = {"Title": "title", "Author": "author", "Subject": "subject", "Keywords": "keywords"}
_DATES = {"CreationDate": "date", "ModDate": "modified"}


@dataclass(slots=True)
class PdfPage:
    """What is on a page. ``codes[i]`` is a code point that stands in ``boxes[i]`` with font size
    ``sizes[i]`` (0 where it is not asked for: spaces, line ends). ``rules`` are straight lines
    along the axes, as thin boxes."""

    number: int
    width: float
    height: float
    codes: list[int]
    boxes: list[Box]
    sizes: list[float]
    rules: list[Box]
    images: bool = False


@dataclass(slots=True)
class Pdf:
    raw: Any
    count: int


@contextmanager
def open_pdf(data: bytes, config: LoadConfig) -> Iterator[Pdf]:
    """Open ``data``; `ProblemError` for what is encrypted, broken or has too many pages."""
    with _LOCK:
        raw = pdfium.FPDF_LoadMemDocument64(data, len(data), None)
        if not raw:
            raise _open_problem(pdfium.FPDF_GetLastError())
        try:
            count = pdfium.FPDF_GetPageCount(raw)
            if count > config.max_pages:
                raise ProblemError(
                    "size",
                    f"has {count:,} pages, more than the limit of {config.max_pages:,}",
                    "split the file, or raise max_pages",
                )
            if count < 1:
                raise ProblemError("failed", "is a PDF without pages", "export it again")
            yield Pdf(raw, count)
        finally:
            pdfium.FPDF_CloseDocument(raw)


def _open_problem(error: int) -> ProblemError:
    if error in (pdfium.FPDF_ERR_PASSWORD, pdfium.FPDF_ERR_SECURITY):
        return ProblemError(
            "encrypted",
            "is encrypted and needs a password",
            "save a copy without a password: qpdf --decrypt --password=… IN OUT",
        )
    return ProblemError(
        "failed",
        "is a broken PDF: it cannot be opened",
        "export it again, or repair it: qpdf IN OUT",
    )


def read_page(pdf: Pdf, number: int, room: int, config: LoadConfig) -> PdfPage | None:
    """Page ``number`` (from 1); None if PDFium cannot read it. ``room``: characters that are
    left of ``config.max_text_chars``."""
    page = pdfium.FPDF_LoadPage(pdf.raw, number - 1)
    if not page:
        return None
    try:
        width, height = pdfium.FPDF_GetPageWidthF(page), pdfium.FPDF_GetPageHeightF(page)
        if not (0 < width < 1e6 and 0 < height < 1e6):
            return None
        affine = _to_display(page, width, height)
        text = pdfium.FPDFText_LoadPage(page)
        if not text:
            return None
        try:
            count = pdfium.FPDFText_CountChars(text)
            if count > room:
                raise too_long(config)
            codes, boxes, sizes = _chars(text, affine, count)
        finally:
            pdfium.FPDFText_ClosePage(text)
        rules, images = _Drawing(affine).read(page)
        return PdfPage(number, width, height, codes, boxes, sizes, rules, images)
    finally:
        pdfium.FPDF_ClosePage(page)


def _to_display(page: Any, width: float, height: float) -> Affine:
    """From the page's own coordinates to points from the top left of what is shown."""
    x, y = ctypes.c_int(), ctypes.c_int()
    size = int(width * _PRECISION), int(height * _PRECISION)

    def at(px: float, py: float) -> tuple[float, float]:
        pdfium.FPDF_PageToDevice(page, 0, 0, *size, 0, px, py, x, y)
        return x.value / _PRECISION, y.value / _PRECISION

    x0, y0 = at(0, 0)
    xa, ya = at(1000, 0)
    xb, yb = at(0, 1000)
    return (xa - x0) / 1000, (ya - y0) / 1000, (xb - x0) / 1000, (yb - y0) / 1000, x0, y0


def _chars(text: Any, affine: Affine, count: int) -> tuple[list[int], list[Box], list[float]]:
    a, b, c, d, e, f = affine
    upright = b == 0 and c == 0
    rect = pdfium.FS_RECTF()
    matrix = pdfium.FS_MATRIX()
    get_code, get_box = pdfium.FPDFText_GetUnicode, pdfium.FPDFText_GetLooseCharBox
    codes: list[int] = []
    boxes: list[Box] = []
    sizes: list[float] = []
    fresh = True
    size = 0.0
    for index in range(count):
        code = get_code(text, index)
        codes.append(code)
        if code in (10, 13):
            boxes.append((0.0, 0.0, 0.0, 0.0))
            sizes.append(0.0)
            fresh = True
            continue
        get_box(text, index, rect)
        left, top, right, bottom = rect.left, rect.top, rect.right, rect.bottom
        if upright:
            boxes.append((a * left + e, d * top + f, a * right + e, d * bottom + f))
        else:
            xs = sorted((a * left + c * top + e, a * right + c * bottom + e))
            ys = sorted((b * left + d * top + f, b * right + d * bottom + f))
            boxes.append((xs[0], ys[0], xs[1], ys[1]))
        # Asking each character for its font would cost as much as everything else.
        if fresh and code != 32:
            pdfium.FPDFText_GetMatrix(text, index, matrix)
            scale = (matrix.c * matrix.c + matrix.d * matrix.d) ** 0.5
            size = pdfium.FPDFText_GetFontSize(text, index) * scale
            fresh = False
        fresh = fresh or code == 2
        sizes.append(size)
    return codes, boxes, sizes


class _Drawing:
    """Straight lines along the axes, from the path objects of a page and of its forms."""

    def __init__(self, affine: Affine) -> None:
        self.affine = affine
        self.rules: list[Box] = []
        self.images = False
        self.seen = 0

    def read(self, page: Any) -> tuple[list[Box], bool]:
        self._objects(
            pdfium.FPDFPage_CountObjects(page),
            lambda index: pdfium.FPDFPage_GetObject(page, index),
            self.affine,
            0,
        )
        return (self.rules if len(self.rules) <= MAX_RULES else []), self.images

    def _objects(self, count: int, get: Any, affine: Affine, depth: int) -> None:
        for index in range(count):
            self.seen += 1
            if self.seen > MAX_OBJECTS or len(self.rules) > MAX_RULES:
                return
            item = get(index)
            kind = pdfium.FPDFPageObj_GetType(item)
            if kind == pdfium.FPDF_PAGEOBJ_PATH:
                self._path(item, affine)
            elif kind == pdfium.FPDF_PAGEOBJ_IMAGE:
                self.images = True
            elif kind == pdfium.FPDF_PAGEOBJ_FORM and depth < MAX_FORM_DEPTH:
                self._objects(
                    pdfium.FPDFFormObj_CountObjects(item),
                    lambda inner, item=item: pdfium.FPDFFormObj_GetObject(item, inner),
                    _times(_matrix(item), affine),
                    depth + 1,
                )

    def _path(self, path: Any, affine: Affine) -> None:
        segments = pdfium.FPDFPath_CountSegments(path)
        if not 2 <= segments <= 64:
            return
        affine = _times(_matrix(path), affine)
        fill, stroke = ctypes.c_int(), ctypes.c_int()
        pdfium.FPDFPath_GetDrawMode(path, fill, stroke)
        if not stroke.value and not (fill.value and self._is_thin(path)):
            return  # the edges of a background are no rules
        x, y = ctypes.c_float(), ctypes.c_float()
        first = last = (0.0, 0.0)
        for index in range(segments):
            segment = pdfium.FPDFPath_GetPathSegment(path, index)
            kind = pdfium.FPDFPathSegment_GetType(segment)
            pdfium.FPDFPathSegment_GetPoint(segment, x, y)
            point = _apply(affine, x.value, y.value)
            if kind == pdfium.FPDF_SEGMENT_MOVETO:
                first = point
            elif kind == pdfium.FPDF_SEGMENT_LINETO:
                self._rule(last, point)
            last = point
            if pdfium.FPDFPathSegment_GetClose(segment):
                self._rule(last, first)
                last = first

    @staticmethod
    def _is_thin(path: Any) -> bool:
        left, bottom, right, top = (ctypes.c_float() for _ in range(4))
        pdfium.FPDFPageObj_GetBounds(path, left, bottom, right, top)
        return min(right.value - left.value, top.value - bottom.value) <= THICK

    def _rule(self, a: tuple[float, float], b: tuple[float, float]) -> None:
        x0, x1 = sorted((a[0], b[0]))
        y0, y1 = sorted((a[1], b[1]))
        across, down = x1 - x0, y1 - y0
        if min(across, down) <= 0.5 and max(across, down) >= SHORT:
            self.rules.append((x0, y0, x1, y1))


def _matrix(item: Any) -> Affine:
    m = pdfium.FS_MATRIX()
    if not pdfium.FPDFPageObj_GetMatrix(item, m):
        return 1.0, 0.0, 0.0, 1.0, 0.0, 0.0
    return m.a, m.b, m.c, m.d, m.e, m.f


def _times(first: Affine, then: Affine) -> Affine:
    a, b, c, d, e, f = first
    A, B, C, D, E, F = then
    return (
        a * A + b * C,
        a * B + b * D,
        c * A + d * C,
        c * B + d * D,
        e * A + f * C + E,
        e * B + f * D + F,
    )


def _apply(affine: Affine, x: float, y: float) -> tuple[float, float]:
    a, b, c, d, e, f = affine
    return a * x + c * y + e, b * x + d * y + f


def properties(pdf: Pdf) -> dict[str, str]:
    """Title, author, subject, keywords; ``date`` and ``modified`` in ISO 8601."""
    found: dict[str, str] = {}
    for key, name in (_KEYS | _DATES).items():
        size = pdfium.FPDF_GetMetaText(pdf.raw, key.encode(), None, 0)
        if not 2 < size < 20_000:
            continue
        buffer = ctypes.create_string_buffer(size)
        pdfium.FPDF_GetMetaText(pdf.raw, key.encode(), buffer, size)
        value = buffer.raw[:-2].decode("utf-16-le", "replace").replace("\0", "")
        value = iso_date(value) if key in _DATES else " ".join(value.split())
        if value:
            found[name] = value
    return found


def iso_date(value: str) -> str:
    """``D:20240131…`` as ``2024-01-31``; empty if it is no date."""
    match = _DATE.match(value.strip())
    if match is None:
        return ""
    year, month, day = match.group(1), match.group(2) or "01", match.group(3) or "01"
    valid = "01" <= month <= "12" and "01" <= day <= "31"
    return f"{year}-{month}-{day}" if valid else ""


def render(pdf: Pdf, number: int, width_px: int, max_pixels: int) -> bytes:
    """Page ``number`` as a PNG of ``width_px`` columns (fewer if it had more than ``max_pixels``
    pixels)."""
    page = pdfium.FPDF_LoadPage(pdf.raw, number - 1)
    if not page:
        raise ProblemError("failed", f"page {number} cannot be read", "export the PDF again")
    try:
        ratio = pdfium.FPDF_GetPageHeightF(page) / max(pdfium.FPDF_GetPageWidthF(page), 1e-3)
        width = max(min(width_px, int((max_pixels / max(ratio, 1e-3)) ** 0.5)), 1)
        height = max(min(round(width * ratio), max_pixels // width), 1)
        bitmap = pdfium.FPDFBitmap_Create(width, height, 0)
        if not bitmap:
            raise ProblemError("size", "does not fit in memory as a picture", "ask for less width")
        try:
            pdfium.FPDFBitmap_FillRect(bitmap, 0, 0, width, height, 0xFFFFFFFF)
            pdfium.FPDF_RenderPageBitmap(bitmap, page, 0, 0, width, height, 0, pdfium.FPDF_ANNOT)
            stride = pdfium.FPDFBitmap_GetStride(bitmap)
            buffer = pdfium.FPDFBitmap_GetBuffer(bitmap)
            pixels = ctypes.string_at(buffer, stride * height)
        finally:
            pdfium.FPDFBitmap_Destroy(bitmap)
    finally:
        pdfium.FPDF_ClosePage(page)
    return _png(pixels, width, height, stride)


def _png(pixels: bytes, width: int, height: int, stride: int) -> bytes:
    """Eight-bit RGB from BGRx rows."""
    rows = bytearray()
    for row in range(height):
        line = pixels[row * stride : row * stride + width * 4]
        rgb = bytearray(width * 3)
        rgb[0::3], rgb[1::3], rgb[2::3] = line[2::4], line[1::4], line[0::4]
        rows += b"\0" + rgb

    def chunk(kind: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = zlib.compress(bytes(rows), 6)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", data) + chunk(b"IEND", b"")
