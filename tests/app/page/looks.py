"""Browsers as people have them: other fonts installed, a larger default size. And what can be
measured of how a page looks: contrasts, and what is too wide.

The fonts are those of one folder alone, through a fontconfig file of the test's own, so that the
page is as wide here as on a machine that has nothing else.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

# The contrast of each piece of visible text with what is painted behind it (WCAG 2, relative
# luminance); colours are read off a canvas, because CSS has many ways to write them.
CONTRASTS = """() => {
  const context = Object.assign(document.createElement("canvas"), {width: 1, height: 1})
    .getContext("2d", {willReadFrequently: true});
  const rgba = (color) => {
    context.clearRect(0, 0, 1, 1);
    context.fillStyle = color;
    context.fillRect(0, 0, 1, 1);
    const [r, g, b, a] = context.getImageData(0, 0, 1, 1).data;
    return [r, g, b, a / 255];
  };
  const over = (top, under) => [0, 1, 2].map((i) => top[i] * top[3] + under[i] * (1 - top[3]));
  const behind = (node) => {
    const layers = [];
    for (let up = node; up; up = up.parentElement) {
      layers.push(rgba(getComputedStyle(up).backgroundColor));
      if (layers.at(-1)[3] === 1) break;
    }
    return layers.reverse().reduce((under, top) => over(top, under), [255, 255, 255]);
  };
  const light = (color) => color.slice(0, 3).map((c) => c / 255)
    .map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4))
    .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
  const found = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const node = walker.currentNode.parentElement;
    if (!walker.currentNode.data.trim() || !node.checkVisibility() || node.disabled) continue;
    if (node.closest(".hidden, .skip, noscript")) continue;
    const ground = behind(node);
    const ink = over(rgba(getComputedStyle(node).color), ground);
    const [low, high] = [light(ink), light(ground)].sort((a, b) => a - b);
    found.push([walker.currentNode.data.trim().slice(0, 40), (high + 0.05) / (low + 0.05)]);
  }
  return found;
}"""
TOO_WIDE = """() => [...document.querySelectorAll("body, body *")]
  .filter((node) => node.checkVisibility() && !node.closest(".hidden, pre"))
  .filter((node) => node.getBoundingClientRect().right > innerWidth + 0.5)
  .map((node) => node.id || node.className || node.localName)"""

FONTS = Path("/usr/share/fonts")
INSTALL = "apt-get install -y fonts-dejavu-extra fonts-liberation"


@dataclass(frozen=True)
class Look:
    """``family`` is what "sans-serif" means, ``file`` one of its files; ``size`` in pixels."""

    family: str
    monospace: str
    file: str
    size: int = 16

    def __str__(self) -> str:
        return f"{self.family.split()[0].lower()}-{self.size}px"


DEJAVU = ("DejaVu Sans", "DejaVu Sans Mono", "DejaVuSans-ExtraLight.ttf")
LIBERATION = ("Liberation Sans", "Liberation Mono", "LiberationSans-Regular.ttf")
# Of the common fonts the one with the widest letters and the one with the narrowest; and the
# default size of a reader who needs larger letters.
WIDE, NARROW, LARGE = Look(*DEJAVU), Look(*LIBERATION), Look(*DEJAVU, size=24)
LOOKS = (WIDE, NARROW, LARGE)


def launch_options(look: Look, scratch: Path) -> dict[str, Any]:
    """What Chromium is launched with for ``look``; the fontconfig file goes to ``scratch``."""
    found = next(FONTS.rglob(look.file), None)
    if found is None:
        pytest.skip(f"{look.family} ({look.file}) is missing: {INSTALL}")
    generic = {"sans-serif": look.family, "monospace": look.monospace}
    aliases = "".join(
        f"<alias><family>{name}</family><prefer><family>{family}</family></prefer></alias>"
        for name, family in generic.items()
    )
    config = scratch / "fonts.conf"
    config.write_text(
        f"<fontconfig><dir>{found.parent}</dir><cachedir>{scratch}/cache</cachedir>"
        f"{aliases}</fontconfig>"
    )
    return {
        "env": {**os.environ, "FONTCONFIG_FILE": str(config)},
        "args": [f"--blink-settings=defaultFontSize={look.size}"],
    }


def family_of(page: Any, selector: str) -> str:
    """The family of the font that the text of ``selector`` is drawn with."""
    client = page.context.new_cdp_session(page)
    for domain in ("DOM", "CSS"):
        client.send(f"{domain}.enable")
    root = client.send("DOM.getDocument")["root"]["nodeId"]
    node = client.send("DOM.querySelector", {"nodeId": root, "selector": selector})["nodeId"]
    fonts = client.send("CSS.getPlatformFontsForNode", {"nodeId": node})["fonts"]
    return str(fonts[0]["familyName"])
