"""What a worker gives up, and what its supervisor knows of it; the kernel stands aside."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import json
import os
import resource
import signal
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tests.agents.inside.leaving import Left

from lmstack.agents.sandbox.inside import capabilities, confinement, landlock, seccomp
from lmstack.agents.sandbox.inside.confinement import NOT_CONFINED, Setup, Worker
from lmstack.agents.sandbox.inside.landlock import READ, WORK, WRITE_FILE
from lmstack.agents.sandbox.inside.modules import load

SETUP = Setup(
    "n", {"RLIMIT_NOFILE": 7, "RLIMIT_CPU": 8}, "/box", "/folder", "/inputs", 9,
    disk_bytes=10, landlock=3, readable=("/r",), packages=("/p",), life=11,
)  # fmt: skip


def libc(monkeypatch: pytest.MonkeyPatch, **calls: Any) -> list[tuple[Any, ...]]:
    """A C library with ``calls`` alone; what it was asked for."""
    asked: list[tuple[Any, ...]] = []
    made = SimpleNamespace(
        **{
            name: lambda *given, name=name, call=call: asked.append((name, *given)) or call(*given)
            for name, call in calls.items()
        }
    )
    monkeypatch.setattr(ctypes, "CDLL", lambda *_, **__: made)
    monkeypatch.setattr(ctypes, "get_errno", lambda: errno.EPERM)
    return asked


def test_a_setup_is_read_from_json_and_says_what_may_be_reached() -> None:
    text = json.dumps({name: getattr(SETUP, name) for name in SETUP.__dataclass_fields__})
    assert Setup.read(text) == SETUP
    devices = ("/dev/null", "/dev/zero", "/dev/random", "/dev/urandom")
    assert SETUP.rights == [
        *((path, READ) for path in ("/r", "/p", "/box", "/inputs", *devices)),
        ("/dev/null", WRITE_FILE),
        ("/folder", WORK),
    ]


def spawned(*command: str) -> Worker:
    pid = os.posix_spawn(command[0], command, {})
    return Worker(pid, os.open("/dev/null", os.O_RDONLY), os.pidfd_open(pid))


def state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0]


def test_a_worker_is_stopped_goes_on_and_ends() -> None:
    worker = spawned("/bin/sleep", "600")
    assert worker.stop()
    assert state(worker.pid) == "T"
    worker.signal(signal.SIGCONT)
    until = time.monotonic() + 10
    while state(worker.pid) == "T" and time.monotonic() < until:
        time.sleep(0.001)
    assert state(worker.pid) in "RS"
    assert 0 <= worker.cpu_s() < 5
    worker.kill()
    assert worker.status == signal.SIGKILL
    assert not worker.stop()
    assert worker.wait() == signal.SIGKILL
    assert 0 <= worker.cpu_s() < 5
    fds = worker.listener, worker.ended
    worker.close()
    for fd in fds:
        with pytest.raises(OSError, match="Bad file"):
            os.fstat(fd)


def test_a_worker_that_is_stopped_is_killed_too_and_one_that_ended_is_waited_for() -> None:
    worker = spawned("/bin/sleep", "600")
    assert worker.stop()
    worker.kill()
    assert worker.status == signal.SIGKILL
    worker.close()
    worker = spawned("/bin/sh", "-c", "exit 3")
    assert worker.wait() == 3 << 8
    worker.close()


def test_the_processor_time_of_a_worker_is_its_own_and_of_both_kinds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    worker = Worker(7, -1, -1)
    asked = []
    monkeypatch.setattr(confinement.time, "clock_gettime", lambda clock: asked.append(clock) or 2.5)
    assert worker.cpu_s() == 2.5
    assert asked == [(~7 << 3) | 2]
    stopped = [True, False]

    def wait4(pid: int, options: int) -> Any:
        assert (pid, options) == (7, 0)
        status = (signal.SIGSTOP << 8) | 0x7F if stopped.pop(0) else 3 << 8
        return pid, status, SimpleNamespace(ru_utime=1.0, ru_stime=0.25)

    def gone(clock: int) -> float:
        raise OSError(errno.EINVAL, "it has ended")

    monkeypatch.setattr(os, "wait4", wait4)
    monkeypatch.setattr(confinement.time, "clock_gettime", gone)
    assert worker.cpu_s() == 1.25
    assert worker.status == 3 << 8
    assert worker.cpu_s() == 1.25


@pytest.mark.parametrize("version", [0, 3])
def test_a_supervisor_keeps_what_workers_have_and_a_look_at_them(
    monkeypatch: pytest.MonkeyPatch, version: int
) -> None:
    done: list[Any] = []
    setup = Setup("n", {}, "/box", "/folder", "/inputs", 9, landlock=version)
    monkeypatch.setattr(confinement, "drop_capabilities", lambda: done.append("dropped"))
    monkeypatch.setattr(confinement, "restrict", lambda *given: done.append(given))
    monkeypatch.setattr(os, "chdir", done.append)
    confinement.prepare(setup)
    kept = ["dropped", ([*setup.rights, ("/proc", READ)], 3)] if version else []
    assert done == [*kept, "/folder"]


@pytest.mark.parametrize("version", [0, 3])
@pytest.mark.parametrize("disk_bytes", [0, 10])
def test_a_worker_confines_itself_before_it_hands_over_who_asks_about_it(
    monkeypatch: pytest.MonkeyPatch, version: int, disk_bytes: int
) -> None:
    done: list[Any] = []
    environment = {"SECRET": "x"}
    report = SimpleNamespace(close=lambda: done.append("closed"))
    monkeypatch.setattr(os, "environ", environment)
    monkeypatch.setattr(os, "close", lambda fd: done.append(("close", fd)))
    monkeypatch.setattr(confinement, "_die_with", lambda parent: done.append(("dies", parent)))
    monkeypatch.setattr(confinement, "_place", lambda fds: done.append(("place", fds)))
    monkeypatch.setattr(confinement.socket, "socket", lambda *given: done.append(given) or report)
    monkeypatch.setattr(confinement.socket, "send_fds", lambda *given: done.append(given))
    monkeypatch.setattr(confinement, "restrict", lambda *given: done.append(given))
    monkeypatch.setattr(
        confinement, "seccomp_filter", lambda *given, **named: done.append((given, named)) or b"P"
    )
    monkeypatch.setattr(confinement, "install", lambda program: done.append(program) or 42)
    monkeypatch.setattr(resource, "setrlimit", lambda *given: done.append(given))
    setup = Setup(
        "n", SETUP.limits, "/box", "/folder", "/inputs", 9, disk_bytes=disk_bytes, landlock=version
    )
    theirs: Any = SimpleNamespace(detach=lambda: 33)
    confinement._confine(setup, {0: 20, 4: 21}, theirs, 77)
    assert done == [
        ("dies", 77),
        ("place", {0: 20, 4: 21, 5: 33}),
        (confinement.socket.AF_UNIX, confinement.socket.SOCK_STREAM, 0, 5),
        *([(setup.rights, 3)] if version else []),
        ((os.getpid(), 5), {"counts_bytes": bool(disk_bytes)}),
        (resource.RLIMIT_NOFILE, (7, 7)),
        (resource.RLIMIT_CPU, (8, 8)),
        b"P",
        (report, [b"."], [42]),
        "closed",
        ("close", 42),
    ]
    assert environment == {
        "LANG": "C.UTF-8", "MPLBACKEND": "Agg", "OPENBLAS_NUM_THREADS": "1",
        "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "HOME": "/folder", "TMPDIR": "/folder",
    }  # fmt: skip


def test_a_worker_that_cannot_confine_itself_says_why_and_ends(
    monkeypatch: pytest.MonkeyPatch, left: list[int]
) -> None:
    def fails(*given: Any) -> None:
        raise OSError(f"no {given}")

    said: list[Any] = []

    def closed(*given: Any) -> int:
        said.append(given)
        raise OSError("closed")

    monkeypatch.setattr(confinement, "_confine", fails)
    monkeypatch.setattr(os, "write", closed)
    given: Any = (1, 2, 3, 4)
    with pytest.raises(Left):
        confinement._confined_or_ended(*given)
    assert left == [NOT_CONFINED] == [125]
    assert said == [(2, b"not confined: OSError('no (1, 2, 3, 4)')\n")]


def test_a_worker_dies_with_its_parent_also_with_one_that_is_gone(
    monkeypatch: pytest.MonkeyPatch, left: list[int]
) -> None:
    answers = [0, 0, 1]
    asked = libc(monkeypatch, prctl=lambda *_: answers.pop(0))
    confinement._die_with(os.getppid())
    with pytest.raises(Left):
        confinement._die_with(os.getppid() + 1)
    assert left == [NOT_CONFINED]
    with pytest.raises(OSError, match="PR_SET_PDEATHSIG"):
        confinement._die_with(os.getppid())
    assert asked == [("prctl", 1, 9, 0, 0, 0)] * 3


def test_file_descriptors_get_their_numbers_and_all_others_are_closed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    done: list[Any] = []
    monkeypatch.setattr(
        confinement.fcntl, "fcntl", lambda *given: done.append(given) or given[0] + 100
    )
    monkeypatch.setattr(os, "dup2", lambda *given: done.append(given))
    monkeypatch.setattr(os, "closerange", lambda *given: done.append(given))
    confinement._place({0: 8, 1: 9, 5: 0})
    dup = confinement.fcntl.F_DUPFD
    assert done == [
        *((8, dup, 6), (9, dup, 6), (0, dup, 6)),
        *((108, 0), (109, 1), (100, 5)),
        *((2, 5), (6, 1 << 20)),
    ]
    done.clear()
    confinement.close_all_but([4, 3])
    assert done == [(0, 3), (5, 1 << 20)]


def test_start_says_in_which_of_the_two_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the supervisor, with a worker that ends at once; and in the worker itself."""
    setup = Setup("n", {}, "/none", "/none", "/none", 9)
    confined: list[Any] = []
    real = os.fork

    def child() -> int:
        pid = real()
        if pid == 0:
            os._exit(7)
        return pid

    monkeypatch.setattr(os, "fork", child)
    with pytest.raises(OSError, match=rf"could not confine itself, and ended with {7 << 8}"):
        confinement.start(setup, {})
    monkeypatch.setattr(os, "fork", lambda: 0)
    monkeypatch.setattr(
        confinement, "_confined_or_ended", lambda *given: confined.append(given) or given[2].close()
    )
    assert confinement.start(setup, {0: 1}) is None
    [(given, fds, _, parent)] = confined
    assert (given, fds, parent) == (setup, {0: 1}, os.getpid())


