"""Pictures as PNG or SVG through matplotlib, without a screen: what they share.

Covers the figure laid out in inches, fonts that have the letters of a text (and an escape for
letters that none has), colours for every kind of colour vision, and writing the file. Needs the
extra ``pictures``. Does not cover what is drawn.
"""

from __future__ import annotations

import shlex
import warnings
from pathlib import Path
from typing import Any

from lmstack.app.report.tokens import colour
from lmstack.core import InputError, require, shown

__all__ = [
    "ACCENT",
    "BARS",
    "FAINT",
    "GRID",
    "INK",
    "MASKED",
    "QUIET",
    "SHADES",
    "Sheet",
    "check_picture",
    "drawing_part",
    "without_frame",
]

KINDS = (".png", ".svg")
# Of series, vermilion is what no kind of colour vision confuses with blue.
BARS, ACCENT = colour("s0"), colour("s1")
INK, QUIET, FAINT, GRID, MASKED = (colour(n) for n in ("ink", "soft", "edge", "grid", "line"))
SHADES = "Blues"
DPI = 144
# Families with letters beyond Latin, Greek and Cyrillic, looked for where they are installed.
WIDE = (
    *("Noto Sans", "Noto Sans CJK SC", "Noto Sans CJK JP", "Noto Sans SC", "Noto Sans JP"),
    *("Noto Sans Arabic", "Noto Sans Devanagari", "Noto Sans Thai", "Noto Sans Hebrew"),
    *(
        "Noto Emoji",
        "PingFang SC",
        "Hiragino Sans",
        "Microsoft YaHei",
        "Yu Gothic",
        "Malgun Gothic",
    ),
    *("WenQuanYi Zen Hei", "WenQuanYi Micro Hei", "Source Han Sans SC", "Arial Unicode MS"),
    *("Segoe UI Symbol", "Segoe UI Emoji", "Symbola"),
)


def check_picture(path: Path, name: str = "output") -> None:
    """``path`` can be written as a picture; said before anything slow begins."""
    if path.suffix.lower() not in KINDS:
        raise InputError(
            f"--{name} is {shown(str(path))}, which names no kind of picture",
            hint=f"--{name} FILE.png, or FILE.svg",
            param=name,
        )
    if "\0" in str(path) or not path.parent.is_dir():
        raise InputError(
            f"--{name}: there is no folder {shown(str(path.parent))}",
            hint=f"mkdir -p {shlex.quote(str(path.parent))}",
            param=name,
        )
    drawing_part("figure")


def drawing_part(name: str) -> Any:
    """A module of matplotlib, or the extra that brings it."""
    return require(f"matplotlib.{name}" if name else "matplotlib", "pictures")


class Sheet:
    """One figure of ``width`` by ``height`` inches, on which axes are placed from the top left."""

    def __init__(self, width: float, height: float) -> None:
        figure_class = drawing_part("figure").Figure
        self.width, self.height = width, height
        self.figure: Any = figure_class(figsize=(width, height), facecolor="white")
        self._fonts = _Fonts()

    def axes(self, left: float, top: float, width: float, height: float) -> Any:
        """Axes with their upper left corner at (``left``, ``top``) inches."""
        box = (
            left / self.width,
            1 - (top + height) / self.height,
            width / self.width,
            height / self.height,
        )
        return self.figure.add_axes(box)

    def panel(
        self,
        left: float,
        top: float,
        width: float,
        height: float,
        title: str = "",
        *,
        below: str = "",
        beside: str = "",
    ) -> Any:
        """`axes` with a title, labels ``below`` and ``beside`` them and a quiet grid, for curves
        and bars."""
        axes = self.axes(left, top, width, height)
        axes.set_title(title, loc="left", fontsize=10, color=INK, **self.font)
        axes.set_xlabel(below, fontsize=9, color=QUIET, **self.font)
        axes.set_ylabel(beside, fontsize=9, color=QUIET, **self.font)
        axes.grid(color=GRID, linewidth=0.5)
        axes.set_axisbelow(True)
        axes.tick_params(which="both", length=0, labelsize=8, labelcolor=QUIET)
        for side in ("top", "right", "left"):
            axes.spines[side].set_visible(False)
        axes.spines["bottom"].set_color(FAINT)
        return axes

    def text(self, left: float, top: float, text: str, **style: Any) -> None:
        """``text`` with its upper left corner at (``left``, ``top``) inches."""
        style = {"color": INK, "fontsize": 10, "va": "top", **style}
        x, y = left / self.width, 1 - top / self.height
        drawn = self.drawable(text, weight=style.get("fontweight", "normal"))
        self.figure.text(x, y, drawn, **self.font, **style)

    @property
    def font(self) -> dict[str, Any]:
        """Arguments of every text: the fonts, and no mathematics between dollar signs."""
        return {"family": self._fonts.names, "parse_math": False}

    def drawable(self, text: str, limit: int = 0, weight: str = "normal") -> str:
        """``text`` in letters that the fonts of ``weight`` have; others as ``\\u4e2d``.

        Cut to ``limit`` characters, where that is given.
        """
        if limit and len(text) > limit:
            text = text[: limit - 1] + "…"
        letters = self._fonts.letters(weight)
        return "".join(
            c if ord(c) in letters else c.encode("unicode_escape").decode() for c in text
        )

    def write(self, path: Path) -> None:
        """Write the file; its suffix says what kind. The same picture gives the same bytes."""
        kind = path.suffix.lower().removeprefix(".")
        # Text stays text in an SVG, so that it can be searched and read aloud.
        settings = {"svg.fonttype": "none", "svg.hashsalt": "lmstack"}
        metadata: dict[str, Any] = {"Date": None} if kind == "svg" else {"Software": None}
        with drawing_part("").rc_context(settings), warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Glyph .* missing")
            self.figure.savefig(path, format=kind, dpi=DPI, metadata=metadata)


def without_frame(axes: Any) -> None:
    """For what fills its axes: an image, cells, bars from their edge."""
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)


class _Fonts:
    """The bundled font, and those of this machine that have what it has not.

    A family is often installed in many faces (light, condensed, oblique), and some have fewer
    letters than others, so only the face counts that matplotlib draws with.
    """

    def __init__(self) -> None:
        self._manager = drawing_part("font_manager")
        installed = {entry.name for entry in self._manager.fontManager.ttflist}
        self.names = ["DejaVu Sans", *(name for name in WIDE if name in installed)]
        self._letters: dict[str, frozenset[int]] = {}

    def letters(self, weight: str) -> frozenset[int]:
        """The code points that can be drawn in ``weight``."""
        if weight not in self._letters:
            found = [self._charmap(name, weight) for name in self.names]
            self._letters[weight] = frozenset().union(*found)
        return self._letters[weight]

    def _charmap(self, name: str, weight: str) -> dict[int, int]:
        wanted = self._manager.FontProperties(
            family=name, style="normal", variant="normal", stretch="normal", weight=weight
        )
        face = self._manager.findfont(wanted, fallback_to_default=False)
        charmap: dict[int, int] = self._manager.get_font(face).get_charmap()
        return charmap
