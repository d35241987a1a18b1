"""The supervisor of a session: starts workers, gives them calls, hands files in and out.

It answers frames on standard input with frames on standard output, and trusts whoever sends them.
Of a worker it reads bounded bytes alone. Between calls the worker is stopped: nothing of it runs
on, and its files lie still while they are read. One that has ended is followed by a new one at the
next call; the folder stays.
"""

from __future__ import annotations

import contextlib
import os
from typing import Any, NoReturn

from . import folder, interpreter, wire
from .calls import OUT_OF_MEMORY, AskerGoneError, Call, Pipes, ProcessLimits
from .confinement import Setup, Worker, prepare, start
from .quotas import Quota, quota_of

__all__ = ["serve"]

_CONTROL, _ANSWERS = 0, 1
_MOST_LISTED = 200
_MOST_PICTURES = 8
_PICTURES = (".png", ".jpg", ".jpeg")


def serve(setup: Setup) -> None:
    """Answer frames until there are no more."""
    prepare(setup)
    if setup.inputs:
        os.symlink(setup.inputs, "inputs")
    session = _Session(setup)
    wire.send_message(_ANSWERS, {"started": True})
    try:
        while True:
            asked, blobs = wire.receive_message(_CONTROL)
            wire.send_message(_ANSWERS, *session.answer(asked, blobs))
    except (wire.WireError, AskerGoneError, BrokenPipeError):
        session.end()
        if setup.disk_bytes:
            with contextlib.suppress(OSError):
                folder.emptied(setup.folder)


def _work(setup: Setup) -> NoReturn:
    """The worker, which whatever happens does not go on as a supervisor."""
    try:
        interpreter.serve(3, 4, setup.packages)
    except MemoryError:
        os._exit(OUT_OF_MEMORY)
    except BaseException as error:
        os.write(2, f"the interpreter ended: {error!r}\n".encode())
    finally:
        os._exit(0)


class _Session:
    def __init__(self, setup: Setup) -> None:
        self._setup = setup
        self._quota = quota_of(setup)
        self._watched = [fd for fd in (_CONTROL, setup.life) if fd >= 0]
        self._worker: Worker | None = None
        self._pipes: Pipes | None = None
        self._seen: dict[str, tuple[int, int]] = {}

    def answer(
        self, asked: dict[str, Any], blobs: list[bytes]
    ) -> tuple[dict[str, Any], list[bytes]]:
        try:
            if asked["do"] == "call":
                return self._call(
                    asked["code"], ProcessLimits(**asked["limits"]), asked["picture_bytes"]
                )
            if asked["do"] == "read":
                return {}, [folder.read(self._setup.folder, asked["path"], asked["limit"])]
            if asked["do"] == "write":
                self._write(asked["path"], blobs[0])
            return self._listing(), []
        except folder.FolderError as error:
            return {"failed": str(error)}, []
        except OSError as error:
            return {"failed": error.strerror or str(error)}, []

    def end(self) -> None:
        if self._worker is not None and self._pipes is not None:
            self._worker.kill()
            self._worker.close()
            self._pipes.close()
        self._worker = self._pipes = None

    def _write(self, path: str, data: bytes) -> None:
        if isinstance(self._quota, Quota) and not self._quota.spend(path.count("/") + 1, len(data)):
            raise folder.FolderError(f"{path}: the folder is full")
        folder.write(self._setup.folder, path, data)

    def _call(
        self, code: str, limits: ProcessLimits, picture_bytes: int
    ) -> tuple[dict[str, Any], list[bytes]]:
        is_new = self._worker is None
        worker, pipes = self._started() if is_new else (self._worker, self._pipes)
        assert worker is not None
        assert pipes is not None
        call = Call(worker, pipes, self._quota, limits, self._watched)
        found = call.run(code)
        if worker.status is not None:
            self.end()
        pictures = self._pictures(picture_bytes)
        message = {**found, "is_new": is_new, **self._listing()}
        return message | {"pictures": [name for name, _ in pictures]}, [
            *(bytes(call.texts[fd]) for fd in (pipes.stdout, pipes.stderr)),
            *(data for _, data in pictures),
        ]

    def _started(self) -> tuple[Worker, Pipes]:
        ins, outs = zip(*(os.pipe() for _ in range(4)), strict=True)
        nothing = os.open("/dev/null", os.O_RDONLY)
        theirs = {0: nothing, 1: outs[0], 2: outs[1], 3: ins[2], 4: outs[3]}
        try:
            worker = start(self._setup, theirs)
            if worker is None:
                _work(self._setup)
        except OSError:
            for fd in (ins[0], ins[1], ins[3], outs[2]):
                os.close(fd)
            raise
        finally:
            for fd in theirs.values():
                os.close(fd)
        self._quota.pid = worker.pid
        pipes = Pipes(request=outs[2], reply=ins[3], stdout=ins[0], stderr=ins[1])
        self._worker, self._pipes = worker, pipes
        return worker, pipes

    def _listing(self) -> dict[str, Any]:
        files, left_out = self._listed()
        return {"files": [(each.path, each.size) for each in files], "left_out": left_out}

    def _listed(self) -> tuple[list[folder.Listed], int]:
        with contextlib.suppress(OSError):
            os.chmod(self._setup.folder, 0o700)  # a worker may have shut it
            return folder.listed(self._setup.folder, _MOST_LISTED)
        return [], 0

    def _pictures(self, limit: int) -> list[tuple[str, bytes]]:
        """Files by the names of pictures that are new, or have changed since the last call."""
        files, _ = self._listed()
        before, self._seen = self._seen, {each.path: each.version for each in files}
        found: list[tuple[str, bytes]] = []
        for each in files:
            is_new = before.get(each.path) != each.version
            if is_new and each.path.lower().endswith(_PICTURES) and len(found) < _MOST_PICTURES:
                with contextlib.suppress(folder.FolderError, OSError):
                    found.append((each.path, folder.read(self._setup.folder, each.path, limit)))
        return found