# Capabilities.


def test_capabilities_are_dropped_from_all_sets_and_looked_for_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    held = [3, 0]
    wanted: list[Any] = []

    def capget(header: Any, sets: Any) -> int:
        assert header._obj.version == 0x20080522
        assert header._obj.pid == 0
        for n, value in enumerate(held):
            sets[n].permitted = value
        return 0

    def capset(header: Any, sets: Any) -> int:
        wanted.append([(s.effective, s.permitted, s.inheritable) for s in sets])
        if len(wanted) == 1:
            held[:] = [0, 0]
        return 0

    def prctl(*given: int) -> int:
        return -1 if given[:2] == (23, 2) else 0

    asked = libc(monkeypatch, capget=capget, capset=capset, prctl=prctl)
    capabilities.drop_capabilities()
    assert wanted == [[(0, 0, 0)] * 2]
    assert [call for call in asked if call[0] == "prctl"] == [
        *(("prctl", 23, 0, 0, 0, 0), ("prctl", 24, 0, 0, 0, 0)),
        *(("prctl", 23, 1, 0, 0, 0), ("prctl", 24, 1, 0, 0, 0)),
        ("prctl", 23, 2, 0, 0, 0),
        ("prctl", 47, 4, 0, 0, 0),
    ]
    asked.clear()
    capabilities.drop_capabilities()
    assert [call[0] for call in asked] == ["capget"]
    held[:] = [0, 1]
    with pytest.raises(OSError, match="capabilities are left"):
        capabilities.drop_capabilities()


