"""The documentation as a site: built without a warning, asks no other host, and its search finds
the right page among the first three for words that newcomers type.

The words were written down before the pages were arranged. ``make docs`` builds the same site.
"""

from __future__ import annotations

import functools
import http.server
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, sync_playwright
from tests.app.page.conftest import CHROMIUM, FLAGS, INSTALL

pytestmark = [pytest.mark.browser, pytest.mark.long]
ROOT = Path(__file__).parents[2]
WORDS = {
    "install": "install",
    "gpu": "install",
    "windows": "install",
    "docker": "install",
    "pdf": "indexing",
    "delete": "indexing",
    "api key": "serving",
    "proxy": "serving",
    "openai": "serving",
    "streaming": "serving",
    "password": "access",
    "citations": "asking",
    "hallucination": "asking",
    "upload": "page",
    "privacy": "quickstart",
    "embeddings": "embeddings",
    "postgres": "stores",
    "license": "models",
    "gguf": "models",
    "quantize": "models",
    "lora": "adapters",
    "fine-tune": "training",
    "resume": "training-runs",
    "dpo": "objectives/dpo",
    "chat": "tasks/text-generation",
    "translate": "tasks/translation",
    "temperature": "decoding",
    "system prompt": "prompting",
    "json": "structured",
    "tools": "tools",
    "mcp": "tools",
    "agent": "agents",
    "evaluate": "evaluation",
    "judge": "judging",
    "rollback": "promotion",
    "tokenizer": "tokenizers",
    "slow": "troubleshooting",
    "error": "troubleshooting",
}


# Each result as it is listed: the search lives in a tree of its own within the page.
RESULTS = """() => [...document.querySelectorAll("*")]
  .flatMap((node) => node.shadowRoot ? [...node.shadowRoot.querySelectorAll("a[href]")] : [])
  .map((link) => new URL(link.href).pathname)"""


@pytest.fixture(scope="module")
def site() -> Iterator[str]:
    """The address of the site, built anew; whatever it warns of ends the build."""
    command = [sys.executable, "-m", "zensical", "build", "--clean", "--strict"]
    built = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert built.returncode == 0, built.stdout + built.stderr
    handler = functools.partial(Quiet, directory=str(ROOT / "build" / "site"))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None: ...


@pytest.fixture(scope="module")
def page(site: str) -> Iterator[Page]:
    """The first page, in a browser of which no request goes elsewhere."""
    if CHROMIUM is None:
        pytest.skip(INSTALL)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        page = browser.new_page()
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        page.goto(site)
        yield page
        browser.close()
    assert asked
    assert [url for url in asked if not url.startswith((site, "data:", "blob:"))] == []


def results(page: Page, site: str, word: str, done: Callable[[list[str]], bool]) -> list[str]:
    """The pages that the search lists for ``word``, as soon as they are ``done``: the index is
    loaded and read first. The last ones, if that does not come to be."""
    page.goto(site)
    page.keyboard.press("/")
    page.get_by_placeholder("Search").fill(word)
    found: list[str] = []
    for _ in range(100):
        found = page.evaluate(RESULTS)
        if done(found):
            break
        page.wait_for_timeout(50)
    return found


@pytest.mark.parametrize("word", WORDS)
def test_the_search_finds_the_right_page_among_the_first_three(
    page: Page, site: str, word: str
) -> None:
    right = f"/{WORDS[word]}/"
    assert right in results(page, site, word, lambda found: right in found[:3])[:3]


def test_a_word_that_no_page_has_finds_none(page: Page, site: str) -> None:
    assert results(page, site, "install", bool)
    page.get_by_placeholder("Search").fill("xyzzyplugh")  # of an index that is read by now
    page.wait_for_timeout(1000)
    assert page.evaluate(RESULTS) == []


@pytest.mark.parametrize(("scheme", "palette"), [("light", "default"), ("dark", "slate")])
def test_the_site_follows_the_colours_of_the_system(
    page: Page, site: str, scheme: Any, palette: str
) -> None:
    browser = page.context.browser
    assert browser is not None
    with browser.new_context(color_scheme=scheme) as context:
        other = context.new_page()
        other.goto(site)
        other.wait_for_selector(f'body[data-md-color-scheme="{palette}"]', timeout=5000)


def test_every_picture_is_there(site: str) -> None:
    folder = ROOT / "build" / "site"
    shown = [
        page.parent / source
        for page in folder.rglob("*.html")
        for source in re.findall(r'<img[^>]* src="([^":]+)"', page.read_text())
    ]
    assert len(shown) >= len(list((ROOT / "docs" / "pictures").iterdir()))
    assert [str(picture) for picture in shown if not picture.is_file()] == []
