"""Sessions: state, what comes back, limits, files and pictures, and their end."""

from __future__ import annotations

import contextlib
import os
import signal
import struct
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import pytest
from tests.agents.outside import leftovers
from tests.agents.test_hostile_sessions import marker_of
from tests.errors import about

from lmstack.agents.sandbox import FolderFile, Sandbox, SandboxConfig, SandboxSession
from lmstack.agents.sandbox.exchange import EndedError
from lmstack.agents.sandbox.sandbox import IsolationName
from lmstack.agents.tools import Picture
from lmstack.core import EngineError, InputError

CONFIG = SandboxConfig(cpu_s=10, wall_s=60.0, memory_mib=192, output_bytes=4096)
SHORT = CONFIG.replace(cpu_s=1, wall_s=1.0)


def png(width: int = 2) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", width, 1, 8, 0, 0, 0, 0)
    data = zlib.compress(bytes(width + 1))
    chunks = chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


@pytest.fixture
def session(isolation: IsolationName) -> Iterator[SandboxSession]:
    with Sandbox(CONFIG, isolation=isolation).session() as made:
        yield made


def workers(session: SandboxSession) -> list[int]:
    """Processes of its sandbox as this machine numbers them, bubblewrap's own left out."""
    marker = marker_of(session).encode()
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            words = path.read_bytes().split(b"\0")
            if marker in b" ".join(words) and b"bwrap" not in words[0]:
                found.append(int(path.parent.name))
    return sorted(found)


def test_variables_imports_functions_and_classes_live_on(session: SandboxSession) -> None:
    session.run("import math\nx = 20\ndef f(n): return n + x\nclass A:\n    y = 1")
    assert session.run("f(1) + A.y + math.floor(0.5)").value == "22"
    session.run("x = 30")
    assert session.run("f(1)").value == "31"
    session.run("from __future__ import annotations\ndef g(a: Missing): pass")
    assert session.run("def h(a: AlsoMissing): return 1\nh(0)").value == "1"


def test_state_can_be_pickled_as_that_of_a_script_can(session: SandboxSession) -> None:
    session.run(
        "import pickle\nfrom dataclasses import dataclass\n@dataclass\nclass A:\n    x: int"
    )
    assert session.run("pickle.loads(pickle.dumps(A(7)))").value == "A(x=7)"


@pytest.mark.parametrize(
    ("code", "value"),
    [
        ("1 + 1", "2"),
        ("x = 1", None),
        ("None", None),
        ("1\n2\nx = 3", None),
        ("if True:\n    5", None),
        ("'a'; 'b'", "'b'"),
        ("# nothing", None),
        ("", None),
        ("print(1)", None),
        ("'ä\\x00\\ud800'", "'ä\\x00\\ud800'"),
        ("5 # the last", "5"),
    ],
)
def test_the_value_is_that_of_an_expression_at_the_end(
    session: SandboxSession, code: str, value: str | None
) -> None:
    done = session.run(code)
    assert (done.ended, done.value, done.error) == ("ok", value, None)


def test_output_and_errors_come_apart_and_complete(session: SandboxSession) -> None:
    done = session.run(
        "import sys, os\nprint('a', end='')\nprint('b', file=sys.stderr, end='')\nos.write(1, b'c')"
    )
    assert (sorted(done.stdout), done.stderr, done.value) == (["a", "c"], "b", "1")
    assert session.run("print('z' * 3000)").stdout == "z" * 3000 + "\n"
    assert session.run("os.write(1, b'\\xff\\0')").stdout == "\ufffd\0"


def test_a_traceback_has_the_own_lines_alone(session: SandboxSession) -> None:
    session.run("def f(n):\n    return 1 / n")
    done = session.run("x = 1\nf(0)")
    assert done.ended == "error"
    assert done.error is not None
    assert (done.error.type, done.error.message) == ("ZeroDivisionError", "division by zero")
    assert "f(0)" in done.error.traceback
    assert "return 1 / n" in done.error.traceback
    assert "interpreter.py" not in done.error.traceback
    done = session.run("import json\njson.loads('{')")
    assert done.error is not None
    assert "decoder.py" not in done.error.traceback
    assert session.run("x").value == "1"


