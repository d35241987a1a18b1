"""How long others wait while somebody attacks: `lmstack up` under each attack of a table.

    make bench-attacks                                     this tree, some four minutes
    python benchmarks/attacks.py --before OLDER/src        also an older tree, before this one
    python benchmarks/attacks.py --only beams              one attack, by its name

The server holds two API keys. With one of them a client sends a short chat every half second, each
on a connection of its own; an attack uses the other key, or none, from a process of its own on the
same cores. The figure is the longest wait of a chat that was sent while the attack lasted; a chat
that gets no answer within `PATIENCE_S` counts as that long, beside what the memory of the server
and its processes grows by meanwhile. The server starts with the soft limit of descriptors that
systems usually set. Writes results/attacks.json.
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
    pid: int

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


def _schemas(target: Target, at_once: int, schema: Callable[[int], dict[str, Any]]) -> None:
    """`_repeat` of chats that are held to ``schema``, which is given the number of the request."""

    def body(number: int) -> bytes:
        form = {"type": "json_schema", "json_schema": {"name": "s", "schema": schema(number)}}
        return _body(response_format=form, max_tokens=16)

    _repeat(target, at_once, body)


def _all_of(number: int) -> dict[str, Any]:
    """24 patterns of one string, 1.2 kB."""
    patterns = [{"type": "string", "pattern": f".*{n}2345x{number}.*"} for n in range(24)]
    return {"allOf": patterns}


def all_of(target: Target) -> None:
    """Schemas of 24 short patterns for one string, one at a time."""
    _schemas(target, 1, _all_of)


def all_of_six(target: Target) -> None:
    """The same, six at once."""
    _schemas(target, 6, _all_of)


def keywords(target: Target) -> None:
    """Strings with a pattern, a format, two lengths and several alternatives each, six at once."""

    def schema(number: int) -> dict[str, Any]:
        one = {"type": "string", "minLength": 5, "maxLength": 5000 + number}
        each = {**one, "pattern": "^(.*a.{90}|.*b.{80}|.*c.{70}){1,40}$"}
        return {"allOf": [each, {"pattern": ".*e.*f.*"}, {"pattern": ".*g.{60}h.*"}]}

    _schemas(target, 6, schema)


def counts(target: Target) -> None:
    """Patterns of few letters that force a million, six at once."""
    _schemas(target, 6, lambda n: {"type": "string", "pattern": f"x{{{1_000_000 + n}}}"})


def optional_properties(target: Target) -> None:
    """Objects of 2,300 optional properties, six at once."""

    def schema(number: int) -> dict[str, Any]:
        names = {f"property_{n}_{number}": {"type": "string"} for n in range(2300)}
        return {"type": "object", "properties": names}

    _schemas(target, 6, schema)


def leaving(target: Target) -> None:
    """Twenty clients a second that send such a schema and leave after a tenth of a second."""

    def send(number: int) -> None:
        form = {"type": "json_schema", "json_schema": {"name": "s", "schema": _all_of(number)}}
        target.count(target.chat(_body(response_format=form), timeout_s=0.1))

    for number in itertools.count():
        threading.Thread(target=send, args=(number,), daemon=True).start()
        time.sleep(0.05)


def long_prompts(target: Target) -> None:
    """Six prompts of 6,000 tokens at once, no two alike."""

    def body(number: int) -> bytes:
        words = " ".join(f"{(number * 7919 + n) % 997}" for n in range(2000))
        message = {"role": "user", "content": words}
        return json.dumps({"model": MODEL, "messages": [message], "max_tokens": 8}).encode()

    _repeat(target, 6, body)


ATTACKS: dict[str, Callable[[Target], None]] = {
    "unfinished_heads": unfinished_heads,
    "unknown_fields": unknown_fields,
    "patterns": patterns,
    "beams": beams,
    "all_of": all_of,
    "all_of_six": all_of_six,
    "keywords": keywords,
    "counts": counts,
    "optional_properties": optional_properties,
    "leaving": leaving,
    "long_prompts": long_prompts,
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
    before = _memory_mb(target.pid)
    with Memory(target.pid) as memory, attacking(name, target):
        found = guest.during(seconds)
    answers = {str(status): n for status, n in enumerate(target.answers) if n}
    return {**found, "answers": answers, "memory_growth_mb": round(memory.most_mb - before)}


class Memory:
    """Watches what a process and its children hold; ``most_mb`` is the most at once."""

    def __init__(self, pid: int) -> None:
        self._pid, self._over = pid, threading.Event()
        self.most_mb = 0.0
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Memory:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._over.wait(0.2):
            self.most_mb = max(self.most_mb, _memory_mb(self._pid))


def _memory_mb(pid: int) -> float:
    """Of a process and all that descend from it; pages that several of them share count once."""
    found, left = 0.0, [pid]
    while left:
        folder = pathlib.Path("/proc", str(left.pop()))
        with contextlib.suppress(OSError):  # it has ended meanwhile
            rollup = folder.joinpath("smaps_rollup").read_text()
            found += int(rollup.partition("\nPss:")[2].split()[0]) / 1024
            for task in folder.joinpath("task").iterdir():
                left += [int(each) for each in task.joinpath("children").read_text().split()]
    return found


@contextlib.contextmanager
def serving(source: pathlib.Path) -> Iterator[tuple[int, int]]:
    """The port and the process of `lmstack up` from ``source``, ready, with the usual limit of
    descriptors."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    with tempfile.TemporaryDirectory() as folder:
        pathlib.Path(folder, "note.md").write_text("The sky is blue.\n")
        command = [sys.executable, "-m", "lmstack", "up", folder, "--model", MODEL, "--port", "0"]
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
            yield int(line.partition(" at http://127.0.0.1:")[2].split()[0]), process.pid
        finally:
            process.terminate()
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                print("the server does not end when it is told to", flush=True)
                process.kill()
                process.wait()


def measure(source: pathlib.Path, names: list[str], seconds: float) -> dict[str, Any]:
    """The waits alone and under each attack. Servers under attack keep nothing from the one
    before: the guest waits until it is answered at once again."""
    answers = multiprocessing.sharedctypes.RawArray(ctypes.c_int, 600)
    with serving(source) as (port, pid):
        target = Target(port, answers, pid)
        guest = Guest(target)
        guest.until_calm()
        found = {"alone": guest.during(min(seconds, 5))}
        print(_row("alone", found["alone"]), flush=True)
        if found["alone"]["failed"]:
            raise SystemExit("the guest is not answered although nobody attacks")
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
        f" {found['failed']} of {found['chats']} failed"
        + (f", memory {found['memory_growth_mb']:+} MB" if "memory_growth_mb" in found else "")
        + (f"; attacker: {got}" if got else "")
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
