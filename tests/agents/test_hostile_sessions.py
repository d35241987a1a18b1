"""No program gets out of a session, hangs it or leaves anything behind, and the next call works."""

from __future__ import annotations

import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from tests.agents.hostile_sessions import PROGRAMS
from tests.agents.outside import Outside, leftovers
from tests.sandboxes import ISOLATIONS, made_or_skipped

from lmstack.agents.sandbox import Execution, Sandbox, SandboxConfig, SandboxSession, landlocked
from lmstack.agents.sandbox.landlocked import Landlock
from lmstack.agents.sandbox.sandbox import IsolationName, _checked
from lmstack.core import UnsupportedError

DISK_MIB, FILES, OUTPUT = 8, 200, 16 * 1024
CONFIG = SandboxConfig(
    cpu_s=10,
    wall_s=60.0,
    memory_mib=192,
    disk_mib=DISK_MIB,
    files=FILES,
    output_bytes=OUTPUT,
)
SHORT = CONFIG.replace(cpu_s=1, wall_s=1.0)
# Where a limit of time ends the program it is short, and otherwise so long that it never does.
NAMES = [
    name
    for name, each in PROGRAMS.items()
    if platform.machine() == "x86_64" or "syscall(" not in each.code
]
USED = """
import os
def walked():
    for name in os.listdir("."):
        yield os.lstat(name)
        if os.path.isdir(name) and not os.path.islink(name):
            os.chdir(name)  # the whole path may be longer than any may be
            yield from walked()
            os.chdir("..")
os.chdir(os.environ["HOME"])
found = list(walked())
print(len(found), sum(each.st_blocks * 512 for each in found))
"""


@pytest.fixture
def outside(tmp_path: Path) -> Iterator[Outside]:
    (tmp_path / "outside").mkdir()
    made = Outside(tmp_path / "outside")
    yield made
    made.close()


def marker_of(session: SandboxSession) -> str:
    """What is on the command line of each of its processes."""
    assert session._running is not None
    words = map(str, session._running.process.args)  # type: ignore[union-attr]
    setup = next(word for word in words if word.startswith('{"name"'))
    return str(json.loads(setup)["name"])


def handed_out(session: SandboxSession, done: Execution) -> str:
    """All that somebody outside sees of it."""
    files = [session.read(each.path) for each in session.files()[:20]]
    shown = (done.stdout, done.stderr, done.value, done.error, done.files, done.pictures, files)
    return repr(shown)


def on_each(names: Sequence[str]) -> list[Any]:
    """Each name with each isolation; the ordinary suite takes every other name of a kind, with one
    of the two, in turn. What the kernel refuses each program is held by `test_seccomp.py` and
    `test_landlock.py` too."""
    kinds = Counter[str]()
    params = []
    for name in names:
        kind = name.partition(":")[0]
        for turn, isolation in enumerate(ISOLATIONS):
            marks = [pytest.mark.long] * ((kinds[kind] + 2 * turn) % 4 > 0)
            params.append(pytest.param(isolation, name, marks=marks))
        kinds[kind] += 1
    return params


@pytest.mark.parametrize(("isolation", "name"), on_each(NAMES), indirect=["isolation"])
def test_nothing_gets_out_hangs_or_is_left(
    isolation: IsolationName, outside: Outside, name: str
) -> None:
    program = PROGRAMS[name]
    is_short = "time" in (*program.ends, *program.next_ends)
    sandbox = Sandbox(SHORT if is_short else CONFIG, isolation=isolation)
    with sandbox.session(inputs={"data.txt": b"data"}) as session:
        marker = marker_of(session)
        began = time.monotonic()
        done = session.run(outside.filled(program.program))
        assert done.ended in program.ends, done
        assert time.monotonic() - began < sandbox.config.wall_s + 30
        assert len(done.stdout) <= OUTPUT
        assert len(done.stderr) <= OUTPUT
        assert len(repr((done.value, done.error))) < 300_000
        output = handed_out(session, done)
        after = session.run("1 + 1")
        assert after.ended in program.next_ends, (done, after)
        assert after.is_restarted == done.lost_state
        if after.ended != "ok":
            output += repr(after)
            after = session.run("1 + 1")
        assert (after.ended, after.value) == ("ok", "2"), (done, after)
        assert not after.lost_files
        output += repr(after)
    assert outside.violations(output, marker) == [], done


DISK = [name for name in PROGRAMS if name.startswith("disk: ")]


@pytest.mark.parametrize(("isolation", "name"), on_each(DISK), indirect=["isolation"])
def test_the_folder_stays_within_its_bounds(isolation: IsolationName, name: str) -> None:
    files, size = used(Sandbox(CONFIG, isolation=isolation), name)
    assert files <= FILES
    assert size <= DISK_MIB << 20


def used(sandbox: Sandbox, name: str) -> tuple[int, int]:
    """Files and bytes in the folder after a program, also those that it holds without a name."""
    with sandbox.session() as session:
        session.run(PROGRAMS[name].program)
        files, size = map(int, session.run(USED).stdout.split())
        return files, size


