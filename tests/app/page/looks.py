"""Browsers as people have them: other fonts installed, a larger default size.

The fonts are those of one folder alone, through a fontconfig file of the test's own, so that the
page is as wide here as on a machine that has nothing else.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

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
