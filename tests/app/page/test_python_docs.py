"""A folder is indexed, killed in the middle and resumed; the page answers, and its quotes hold.

The long test does so with Python's own documentation (Debian's python3-doc, or the folder in
$LMSTACK_PYTHON_DOCS) and real models, as a user would: with the commands and in the browser. The
short one keeps the same promises on a dozen small files.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser, Page, expect

from lmstack.app import wiring
from lmstack.rag import Index

pytestmark = pytest.mark.browser

DOCS = Path(os.environ.get("LMSTACK_PYTHON_DOCS", "/usr/share/doc/python3.13/html"))
# A folder that keeps the index for later runs, which then only ask.
KEPT = os.environ.get("LMSTACK_PYTHON_DOCS_KEPT")
INSTALL = "Python's documentation is missing: apt-get install -y python3-doc"
NO_TEXT = shutil.ignore_patterns("_sources", "_static", "_images", "_downloads")
RIGHT = 0.6  # the share of questions whose fact must be among what is cited
TITLES = "What is said in the quotes that the page highlights\n"

QUESTIONS = {
    "Why is it called Python?": r"Monty Python|short, unique",
    "What is the Python Software Foundation?": r"non-profit organization",
    "Is there a way to copy an object in Python?": r"copy\.copy\(\)|copy\.deepcopy\(\)",
    "Why must self be used explicitly in method definitions?": r"Modula-3|syntactic problem",
    "When is the default value of an argument evaluated?": r"evaluated only once",
    "Can Python strings be changed?": r"immutable",
    "What does the pass statement do?": r"does nothing",
    "How do comments start in Python?": r"hash character",
    "How do I create a virtual environment?": r"python -m venv|venv",
    "Is the end point part of the sequence that range generates?": r"never part",
    "When does the finally clause run?": r"last task before|in any event|executed? (in|on)",
    "What does the append method of a list do?": r"end of the list",
    "Which exception is raised when a dictionary key is not found?": r"key is not found|KeyError",
    "What does json.dumps do?": r"JSON formatted",
    "How can I delete an entire directory tree?": r"[Dd]elete an entire directory tree|rmtree",
    "What does time.sleep do?": r"[Ss]uspend execution",
    "Which module generates cryptographically strong random numbers?": r"secrets",
    "How do I prompt the user for a password without echoing?": r"without echoing|getpass",
    "What does math.hypot return?": r"Euclidean norm",
    "How do I read the lines of a file in a loop?": r"loop over the file",
}


# ---- with the commands and real models


@pytest.mark.long
@pytest.mark.weights
def test_python_documentation_is_indexed_over_a_kill_and_quoted_as_it_stands(
    tmp_path: Path,
    monkeypatch: Any,
    smollm2: Any,
    minilm: Any,
    reranker: Any,
    browser: Browser,
    shot: Any,
) -> None:
    if not (DOCS / "tutorial").is_dir():
        pytest.skip(INSTALL)
    place = Path(KEPT or tmp_path)
    folder, home = place / "python-docs", place / "home"
    if not folder.exists():
        shutil.copytree(DOCS, folder, ignore=NO_TEXT)
        home.mkdir()
        (home / "models").symlink_to(smollm2.path.parent)
    monkeypatch.setenv("LMSTACK_HOME", str(home))
    index = wiring.index_of(folder)
    if not (KEPT and index.exists()):
        index_over_a_kill(folder, index)

    with serving(folder) as url:
        page = browser.new_page()
        page.goto(url)
        expect(page.locator("#state")).to_have_text("ready", timeout=120_000)
        shot(page, "python-docs-start")
        found = {question: sources(page, url, question, shot) for question in QUESTIONS}
        page.close()
    right = {q: any(re.search(QUESTIONS[q], quote) for quote in found[q]) for q in QUESTIONS}
    print(f"\n{TITLES}{table(found, right)}\n{sum(right.values())} of {len(right)} right")
    assert sum(right.values()) >= RIGHT * len(right)


def index_over_a_kill(folder: Path, index: Path) -> None:
    """What was done before the kill is kept, and not done again."""
    kill_in_the_middle(["index", "add", str(folder), "--index", str(index)])
    done = documents(index)
    assert done, "nothing was kept of what was done before the kill"
    started = time.monotonic()
    result = json.loads(lmstack("index", "add", str(folder), "--index", str(index), "--json"))
    print(f"\n{result} in {time.monotonic() - started:.0f} s")
    after = documents(index)
    assert done.items() <= after.items()  # an id that stayed: the file was not done again
    assert result["unchanged"] == len(done) < len(after)


def lmstack(*arguments: str) -> str:
    command = [sys.executable, "-m", "lmstack", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=7200, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def kill_in_the_middle(arguments: list[str]) -> None:
    """Start the command and kill it without warning once its progress says that files are in."""
    command = [sys.executable, "-m", "lmstack", *arguments]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    for line in process.stderr:
        progress = re.match(r"Indexing: (\d+) of (\d+) files", line)
        if progress and 0 < int(progress[1]) < int(progress[2]):
            process.send_signal(signal.SIGKILL)
            break
    process.stderr.close()
    assert process.wait() == -signal.SIGKILL


def documents(index: Path) -> dict[str, int]:
    with Index.open(index, create=False) as opened:
        return {info.path: info.id for info in opened.documents()}


@contextmanager
def serving(folder: Path) -> Iterator[str]:
    """`lmstack up` of ``folder``, ready to answer."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "lmstack", "up", str(folder), "--port", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    url = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + 300
        while not is_ready(url):
            assert process.poll() is None, "lmstack up ended"
            assert time.monotonic() < deadline
            time.sleep(0.2)
        yield url
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(30)


