"""The sandbox: what a program cannot reach, its limits, its end, and that it fails closed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path

import pytest
from tests.agents.hostile_code import ESCAPES
from tests.errors import about
from tests.sandboxes import made_or_skipped

from lmstack.agents.sandbox import Sandbox, SandboxConfig, bubblewrap, landlocked
from lmstack.agents.sandbox.bubblewrap import INSTALL
from lmstack.agents.sandbox.isolation import INSIDE
from lmstack.agents.sandbox.processes import followed
from lmstack.agents.sandbox.sandbox import _PROBE, IsolationName
from lmstack.core import ExtraMissingError, InputError, UnsupportedError


@pytest.mark.parametrize("name", ESCAPES)
def test_what_would_lead_out_is_refused(sandbox: Sandbox, name: str) -> None:
    done = sandbox.run(ESCAPES[name])
    assert (done.end, done.status) == ("exit", 0), done
    assert done.stdout.startswith(b"refused: "), done


def test_a_program_gets_arguments_and_input_and_its_output_comes_back(sandbox: Sandbox) -> None:
    text = "import sys\nprint(sys.argv[1:], sys.stdin.read())\nsys.exit(3)"
    done = sandbox.run(text, ["--a", "b c"], stdin=b"given")
    assert (done.end, done.status, done.stdout) == ("exit", 3, b"['--a', 'b c'] given\n")


def test_nothing_of_the_caller_is_to_be_seen(
    sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = tmp_path / "secret"
    secret.write_text("secret")
    monkeypatch.setenv("SECRET", "secret")
    with secret.open() as file:
        os.set_inheritable(file.fileno(), True)
        text = (
            f"import os\nprint('SECRET' in os.environ)\n"
            f"try: print(open({str(secret)!r}).read())\n"
            f"except OSError as error: print(type(error).__name__)\n"
            f"for fd in range(3, 256):\n"
            f"    try: print(fd, os.read(fd, 100))\n"
            f"    except OSError: pass\n"
        )
        done = sandbox.run(text)
    said = done.stdout.decode().splitlines()
    assert said[0] == "False", done
    assert said[1] in ("FileNotFoundError", "PermissionError")
    assert b"secret" not in b"".join(done.stdout.splitlines()[2:])


def test_in_namespaces_a_path_of_the_caller_is_not_there_and_the_user_is_nobody(
    tmp_path: Path,
) -> None:
    found = made_or_skipped(isolation="bubblewrap")
    text = f"import os\nprint(os.path.exists({str(tmp_path)!r}), [os.getuid(), os.getgid()])"
    assert found.run(text).stdout == b"False [65534, 65534]\n"


def test_a_program_is_stopped_over_its_processor_time(isolation: IsolationName) -> None:
    sandbox = Sandbox(SandboxConfig(cpu_s=1, wall_s=60), isolation=isolation)
    done = sandbox.run("while True: pass")
    assert (done.end, done.status) == ("signal", signal.SIGKILL)


def test_a_program_that_waits_is_stopped_and_nothing_of_it_is_left(
    isolation: IsolationName,
) -> None:
    name = f"lmstack-{uuid.uuid4()}"
    text = "import os, time; os.close(1); os.close(2); time.sleep(1000)"
    done = Sandbox(SandboxConfig(wall_s=1), isolation=isolation).run(text, [name])
    assert done.end == "time"
    _gone(name)


def test_a_sandbox_ends_with_who_made_it(isolation: IsolationName, tmp_path: Path) -> None:
    name = f"lmstack-{uuid.uuid4()}"
    program = "import time; print('up', flush=True); time.sleep(1000)"
    text = (
        "import time\nfrom lmstack.agents.sandbox import Sandbox\n"
        f"files = {{'program.py': {program.encode()!r}}}\n"
        f"sandbox = Sandbox(isolation={isolation!r})\n"
        f"with sandbox.started('program', [{name!r}], files, stdin=b'') as made:\n"
        "    print(made.stdout.readline(), flush=True)\n"
        "    time.sleep(1000)"
    )
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    command = [sys.executable, "-c", text]
    maker = subprocess.Popen(command, stdout=subprocess.PIPE, env=environment)
    try:
        assert maker.stdout is not None
        assert b"up" in maker.stdout.readline()
        assert _running(name)
    finally:
        maker.kill()
        maker.wait()
        maker.stdout.close()
    _gone(name)


def _running(name: str) -> bool:
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes()
        except OSError:
            continue
        if name.encode() in words and b"inside.start" in words:
            return True
    return False


def _gone(name: str) -> None:
    until = time.monotonic() + 30
    while _running(name) and time.monotonic() < until:
        time.sleep(0.02)
    assert not _running(name)


def test_huge_output_is_cut_and_ends_the_program(sandbox: Sandbox) -> None:
    done = sandbox.run("while True: print('x' * 1000)")
    assert done.end == "output"
    assert len(done.stdout) == sandbox.config.output_bytes


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
@pytest.mark.parametrize(("size", "end"), [(99, "exit"), (100, "exit"), (101, "output")])
def test_output_of_just_the_limit_is_not_too_much(stream: str, size: int, end: str) -> None:
    command = [sys.executable, "-c", f"import sys; sys.{stream}.write('x' * {size})"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, stderr=pipe) as process:
        done = followed(process, 100, time.monotonic() + 60)
        process.communicate()
    assert done.end == end
    assert getattr(done, stream) == b"x" * min(size, 100)


def test_without_bubblewrap_nothing_runs_and_it_is_said_how_to_install_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    ran = tmp_path / "ran"
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ExtraMissingError, match="bubblewrap is not installed") as error:
        Sandbox(isolation="bubblewrap").run(f"open({str(ran)!r}, 'w')")
    assert error.value.hint == INSTALL
    assert not ran.exists()


def test_where_nothing_isolates_nothing_runs_and_both_reasons_are_said(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(landlocked, "version", lambda: 0)
    with pytest.raises(ExtraMissingError, match=r"not installed; and this kernel .* Landlock"):
        Sandbox().session()
    with pytest.raises(UnsupportedError, match="gives programs no Landlock") as error:
        Sandbox(isolation="landlock").run("1")
    assert "lsm=" in str(error.value.hint)


def test_without_bubblewrap_landlock_is_taken(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    made_or_skipped(isolation="landlock")
    monkeypatch.setenv("PATH", str(tmp_path))
    sandbox = Sandbox()
    assert sandbox.isolation == "landlock"
    assert sandbox.run("print(1)").stdout == b"1\n"


def test_an_isolation_that_lets_a_program_out_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Whatever the reason: here a bubblewrap that isolates nothing."""
    plain = tmp_path / "bwrap"
    plain.write_text('#!/bin/sh\nwhile [ "$1" != -- ]; do shift; done; shift; exec "$@"\n')
    plain.chmod(0o755)
    monkeypatch.setattr(bubblewrap, "_BOX", str(tmp_path / "box"))
    monkeypatch.setattr(bubblewrap, "_FOLDER", str(tmp_path))
    (tmp_path / "box").mkdir()
    (tmp_path / "box/inside").symlink_to(INSIDE)
    (tmp_path / "box/program.py").write_text(_PROBE)
    with pytest.raises(UnsupportedError, match=r"open \[2, 5\]"):
        Sandbox(isolation="bubblewrap", bwrap=str(plain)).check()


def test_where_the_kernel_refuses_nothing_runs(tmp_path: Path) -> None:
    refuses = tmp_path / "bwrap"
    refuses.write_text("#!/bin/sh\necho 'No permissions to create namespace' >&2\nexit 1")
    refuses.chmod(0o755)
    with pytest.raises(UnsupportedError, match="No permissions to create") as error:
        Sandbox(isolation="bubblewrap", bwrap=str(refuses)).run("1")
    assert "user namespaces" in str(error.value.hint)
    with pytest.raises(UnsupportedError, match="could not be run"):
        Sandbox(isolation="bubblewrap", bwrap=str(tmp_path / "none")).run("1")


def test_a_setting_out_of_range_is_refused() -> None:
    with pytest.raises(InputError, match="cpu_s", check=about("cpu_s")):
        SandboxConfig(cpu_s=0)
    with pytest.raises(InputError, match="no folder", check=about("packages")):
        SandboxConfig(packages=("site-packages",))
    with pytest.raises(InputError, match="isolation is 'docker'", check=about("isolation")):
        Sandbox(isolation="docker")  # type: ignore[arg-type]
