"""How long others wait while somebody attacks: `lmstack up` under each attack of a table.

    make bench-attacks                                     this tree, less than two minutes
    python benchmarks/attacks.py --before OLDER/src        also an older tree, before this one
    python benchmarks/attacks.py --only beams              one attack, by its name

The server holds two API keys. With one of them a client sends a short chat every half second, each
on a connection of its own; an attack uses the other key, or none, from a process of its own on the
same cores. The figure is the longest wait of a chat that was sent while the attack lasted; a chat
that gets no answer within `PATIENCE_S` counts as that long. The server starts with the soft limit
of descriptors that systems usually set. Writes results/attacks.json.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import ctypes
import http.client
import itertools
import json
import multiprocessing.sharedctypes
import os
import pathlib
import resource
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing.synchronize import Event
from typing import Any

from machine import machine
from recording import add_options, result_file
from start import commit

ROOT = pathlib.Path(__file__).resolve().parent.parent
MODEL = "smollm2-135m-instruct"
CHAT = "/v1/chat/completions"
GUEST, ATTACKER = "key-of-a-guest", "key-of-an-attacker"
EVERY_S = 0.5
PATIENCE_S = 60.0
# How long an attack lasts before the first chat: whoever comes first holds the places.
LEAD_S = 2.0
USUAL_DESCRIPTORS = 1024
_COUNTING = threading.Lock()


@dataclass(frozen=True)
class Target:
    """Where an attack goes. ``answers``: how many it got, by status; memory without a lock, which
    a process that is killed would keep."""

    port: int
    answers: ctypes.Array[ctypes.c_int]

    def count(self, status: int) -> None:
        with _COUNTING:
            self.answers[status] += 1

    def chat(self, body: bytes, key: str = ATTACKER, timeout_s: float = 300) -> int:
        """The status of one answer, 0 where the connection broke before it."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout_s)
        headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
        try:
            connection.request("POST", CHAT, body, headers)
            answer = connection.getresponse()
            answer.read()
            return answer.status
        except (OSError, http.client.HTTPException):
            return 0
        finally:
            connection.close()


def _body(**fields: Any) -> bytes:
    message = {"role": "user", "content": "Describe the sea and everything that lives in it."}
    return json.dumps({"model": MODEL, "messages": [message], **fields}).encode()