def test_a_traceback_of_a_deep_recursion_is_short(session: SandboxSession) -> None:
    done = session.run("def f(n): return f(n + 1)\nf(0)")
    assert done.error is not None
    assert done.error.type == "RecursionError"
    assert len(done.error.traceback.splitlines()) < 30
    assert "more]" in done.error.traceback


def test_a_syntax_error_shows_its_line(session: SandboxSession) -> None:
    done = session.run("x = 1\ny = (")
    assert done.error is not None
    assert done.error.type == "SyntaxError"
    assert "y = (" in done.error.traceback
    assert session.run("x").error is not None  # nothing of it has run


def test_to_exit_is_an_error_and_keeps_the_state(session: SandboxSession) -> None:
    session.run("import sys\nx = 1")
    done = session.run("sys.exit(3)")
    assert (done.ended, done.lost_state) == ("error", False)
    assert done.error is not None
    assert (done.error.type, done.error.message) == ("SystemExit", "3")
    assert session.run("x").value == "1"


def test_too_much_memory_is_an_error_and_keeps_the_state(session: SandboxSession) -> None:
    session.run("x = 1")
    done = session.run("y = bytearray(1 << 40)")
    assert (done.ended, done.lost_state) == ("memory", False)
    assert session.run("x").value == "1"


@pytest.mark.parametrize(
    ("code", "what"),
    [("while True: pass", "1 s of"), ("import time\nprint('seen')\ntime.sleep(60)", "1 s of time")],
)
def test_a_call_over_its_time_loses_the_state_and_says_so_twice(
    isolation: IsolationName, code: str, what: str
) -> None:
    with Sandbox(SHORT, isolation=isolation).session(files={"kept": b"kept"}) as session:
        session.run("x = 1\nopen('mine', 'w').close()")
        done = session.run(code)
        assert (done.ended, done.lost_state, done.lost_files) == ("time", True, False)
        assert done.error is not None
        assert done.error.type == "TimeLimit"
        assert what in done.error.message
        assert done.stdout == ("seen\n" if "seen" in code else "")
        after = session.run("x")
        assert (after.ended, after.is_restarted, after.lost_state) == ("error", True, False)
        assert {each.path for each in after.files} == {"kept", "mine"}
        assert not session.run("1").is_restarted


def test_more_output_than_is_allowed_ends_the_call(session: SandboxSession) -> None:
    done = session.run("while True: print('x' * 100)")
    assert (done.ended, done.lost_state) == ("output", True)
    assert done.error is not None
    assert done.error.type == "OutputLimit"
    assert len(done.stdout) == CONFIG.output_bytes
    done = session.run("print('x' * 5000)")  # all in one, and it would have gone on
    assert (done.ended, len(done.stdout), done.is_restarted) == ("output", 4096, True)


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("import os\nos._exit(3)", "ended itself with status 3"),
        ("import os\nos.abort()", "signal 6 (Aborted)"),
        ("import ctypes\nctypes.string_at(0)", "signal 11 (Segmentation fault)"),
    ],
)
def test_a_process_that_dies_is_told_with_its_reason(
    session: SandboxSession, code: str, message: str
) -> None:
    done = session.run(code)
    assert (done.ended, done.lost_state) == ("killed", True)
    assert done.error is not None
    assert done.error.type == "Killed"
    assert message in done.error.message
    assert session.run("1").is_restarted


def test_the_time_of_all_calls_is_bounded(isolation: IsolationName) -> None:
    config = CONFIG.replace(session_cpu_s=1, session_wall_s=100.0)
    with Sandbox(config, isolation=isolation).session() as session:
        spend = "import time\nwhile time.process_time() < {}: pass"
        assert session.run(spend.format(0.6)).ended == "ok"
        done = session.run(spend.format(5))
        assert done.ended == "time"
        assert done.cpu_s < 0.9
        with pytest.raises(
            InputError, match="used up its 1 s of processor time", check=about("session_cpu_s")
        ) as error:
            session.run("1")
        assert "session_cpu_s" in str(error.value.hint)
    with Sandbox(CONFIG.replace(session_wall_s=0.2), isolation=isolation).session() as session:
        assert session.run("import time\ntime.sleep(10)").ended == "time"
        with pytest.raises(InputError, match=r"used up its 0\.2 s", check=about("session_wall_s")):
            session.run("1")


