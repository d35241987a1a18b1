"""The two pictures of README: `lmstack ask` in a terminal, and the page.

    python benchmarks/readme_pictures.py

Types the commands of README on this repository's pages with the default models, which have to be
pulled, and keeps what is seen: the terminal as SVG, and the page as a browser draws it, with the
source of the answer open. Needs playwright (`make .venv/.dev`) and Chromium (`make chromium`).
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import io
import os
import pty
import shutil
import struct
import subprocess
import sys
import termios
from pathlib import Path

from local_server import lmstack_up
from playwright.sync_api import sync_playwright
from rich.console import Console
from rich.text import Text

ROOT = Path(__file__).parents[1]
PICTURES = ROOT / "docs/pictures"
QUESTION = "Can lmstack train a model on my own data without a GPU?"
COLUMNS = 100
SIZE = {"width": 1240, "height": 720}
BROWSERS = ("chromium-headless-shell", "chromium", "chromium-browser")
LMSTACK = (sys.executable, "-m", "lmstack")
# A terminal that asks nothing of another host, which rich's own format does for its font.
SVG = """\
<svg viewBox="0 0 {width} {height}" xmlns="http://www.w3.org/2000/svg">
<style>
.{unique_id}-matrix {{ font-family: ui-monospace, Menlo, Consolas, "DejaVu Sans Mono", monospace; \
font-size: {char_height}px; line-height: {line_height}px; }}
{styles}
</style>
<defs>{lines}</defs>
<rect fill="#16181d" width="100%" height="100%" rx="8"/>
<g transform="translate(24, 24)">
{backgrounds}
<g class="{unique_id}-matrix">{matrix}</g>
</g>
</svg>
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--output", type=Path, default=PICTURES, help="the folder of the pictures")
    args = parser.parse_args()
    command = ("ask", QUESTION, "--docs", "docs")
    _typed(command)  # the folder is indexed and the model made ready; README says what that takes
    draw(_typed(command), args.output / "ask.svg")
    with lmstack_up(str(ROOT / "docs"), "--quiet") as url:
        photograph(url, args.output / "page.png")


def _typed(command: tuple[str, ...]) -> str:
    """What a terminal of `COLUMNS` shows of ``lmstack COMMAND`` at its end."""
    main_end, other_end = pty.openpty()
    fcntl.ioctl(other_end, termios.TIOCSWINSZ, struct.pack("HHHH", 40, COLUMNS, 0, 0))
    kind = {"TERM": "xterm-256color"}
    with subprocess.Popen(
        [*LMSTACK, *command], cwd=ROOT, stdout=other_end, stderr=other_end, env=os.environ | kind
    ) as process:
        os.close(other_end)
        shown = bytearray()
        with contextlib.suppress(OSError):  # the other end was closed
            while data := os.read(main_end, 1 << 16):
                shown += data
    os.close(main_end)
    if process.returncode:
        sys.exit(f"lmstack {' '.join(command)} failed:\n{shown.decode()}")
    return shown.decode()


def draw(shown: str, target: Path) -> None:
    """``shown``, below the command that was typed, as SVG."""
    # What a progress bar wrote last is cleared at its end.
    text = shown.replace("\r\n", "\n").rpartition("\x1b[2K")[2].strip()
    console = Console(record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True)
    console.print(Text(f'$ lmstack ask "{QUESTION}" --docs docs\n', "bold"), highlight=False)
    console.print(Text.from_ansi(text), highlight=False)
    target.write_text(console.export_svg(title="lmstack ask", code_format=SVG, unique_id="ask"))


def photograph(url: str, target: Path) -> None:
    """The page with an answer, and the source of its first sentence beside it."""
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(
            executable_path=browser, args=["--no-sandbox", "--disable-gpu"]
        )
        page = chromium.new_page(viewport=SIZE, device_scale_factor=1.5)
        page.set_default_timeout(300_000)
        page.goto(url)
        page.locator("#state:not([data-state=connecting])").wait_for()
        page.get_by_label("Your question").fill(QUESTION)
        page.keyboard.press("Enter")
        page.locator(".meta").wait_for()  # the line below a finished answer
        page.locator(".cite").first.click()
        page.wait_for_timeout(1500)  # the source scrolls to its place
        page.screenshot(path=target)
        chromium.close()


if __name__ == "__main__":
    main()
