"""The page in a real browser against a workspace whose answers are written down.

Each test that opens a page also checks, at its end, that the browser logged no error and asked
no host but the server.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
import shutil
import socket
import threading
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from inspect import iscoroutinefunction
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import uvicorn
from fastapi import FastAPI
from playwright.sync_api import Browser, Page, expect, sync_playwright
from tests.app.page.looks import Look, launch_options

from lmstack.app.page.agents.live import LiveRuns
from lmstack.app.page.routes import PUBLIC_PATHS, add_page
from lmstack.app.page.view import PageView
from lmstack.app.server.access import Access
from lmstack.app.server.uploads import Uploads
from lmstack.app.server.workspace import Workspace, WorkspaceConfig
from lmstack.core import (
    LmstackError,
    Message,
    ModelInfo,
    NotFoundError,
    ScriptedModel,
)
from lmstack.rag import AnswerWishes
from lmstack.rag.answer import confidence
from lmstack.rag.answer.confidence import Calibration
from lmstack.rag.filters import Filter, parse_filter
from lmstack.release.feedback import FeedbackJudgement
from lmstack.serve import create_app

# A loaded machine is slow, not wrong.
expect.set_options(timeout=30_000)

# The shell draws the same pages without a browser's windows around them, in less processor time.
BROWSERS = ("chromium-headless-shell", "chromium", "chromium-browser")
CHROMIUM = next(filter(None, map(shutil.which, BROWSERS)), None)
INSTALL = f"Chromium is missing: apt-get install -y {BROWSERS[0]}"
FLAGS = [
    "--no-sandbox",
    "--headless",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]

Step = tuple[str, dict[str, Any]] | float | LmstackError

GUIDE = """# Serving

How the server is started and stopped.

## Start the server

Start the server and the page with `lmstack up docs`. The page is at http://127.0.0.1:8000 and \
needs no account. It opens while the index is still being built.

## Stop the server

Press Ctrl-C. The server ends what it is streaming, says what was kept, and stops within five \
seconds.
"""
PAGE = """# The page