def test_nothing_runs_between_calls(session: SandboxSession) -> None:
    session.run(
        "import signal, time\nticks = []\n"
        "signal.signal(signal.SIGALRM, lambda *_: ticks.append(time.monotonic()))\n"
        "signal.setitimer(signal.ITIMER_REAL, 0.005, 0.005)"
    )
    before = time.monotonic()
    time.sleep(0.2)
    after = time.monotonic()
    done = session.run("ticks")
    assert done.value is not None
    between = [t for t in map(float, done.value.strip("[]").split(",")) if before < t < after]
    assert between == []


def test_files_go_in_and_out(isolation: IsolationName) -> None:
    files = {"a.txt": b"given", "deep/er/b": b"\0\xff"}
    with Sandbox(CONFIG, isolation=isolation).session(files) as session:
        assert session.run("open('a.txt').read(), open('deep/er/b', 'rb').read()").value == (
            "('given', b'\\x00\\xff')"
        )
        done = session.run("open('a.txt', 'w').write('changed'); open('.hidden', 'w')")
        assert done.files == (FolderFile("a.txt", 7), FolderFile("deep/er/b", 2))
        assert session.files() == done.files
        assert session.read("a.txt") == b"changed"
        session.write("new/file", b"more")
        session.write("a.txt", b"again")
        assert session.run("open('new/file').read() + open('a.txt').read()").value == "'moreagain'"


def test_inputs_are_read_and_not_written(isolation: IsolationName, tmp_path: Path) -> None:
    (tmp_path / "table.csv").write_text("1,2")
    inputs = {"table.csv": tmp_path / "table.csv", "sub/x": b"bytes"}
    with Sandbox(CONFIG, isolation=isolation).session(inputs=inputs) as session:
        code = "open('inputs/table.csv').read(), open('inputs/sub/x').read()"
        done = session.run(code)
        assert done.value == "('1,2', 'bytes')"
        assert done.files == ()
        assert session.run("open('inputs/table.csv', 'w')").ended == "error"
    assert (tmp_path / "table.csv").read_text() == "1,2"


def test_odd_names_are_printable_and_read_back(session: SandboxSession) -> None:
    done = session.run(
        "for n, name in enumerate((b'a\\nb', b'\\x1b[2J', b'\\xff', b'x\\\\y', b'\\xc3\\xa4')):\n"
        "    open(name, 'w').write(str(n))"
    )
    paths = [each.path for each in done.files]
    assert sorted(paths) == sorted(["a\\x0ab", "\\x1b[2J", "\\xff", "x\\\\y", "ä"])
    assert sorted(session.read(path) for path in paths) == [b"0", b"1", b"2", b"3", b"4"]


@pytest.mark.parametrize("path", ["../x", "/etc/passwd", "a/../../x", "", "a\\", "x" * 300, "a\0b"])
def test_paths_that_lead_out_are_refused(isolation: IsolationName, path: str) -> None:
    sandbox = Sandbox(CONFIG, isolation=isolation)
    for make in (lambda: sandbox.session({path: b""}), lambda: sandbox.session(inputs={path: b""})):
        with pytest.raises(InputError, check=about("path")):
            make()
    session = sandbox.session()
    with pytest.raises(InputError, check=about("path")):
        session.read(path)
    with pytest.raises(InputError, check=about("path")):
        session.write(path, b"")


def test_what_cannot_be_read_is_said(session: SandboxSession) -> None:
    session.run("import os\nopen('x', 'wb').write(bytes(100))\nos.symlink('/etc/passwd', 'link')")
    for path, why in (("none", "No such file"), ("link", "symbolic links"), ("x", "more than 99")):
        with pytest.raises(InputError, match=why, check=about("path")):
            session.read(path, limit=99)
    with pytest.raises(InputError, match="limit is -1"):
        session.read("x", limit=-1)


def test_what_does_not_fit_in_is_refused(isolation: IsolationName) -> None:
    config = CONFIG.replace(disk_mib=1)
    with Sandbox(config, isolation=isolation).session() as session:
        with pytest.raises(InputError, match=r"full|No space", check=about("path")):
            session.write("x", bytes(2 << 20))
        assert session.run("1").value == "1"
    with pytest.raises(InputError, match=r"full|No space", check=about("path")):
        Sandbox(config, isolation=isolation).session({"x": bytes(2 << 20)}).run("1")


