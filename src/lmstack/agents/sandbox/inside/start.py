"""The first code that runs in the sandbox: makes a worker that confines itself, supervises it.

The limits of a worker hold for good: nothing that runs in it later can lift them.
"""

from __future__ import annotations

import contextlib
import os
import select
import sys

from . import answer, folder, judge, session
from .confinement import NOT_CONFINED, Setup, Worker, close_all_but, prepare, start
from .modules import load
from .quotas import answer as answer_kernel
from .quotas import quota_of

__all__ = ["main"]


def main() -> None:
    """``argv``: a `Setup`, a role, and what the role takes."""
    text, role, *rest = sys.argv[1:]
    setup = Setup.read(text)
    del sys.path[0]
    if role == "session":
        session.serve(setup)
        return
    prepare(setup)
    given = [int(fd) for fd in rest] if role in ("answer", "judge") else []
    try:
        worker = start(setup, {fd: fd for fd in (0, 1, 2, *given)})
    except OSError:
        os._exit(NOT_CONFINED)  # the worker has said why
    if worker is not None:
        os._exit(_supervised(setup, worker))
    if role == "answer":
        answer.serve(setup.box, *given)
    elif role == "judge":
        judge.judge(setup.box, *given)
    else:
        sys.argv[:] = [f"{setup.box}/program.py", *rest]
        load(f"{setup.box}/program.py", "__main__", {})


def _supervised(setup: Setup, worker: Worker) -> int:
    """The status of the worker at its end: its own, or 128 and the number of a signal."""
    close_all_but([fd for fd in (worker.listener, worker.ended, setup.life) if fd >= 0])
    quota = quota_of(setup)
    quota.pid = worker.pid
    poll = select.poll()
    poll.register(worker.listener, select.POLLIN)
    poll.register(worker.ended, select.POLLIN)
    if setup.life >= 0:
        poll.register(setup.life, 0)
    while True:
        for fd, event in poll.poll():
            if fd == worker.listener:
                if event & select.POLLIN:
                    answer_kernel(fd, quota)
                if event & select.POLLHUP:
                    poll.unregister(fd)
            elif fd == worker.ended:
                status = worker.wait()
                return 128 + os.WTERMSIG(status) if os.WIFSIGNALED(status) else status >> 8
            else:
                worker.kill()
                with contextlib.suppress(OSError):
                    folder.emptied(setup.folder)
                return 1
