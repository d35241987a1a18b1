"""What a document does to its worker costs that document, and nothing else."""

from __future__ import annotations

import io
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from lmstack.rag import Index, IndexConfig
from lmstack.rag.documents import ProblemError
from lmstack.rag.formats.load import parse_document
from lmstack.rag.formats.pages import page_boxes
from lmstack.rag.ingest import workers as pool
from lmstack.rag.ingest.workers import WorkerConfig, Workers

# A worker whose parser does what the file's name says.
_STRANGE = """
import os, signal, socket, sys, time, types
package = types.ModuleType("lmstack.rag")
package.__path__ = [sys.argv.pop()]
sys.modules["lmstack.rag"] = package
import lmstack.rag.ingest.worker as apart
real = apart.parse_document

def strange(path, data, load):
    name, _, rest = os.path.basename(path).partition(" ")
    folder = data.decode(errors="replace")
    if name == "abort": os.abort()
    if name == "exit": os._exit(3)
    if name == "spin":
        while True: pass
    if name == "hang": time.sleep(3600)
    if name == "swell": return bytearray(2_000_000_000)
    if name == "killed": os.kill(os.getpid(), signal.SIGKILL)
    if name == "shout": os.write(1, b"noise"); print("more noise")
    if name == "babble": os.write(4, b"x" * 100)
    if name == "write": open(folder + "/new", "w").close()
    if name == "delete": os.unlink(folder + "/kept")
    if name == "read": data = open(folder + "/kept", "rb").read()
    if name == "run": os.execv("/bin/true", ["true"])
    if name == "connect": socket.create_connection(("127.0.0.1", int(rest.split(".")[0])), 5)
    return real("a.txt", b"words " + name.encode(), load)

def guarded(path, data, load):
    try:
        return strange(path, data, load)
    except OSError as error:
        raise apart.ProblemError("unreadable", f"refused: {error.strerror}", "")

apart.parse_document = guarded
apart.main()
"""


@pytest.fixture
def strange(monkeypatch) -> Iterator[None]:
    pool.close_spares()
    monkeypatch.setattr(pool, "_START", _STRANGE)
    yield
    pool.close_spares()


@pytest.fixture(scope="module")
def kept() -> Iterator[Workers]:
    config = WorkerConfig(
        count=1, max_parse_s=1, max_wait_s=60, max_memory_bytes=500_000_000, max_text_bytes=1000
    )
    with Workers(config) as workers:
        yield workers
    pool.close_spares()


@pytest.fixture
def one(strange, kept) -> Workers:
    """The same for all tests: each document that breaks its worker costs one anyway."""
    return kept


def _problem(workers: Workers, name: str, data: bytes = b"data") -> ProblemError:
    with pytest.raises(ProblemError) as caught:
        workers.parse(name, data)
    return caught.value


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("a.md", "\ufeff# Title\r\n\r\nWords.\r\n\r\n## Part\r\n\r\n- a\r\n- b\r\n"),
        ("a.html", "<title>T</title><h1>H</h1><p>a &#xD800; b</p><table><tr><td>c</table>"),
        ("a.txt", "one\n\ntwo"),
        ("a.md", "Der Leuchtturm wurde im Jahre 1844 zum ersten Mal angezündet und brennt noch."),
        (
            "a.eml",
            "From: a@b.c\nSubject: Hi\n\nSome words.\n",
        ),
        ("a.csv", "name,age\nAda,36\nGrace,85\n"),
        ("a.py", 'def f() -> int:\n    """Words."""\n    return 1\n'),
    ],
)
def test_worker_reads_a_file_as_this_process_does(path, text):
    with Workers(WorkerConfig(count=1)) as workers:
        assert workers.parse(path, text.encode()) == parse_document(path, text.encode())


def test_problem_that_a_parser_finds_is_the_same_in_a_worker():
    with Workers(WorkerConfig(count=1)) as workers:
        found = _problem(workers, "a.txt", b"a\xff")
        assert (found.kind, found.message[:17]) == ("encoding", "is not valid UTF-8"[:17])


@pytest.mark.parametrize(
    ("name", "kind", "message"),
    [
        ("abort", "failed", "status -6"),
        ("exit", "failed", "status 3"),
        ("spin", "slow", "1 s of processor time"),
        ("swell", "memory", "more memory"),
        ("killed", "memory", "want of memory"),
        ("babble", "failed", ""),
    ],
)
def test_document_that_breaks_its_worker_is_reported_and_the_next_is_read(one, name, kind, message):
    found = _problem(one, name)
    assert found.kind == kind
    assert message in found.message
    assert one.parse("good", b"").text == "words good"


def test_document_that_waits_for_nothing_is_given_up_too(strange):
    with Workers(WorkerConfig(count=1, max_wait_s=1)) as workers:
        assert "1 s to parse" in _problem(workers, "hang").message


def test_parser_that_prints_does_not_garble_the_answer(one):
    assert one.parse("shout", b"").text == "words shout"


