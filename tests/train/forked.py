"""Commands and processes as torchrun starts them, forked from one process that has loaded what they
need: a process that loads torch takes seconds.

`Forks` is that process as tests see it. ``forks.start(2, script, argument...)`` runs a script in
two processes that have the variables of torchrun; like it, it ends both when one has failed.
``forks.start(0, "-m", "lmstack", ...)`` runs one without these variables. It needs Linux.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import runpy
import signal
import socket
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path


@dataclass
class Forked:
    """What was started; ``pid`` is that of its process group too."""

    forks: Forks
    pid: int
    folder: Path

    def is_running(self) -> bool:
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return False
        return True

    def ended(self) -> tuple[int, str, str]:
        """Waits; the exit status, stdout and stderr."""
        self.forks.running = None
        status = int(self.forks.line())
        out, err = ((self.folder / name).read_text() for name in ("out", "err"))
        return status, out, err


class Forks:
    """One process to fork from, which runs one thing at a time."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        self._folder = tempfile.TemporaryDirectory()
        self.running: Forked | None = None

    def line(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline()

    def start(self, count: int, *words: str) -> Forked:
        self.stop()
        assert self._process.stdin is not None
        folder = Path(tempfile.mkdtemp(dir=self._folder.name))
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        self._process.stdin.write(json.dumps([count, words, str(folder), environment]) + "\n")
        self._process.stdin.flush()
        self.running = Forked(self, int(self.line()), folder)
        return self.running

    def stop(self) -> None:
        """What a test that failed left running."""
        if self.running is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.running.pid, signal.SIGKILL)
            self.running.ended()

    def close(self) -> None:
        self.stop()
        self._process.communicate()
        self._folder.cleanup()


def run(words: list[str]) -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if words[0] == "-m":
        sys.argv = words[1:]
        runpy.run_module(words[1], run_name="__main__", alter_sys=True)
    else:
        sys.argv = words
        runpy.run_path(words[0], run_name="__main__")
    sys.exit()


def start(rank: int, world: int, port: int, words: list[str]) -> int:
    """The process id of the ``rank``-th of ``world`` processes."""
    process = os.fork()
    if process:
        return process
    place = {"RANK": rank, "LOCAL_RANK": rank, "MASTER_PORT": port}
    place |= {"WORLD_SIZE": world, "LOCAL_WORLD_SIZE": world}
    os.environ.update({key: str(value) for key, value in place.items()}, MASTER_ADDR="127.0.0.1")
    run(words)
    raise AssertionError


def lead(count: int, words: list[str]) -> None:
    """In a process group of its own, which a signal reaches as from a terminal."""
    if not count:
        run(words)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    left = {start(rank, count, port, words) for rank in range(count)}
    failed = 0
    while left:
        process, status = os.wait()
        left.remove(process)
        if status and not failed:
            failed = 1
            for other in left:
                os.kill(other, signal.SIGTERM)
    sys.exit(failed)


def serve() -> None:
    import matplotlib.backends.backend_agg  # noqa: F401
    import pydantic.type_adapter  # noqa: F401
    import torch._dynamo
    import torch.distributed.fsdp  # noqa: F401

    # What the package would load when it is first asked for, by name.
    import lmstack.app.cli.commands._shown_run
    import lmstack.app.inspect.training_picture
    import lmstack.app.wiring.training
    import lmstack.engine.engine
    import lmstack.pipelines.engine_sampler
    import lmstack.serve.local
    import lmstack.train.rollouts.source
    import lmstack.train.run  # noqa: F401
    from lmstack.app.cli.program import _root

    _root()
    gc.freeze()  # so that no child walks through all of it, at its end too

    for line in sys.stdin:
        count, words, folder, environment = json.loads(line)
        leader = os.fork()
        if not leader:
            os.setsid()
            os.environ.clear()
            os.environ.update(environment)
            for number, path in enumerate((os.devnull, f"{folder}/out", f"{folder}/err")):
                os.dup2(os.open(path, os.O_RDWR | os.O_CREAT), number)
            lead(count, words)
        print(leader, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(leader, 0)[1]), flush=True)


if __name__ == "__main__":
    serve()