def test_pictures_that_a_call_wrote_are_returned_by_their_first_bytes(
    session: SandboxSession,
) -> None:
    jpeg = b"\xff\xd8\xff\xe0" + bytes(20)
    done = session.run(
        f"open('a.png', 'wb').write({png()!r})\nopen('b.JPG', 'wb').write({jpeg!r})\n"
        "open('c.png', 'w').write('no picture')\nopen('d.svg', 'w').write('<svg/>')\n"
        f"open('e.txt', 'wb').write({png()!r})"
    )
    assert done.pictures == (Picture("image/png", png()), Picture("image/jpeg", jpeg))
    assert "d.svg" in {each.path for each in done.files}
    assert session.run("1").pictures == ()
    done = session.run(f"open('a.png', 'wb').write({png(3)!r})")
    assert done.pictures == (Picture("image/png", png(3)),)
    done = session.run(f"open('z.png', 'wb').write({png()!r} + bytes(5 << 20))")
    assert (done.ended, done.pictures) == ("ok", ())


def test_matplotlib_draws_where_its_packages_are_visible(isolation: IsolationName) -> None:
    matplotlib = pytest.importorskip("matplotlib")
    assert Sandbox(CONFIG, isolation=isolation).run("import matplotlib").status == 1
    packages = str(Path(matplotlib.__file__).parents[1])
    if isolation == "bubblewrap":
        with pytest.raises(InputError, match="the sandbox's own folder", check=about("packages")):
            Sandbox(SandboxConfig(packages=("/tmp",))).run("1")
        if packages.startswith("/tmp/"):
            pytest.skip("the packages are below /tmp")
    config = SandboxConfig(cpu_s=60, wall_s=120.0, memory_mib=1024, packages=(packages,))
    with Sandbox(config, isolation=isolation).session() as session:
        done = session.run(
            "import matplotlib.pyplot as plt\nplt.plot([1, 2])\nplt.savefig('p.png')\n"
            "plt.get_backend()"
        )
        assert (done.ended, str(done.value).lower()) == ("ok", "'agg'"), done
        assert [each.media_type for each in done.pictures] == ["image/png"]


def test_a_call_is_stopped_from_another_thread(session: SandboxSession) -> None:
    marker = marker_of(session)
    threading.Timer(0.2, session.stop).start()
    done = session.run("import time\ntime.sleep(50)")
    assert (done.ended, done.lost_state, done.lost_files) == ("killed", True, True)
    assert done.error is not None
    assert (done.error.type, done.error.message) == ("Killed", "the sandbox was ended")
    assert leftovers(marker) == []
    after = session.run("1 + 1")
    assert (after.value, after.is_restarted) == ("2", True)


def test_a_session_is_closed_while_it_runs(isolation: IsolationName) -> None:
    session = Sandbox(CONFIG, isolation=isolation).session()
    with session:
        marker = marker_of(session)
        threading.Timer(0.2, session.close).start()
        assert session.run("import time\ntime.sleep(50)").ended == "killed"
    assert leftovers(marker) == []
    with pytest.raises(InputError, match="closed"):
        session.run("1")


def test_the_thread_that_began_a_session_may_end(isolation: IsolationName) -> None:
    """Bubblewrap ends with the thread that started it."""
    session = Sandbox(CONFIG, isolation=isolation).session()
    thread = threading.Thread(target=session.run, args=("x = 1",))
    thread.start()
    thread.join()
    time.sleep(0.05)
    with contextlib.closing(session):
        assert session.run("x").value == "1"


def test_two_sessions_know_nothing_of_each_other(isolation: IsolationName) -> None:
    sandbox = Sandbox(CONFIG, isolation=isolation)
    with sandbox.session() as one, sandbox.session() as two:
        one.run("x = 1\nopen('file', 'w').close()")
        folder = one.run("import os\nos.getcwd()").value
        assert two.run("x").ended == "error"
        assert two.files() == ()
        if isolation == "landlock":  # where they have folders of different names
            assert two.run(f"import os\nos.listdir({folder})").ended == "error"
            assert two.run(f"open({folder} + '/file')").ended == "error"