@pytest.mark.parametrize("fails", ["capget", "capset"])
def test_a_kernel_that_refuses_to_take_capabilities_is_an_error(
    monkeypatch: pytest.MonkeyPatch, fails: str
) -> None:
    def capget(_: Any, sets: Any) -> int:
        sets[0].permitted = 1
        return -1 if fails == "capget" else 0

    libc(monkeypatch, capget=capget, capset=lambda *_: -1, prctl=lambda *_: -1)
    with pytest.raises(PermissionError, match=os.strerror(errno.EPERM)):
        capabilities.drop_capabilities()


# Landlock.


@pytest.mark.parametrize(
    ("known", "files", "network", "scopes", "size"),
    [
        (1, 13, 0, 0, 8),
        (2, 14, 0, 0, 8),
        (3, 15, 0, 0, 8),
        (4, 15, 3, 0, 16),
        (5, 16, 3, 0, 16),
        (6, 16, 3, 3, 24),
        (9, 16, 3, 3, 24),
    ],
)
def test_each_version_is_asked_for_the_rights_that_it_knows(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, known: int, files: int, network: int,
    scopes: int, size: int,
) -> None:  # fmt: skip
    (tmp_path / "file").touch()
    rules: list[Any] = []
    ruleset = os.open("/dev/null", os.O_RDONLY)

    def syscall(number: int, *given: Any) -> int:
        if number == 444:
            wanted, length, flags = given
            found = wanted._obj
            assert (found.files, found.network, found.scopes) == ((1 << files) - 1, network, scopes)
            assert (length, flags) == (size, 0)
            return ruleset
        if number == 445:
            assert given[:2] == (ruleset, 1)
            rule = given[2]._obj
            assert fcntl.fcntl(rule.path, fcntl.F_GETFL) & os.O_PATH
            assert not os.get_inheritable(rule.path)
            rules.append((os.readlink(f"/proc/self/fd/{rule.path}"), rule.allowed))
            assert given[3] == 0
            return 0
        assert (number, given) == (446, (ruleset, 0))
        rules.append("restricted")
        return 0

    asked = libc(monkeypatch, syscall=syscall, prctl=lambda *_: 0)
    everything = (1 << 16) - 1
    granted = [(str(tmp_path / "file"), everything), (str(tmp_path), everything), ("/none/x", 1)]
    before = os.listdir("/proc/self/fd")
    landlock.restrict(granted, known)
    of_files = 0b1100000000000111 & ((1 << files) - 1)
    assert rules == [
        (str(tmp_path / "file"), of_files),
        (str(tmp_path), (1 << files) - 1),
        "restricted",
    ]
    assert ("prctl", 38, 1, 0, 0, 0) in asked
    assert len(os.listdir("/proc/self/fd")) == len(before) - 1