Click a number to open the passage it came from. Keys 1 to 9 do the same.
"""


class ScriptedWorkspace:
    """``scripts``: the steps of each answer in turn (the last one repeats): an event, a pause in
    seconds, or an error. ``texts``: the documents by path."""

    def __init__(
        self,
        scripts: Sequence[Sequence[Step]] = ((),),
        texts: dict[str, str] | None = None,
    ) -> None:
        self.texts = texts if texts is not None else {"serving.md": GUIDE, "page.md": PAGE}
        self.scripts = list(scripts)
        self.asked: list[tuple[str, tuple[Message, ...]]] = []
        self.open_answers = 0
        self.indexing_calls = 0
        self.questions = ["How do I start the server?", "How do I stop the server?", "The page?"]
        self.problem_files: dict[str, dict[str, str]] = {}
        self.state = "ready"
        self.answers = "quote"
        self.remaining_s: float | None = None
        self.page_characters = 100_000
        self.facet_list: list[dict[str, Any]] = []
        self.filters: list[Filter | None] = []
        self.wishes: list[AnswerWishes | None] = []
        self.uploads: Any = None
        self.judged: list[tuple[str, FeedbackJudgement]] = []

    def status(self, client: str = "") -> dict[str, Any]:
        problems = len(self.problem_files)
        return {
            "version": "0.1.0",
            "model": {"name": "smollm2-135m-instruct", "digest": "sha256:3f2a91c" + "0" * 57},
            "answers": self.answers,
            "folder": "docs",
            "root": "/home/ada/docs",
            "state": self.state,
            "files": {
                "total": len(self.texts) + problems,
                "indexed": len(self.texts) if self.state == "ready" else 1,
                "problems": problems,
            },
            "remaining_s": self.remaining_s,
            "problem": None,
            "revision": 1,
            "uploads": self.uploads and {"max_bytes": 1000, "endings": [".md"]},
        }

    def judge(self, request_id: str, judgement: FeedbackJudgement, client: str = "") -> None:
        self.judged.append((request_id, judgement))

    def filter_of(self, data: Any, client: str = "") -> Filter | None:
        return None if data is None else parse_filter(data)

    def facets(self, client: str = "") -> dict[str, Any]:
        return {"facets": self.facet_list}

    def documents(
        self, find: str = "", client: str = "", where: Filter | None = None
    ) -> dict[str, Any]:
        rows: list[dict[str, Any]] = [
            {"id": number, "path": path, "title": "", "state": "indexed", "problem": None}
            for number, path in enumerate(self.texts, 1)
        ]
        for path, problem in self.problem_files.items():
            rows.append(
                {"id": None, "path": path, "title": "", "state": "problem", "problem": problem}
            )
        if where is not None:
            rows = [row for row in rows if where.matches({"path": row["path"], "format": "md"})]
        found = [row for row in rows if find.lower() in row["path"].lower()]
        return {"documents": found, "found": len(found), "total": len(rows), "revision": 1}

    def document(
        self,
        identity: int,
        *,
        path: str | None = None,
        start: int | None = None,
        around: int | None = None,
        client: str = "",
    ) -> dict[str, Any]:
        name, text = self._entry(identity)
        first = start if start is not None else max(0, (around or 0) - 2000)
        page = text[first : first + self.page_characters]
        headings = [line for line in text.splitlines() if line.startswith("#")]
        return {
            "id": identity,
            "path": name,
            "title": "Serving",
            "text": page,
            "start": first,
            "end": first + len(page),
            "characters": len(text),
            "sections": [
                {"title": line, "start": at, "heading_end": at + len(line)}
                for line in headings
                for at in [text.index(line)]
            ],
        }

    def document_text(self, identity: int, path: str | None = None, client: str = "") -> str:
        return self._entry(identity)[1]

    async def suggestions(self, client: str = "") -> list[str]:
        return self.questions

    def start_indexing(self) -> None:
        self.indexing_calls += 1

    async def ask(
        self, question: str, history: tuple[Message, ...] = (), **caller: Any
    ) -> AsyncIterator[tuple[str, dict[str, Any]]]:
        script = self.scripts[min(len(self.asked), len(self.scripts) - 1)]
        self.asked.append((question, history))
        self.filters.append(caller.get("where"))
        self.wishes.append(caller.get("wishes"))
        self.open_answers += 1
        try:
            for step in script:
                if isinstance(step, LmstackError):
                    raise step
                if isinstance(step, (int, float)):
                    await asyncio.sleep(step)
                else:
                    yield step
        finally:
            self.open_answers -= 1

    def _entry(self, identity: int) -> tuple[str, str]:
        entries = list(self.texts.items())
        if not 1 <= identity <= len(entries):
            raise NotFoundError(f"no document {identity}", hint="open the list of sources")
        return entries[identity - 1]

    # ---- to write scripts with

    def source(
        self, number: int | None, path: str, quote: str, point: str | None = None
    ) -> dict[str, Any]:
        """A citation of ``quote`` where it stands in ``path``, most of all of its ``point``."""
        start = self.texts[path].index(quote)
        focus = start + quote.index(point or quote)
        return {
            "id": number,
            "path": path,
            "document_id": list(self.texts).index(path) + 1,
            "start": start,
            "end": start + len(quote),
            "quote": quote,
            "focus": [focus, focus + len(point or quote)],
            "section": [],
            "ranks": {"dense": number or 1, "lexical": 3},
        }

    def answer(
        self, text: str, citations: Sequence[dict[str, Any]] = (), **changes: Any
    ) -> dict[str, Any]:
        return {
            "answer": text,
            "outcome": "answer",
            "confidence": None,
            "citations": list(citations),
            "sentences": [],
            "searched": {
                "files": len(self.texts),
                "waiting": 0,
                "passages": 8,
                "cited": len(citations),
            },
            "model": self.status()["model"],
            "usage": {"prompt_tokens": 900, "completion_tokens": 41, "cached_tokens": 783},
            "timings": {"first_token_s": 0.41, "total_s": 0.68, "writing_s": 0.27},
            **changes,
        }

    def script(
        self,
        text: str,
        citations: Sequence[dict[str, Any]] = (),
        *,
        pause: float = 0.0,
        **changes: Any,
    ) -> list[Step]:
        """An answer that streams word by word."""
        hits = {"hits": [{"path": path} for path in self.texts] * 4}
        steps: list[Step] = [("searching", {}), ("hits", hits)]
        steps.append(("outcome", {"outcome": changes.get("outcome", "answer")}))
        steps += [("citation", citation) for citation in citations]
        for word in text.split(" "):
            steps += [("delta", {"text": word + " "}), pause]
        return [*steps, ("done", self.answer(text, citations, **changes))]


def page_app(
    workspace: Any,
    api_keys: Sequence[str] = (),
    record: Callable[[Any], object] = lambda _: None,
    agents: LiveRuns | None = None,
    operator_digests: Sequence[bytes] = (),
) -> FastAPI:
    """The server's app with the page of ``workspace`` on it."""
    app = create_app(
        models={"scripted": ScriptedModel()},
        api_keys=api_keys,
        operator_digests=operator_digests,
        public_paths=PUBLIC_PATHS,
    )
    add_page(app, view=workspace, record=record, agents=agents)
    return app


