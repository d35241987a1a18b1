"""Processes as torchrun starts them, forked from one that has loaded what they need: a process that
loads torch takes seconds. ``python forked.py COUNT SCRIPT ARGUMENT...``

Like torchrun, it ends them all when one has failed. It needs Linux, and threads in none of them.
"""

from __future__ import annotations

import os
import runpy
import signal
import socket
import sys

import torch._dynamo
import torch.distributed.fsdp  # noqa: F401

import lmstack.app.wiring.rollouts
import lmstack.train  # noqa: F401


def start(rank: int, world: int, port: int, words: list[str]) -> int:
    """The process id of the ``rank``-th of ``world`` processes."""
    process = os.fork()
    if process:
        return process
    place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": world, "MASTER_PORT": port}
    os.environ.update({key: str(value) for key, value in place.items()}, MASTER_ADDR="127.0.0.1")
    sys.argv = words
    runpy.run_path(words[0], run_name="__main__")
    sys.exit()


def main(count: int, words: list[str]) -> None:
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


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