NOTICED = {
    "processes: a fork bomb": "leftover",
    "processes: a daemon": "leftover",
    "processes: a shell": "escaped",
    "reading: the environment": "secret",
    "reading: somebody's file": "secret",
    "reading: a link out": "secret",
    "writing: over somebody's file": "canary",
    "writing: beside it": "folder",
    "writing: its mode and times": "canary",
    "network: TCP": "tcp",
    "network: UDP": "udp",
    "network: a local socket": "unix",
    "signals: to another process": "victim",
}


@pytest.mark.parametrize("name", [name for name, each in PROGRAMS.items() if each.plain])
def test_without_a_sandbox_harmless_escapes_succeed_and_the_watch_notices(
    outside: Outside, tmp_path: Path, name: str
) -> None:
    """So that what the sandbox refuses is refused by the sandbox."""
    found = plainly(name, outside, tmp_path)
    assert NOTICED.get(name, "escaped") in found


def plainly(name: str, outside: Outside, tmp_path: Path) -> list[str]:
    """The violations of a program that runs in no sandbox."""
    folder = tmp_path / "plain"
    folder.mkdir()
    marker = f"plain-{outside.variable}"
    code = outside.filled(PROGRAMS[name].program)
    output = tmp_path / "output"
    with output.open("w") as file:
        process = subprocess.Popen(
            [sys.executable, "-I", "-c", code, marker],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            start_new_session=True,
        )
        process.wait(60)
    if "os.kill(<victim>, 9)" in PROGRAMS[name].program:  # it ends when it next runs
        outside.victim.wait(60)
    return outside.violations(output.read_text(), marker)


def test_a_folder_with_wider_bounds_is_noticed(isolation: IsolationName) -> None:
    wide = CONFIG.replace(disk_mib=4 * DISK_MIB, files=4 * FILES)
    files, _ = used(Sandbox(wide, isolation=isolation), "disk: many files")
    assert files > FILES
    _, size = used(Sandbox(wide, isolation=isolation), "disk: many large files")
    assert size > DISK_MIB << 20


def test_a_process_that_is_left_is_found_and_no_other() -> None:
    assert leftovers("lmstack-sandbox-of-nobody") == []
    mark = f"lmstack-sandbox-of-{os.getpid()}"
    left = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)", mark])
    while mark.encode() not in Path(f"/proc/{left.pid}/cmdline").read_bytes():
        time.sleep(0.001)  # the kernel is still loading it
    assert leftovers(mark) == [left.pid]
    assert left.wait() == -signal.SIGKILL


def test_there_are_many_programs() -> None:
    assert len(PROGRAMS) > 150
    assert all(each.ends for each in PROGRAMS.values())


ALLOWS_ALL = (
    "seccomp.py",
    "*_fails(errno.ENOSYS), *_fails(errno.EPERM)]",
    "*_returns(_ALLOW), *_returns(_ALLOW)]",
)
SHUTS_NOTHING = (
    "landlock.py",
    "    libc = ctypes.CDLL(None, use_errno=True)\n    files",
    "    return\n    files",
)
COUNTS_NOTHING = ("quotas.py", "error = quota.refusal(call, arguments)", "error = 0")


@pytest.mark.parametrize(
    ("weakness", "name", "noticed"),
    [
        (ALLOWS_ALL, "network: UDP", "udp"),
        pytest.param(ALLOWS_ALL, "processes: a daemon", "leftover", marks=pytest.mark.long),
        (ALLOWS_ALL, "processes: threads", "escaped"),
        (SHUTS_NOTHING, "reading: somebody's file", "secret"),
        pytest.param(SHUTS_NOTHING, "reading: a link out", "secret", marks=pytest.mark.long),
        (SHUTS_NOTHING, "writing: over somebody's file", "canary"),
        (SHUTS_NOTHING, "writing: beside it", "folder"),
        pytest.param(SHUTS_NOTHING, "reading: its own /proc", "escaped", marks=pytest.mark.long),
        (COUNTS_NOTHING, "disk: many files", "files"),
        pytest.param(COUNTS_NOTHING, "disk: many large files", "bytes", marks=pytest.mark.long),
    ],
)
def test_a_wall_that_is_missing_is_noticed(
    outside: Outside,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    weakness: tuple[str, str, str],
    name: str,
    noticed: str,
) -> None:
    """One of the walls of Landlock's isolation is taken away from a copy of its code."""
    made_or_skipped(isolation="landlock")
    file, wall, hole = weakness
    inside = tmp_path / "weak/inside"
    shutil.copytree(landlocked.INSIDE, inside)
    text = (inside / file).read_text()
    assert wall in text
    (inside / file).write_text(text.replace(wall, hole))
    monkeypatch.setattr(landlocked, "INSIDE", inside)
    isolation = Landlock().found()
    if weakness is not COUNTS_NOTHING:
        with pytest.raises(UnsupportedError, match="open"):
            _checked.__wrapped__(isolation)
    with SandboxSession(isolation, SHORT, {}, {"data.txt": b"data"}) as session:
        marker = marker_of(session)
        done = session.run(outside.filled(PROGRAMS[name].program))
        files, size = (int(word) for word in session.run(USED).stdout.split())
        output = handed_out(session, done)
    found = outside.violations(output, marker)
    found += ["files"] * (files > FILES) + ["bytes"] * (size > DISK_MIB << 20)
    assert noticed in found, done