class Server:
    """An app on a port of its own, in a thread."""

    def __init__(self, app: FastAPI, port: int = 0) -> None:
        self._app = app
        self._listener = socket.create_server(("127.0.0.1", port))
        self.port: int = self._listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        config = uvicorn.Config(app, log_config=None, timeout_graceful_shutdown=1, ws="none")
        self._uvicorn = uvicorn.Server(config)
        self._thread = threading.Thread(
            target=self._uvicorn.run, kwargs={"sockets": [self._listener]}
        )
        self._thread.start()
        wait_until(lambda: self._uvicorn.started)

    def cut(self) -> None:
        """Let every connection drop, as when the process is killed."""
        for connection in list(self._uvicorn.server_state.connections):
            connection.transport.abort()
        self._uvicorn.force_exit = True
        self.stop()

    def stop(self) -> None:
        self.tell_to_stop()
        self.wait()

    def tell_to_stop(self) -> None:
        self._uvicorn.should_exit = True
        self._app.state.shared.stopping.set()

    def wait(self) -> None:
        self._thread.join(30)
        self._listener.close()


def wait_until(true: Callable[[], bool], seconds: float = 120.0) -> None:
    """For what happens on the server's side of a test."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, f"waited {seconds} s"
        time.sleep(0.01)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A sync browser runs the loop of its thread as long as its module: whichever test comes
    after it there, in random order, can start none."""
    with_browser = {i.path for i in items if "browser" in getattr(i, "fixturenames", ())}
    for item in items:
        if item.path in with_browser and iscoroutinefunction(getattr(item, "function", None)):
            raise pytest.UsageError(f"{item.nodeid} starts a loop beside a browser: see last_event")


@pytest.fixture
def last_event() -> Callable[[Callable[[], AsyncGenerator[tuple[str, Any], None]]], Any]:
    """The data of the last event of an answer, which a thread of its own waits for."""

    async def heard(ask: Callable[[], AsyncGenerator[tuple[str, Any], None]]) -> Any:
        async with aclosing(ask()) as events:
            return [data async for _, data in events][-1]

    def run(ask: Callable[[], AsyncGenerator[tuple[str, Any], None]]) -> Any:
        with ThreadPoolExecutor(1) as pool:
            return pool.submit(lambda: asyncio.run(heard(ask))).result()

    return run


@pytest.fixture
def workspace() -> ScriptedWorkspace:
    return ScriptedWorkspace()


@pytest.fixture(scope="module")
def stopping() -> Iterator[list[Server]]:
    """Servers that were told to stop; waiting for each at once would cost more than the tests."""
    servers: list[Server] = []
    yield servers
    for server in servers:
        server.wait()


@pytest.fixture
def serve(stopping: list[Server]) -> Iterator[Callable[..., Server]]:
    """``serve(workspace, api_keys=...)`` starts a server for this test."""
    servers: list[Server] = []

    def start(workspace: Any, port: int = 0, **options: Any) -> Server:
        servers.append(Server(page_app(workspace, **options), port))
        return servers[-1]

    yield start
    for server in servers:
        server.tell_to_stop()
    stopping += servers


@pytest.fixture(scope="module")
def browser(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Browser]:
    """Chromium with the fonts of this machine, or of the ``Look`` that is its parameter."""
    # For a module and not the session: a sync browser may not live beside an event loop.
    if CHROMIUM is None:
        pytest.skip(INSTALL)
    look: Look | None = getattr(request, "param", None)
    options = launch_options(look, tmp_path_factory.mktemp("look")) if look else {}
    options["args"] = [*FLAGS, *options.get("args", ())]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, **options)
        yield browser
        browser.close()


Open = Callable[..., Page]


@pytest.fixture
def open_page(browser: Browser, serve: Callable[..., Server]) -> Iterator[Open]:
    """``open_page(workspace or server, width=..., theme=..., expect=...)``: the page at ``path``,
    loaded.

    ``expect``: a pattern of the messages in the console that the test provokes.
    """
    contexts = []
    found: list[str] = []

    def start(
        source: Any,
        *,
        width: int = 1280,
        height: int = 800,
        theme: str = "light",
        expect: str | None = None,
        path: str = "",
        **options: Any,
    ) -> Page:
        server = source if isinstance(source, Server) else serve(source)
        context = browser.new_context(
            viewport={"width": width, "height": height}, color_scheme=theme, **options
        )
        context.set_default_timeout(30_000)
        contexts.append(context)

        def logged(kind: str, text: str) -> None:
            if kind in ("error", "warning") and not (expect and re.search(expect, text)):
                found.append(f"{kind}: {text}")

        def asked(url: str) -> None:
            if not url.startswith((server.url + "/", "data:")):
                found.append(f"asked another host: {url}")

        page = context.new_page()
        page.on("console", lambda message: logged(message.type, message.text))
        page.on("pageerror", lambda error: logged("error", str(error)))
        page.on("request", lambda request: asked(request.url))
        page.goto(server.url + path)
        page.locator("#state:not([data-state=connecting])").wait_for()
        return page

    yield start
    for context in contexts:
        context.close()
    assert found == []


