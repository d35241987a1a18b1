"""`lmstack ask` where `lmstack up` runs: who answers, what is said to whom, and what it looks like.

The servers are processes of their own, with scripted models.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from lmstack.app import wiring
from lmstack.app.server import command_socket
from lmstack.app.server.command_socket import connect, find_server, listen, socket_path
from lmstack.core import ChatModel

if TYPE_CHECKING:
    from tests.app.conftest import HashEmbedder, Ran, Run

QUESTION = "How long are letters kept?"
ROOT = Path(__file__).parents[3]
# `lmstack up docs` over models that need no weights.
CHILD = """
import sys
from types import SimpleNamespace
from lmstack.app.wiring import retrieval
from lmstack.app import wiring
from lmstack.app.cli import main
from lmstack.core import ScriptedModel
from tests.app.conftest import HashEmbedder

wiring.require_models = lambda *_: None
wiring.generator = lambda *_, **__: ScriptedModel(["[1] Letters are kept for ten years."], name="t")
wiring.generator_folder = lambda name: SimpleNamespace(digest=f"sha256:{name}")
wiring.embedder = lambda name: HashEmbedder()
retrieval.answer_reranker = lambda note, reader=None: None
sys.exit(main(["up", "docs", "--port", "0", *sys.argv[1:]]))
"""


@contextmanager
def up(home: Path, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """A server of ./docs that answers commands."""
    process = subprocess.Popen(
        [sys.executable, "-c", CHILD, *arguments],
        env={**os.environ, "PYTHONPATH": str(ROOT), "LMSTACK_HOME": str(home)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        assert "serves docs" in process.stdout.readline()
        yield process
    finally:
        process.kill()
        process.communicate()


@pytest.fixture
def asked_here(monkeypatch: pytest.MonkeyPatch, embedder: HashEmbedder) -> list[str]:
    """Grows when this process needs a language model, that is, answers by itself."""
    from lmstack.core import ScriptedModel

    asked: list[str] = []

    def model(name: str | None, *_: object, **__: object) -> ChatModel:
        asked.append(name or "default")
        return ScriptedModel(["[1] Letters are kept for ten years."], name="t")

    def folder(name: str) -> object:
        class Folder:
            digest = f"sha256:{name}"

        return Folder

    monkeypatch.setattr(wiring, "require_models", lambda *_: None)
    monkeypatch.setattr(wiring, "lazy_generator", model)
    monkeypatch.setattr(wiring, "generator_folder", folder)
    return asked


def without_figures(ran: Ran) -> str:
    """What was printed but for the line with seconds, and the word that tells the two apart."""
    return "\n".join(line for line in ran.out.splitlines() if " passages cited" not in line)


def test_the_running_server_answers_and_it_reads_the_same(
    run: Run, docs: Path, home: Path, asked_here: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with up(home):
        served = run("ask", QUESTION, "--docs", "docs")
        assert asked_here == []
        assert served.out.rstrip().endswith(" · served")
        apart = run("ask", QUESTION, "--docs", "docs", "--no-server")
        assert asked_here == ["default"]
        assert " · served" not in apart.out
        assert without_figures(served) == without_figures(apart)
        assert "docs/letters.md:3" in served.out
        answers = [
            run("ask", QUESTION, "--docs", "docs", "--json", *more).json
            for more in ((), ("--no-server",))
        ]
        for answer in answers:
            del answer["timings"], answer["waited"]
        assert answers[0] == answers[1]
        monkeypatch.chdir(docs)
        assert "letters.md:3" in run("ask", QUESTION, "--docs", ".").out
        # What is here counts: a filter in a folder of another name, a file that has just changed.
        ran = run("ask", "Which port is it?", "--docs", ".", "--where", "path = ports.txt")
        wrong = run("ask", "Which port is it?", "--docs", ".", "--document", "port.txt")
        (docs / "letters.md").write_text("# Letters\n\nLetters are kept for 99 years.\n")
        changed = run("ask", QUESTION, "--docs", ".")
    assert len(asked_here) == 2
    assert "ports.txt" in ran.out
    assert "letters.md" not in ran.out
    assert wrong.code == 1
    assert "did you mean 'ports.txt'? there are: letters.md, ports.txt" in wrong.err
    assert "99 years" in changed.out


@pytest.mark.parametrize(
    "options",
    [
        ("--model", "other"),
        ("--weights", "int8"),
        ("--embedder", "other"),
        ("-k", "3"),
        ("--explain",),
        ("--rebuild",),
        ("--docs", "elsewhere"),
    ],
)
def test_another_folder_or_other_options_are_answered_here(
    run: Run, docs: Path, home: Path, asked_here: list[str], options: tuple[str, ...]
) -> None:
    given = options if "--docs" in options else (*options, "--docs", "docs")
    (docs.parent / "elsewhere").mkdir()
    (docs.parent / "elsewhere" / "a.md").write_text("Letters are kept for ever.\n")
    with server_of(home, docs) as heard:
        ran = run("ask", QUESTION, *given)
    assert ran.code == 0, ran.err
    assert len(asked_here) == 1
    assert QUESTION.encode() not in b"".join(heard)


@contextmanager
def server_of(home: Path, docs: Path) -> Iterator[list[bytes]]:
    """A server of ``docs`` with default models that only listens: what is said to it."""
    heard: list[bytes] = []
    listener = listen(_path(home, docs))
    assert listener is not None
    identity = wiring.command_identity(docs, None, None, None)

    def accept() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                connection.sendall(json.dumps(identity).encode() + b"\n")
                heard.append(connection.recv(1 << 16))

    thread = threading.Thread(target=accept)
    thread.start()
    try:
        yield heard
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()


def _path(home: Path, docs: Path) -> Path:
    path = socket_path(home, wiring.index_of(docs))
    assert path is not None
    return path


def test_a_server_that_ends_before_it_answers_is_replaced_by_this_process(
    run: Run, docs: Path, home: Path, asked_here: list[str]
) -> None:
    with server_of(home, docs) as heard:
        ran = run("ask", QUESTION, "--docs", "docs")
    assert json.loads(heard[0])["question"] == QUESTION
    assert ran.code == 0
    assert asked_here == ["default"]


def test_a_killed_server_is_forgotten_and_its_port_hears_nothing(
    run: Run, docs: Path, home: Path, asked_here: list[str]
) -> None:
    with up(home) as process:
        run("ask", QUESTION, "--docs", "docs")
        assert process.stderr is not None
        port = int(process.stderr.readline().split("/healthz")[0].rpartition(":")[2])
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert _path(home, docs).exists()
    with socket.create_server(("127.0.0.1", port)) as stranger:
        ran = run("ask", QUESTION, "--docs", "docs")
        stranger.setblocking(False)
        with pytest.raises(BlockingIOError):
            stranger.accept()
    assert ran.code == 0
    assert asked_here == ["default"]
    assert not _path(home, docs).exists()


def test_what_both_compare_is_known_without_torch(
    docs: Path, asked_here: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "lmstack.model.lora.folder", None)  # whose import loads it
    identity = wiring.command_identity(docs, None, None, None)
    assert identity is not None
    assert identity["adapter"] is None


def test_a_process_of_another_user_is_told_nothing(
    docs: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = _path(home, docs)
    listener = listen(path)
    assert listener is not None
    with listener:
        monkeypatch.setattr(command_socket, "_is_private", lambda folder: True)
        monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
        assert connect(path) is None
        listener.settimeout(5)
        connection, _ = listener.accept()
        with connection:
            assert connection.recv(1) == b""


def test_a_folder_that_others_can_enter_is_not_trusted(docs: Path, home: Path) -> None:
    path = _path(home, docs)
    listener = listen(path)
    assert listener is not None
    with listener:
        path.parent.chmod(0o777)
        assert connect(path) is None
        path.parent.chmod(0o700)
        found = connect(path)
        assert found is not None
        found.close()


def test_a_second_server_leaves_the_first_one_its_commands(docs: Path, home: Path) -> None:
    path = _path(home, docs)
    first = listen(path)
    assert first is not None
    with first:
        assert listen(path) is None
    again = listen(path)
    assert again is not None
    again.close()


def test_a_server_that_says_no_line_is_no_server(docs: Path, home: Path) -> None:
    path = _path(home, docs)
    listener = listen(path)
    assert listener is not None

    def accept() -> None:
        with listener.accept()[0] as connection:
            connection.sendall(b"[1, 2]\n")

    with listener:
        thread = threading.Thread(target=accept)
        thread.start()
        assert find_server(path, {"version": "1"}) is None
        thread.join()


def test_guards_and_the_audit_log_hold_labels_are_the_owners_and_a_stop_deletes_the_socket(
    run: Run, docs: Path, home: Path, asked_here: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LMSTACK_API_KEYS", "secret-key")
    added = run("index", "add", "--index", str(wiring.index_of(docs)), "docs", "--label", "hr")
    assert added.code == 0, added.err
    with up(home) as process:
        ran = run("ask", QUESTION, "--docs", "docs")
        assert "ten years" in ran.out
        refused = run(
            "ask", "How long\u200b\u200b\U000e0041\U000e0042 are letters kept?", "--docs", "docs"
        )
        assert _path(home, docs).exists()
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
    assert not _path(home, docs).exists()
    assert asked_here == []
    assert refused.code == 1
    assert "found by the guard" in refused.err
    records = [json.loads(line) for line in wiring.audit_path().read_text().splitlines()]
    assert {record.get("client") for record in records if "client" in record} == {"command"}
    assert {"accepted", "finished", "refused"} <= {record.get("event") for record in records}
