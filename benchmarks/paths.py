"""How many files a thing that users do passes through: those of lmstack whose functions run.

    python benchmarks/paths.py                      all that this machine has the models for
    python benchmarks/paths.py step answer -v       some of them, and the files by name

step      one training step: the second of supervised fine-tuning with an adapter
update    one step of GRPO: answers drawn, rewarded and learned from
answer    one chat completion through the server, the second that it is asked for
eval      `lmstack eval run` of two questions, from its arguments to its result
ask       `lmstack ask` of an index, likewise; needs the store's embedder and reranker

Models are tiny and random (`golden_curves`), but for ask's embedder and reranker. A file counts
where a function of it was called; what runs because a module is imported does not. Files of C and
of other packages are not counted.
"""

from __future__ import annotations

import argparse
import contextlib
import inspect
import io
import json
import os
import signal
import socket
import sys
import tempfile
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import FrameType
from typing import Any

from golden_curves import LORA, ONLINE, RUNS, trained, write_data

import lmstack
from lmstack.app.cli import main as command

ROOT = Path(lmstack.__file__).parent
WAITED_S = 120.0


class Traced:
    """The files whose functions ran while it was on, in any thread that was begun after it was
    made."""

    def __init__(self) -> None:
        self.files: set[str] = set()
        self._is_on = False
        self._seen: set[Any] = set()
        threading.setprofile(self._event)
        sys.setprofile(self._event)

    @contextlib.contextmanager
    def on(self) -> Iterator[None]:
        """Count meanwhile."""
        self._is_on = True
        try:
            yield
        finally:
            self._is_on = False

    def turn(self, on: bool) -> None:
        self._is_on = on

    def _event(self, frame: FrameType, event: str, _: object) -> None:
        if not self._is_on or event != "call" or frame.f_code in self._seen:
            return
        name = frame.f_code.co_filename
        if not name.startswith(f"{ROOT}{os.sep}"):
            self._seen.add(frame.f_code)
        elif frame.f_code.co_flags & inspect.CO_OPTIMIZED and not _is_importing(frame):
            self._seen.add(frame.f_code)
            self.files.add(str(Path(name).relative_to(ROOT)))


def _is_importing(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code.co_filename == "<frozen importlib._bootstrap>":
            return True
        frame = frame.f_back
    return False


def one_step(traced: Traced, run: str, **settings: Any) -> None:
    """The second step of a run: what follows the callback of the first, up to that callback."""
    from lmstack.app.cli.commands._shown_run import ShownRun

    theirs = ShownRun.step

    def step(self: ShownRun, done: int, total: int, values: Mapping[str, float]) -> None:
        theirs(self, done, total, values)
        traced.turn(done == 1)

    ShownRun.step = step  # type: ignore[method-assign]
    try:
        trained(run, {**settings, "steps": 3, "eval_every": 3, "save_every": 3, "base": "base"})
    finally:
        ShownRun.step = theirs  # type: ignore[method-assign]


def training_step(traced: Traced) -> None:
    one_step(traced, "step", **RUNS["sft"], lora=LORA["lora"])


def online_step(traced: Traced) -> None:
    one_step(traced, "update", **{**ONLINE, **RUNS["grpo"]})


def answer(traced: Traced) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    place = f"http://127.0.0.1:{port}"

    def asked() -> None:
        messages = [{"role": "user", "content": "cat 3?"}]
        body = {"model": "base", "messages": messages, "max_tokens": 4}
        request = urllib.request.Request(
            f"{place}/v1/chat/completions",
            json.dumps(body).encode(),
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=WAITED_S) as reply:
            reply.read()

    def client() -> None:
        try:
            _wait_for(f"{place}/healthz")
            asked()
            time.sleep(0.5)  # for what follows an answer
            with traced.on():
                asked()
                time.sleep(0.5)
        finally:
            os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=client).start()
    _run("up", "--model", "./base", "--port", str(port))


def _wait_for(address: str) -> None:
    end = time.monotonic() + WAITED_S
    while time.monotonic() < end:
        with contextlib.suppress(OSError), urllib.request.urlopen(address) as reply:
            if reply.status == 200:
                return
        time.sleep(0.1)
    raise TimeoutError(f"{address} does not answer")


def evaluation(traced: Traced) -> None:
    rows = [{"q": "cat 3?", "a": "dog 4."}, {"q": "cat 5?", "a": "dog 6."}]
    Path("asked.jsonl").write_text("\n".join(map(json.dumps, rows)))
    task = {
        **{"name": "asked", "data": "asked.jsonl", "input": "{{q}}", "targets": "a"},
        **{"solver": "generate", "sampling": {"max_tokens": 4}, "scorer": "exact_match"},
    }
    Path("asked.yaml").write_text(json.dumps(task))
    with traced.on():
        _run("eval", "run", "asked.yaml", "--model", "./base")


def ask(traced: Traced) -> None:
    Path("notes").mkdir(exist_ok=True)
    Path("notes/a.md").write_text("# Keys\n\nThe keys of the shed are kept in the blue box.\n")
    _run("index", "add", "notes", "--index", "index")
    with traced.on():
        _run("ask", "Where are the keys?", "--index", "index", "--model", "./base")


def _run(*arguments: str) -> None:
    with contextlib.redirect_stdout(io.StringIO()):
        command(arguments)


PATHS: Mapping[str, Callable[[Traced], None]] = {
    "step": training_step,
    "update": online_step,
    "answer": answer,
    "eval": evaluation,
    "ask": ask,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("paths", nargs="*", metavar="PATH", help=", ".join(PATHS))
    parser.add_argument("-v", "--verbose", action="store_true", help="name the files")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="paths-") as folder:
        os.chdir(folder)
        write_data()
        trained("base", {}, output="base")
        for name in given.paths or PATHS:
            traced = Traced()
            PATHS[name](traced)
            sys.setprofile(None)
            rooms = Counter(file.split(os.sep)[0] for file in traced.files)
            parts = ", ".join(f"{room} {count}" for room, count in rooms.most_common())
            print(f"{name:<8}{len(traced.files):>4} files: {parts}")
            for file in sorted(traced.files) if given.verbose else ():
                print(f"    {file}")
        os.chdir("/")


if __name__ == "__main__":
    main()