@pytest.fixture
def open_file(browser: Browser) -> Iterator[Open]:
    """``open_file(path, width=...)``: a page that is one file. It must say nothing in the console
    and ask nothing of any host."""
    contexts, found = [], list[str]()

    def start(path: Path, width: int = 1280, **options: Any) -> Page:
        context = browser.new_context(viewport={"width": width, "height": 800}, **options)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda m: found.append(m.text) if m.type != "log" else None)
        page.on("pageerror", lambda error: found.append(str(error)))
        page.on(
            "request",
            lambda r: None if r.url.startswith(("file:", "data:")) else found.append(r.url),
        )
        page.goto(path.as_uri())
        return page

    yield start
    for context in contexts:
        context.close()
    assert found == []


@pytest.fixture
def shot(request: pytest.FixtureRequest) -> Callable[[Page, str], None]:
    """Save a picture of the page in $LMSTACK_SHOTS, where that is set."""
    folder = os.environ.get("LMSTACK_SHOTS")

    def save(page: Page, name: str) -> None:
        if folder:
            Path(folder).mkdir(parents=True, exist_ok=True)
            page.screenshot(path=Path(folder) / f"{name}.png")

    return save


@pytest.fixture
def until() -> Callable[..., None]:
    return wait_until


@pytest.fixture
def ask() -> Callable[[Page, str], None]:
    def send(page: Page, question: str) -> None:
        page.get_by_label("Your question").fill(question)
        page.keyboard.press("Enter")

    return send


DIMENSIONS = 1024  # so many that hardly two words share one


class HashingEmbedder:
    """Words hashed to dimensions: texts that share words are near each other. ``gate``
    holds indexing back until it is set, ``failure`` is raised there."""

    info = ModelInfo("hashing", "sha256:" + "1" * 64)
    dimensions = DIMENSIONS
    max_tokens = 256

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.gate.set()
        self.failure: Exception | None = None

    def embed(self, texts: Sequence[str], kind: str = "passage") -> npt.NDArray[np.float32]:
        if threading.current_thread().name.startswith("lmstack-embedding"):
            assert self.gate.wait(60)
            if self.failure:
                raise self.failure
        rows = np.full((len(texts), DIMENSIONS), 1e-3, np.float32)
        for row, text in zip(rows, texts, strict=True):
            for word in text.lower().split():
                row[int(hashlib.md5(word.encode()).hexdigest(), 16) % DIMENSIONS] += 1
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        return [len(text.split()) + 2 for text in texts]


@pytest.fixture
def docs(tmp_path: Path) -> Path:
    folder = tmp_path / "docs"
    folder.mkdir()
    (folder / "serving.md").write_text(
        "# Serving\n\n## Start the server\n\nStart the server with the command lmstack up.\n\n"
        "## Stop the server\n\nPress Ctrl-C and the server stops within five seconds.\n"
    )
    (folder / "garden.md").write_text(
        "# Garden 🚀\n\n## Roses\n\nRoses need water every day.\n", encoding="utf-8"
    )
    return folder


@pytest.fixture
def embedder() -> HashingEmbedder:
    return HashingEmbedder()


@pytest.fixture
def make(
    docs: Path, tmp_path: Path, embedder: HashingEmbedder, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., PageView]]:
    """``make(rescan_s=...)``: what the page shows of ``docs`` over a real index, not yet indexing;
    ``takes_files`` of callers with ``access``; ``said``: what its model says."""
    made: list[PageView] = []
    # A passage without a word of the question is none, one with a few of them an answer.
    monkeypatch.setitem(confidence._KNOWN, embedder.info.name, Calibration(20, -5))

    def start(
        access: Access | None = None,
        takes_files: bool = False,
        said: Sequence[str] = ("ok",),
        **settings: Any,
    ) -> PageView:
        config = WorkspaceConfig(**{"rescan_s": 0, **settings})
        workspace = Workspace(
            docs,
            tmp_path / "index",
            model=ScriptedModel(said),
            embedder=embedder,
            config=config,
            access=access,
            uploads=Uploads(docs, access or Access()) if takes_files else None,
        )
        made.append(PageView(workspace))
        return made[-1]

    yield start
    for view in made:
        view.close()