def test_pages_of_a_pdf_are_looked_into_and_drawn_in_a_worker():
    canvas = pytest.importorskip("reportlab.pdfgen.canvas")
    file = io.BytesIO()
    pdf = canvas.Canvas(file)
    pdf.drawString(100, 700, "The lighthouse was lit in 1844.")
    pdf.save()
    with Workers(WorkerConfig(count=1)) as workers:
        document = workers.parse("a.pdf", file.getvalue())
        start = document.text.index("lit in")
        found = workers.page_boxes(file.getvalue(), start, start + 6, document)
        assert found == page_boxes(file.getvalue(), start, start + 6)
        assert workers.page_picture(file.getvalue(), 1, 100).startswith(b"\x89PNG")
        with pytest.raises(ProblemError):
            workers.page_picture(file.getvalue(), 7)


def test_more_text_than_the_limit_is_a_problem_of_its_size():
    with Workers(WorkerConfig(count=1, max_text_bytes=10)) as workers:
        assert _problem(workers, "a.txt", b"more than ten bytes").kind == "size"


@pytest.mark.parametrize("name", ["write", "delete", "read"])
def test_parser_cannot_touch_files(one, tmp_path, name):
    (tmp_path / "kept").write_text("secret")
    found = _problem(one, name, str(tmp_path).encode())
    assert found.message.startswith("refused")
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]


def test_parser_cannot_start_a_program_or_open_a_connection(one):
    import socket

    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert "refused" in _problem(one, f"connect {port}.txt").message
    assert "refused" in _problem(one, "run").message


def test_worker_lasts_for_many_documents_and_for_the_next_pool():
    pool.close_spares()
    with Workers(WorkerConfig(count=1)) as workers:
        for _ in range(5):
            workers.parse("a.txt", b"words")
        (first,) = workers._all
    with Workers(WorkerConfig(count=1)) as workers:
        workers.parse("a.txt", b"words")
        assert workers._all == {first}


def test_worker_that_went_for_want_of_work_is_replaced_unseen(one):
    one.parse("a", b"")
    (worker,) = one._all
    worker._process.kill()
    worker._process.wait()
    worker._process.returncode = 75
    assert one.parse("b", b"").text == "words b"


def test_closing_frees_who_waits(strange):
    workers = Workers(WorkerConfig(count=1))
    found: list[str] = []
    waiting = threading.Thread(target=lambda: found.append(_problem(workers, "hang").kind))
    queued = threading.Thread(target=lambda: found.append(_problem(workers, "hang").kind))
    waiting.start()
    while not workers._all:
        time.sleep(0.01)
    queued.start()
    workers.close()
    waiting.join(60)
    queued.join(60)
    assert len(found) == 2


def test_module_beside_the_documents_is_not_run(tmp_path, monkeypatch):
    pool.close_spares()
    (tmp_path / "selectolax.py").write_text("raise SystemExit(3)")
    monkeypatch.chdir(tmp_path)
    with Workers(WorkerConfig(count=1)) as workers:
        assert workers.parse("a.html", b"<p>words</p>").text == "words"
    pool.close_spares()


def test_worker_loads_neither_the_database_nor_torch():
    with Workers(WorkerConfig(count=1)) as workers:
        workers.parse("a.txt", b"words")
        (worker,) = workers._all
        maps = Path(f"/proc/{worker._process.pid}/maps").read_text()
        assert "sqlite" not in maps
        assert "torch" not in maps
        assert sorted(os.listdir(f"/proc/{worker._process.pid}/fd")) == list("012345")


def test_bad_files_among_good_ones_cost_themselves_only(tmp_path, embedder):
    docs = tmp_path / "docs"
    docs.mkdir()
    names = "".join(f" a{n}" for n in range(60_000))
    (docs / "a bad.html").write_text(f"<a{names}>x</a>")
    for number in range(5):
        (docs / f"b{number}.html").write_text(f"<p>Good words {number}.</p>")
    config = IndexConfig(workers=WorkerConfig(count=2, max_parse_s=1))
    with Index.open(tmp_path / "index", embedder, config=config) as index:
        result = index.update([docs])
        assert [p.kind for p in result.problems] == ["slow"]
        assert [info.title for info in index.documents()] == [f"b{n}" for n in range(5)]
        assert index.status().up_to_date


def test_order_of_a_folder_does_not_depend_on_which_worker_is_faster(
    tmp_path, embedder, monkeypatch
):
    monkeypatch.setattr("lmstack.rag.ingest.reading._PATIENCE_S", 60)
    docs = tmp_path / "docs"
    docs.mkdir()
    for number in range(30):
        (docs / f"{number:02}.html").write_text("<p>Words.</p>" * (500 if number % 3 else 1))
    config = IndexConfig(workers=WorkerConfig(count=3))
    with Index.open(tmp_path / "index", embedder, config=config) as index:
        index.update([docs])
        ids = [info.id for info in index.documents()]
        assert ids == sorted(ids)


def test_several_workers_that_waited_too_long_are_all_replaced(monkeypatch):
    tired = [True, True, True]
    answer = pool._Worker.answer

    def weary(worker, header, body):
        if tired:
            tired.pop()
            raise pool._TiredError
        return answer(worker, header, body)

    monkeypatch.setattr(pool._Worker, "answer", weary)
    with Workers(WorkerConfig(count=1)) as several:
        assert several.parse("a.txt", b"Words.").text == "Words."
