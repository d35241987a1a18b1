"""Supervisors of a worker, of a session and of one program, with a stand-in for the worker."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tests.agents.inside.leaving import Left

from lmstack.agents.sandbox.inside import calls, session, start, wire
from lmstack.agents.sandbox.inside.calls import AskerGoneError, Call, Pipes, ProcessLimits
from lmstack.agents.sandbox.inside.confinement import NOT_CONFINED, Setup
from lmstack.agents.sandbox.inside.folder import FolderError
from lmstack.agents.sandbox.inside.quotas import FileQuota, Quota

TOKEN = "00" * 8


class Worker:
    """``cpu``: what it says of its time, call by call. ``dies``: with that status when stopped."""

    def __init__(self) -> None:
        (self.listener, self.asks), (self.ended, self.ends) = os.pipe(), os.pipe()
        self.status: int | None = None
        self.cpu = [0.0]
        self.signals: list[int] = []
        self.dies: int | None = None

    def signal(self, number: int) -> None:
        self.signals.append(number)

    def stop(self) -> bool:
        self.signals.append(signal.SIGSTOP)
        self.status = self.dies
        return self.status is None

    def kill(self) -> None:
        self.signals.append(signal.SIGKILL)
        self.status = 9 if self.status is None else self.status

    def cpu_s(self) -> float:
        return self.cpu.pop(0) if len(self.cpu) > 1 else self.cpu[0]


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """``call`` makes one; ``says``, ``out`` and ``err``: what the worker writes beforehand."""
    monkeypatch.setattr(os, "urandom", bytes)
    worker = Worker()
    pairs = [os.pipe() for _ in range(4)]
    pipes = Pipes(pairs[0][1], *(read for read, _ in pairs[1:]))
    (watched, watches) = os.pipe()
    quota: Any = object()

    def call(wall_s: float = 30.0, cpu_s: float = 10.0, output_bytes: int = 4) -> Call:
        limits = ProcessLimits(cpu_s, wall_s, output_bytes)
        return Call(worker, pipes, quota, limits, [watched])  # type: ignore[arg-type]

    def says(**reply: Any) -> None:
        body = json.dumps({"id": TOKEN, **reply}).encode()
        os.write(pairs[1][1], len(body).to_bytes(4, "big") + body)

    found = SimpleNamespace(
        call=call, says=says, worker=worker, quota=quota, pipes=pipes, watches=watches,
        request=pairs[0][0], reply=pairs[1][1], out=pairs[2][1], err=pairs[3][1],
    )  # fmt: skip
    yield found
    for fd in [fd for pair in pairs for fd in pair] + [worker.listener, worker.asks, worker.ended]:
        with contextlib.suppress(OSError):
            os.close(fd)
    for fd in (worker.ends, watched, watches):
        with contextlib.suppress(OSError):
            os.close(fd)


def test_a_call_is_asked_and_its_reply_told(made: Any) -> None:
    made.says(value="3", error=None)
    made.worker.cpu = [1.0, 1.0, 1.5]
    os.write(made.out, b"ab")
    os.write(made.err, b"abcd")
    call = made.call()
    found = call.run("x = 'ä'")
    assert 0 <= found.pop("seconds") < 30
    assert found == {"ended": "ok", "status": None, "value": "3", "error": None, "cpu_s": 0.5}
    asked = os.read(made.request, 1000)
    assert asked[:4] == (len(asked) - 4).to_bytes(4, "big")
    assert json.loads(asked[4:]) == {"id": TOKEN, "code": "x = 'ä'"}
    assert made.worker.signals == [signal.SIGCONT, signal.SIGSTOP]
    assert call.texts == {made.pipes.stdout: b"ab", made.pipes.stderr: b"abcd"}


@pytest.mark.parametrize(
    ("error", "told"),
    [
        ({"type": "E", "message": "m", "traceback": "t"},
         {"type": "E", "message": "m", "traceback": "t"}),
        ({"type": 3}, {"type": None, "message": None, "traceback": None}),
        ("odd", {"type": None, "message": None, "traceback": None}),
    ],
)  # fmt: skip
def test_an_error_is_text_or_nothing(made: Any, error: Any, told: Any) -> None:
    made.says(value=["odd"], error=error)
    found = made.call().run("")
    assert (found["ended"], found["value"], found["error"]) == ("ok", None, told)


@pytest.mark.parametrize(
    ("status", "cpu", "ended"),
    [
        (None, 0.0, "killed"),
        (9, 9.9, "killed"),
        (9, 10.0, "time"),
        (calls.OUT_OF_MEMORY << 8, 0.0, "memory"),
        (calls.OUT_OF_MEMORY << 8, 10.0, "time"),
        (125 << 8, 0.0, "killed"),
    ],
)
def test_a_worker_that_does_not_reply_is_told_by_its_end(
    made: Any, status: int | None, cpu: float, ended: str
) -> None:
    made.worker.status, made.worker.cpu = status, [0.0, 0.0, cpu]
    os.close(made.worker.ends)
    found = made.call().run("")
    assert found["ended"] == ended
    assert found["status"] == (9 if status is None else status)
    assert (found["value"], found["error"]) == (None, None)
    assert made.worker.signals[-1] == signal.SIGKILL


def test_a_worker_that_dies_as_it_is_stopped_is_killed(made: Any) -> None:
    made.says(value="3")
    made.worker.dies = 11
    found = made.call().run("")
    assert (found["ended"], found["status"]) == ("killed", 11)


def test_a_reply_to_another_call_ends_the_worker(made: Any) -> None:
    made.says(id="other", value="3")
    found = made.call().run("")
    assert (found["ended"], found["value"]) == ("killed", None)
    assert made.worker.signals == [signal.SIGCONT, signal.SIGKILL]


@pytest.mark.parametrize(("wall_s", "cpu"), [(0.02, [0.0]), (30.0, [5.0, 5.0, 15.0])])
def test_a_call_over_either_time_is_stopped(made: Any, wall_s: float, cpu: list[float]) -> None:
    made.worker.cpu = cpu
    found = made.call(wall_s).run("")
    assert (found["ended"], found["status"]) == ("time", 9)
    assert found["seconds"] < 20


@pytest.mark.parametrize("stream", ["out", "err"])
def test_more_output_than_is_allowed_ends_a_call(made: Any, stream: str) -> None:
    os.write(getattr(made, stream), b"abcdef")
    call = made.call()
    found = call.run("")
    assert (found["ended"], found["status"]) == ("output", 9)
    fds = {"out": made.pipes.stdout, "err": made.pipes.stderr}
    assert call.texts[fds[stream]] == b"abcd"


def test_output_behind_a_reply_counts_and_ends_the_worker(
    made: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    made.says(value="3")
    call = made.call()
    monkeypatch.setattr(call, "_follow", lambda *_: call._read(made.pipes.reply))
    os.write(made.out, b"abcdef")
    found = call.run("")
    assert (found["ended"], found["status"], found["value"]) == ("output", 9, "3")
    assert made.worker.signals == [signal.SIGCONT, signal.SIGSTOP, signal.SIGKILL]


def test_who_asked_and_is_gone_ends_a_call(made: Any) -> None:
    os.close(made.watches)
    with pytest.raises(AskerGoneError):
        made.call().run("")


def test_what_the_kernel_asks_is_answered_until_it_asks_no_more(
    made: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    answered: list[Any] = []

    def answer(fd: int, quota: Any) -> None:
        answered.append((fd, quota))
        os.read(fd, 1)
        os.close(made.worker.asks)
        made.says(value="3")

    monkeypatch.setattr(calls, "answer", answer)
    os.write(made.worker.asks, b"?")
    assert made.call().run("")["value"] == "3"
    assert answered == [(made.worker.listener, made.quota)]
    call = made.call()
    listener = made.worker.listener
    assert not call._served(listener, select.POLLHUP)
    assert call._served(listener, select.POLLPRI)
    assert len(answered) == 1


def test_a_request_larger_than_a_pipe_is_sent_as_it_is_read(
    made: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    call = made.call()
    call._outbox = memoryview(bytes(range(256)) * 1024)
    received = bytearray()
    assert call._sent()
    assert call._sent(), "it is full"
    while call._outbox:
        received += os.read(made.request, 70_000)
        more = call._sent()
        assert more == (len(call._outbox) > 0)
    while len(received) < 256 * 1024:
        received += os.read(made.request, 70_000)
    assert received == bytes(range(256)) * 1024
    os.close(made.request)
    monkeypatch.setattr(signal, "SIGPIPE", signal.SIGPIPE)
    call._outbox = memoryview(b"x")
    assert not call._sent()


def test_a_reply_is_bounded_and_its_end_is_seen(made: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calls, "_MOST_REPLY", 4)
    call = made.call()
    call.texts = {made.pipes.stdout: bytearray(), made.pipes.stderr: bytearray()}
    assert call._read(made.pipes.reply), "nothing is there yet"
    os.write(made.reply, b"abcd")
    assert call._read(made.pipes.reply)
    assert (call._ended, call._reply) == ("", b"abcd")
    os.write(made.reply, b"e")
    assert not call._read(made.pipes.reply)
    assert call._ended == "killed"
    os.close(made.out)
    assert not call._read(made.pipes.stdout)


def test_ends_of_pipes_do_not_block_and_are_closed(made: Any) -> None:
    fds = vars(made.pipes).values()
    assert not any(os.get_blocking(fd) for fd in fds)
    made.pipes.close()
    for fd in fds:
        with pytest.raises(OSError, match="Bad file"):
            os.fstat(fd)


# A session.


def setup(folder: Path, **more: Any) -> Setup:
    values: dict[str, Any] = {"inputs": "", "files": 100} | more
    return Setup("n", {"RLIMIT_FSIZE": 1 << 30}, "/box", str(folder), **values)


def test_files_are_written_read_and_listed(tmp_path: Path) -> None:
    held = session._Session(setup(tmp_path))
    asked = {"do": "write", "path": "a/b"}
    listing = {"files": [("a/b", 3)], "left_out": 0}
    assert held.answer(asked, [b"123"]) == (listing, [])
    assert held.answer({"do": "list"}, []) == (listing, [])
    assert held.answer({"do": "read", "path": "a/b", "limit": 3}, []) == ({}, [b"123"])
    told, blobs = held.answer({"do": "read", "path": "a/b", "limit": 2}, [])
    assert (told, blobs) == ({"failed": "a/b has 3 bytes, more than 2"}, [])
    (tmp_path / "a" / "d").mkdir()
    told, blobs = held.answer({"do": "write", "path": "a/d"}, [b""])
    assert (told, blobs) == ({"failed": "Is a directory"}, [])


def test_an_error_without_words_is_told_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: Any) -> None:
        raise OSError("so")

    monkeypatch.setattr(session.folder, "write", fails)
    held = session._Session(setup(tmp_path))
    assert held.answer({"do": "write", "path": "a"}, [b""]) == ({"failed": "so"}, [])


def test_what_is_written_from_outside_counts_with_its_folders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = session._Session(setup(tmp_path, disk_bytes=1 << 20))
    assert isinstance(held._quota, Quota)
    spent: list[Any] = []
    monkeypatch.setattr(held._quota, "spend", lambda *given: spent.append(given) or given[1] < 3)
    assert "files" in held.answer({"do": "write", "path": "a/b/c"}, [b"12"])[0]
    told, _ = held.answer({"do": "write", "path": "d"}, [b"123"])
    assert told == {"failed": "d: the folder is full"}
    assert spent == [(3, 2), (1, 3)]
    assert not (tmp_path / "d").exists()
    assert type(session._Session(setup(tmp_path))._quota) is FileQuota


def test_a_folder_that_was_shut_is_listed_and_one_that_is_gone_is_empty(tmp_path: Path) -> None:
    inner = tmp_path / "f"
    inner.mkdir()
    for n in range(201):
        (inner / f"x{n:03}").touch()
    inner.chmod(0)
    held = session._Session(setup(inner))
    found = held._listing()
    assert (len(found["files"]), found["left_out"]) == (200, 1)
    assert inner.stat().st_mode & 0o777 == 0o700
    assert session._Session(setup(tmp_path / "none"))._listing() == {"files": [], "left_out": 0}


def test_pictures_are_new_files_of_such_a_name_within_their_bounds(tmp_path: Path) -> None:
    held = session._Session(setup(tmp_path))
    for name in ("a.png", "b.JPG", "c.jpeg", "d.txt", "e.gif", "large.png"):
        (tmp_path / name).write_bytes(name.encode())
    assert [name for name, _ in held._pictures(6)] == ["a.png", "b.JPG", "c.jpeg"]
    assert held._pictures(100) == []
    (tmp_path / "new").write_bytes(b"again")
    (tmp_path / "new").replace(tmp_path / "a.png")
    assert held._pictures(6) == [("a.png", b"again")]
    for n in range(9):
        (tmp_path / f"p{n}.png").touch()
    assert [name for name, _ in held._pictures(6)] == [f"p{n}.png" for n in range(8)]


def test_a_call_is_of_a_worker_that_is_new_or_of_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = session._Session(setup(tmp_path, life=44))
    made: list[Any] = []
    ended: list[str] = []
    worker = SimpleNamespace(
        status=None, kill=lambda: ended.append("killed"), close=lambda: ended.append("closed")
    )
    pipes = SimpleNamespace(stdout=1, stderr=2, close=lambda: ended.append("pipes"))

    def started() -> Any:
        held._worker, held._pipes = worker, pipes  # type: ignore[assignment]
        return worker, pipes

    class Fake:
        def __init__(self, *given: Any) -> None:
            self.texts = {1: bytearray(b"out"), 2: bytearray(b"err")}
            made.append(given)

        def run(self, code: str) -> dict[str, Any]:
            (tmp_path / "p.png").write_bytes(code.encode())
            return {"ended": "ok"}

    monkeypatch.setattr(held, "_started", started)
    monkeypatch.setattr(session, "Call", Fake)
    limits = {"cpu_s": 1, "wall_s": 2.0, "output_bytes": 3}
    asked = {"do": "call", "code": "x", "limits": limits, "picture_bytes": 1}
    told, blobs = held.answer(asked, [])
    assert told == {
        "ended": "ok", "is_new": True, "files": [("p.png", 1)], "left_out": 0,
        "pictures": ["p.png"],
    }  # fmt: skip
    assert blobs == [b"out", b"err", b"x"]
    assert made == [(worker, pipes, held._quota, ProcessLimits(1, 2.0, 3), [0, 44])]
    worker.status = 9
    told, blobs = held.answer({**asked, "code": "xy"}, [])
    assert (told["is_new"], told["pictures"], blobs) == (False, [], [b"out", b"err"])
    assert ended == ["killed", "closed", "pipes"]
    assert (held._worker, held._pipes) == (None, None)
    held.end()
    assert len(ended) == 3
    assert held.answer(asked, [])[0]["is_new"]
    assert session._Session(setup(tmp_path))._watched == [0]


def test_a_worker_has_ends_of_four_pipes_and_nothing_to_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = session._Session(setup(tmp_path))
    seen: dict[int, str] = {}

    def begin(given: Setup, fds: dict[int, int]) -> Any:
        assert given is held._setup
        for number, fd in fds.items():
            seen[number] = os.readlink(f"/proc/self/fd/{fd}")
        return SimpleNamespace(pid=77)

    before = set(os.listdir("/proc/self/fd"))
    monkeypatch.setattr(session, "start", begin)
    worker, pipes = held._started()
    assert (held._worker, held._pipes, held._quota.pid) == (worker, pipes, 77)
    assert seen.pop(0) == "/dev/null"
    ours = {n: os.readlink(f"/proc/self/fd/{fd}") for n, fd in vars(pipes).items()}
    theirs = {"stdout": 1, "stderr": 2, "request": 3, "reply": 4}
    assert ours == {name: seen[number] for name, number in theirs.items()}
    pipes.close()
    assert len(os.listdir("/proc/self/fd")) == len(before)

    def fails(*_: Any) -> None:
        raise OSError("not confined")

    monkeypatch.setattr(session, "start", fails)
    with pytest.raises(OSError, match="not confined"):
        held._started()
    assert len(os.listdir("/proc/self/fd")) == len(before)


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (None, 0, []),
        (MemoryError(), calls.OUT_OF_MEMORY, []),
        (KeyError("k"), 0, [(2, b"the interpreter ended: KeyError('k')\n")]),
    ],
)
def test_a_worker_never_goes_on_as_a_supervisor(
    monkeypatch: pytest.MonkeyPatch, left: list[int], error: Any, status: int, said: Any
) -> None:
    served: list[Any] = []

    def serve(*given: Any) -> None:
        served.append(given)
        if error is not None:
            raise error

    wrote: list[Any] = []
    monkeypatch.setattr(session.interpreter, "serve", serve)
    monkeypatch.setattr(os, "write", lambda *given: wrote.append(given))
    with pytest.raises(Left):
        session._work(setup(Path("/"), packages=("/p",)))
    assert served == [(3, 4, ("/p",))]
    assert (left[0], wrote) == (status, said)


@pytest.mark.parametrize("disk_bytes", [0, 1])
def test_a_session_is_served_until_nobody_asks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, disk_bytes: int
) -> None:
    (tmp_path / "inputs-of").mkdir()
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    prepared: list[Any] = []
    told: list[Any] = []
    asked = [({"do": "write", "path": "a"}, [b"1"]), ({"do": "read", "path": "a", "limit": 9}, [])]

    def receive(fd: int) -> Any:
        assert fd == 0
        if not asked:
            raise wire.WireError("it ended")
        return asked.pop(0)

    monkeypatch.setattr(session, "prepare", prepared.append)
    monkeypatch.setattr(session.wire, "receive_message", receive)
    monkeypatch.setattr(session.wire, "send_message", lambda *given: told.append(given))
    given = setup(work, inputs=str(tmp_path / "inputs-of"), disk_bytes=disk_bytes * (1 << 20))
    session.serve(given)
    assert prepared == [given]
    assert told[0] == (1, {"started": True})
    assert told[1] == (1, {"files": [("a", 1)], "left_out": 0}, [])
    assert told[2] == (1, {}, [b"1"])
    assert sorted(os.listdir(work)) == ([] if disk_bytes else ["a", "inputs"])
    if not disk_bytes:
        assert os.readlink(work / "inputs") == str(tmp_path / "inputs-of")


# One program.


@pytest.fixture
def begun(monkeypatch: pytest.MonkeyPatch) -> Any:
    """`start.main`, in which ``worker`` is what `start` gives."""
    found = SimpleNamespace(done=[], worker=None, error=None)

    def begin(setup: Setup, fds: Any) -> Any:
        found.done.append(("start", setup, fds))
        if found.error:
            raise found.error
        return found.worker

    def recorded(name: str) -> Any:
        return lambda *given: found.done.append((name, *given))

    monkeypatch.setattr(start, "start", begin)
    monkeypatch.setattr(start, "prepare", recorded("prepare"))
    monkeypatch.setattr(start, "load", recorded("load"))
    monkeypatch.setattr(start.session, "serve", recorded("session"))
    monkeypatch.setattr(start.answer, "serve", recorded("answer"))
    monkeypatch.setattr(start.judge, "judge", recorded("judge"))
    monkeypatch.setattr(sys, "path", ["first", "second"])
    return found


SETUP = Setup("n", {}, "/box", "/folder", "", 9)
TEXT = json.dumps({n: getattr(SETUP, n) for n in SETUP.__dataclass_fields__})


@pytest.mark.parametrize(
    ("role", "rest", "fds", "done"),
    [
        ("answer", ["5", "6"], {5: 5, 6: 6}, ("answer", "/box", 5, 6)),
        ("judge", ["5", "6", "7"], {5: 5, 6: 6, 7: 7}, ("judge", "/box", 5, 6, 7)),
        ("program", ["5", "--x"], {}, ("load", "/box/program.py", "__main__", {})),
    ],
)
def test_each_role_runs_in_a_worker_with_its_own_file_descriptors(
    begun: Any, monkeypatch: pytest.MonkeyPatch, role: str, rest: list[str], fds: Any, done: Any
) -> None:
    monkeypatch.setattr(sys, "argv", ["start", TEXT, role, *rest])
    start.main()
    assert begun.done == [
        ("prepare", SETUP),
        ("start", SETUP, {0: 0, 1: 1, 2: 2, **fds}),
        done,
    ]
    assert sys.path == ["second"]
    if role == "program":
        assert sys.argv == ["/box/program.py", *rest]


def test_a_session_starts_its_workers_itself(begun: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["start", TEXT, "session"])
    start.main()
    assert begun.done == [("session", SETUP)]


def test_a_supervisor_ends_as_its_worker_and_with_its_own_status_where_there_is_none(
    begun: Any, monkeypatch: pytest.MonkeyPatch, left: list[int]
) -> None:
    monkeypatch.setattr(sys, "argv", ["start", TEXT, "program"])
    begun.worker = object()
    monkeypatch.setattr(
        start, "_supervised", lambda *given: 17 if given == (SETUP, begun.worker) else 0
    )
    with pytest.raises(Left):
        start.main()
    begun.error = OSError("not confined")
    with pytest.raises(Left):
        start.main()
    assert left == [17, NOT_CONFINED]


@pytest.mark.parametrize(
    ("events", "status", "done"),
    [
        ([[(5, select.POLLIN)]], 3, ["wait"]),
        ([[(5, select.POLLIN)]], 128 + 11, ["wait"]),
        ([[(4, select.POLLIN)], [(4, select.POLLIN | select.POLLHUP)], [(5, select.POLLIN)]], 0,
         ["answer", "answer", "unregister 4", "wait"]),
        ([[(4, select.POLLHUP), (5, select.POLLIN)]], 0, ["unregister 4", "wait"]),
        ([[(4, select.POLLPRI)], [(6, select.POLLHUP)]], 1, ["kill", "emptied"]),
    ],
)  # fmt: skip
@pytest.mark.parametrize("life", [6, -1])
def test_a_supervisor_answers_until_its_worker_or_who_asked_is_gone(
    monkeypatch: pytest.MonkeyPatch, events: Any, status: int, done: list[str], life: int
) -> None:
    seen: list[str] = []
    registered: dict[int, int] = {}
    kept: list[Any] = []
    waiting = list(events)
    poll = SimpleNamespace(
        register=registered.__setitem__,
        unregister=lambda fd: seen.append(f"unregister {fd}"),
        poll=lambda: waiting.pop(0),
    )
    ended = status << 8 if status < 128 else status - 128
    worker: Any = SimpleNamespace(
        pid=77, listener=4, ended=5,
        wait=lambda: seen.append("wait") or ended, kill=lambda: seen.append("kill"),
    )  # fmt: skip
    quota = SimpleNamespace(pid=None)

    def answered(fd: int, given: Any) -> None:
        assert (fd, given, quota.pid) == (4, quota, 77)
        seen.append("answer")

    def emptied(folder: str) -> None:
        assert folder == "/folder"
        seen.append("emptied")
        raise OSError("in use")

    monkeypatch.setattr(start, "close_all_but", kept.append)
    monkeypatch.setattr(start, "quota_of", lambda _: quota)
    monkeypatch.setattr(start, "answer_kernel", answered)
    monkeypatch.setattr(start.folder, "emptied", emptied)
    monkeypatch.setattr(start.select, "poll", lambda: poll)
    given = Setup("n", {}, "/box", "/folder", "", 9, life=life)
    assert start._supervised(given, worker) == status
    assert seen == done
    assert kept == [[4, 5, 6] if life == 6 else [4, 5]]
    assert registered == {4: select.POLLIN, 5: select.POLLIN, **({6: 0} if life == 6 else {})}


def test_a_file_at_number_0_may_tell_that_who_asked_is_gone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    registered: dict[int, int] = {}
    poll = SimpleNamespace(register=registered.__setitem__, poll=lambda: [(5, select.POLLIN)])
    worker: Any = SimpleNamespace(pid=77, listener=4, ended=5, wait=lambda: 0)
    monkeypatch.setattr(start, "close_all_but", lambda _: None)
    monkeypatch.setattr(start, "quota_of", lambda _: SimpleNamespace())
    monkeypatch.setattr(start.select, "poll", lambda: poll)
    start._supervised(Setup("n", {}, "/box", "/folder", "", 9, life=0), worker)
    assert 0 in registered


def test_an_error_of_a_folder_is_told_in_its_words(tmp_path: Path) -> None:
    held = session._Session(setup(tmp_path))
    told, blobs = held.answer({"do": "read", "path": "../x", "limit": 1}, [])
    assert (told, blobs) == ({"failed": "'../x' is no path inside the folder"}, [])
    with pytest.raises(FolderError):
        held._write("../x", b"")