@pytest.mark.parametrize("fails", [444, 445, 446, "prctl"])
def test_a_kernel_that_refuses_to_restrict_is_an_error(
    monkeypatch: pytest.MonkeyPatch, fails: Any
) -> None:
    ruleset = os.open("/dev/null", os.O_RDONLY)

    def syscall(number: int, *_: Any) -> int:
        return -1 if number == fails else ruleset if number == 444 else 0

    libc(monkeypatch, syscall=syscall, prctl=lambda *_: -1 if fails == "prctl" else 0)
    with pytest.raises(PermissionError, match="Landlock refused"):
        landlock.restrict([("/", READ)], 3)
    if fails == 444:
        os.close(ruleset)
    else:
        with pytest.raises(OSError, match="Bad file"):
            os.fstat(ruleset)


@pytest.mark.parametrize(("said", "version"), [(-1, 0), (0, 0), (1, 1), (7, 7)])
def test_a_kernel_says_its_version_or_that_it_has_none(
    monkeypatch: pytest.MonkeyPatch, said: int, version: int
) -> None:
    asked = libc(monkeypatch, syscall=lambda *_: said)
    assert landlock.version() == version
    assert asked == [("syscall", 444, None, 0, 1)]


# The filter of system calls.


def test_a_filter_is_installed_with_a_listener(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = {"prctl": 0, "syscall": 5}
    programs: list[Any] = []

    def syscall(*given: Any) -> int:
        found = given[3]._obj
        programs.append((found.length, ctypes.string_at(found.steps, 16)))
        return answers["syscall"]

    asked = libc(monkeypatch, syscall=syscall, prctl=lambda *_: answers["prctl"])
    monkeypatch.setattr(seccomp.platform, "machine", lambda: "aarch64")
    assert seccomp.install(b"12345678abcdefgh") == 5
    answers["syscall"] = 0
    assert seccomp.install(b"12345678abcdefgh") == 0
    assert asked[0] == ("prctl", 38, 1, 0, 0, 0)
    assert asked[1][:4] == ("syscall", 277, 1, 8)
    assert programs == [(2, b"12345678abcdefgh")] * 2
    answers["syscall"] = -1
    with pytest.raises(PermissionError, match="seccomp with a listener"):
        seccomp.install(b"12345678")
    answers["prctl"] = -1
    with pytest.raises(PermissionError, match="PR_SET_NO_NEW_PRIVS"):
        seccomp.install(b"12345678")


# Modules.


def test_a_file_runs_as_a_module_with_the_names_that_it_is_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "x.py"
    path.write_text("import sys\ny = x + 1\nown = sys.modules[__name__].__dict__ is globals()\n")
    monkeypatch.setitem(__import__("sys").modules, "loaded_here", None)
    found = load(str(path), "loaded_here", {"x": 2})
    assert (found["y"], found["own"], found["__name__"]) == (3, True, "loaded_here")
    assert found["__file__"] == str(path)