def test_the_end_of_a_supervisor_is_said_and_the_next_call_begins_anew(
    isolation: IsolationName,
) -> None:
    with Sandbox(CONFIG, isolation=isolation).session({"given": b"given"}) as session:
        session.run("open('made', 'w').close()")
        os.kill(workers(session)[0], signal.SIGKILL)
        done = session.run("1")
        assert (done.ended, done.lost_state, done.lost_files) == ("killed", True, True)
        done = session.run("2")
        assert (done.value, done.is_restarted) == ("2", True)
        assert [each.path for each in done.files] == ["given"]
        os.kill(workers(session)[0], signal.SIGKILL)
        with pytest.raises(EngineError, match="files are lost"):
            session.read("given")
        assert session.run("3").is_restarted


def test_a_worker_has_no_capability_no_gain_of_any_and_a_filter(session: SandboxSession) -> None:
    session.run("x = 1")
    for pid, filters in zip(workers(session), ("0", "2"), strict=True):
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        fields = dict(line.split(":\t", 1) for line in lines if ":\t" in line)
        for name in ("CapInh", "CapPrm", "CapEff", "CapAmb"):
            assert int(fields[name], 16) == 0
        assert fields["NoNewPrivs"] == "1"
        assert fields["Seccomp"] == filters
        assert fields["Threads"] == "1"


def test_all_ends_with_the_process_that_asked(isolation: IsolationName, tmp_path: Path) -> None:
    text = (
        "from lmstack.agents.sandbox import Sandbox\n"
        f"session = Sandbox(isolation={isolation!r}).session({{'a': b'secret'}})\n"
        "session.run('1')\n"
        "print(*session._running.process.args, flush=True)\n"
        "session.run('import time; time.sleep(1000)')\n"
    )
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    maker = subprocess.Popen([sys.executable, "-c", text], stdout=subprocess.PIPE, env=environment)
    assert maker.stdout is not None
    marker = maker.stdout.readline().decode().partition('{"name": "')[2].partition('"')[0]
    maker.kill()
    maker.wait()
    maker.stdout.close()
    assert marker.startswith("lmstack-sandbox-")
    until = time.monotonic() + 30
    while time.monotonic() < until and any(map(marker_runs, [marker])):
        time.sleep(0.02)
    assert leftovers(marker) == []
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def marker_runs(marker: str) -> bool:
    from tests.agents.outside import _running

    return bool(_running(marker))


def test_code_that_is_no_text_or_too_long_is_refused(session: SandboxSession) -> None:
    with pytest.raises(InputError, match="not text", check=about("code")):
        session.run(b"1")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="at most", check=about("code")):
        session.run("#" * (1 << 20))
    assert session.run("'" + "x" * 200_000 + "'[:3]").value == "'xxx'"


def test_inputs_that_are_no_files_are_refused(sandbox: Sandbox, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is no file", check=about("inputs")):
        sandbox.session(inputs={"x": tmp_path})


def test_memory_that_is_full_can_be_freed_again(session: SandboxSession) -> None:
    for _ in range(3):
        done = session.run("x = []\nwhile True: x.append(bytearray(1000))")
        assert (done.ended, done.lost_state) == ("memory", False), done
        assert session.run("y = [1]\ndel x\ny").value == "[1]"


class _Dying(SandboxSession):
    """One whose sandbox ends in every call, after a while."""

    def __init__(self, seconds: float, config: SandboxConfig) -> None:
        super().__init__(None, config, {}, {})  # type: ignore[arg-type]
        self._seconds = seconds

    def _ask(self, *_: object, **__: object) -> NoReturn:
        time.sleep(self._seconds)
        raise EndedError("gone")


@pytest.mark.parametrize("setting", ["session_wall_s", "session_cpu_s"])
def test_calls_that_end_the_sandbox_use_up_the_sessions_time_too(setting: str) -> None:
    session = _Dying(0.06, CONFIG.replace(**{setting: 0.1 if setting == "session_wall_s" else 1}))
    session._cpu_s = 0.9 if setting == "session_cpu_s" else 0.0
    assert session.run("1").ended == "killed"
    assert session.run("1").ended == "killed"
    with pytest.raises(InputError, match="used up its") as error:
        session.run("1")
    assert error.value.param == setting