def _repeat(target: Target, at_once: int, body: Callable[[int], bytes]) -> None:
    """Bodies one after the other, ``at_once`` at a time, until the process is ended. ``body`` is
    given the number of the request, so that no two need be alike."""
    numbers = itertools.count()

    def send() -> None:
        while True:
            target.count(target.chat(body(next(numbers))))

    threads = [threading.Thread(target=send, daemon=True) for _ in range(at_once)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def unfinished_heads(target: Target, count: int = 1400) -> None:
    """As many connections as ``count``, each with a request head that never ends; one that the
    server closes is opened again."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    held: collections.deque[socket.socket] = collections.deque()
    while True:
        for _ in range(len(held)):
            if _is_open(held[0]):
                held.rotate(-1)
            else:
                held.popleft().close()
        for _ in range(count - len(held)):
            with contextlib.suppress(OSError):
                connection = socket.create_connection(("127.0.0.1", target.port), timeout=1)
                connection.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nX-Slow: ")
                connection.setblocking(False)
                held.append(connection)
        time.sleep(0.2)


def _is_open(connection: socket.socket) -> bool:
    try:
        return bool(connection.recv(1))
    except BlockingIOError:
        return True
    except OSError:
        return False


def unknown_fields(target: Target) -> None:
    """Bodies of 700,000 names that nobody knows, six at once."""
    body = _body(**{f"{n:x}": 0 for n in range(700_000)})
    _repeat(target, 6, lambda _: body)


def patterns(target: Target) -> None:
    """JSON Schemas of 2,500 regular expressions, six at once, no two alike."""

    def body(number: int) -> bytes:
        pattern = "^([a-z]{1,9}[0-9]{2,9}){1,20}"
        properties = {
            f"p{n}": {"type": "string", "pattern": pattern + f"{n}$"} for n in range(2500)
        }
        properties[f"number{number}"] = {"type": "null"}
        schema = {"type": "object", "properties": properties}
        form = {"type": "json_schema", "json_schema": {"name": "many", "schema": schema}}
        return _body(response_format=form, max_tokens=16)

    _repeat(target, 6, body)


def beams(target: Target) -> None:
    """Two beam searches of 32 beams and 512 tokens."""
    _repeat(target, 2, lambda _: _body(num_beams=32, max_tokens=512, ignore_eos=True))


def contrastive(target: Target) -> None:
    """Two contrastive searches over 32 candidates for 512 tokens."""
    fields = {"penalty_alpha": 0.6, "top_k": 32, "max_tokens": 512, "ignore_eos": True}
    _repeat(target, 2, lambda _: _body(**fields))


ATTACKS: dict[str, Callable[[Target], None]] = {
    "unfinished_heads": unfinished_heads,
    "unknown_fields": unknown_fields,
    "patterns": patterns,
    "beams": beams,
    "contrastive": contrastive,
}


class Guest:
    """Sends a short chat every `EVERY_S`, whether or not the one before has been answered."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._lock = threading.Lock()
        self._waits: list[tuple[float, int]] = []
        self._sent = 0

    def during(self, seconds: float) -> dict[str, Any]:
        """The waits of the chats that are sent within ``seconds``, all of them answered."""
        self._waits = []
        threads = []
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            threads.append(threading.Thread(target=self._chat, args=(self._sent,)))
            threads[-1].start()
            self._sent += 1
            time.sleep(EVERY_S)
        for thread in threads:
            thread.join()
        waits = sorted(wait for wait, _ in self._waits)
        failed = sum(status != 200 for _, status in self._waits)
        return {
            "longest_s": round(waits[-1], 3),
            "median_s": round(waits[len(waits) // 2], 3),
            "chats": len(waits),
            "failed": failed,
        }

    def until_calm(self, wait_s: float = 1.0) -> None:
        """Until a chat is answered within ``wait_s``; some machines never come so far."""
        end = time.monotonic() + PATIENCE_S
        while time.monotonic() < end:
            if self.during(EVERY_S)["longest_s"] < wait_s:
                return

    def _chat(self, number: int) -> None:
        message = {"role": "user", "content": f"Greet guest number {number}."}
        body = {"model": MODEL, "messages": [message], "max_tokens": 8, "ignore_eos": True}
        start = time.monotonic()
        status = self._target.chat(json.dumps(body).encode(), GUEST, PATIENCE_S)
        wait = time.monotonic() - start
        with self._lock:
            self._waits.append((wait if status == 200 else max(wait, PATIENCE_S), status))


def _attack(name: str, target: Target, begun: Event) -> None:
    begun.set()
    ATTACKS[name](target)


@contextlib.contextmanager
def attacking(name: str, target: Target) -> Iterator[None]:
    spawn = multiprocessing.get_context("spawn")
    begun = spawn.Event()
    process = spawn.Process(target=_attack, args=(name, target, begun))
    process.start()
    try:
        begun.wait(PATIENCE_S)
        time.sleep(LEAD_S)
        yield
    finally:
        process.kill()
        process.join()


def under(name: str, target: Target, guest: Guest, seconds: float) -> dict[str, Any]:
    """What the guest sees of one attack. ``answers``: what the attacker got, by status."""
    ctypes.memset(target.answers, 0, ctypes.sizeof(target.answers))
    with attacking(name, target):
        found = guest.during(seconds)
    answers = {str(status): n for status, n in enumerate(target.answers) if n}
    return {**found, "answers": answers}


@contextlib.contextmanager
def serving(source: pathlib.Path) -> Iterator[int]:
    """The port of `lmstack up` from ``source``, ready, with the usual limit of descriptors."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    with tempfile.TemporaryDirectory() as folder:
        pathlib.Path(folder, "note.md").write_text("The sky is blue.\n")
        command = [sys.executable, "-m", "lmstack", "up", folder, "--port", "0"]
        keys = {"PYTHONPATH": str(source), "LMSTACK_API_KEYS": f"{GUEST},{ATTACKER}"}
        resource.setrlimit(resource.RLIMIT_NOFILE, (USUAL_DESCRIPTORS, limits[1]))
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            env={**os.environ, **keys}, text=True,
        )  # fmt: skip
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            if " at http://" not in line:
                raise SystemExit("lmstack up ended before it was ready")
            yield int(line.partition(" at http://127.0.0.1:")[2].split()[0])
        finally:
            process.terminate()
            process.wait(60)


def measure(source: pathlib.Path, names: list[str], seconds: float) -> dict[str, Any]:
    """The waits alone and under each attack. Servers under attack keep nothing from the one
    before: the guest waits until it is answered at once again."""
    answers = multiprocessing.sharedctypes.RawArray(ctypes.c_int, 600)
    with serving(source) as port:
        target = Target(port, answers)
        guest = Guest(target)
        guest.until_calm()
        found = {"alone": guest.during(min(seconds, 5))}
        print(_row("alone", found["alone"]), flush=True)
        for name in names:
            found[name] = under(name, target, guest, seconds)
            print(_row(name, found[name]), flush=True)
            guest.until_calm(3 * found["alone"]["longest_s"])
    return found


def _row(name: str, found: dict[str, Any]) -> str:
    answers = found.get("answers", {})
    got = ", ".join(f"{count} x {status}" for status, count in sorted(answers.items()))
    return (
        f"{name:>18}: longest wait {found['longest_s']:6.2f} s, median {found['median_s']:6.2f} s,"
        f" {found['failed']} of {found['chats']} failed" + (f"; attacker: {got}" if got else "")
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--before", type=pathlib.Path, help="the src folder of an older tree")
    parser.add_argument("--before-commit", help="what that tree is called in the results")
    parser.add_argument("--only", default=",".join(ATTACKS), help="some attacks, by commas")
    parser.add_argument("--seconds", type=float, default=12, help="of each attack")
    add_options(parser, "attacks")
    given = parser.parse_args()
    if given.quick:
        given.seconds = 2
    names = given.only.split(",")
    if unknown := set(names) - set(ATTACKS):
        parser.error(f"no attack is called {', '.join(unknown)}; there are {', '.join(ATTACKS)}")
    results: dict[str, Any] = {"machine": machine(), "seconds": given.seconds}
    sources = {"after": ROOT / "src"}
    if given.before is not None:
        sources = {"before": given.before.resolve(), **sources}
    for side, source in sources.items():
        print(f"{side}:", flush=True)
        called = given.before_commit if side == "before" else None
        waits = measure(source, names, given.seconds)
        results[side] = {"commit": called or commit(source), **waits}
    result_file(given, "attacks").write_text(json.dumps(results, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