def is_ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/healthz").status_code == 200
    except httpx.HTTPError:
        return False


# ---- in the browser


def sources(
    page: Page, url: str, question: str, shot: Callable[[Page, str], None] = lambda *_: None
) -> list[str]:
    """Ask in a new conversation and open each source of the answer: the quotes that it cites,
    each of which is what stands at its place in the text of its document."""
    turn = page.locator(".turn").first
    page.get_by_label("Your question").fill(question)
    page.keyboard.press("Enter")
    turn.locator(".meta .fact").first.wait_for(timeout=300_000)
    final = json.loads(page.evaluate("sessionStorage.getItem('lmstack-turns')"))[-1]["final"]
    opened = final["citations"]
    assert opened, question
    for number, source in enumerate(opened):
        turn.locator(".source").nth(number).click()
        mark = page.locator("#panel mark")
        expect(mark).to_have_text(re.compile(re.escape(first_line(source["quote"]))))
        assert mark.evaluate("node => node.textContent") == source["quote"], question
        where = {"path": source["path"]}
        text = httpx.get(f"{url}/api/documents/{source['document_id']}/text", params=where).text
        assert text[source["start"] : source["end"]] == source["quote"], question
    shot(page, re.sub(r"\W+", "-", f"python-docs {question}".lower()).strip("-"))
    page.get_by_role("button", name="New conversation").click()
    return [source["quote"] for source in opened] if final["outcome"] == "answer" else []


def first_line(quote: str) -> str:
    return quote.strip().splitlines()[0].strip()[:40]


def table(found: dict[str, list[str]], right: dict[str, bool]) -> str:
    def row(question: str) -> str:
        quote = " ".join(" ".join(found[question]).split()) or "(no answer)"
        return f"{'right' if right[question] else 'WRONG':<6} {question:<62} {quote[:90]}"

    return "\n".join(map(row, found))


# ---- the same promises on a dozen files


FACTS = [("tulips", "April"), ("roses", "June"), ("asters", "September"), ("crocuses", "March")]


def write_flowers(folder: Path) -> None:
    """Twelve files of one flower each; four bloom in a month that one can ask for."""
    folder.mkdir()
    for number in range(12):
        name, month = FACTS[number] if number < len(FACTS) else (f"weed{number}", "no month")
        (folder / f"{name}.html").write_text(
            f"<html><head><title>{name}</title></head><body><main><h1>About {name}</h1>"
            f"<p>The {name} bloom in <em>{month}</em> &amp; need care.</p></main></body></html>"
        )


HELD_BACK = """
import sys, time
from lmstack.rag import Index
from tests.app.page.conftest import HashingEmbedder

def told(progress):
    print(progress.done, flush=True)
    time.sleep(1)

with Index.open(sys.argv[2], HashingEmbedder()) as index:
    index.add([sys.argv[1]], told)
"""


def test_index_that_was_killed_is_resumed_and_the_page_quotes_from_it(
    tmp_path: Path, docs: Path, make: Any, serve: Any, browser: Browser, until: Any
) -> None:
    shutil.rmtree(docs)
    write_flowers(docs)
    root = Path(__file__).parents[3]
    command = [sys.executable, "-c", HELD_BACK, str(docs), str(tmp_path / "index")]
    process = subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    process.stdout.readline()
    process.kill()
    process.communicate()
    done = documents(tmp_path / "index")
    assert 0 < len(done) < 12

    workspace = make()
    workspace.start_indexing()
    until(lambda: workspace.status()["state"] == "ready")
    after = {info.path: info.id for info in workspace.workspace.index.documents()}
    assert len(after) == 12
    assert done.items() <= after.items()
    server = serve(workspace)
    page = browser.new_page()
    page.goto(server.url)
    for name, month in FACTS[:3]:
        quotes = sources(page, server.url, f"When do the {name} bloom?")
        assert any(month in quote for quote in quotes)
    page.close()
