"""The sandbox: what a program cannot reach, its limits, its end, and that it fails closed."""

from __future__ import annotations

import os
import signal
import struct
import subprocess
import sys
import time
import uuid
from pathlib import Path

import pytest
from tests.agents.hostile_code import ESCAPES

from lmstack.agents.sandbox import Sandbox, SandboxConfig
from lmstack.agents.sandbox.bubblewrap import _INSTALL
from lmstack.agents.sandbox.seccomp import _REFUSED, seccomp_filter
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
            f"import os\nprint(os.path.exists({str(secret)!r}), 'SECRET' in os.environ)\n"
            f"print([os.getuid(), os.getgid()])\n"
            f"for fd in range(3, 256):\n"
            f"    try: print(fd, os.read(fd, 100))\n"
            f"    except OSError: pass\n"
        )
        done = sandbox.run(text)
    said = done.stdout.decode().splitlines()
    assert said[0] == "False False", done
    assert said[1] == "[65534, 65534]"
    assert b"secret" not in b"".join(done.stdout.splitlines()[2:])


def test_a_program_is_stopped_over_its_processor_time() -> None:
    done = Sandbox(SandboxConfig(cpu_s=1, wall_s=60)).run("while True: pass")
    assert (done.end, done.status) == ("signal", signal.SIGKILL)


def test_a_program_that_waits_is_stopped_and_nothing_of_it_is_left(sandbox: Sandbox) -> None:
    name = f"lmstack-{uuid.uuid4()}"
    text = "import os, time; os.close(1); os.close(2); time.sleep(1000)"
    done = Sandbox(SandboxConfig(wall_s=1)).run(text, [name])
    assert done.end == "time"
    _gone(name)


def test_a_sandbox_ends_with_who_made_it(sandbox: Sandbox) -> None:
    name = f"lmstack-{uuid.uuid4()}"
    program = "import time; print('up', flush=True); time.sleep(1000)"
    text = (
        "import time\nfrom lmstack.agents.sandbox import Sandbox\n"
        f"files = {{'/box/program.py': {program.encode()!r}}}\n"
        f"with Sandbox().started('program', [{name!r}], files, stdin=b'') as made:\n"
        "    print(made.stdout.readline(), flush=True)\n"
        "    time.sleep(1000)"
    )
    maker = subprocess.Popen([sys.executable, "-c", text], stdout=subprocess.PIPE)
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
        if name.encode() in words and b"bwrap" in words.split(b"\0")[0]:
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


def test_without_bubblewrap_nothing_runs_and_it_is_said_how_to_install_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    ran = tmp_path / "ran"
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ExtraMissingError, match="bubblewrap is not installed") as error:
        Sandbox().run(f"open({str(ran)!r}, 'w')")
    assert error.value.hint == _INSTALL
    assert not ran.exists()


def test_where_the_kernel_refuses_nothing_runs(tmp_path: Path) -> None:
    refuses = tmp_path / "bwrap"
    refuses.write_text("#!/bin/sh\necho 'No permissions to create namespace' >&2\nexit 1")
    refuses.chmod(0o755)
    with pytest.raises(UnsupportedError, match="No permissions to create") as error:
        Sandbox(bwrap=str(refuses)).run("1")
    assert "user namespaces" in str(error.value.hint)
    with pytest.raises(UnsupportedError, match="could not be run"):
        Sandbox(bwrap=str(tmp_path / "none")).run("1")


def test_a_setting_out_of_range_is_refused() -> None:
    with pytest.raises(InputError, match="cpu_s"):
        SandboxConfig(cpu_s=0)


def test_the_filter_jumps_nowhere_but_to_the_next_step() -> None:
    """Each refusal is a comparison and a return; no jump leaves the program."""
    for machine, column in (("x86_64", 0), ("aarch64", 1)):
        program = seccomp_filter(machine)
        assert program is not None
        steps = list(struct.iter_unpack("=HBBI", program))
        assert all(max(step[1], step[2]) <= 1 for step in steps)
        assert steps[-1][0] == 0x06
        assert steps[-1][3] == 0x7FFF0000
        compared = {step[3] for step in steps if step[0] == 0x15}
        assert compared >= {numbers[column] for numbers in _REFUSED.values()} - {None}
    assert seccomp_filter("riscv64") is None
