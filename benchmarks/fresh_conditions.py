"""`make demo` and `make test` in fresh clones, under conditions of other people's machines.

Called by `fresh.py --under`. Pip's cache and the test suite's models are those of the caller, so
that a run downloads little; everything else is a scratch folder, removed at the end. A command
that takes too long, and all that it started, is ended, and so it is on Ctrl-C.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import pathlib
import pty
import signal
import struct
import subprocess
import tempfile
import termios
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any

from conditions import CONDITIONS, UNPRIVILEGED, Setting, check, combine

ROOT = pathlib.Path(__file__).parent.parent
# Each condition is in one of these: three fresh clones try them all.
TOGETHER = (
    "c+auckland+umask+narrow+one-core",
    "german+home+ipv6+background",
    "german-utf8+spaces+no-compiler+empty-cache",
)
KEPT = (
    *("PATH", "TMPDIR", "TERM", "JOBS", "SEED", "PYTEST_ADDOPTS"),
    *("SSL_CERT_FILE", "SSL_CERT_DIR", "PIP_INDEX_URL"),
)
KEPT_PREFIXES = ("http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")
LAST_LINES = 60
PATIENCE_S = 10  # for what was interrupted to stop by itself
# A network of one loopback device without its IPv4 address, and in it the script "$1".
WITHOUT_IPV4 = 'ip link set lo up; ip address del 127.0.0.1/8 dev lo; exec bash -ec "$1"'


def environment(scratch: pathlib.Path) -> dict[str, str]:
    """A newcomer's: an empty home and store. The caches of the caller stay in use."""
    caches = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache")
    home = scratch / "home"
    home.mkdir()
    kept = {n: v for n, v in os.environ.items() if n in KEPT or n.startswith(KEPT_PREFIXES)}
    return kept | {
        "HOME": str(home),
        "OUT": str(scratch),
        "LANG": "C.UTF-8",
        "LMSTACK_HOME": str(scratch / "store"),
        "LMSTACK_TEST_HOME": os.environ.get("LMSTACK_TEST_HOME", str(caches / "lmstack-tests")),
        "PIP_CACHE_DIR": os.environ.get("PIP_CACHE_DIR", str(caches / "pip")),
    }


@contextlib.contextmanager
def output_to(log: pathlib.Path, columns: int) -> Iterator[int]:
    """A descriptor to print to: ``log``, or a terminal ``columns`` wide that is copied to it."""
    with log.open("ab") as file:
        if not columns:
            yield file.fileno()
            return
        ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))

        def copy() -> None:
            # Reading fails once the last process that holds the other end is gone.
            with contextlib.suppress(OSError):
                while data := os.read(ours, 65536):
                    file.write(data)

        reader = threading.Thread(target=copy)
        reader.start()
        try:
            yield theirs
        finally:
            os.close(theirs)
            reader.join()
            os.close(ours)


def run(setting: Setting, command: Sequence[str], log: pathlib.Path, limit: float) -> int:
    """The exit code of ``command`` in the clone; 124 where it took more than ``limit`` seconds."""
    with (
        output_to(log, setting.columns) as output,
        subprocess.Popen(
            [*setting.before, *command],
            cwd=setting.scratch / setting.clone,
            env=setting.env,
            umask=setting.umask,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        ) as process,
    ):
        try:
            return process.wait(limit)
        except subprocess.TimeoutExpired:
            return 124
        finally:
            end(process)


def end(process: subprocess.Popen[bytes]) -> None:
    """End ``process``, where it still runs, and all that it left behind in its group."""
    with contextlib.suppress(ProcessLookupError):
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGINT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(PATIENCE_S)
        os.killpg(process.pid, signal.SIGKILL)


def steps(setting: Setting, script: str, only_demo: bool) -> Iterator[tuple[str, list[str]]]:
    """The commands to run in turn, each with its name in the result. ``script`` serves and asks
    on ::1, for a setting without IPv4."""
    yield "demo", ["make", "demo"]
    if setting.without_ipv4:
        unshare = ["unshare", *UNPRIVILEGED, "--net", "sh", "-c"]
        yield "without_ipv4", [*unshare, WITHOUT_IPV4, "sh", script]
    if not only_demo:
        yield "test", ["make", "test"]


def try_conditions(
    names: Sequence[str], logs: pathlib.Path, script: str, only_demo: bool, limit: float
) -> dict[str, Any]:
    """One fresh clone under ``names``. The result says what held and how each command ended."""
    logs.mkdir(parents=True, exist_ok=True)
    result: dict[str, Any] = {"conditions": {n: CONDITIONS[n].meaning for n in names}}
    with tempfile.TemporaryDirectory(prefix="lmstack-fresh-") as made:
        scratch = pathlib.Path(made)
        setting = combine(names, scratch, environment(scratch))
        log = logs / f"{'+'.join(names)}.log"
        log.unlink(missing_ok=True)
        folder = setting.scratch / setting.clone
        clone = ["git", "clone", "-q", str(ROOT), str(folder)]
        subprocess.run(clone, env=setting.env, umask=setting.umask, check=True)
        failed = check(names, lambda command: run(setting, command, log, 300))
        if failed:
            raise SystemExit(f"these conditions do not hold: {', '.join(failed)}; see {log}")
        for name, condition in result["conditions"].items():
            print(f"holds: {name:12} {condition}", flush=True)
        result["passed"] = True
        for step, command in steps(setting, script, only_demo):
            start = time.perf_counter()
            code = run(setting, command, log, limit)
            result[f"{step}_seconds"] = round(time.perf_counter() - start, 1)
            ended = "ok" if code == 0 else "out of time" if code == 124 else f"exit code {code}"
            print(f"{step:13} {result[f'{step}_seconds']:8.1f} s  {ended}", flush=True)
            if code:
                result |= {"passed": False, "failed": step, "ended": ended}
                result["last_lines"] = last_lines(log)
                print("\n".join(result["last_lines"]), f"\nall of it: {log}", flush=True)
                break
    return result


def last_lines(log: pathlib.Path) -> list[str]:
    text = log.read_bytes().decode("utf-8", "replace").replace("\r\n", "\n")
    return text.splitlines()[-LAST_LINES:]
