"""From requests to audit records: what is written about each, in order, off the event loop.

`Recorder` puts records into an `AuditLog` one after the other from a thread of its own, so that
waiting for the disk does not hold up other streams. A record about the end of a request that could
not be written is kept and written before anything else is, so nothing is accepted meanwhile.
`RecordedAnswer` follows one answer and counts what was used; `RefusalThrottle` keeps a client that
is refused again and again from filling the disk.

Text is described, not quoted: SHA-256 and length. The SHA-256 of a text as short as "yes" can be
guessed; who may read the log may then know it.
"""

from __future__ import annotations

import asyncio
import hashlib
import threading
import time
from collections.abc import Collection, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, replace
from typing import Any

from lmstack.core import Delta, LmstackError, ModelInfo, Request, StoreError, Usage
from lmstack.safety.audit import AuditLog
from lmstack.safety.chain import canonical
from lmstack.safety.limits import characters, estimated_tokens, prompt_bytes
from lmstack.safety.traffic import Arm, ArmDelta

__all__ = [
    "RecordedAnswer",
    "Recorder",
    "RefusalThrottle",
    "accepted_record",
    "input_digest",
    "request_record",
]

ENDS = ("finished", "cancelled", "failed")
REFUSALS_EVERY_S = 60.0
MAX_REFUSED_CLIENTS = 10_000


def input_digest(request: Request) -> str:
    """SHA-256 of what the model was asked, by which a record can be matched to a text that
    somebody kept."""
    return hashlib.sha256(canonical(_content(request))).hexdigest()


def request_record(
    event: str, request: Request, info: ModelInfo, arm: Arm | None = None
) -> dict[str, Any]:
    """What every record about a request begins with. ``arm``: of a model with two versions, the
    one that answers."""
    record: dict[str, Any] = {
        "event": event,
        "request": request.request_id,
        "client": request.client,
        "model": {"name": info.name, "digest": info.digest},
    }
    if arm is not None:
        record["model"] = {"name": arm.model, "digest": arm.digest}
        record["arm"] = arm.name
    if request.prompt_digest:
        record["prompt"] = {"name": request.prompt_name, "digest": request.prompt_digest}
    return record


def accepted_record(
    request: Request,
    info: ModelInfo,
    guards: list[str],
    keep_content: bool,
    arm: Arm | None = None,
) -> dict[str, Any]:
    record = request_record("accepted", request, info, arm)
    record["guards"] = guards
    names = ("max_tokens", "n", "seed", "temperature")
    record["sampling"] = {name: getattr(request.sampling, name) for name in names}
    record["input"] = {
        "sha256": input_digest(request),
        "characters": characters(request),
        "messages": len(request.messages),
    }
    if request.tools:
        record["input"]["tools"] = [tool.name for tool in request.tools]
    if keep_content:
        record["input"]["content"] = _content(request)
    return record


class RecordedAnswer:
    """One answer on its way: counts and hashes what passes."""

    def __init__(
        self, request: Request, info: ModelInfo, *, keep_content: bool, arm: Arm | None = None
    ) -> None:
        self.request = request
        self.info = info
        self.arm = arm
        self.asked = False
        self.usage: Usage | None = None
        self._keep_content = keep_content
        self._outputs: dict[int, _Output] = {}
        self._events = 0
        self._start = time.monotonic()

    def see(self, delta: Delta) -> None:
        output = self._outputs.setdefault(delta.index, _Output())
        output.add(delta, self._keep_content)
        self._events += bool(delta.text or delta.tool_call)
        self.usage = delta.usage or self.usage
        if delta.digest:  # of the weights that answered, which may be newer than at the start
            self.info = replace(self.info, digest=delta.digest)
        if isinstance(delta, ArmDelta):
            self.arm = delta.arm

    def spent(self, *, failed: bool = False) -> Usage:
        """What the model reported, or an estimate from what it was sent and what came out. A
        request that never reached it, or failed before anything came out, cost nothing."""
        if self.usage is not None:
            return self.usage
        if not self.asked or (failed and not self._events):
            return Usage()
        out = estimated_tokens(sum(o.bytes for o in self._outputs.values()))
        prompt = prompt_bytes(self.request)
        if not isinstance(self.request.prompt, tuple):
            prompt = estimated_tokens(prompt)
        return Usage(prompt, max(out, self._events))

    def record(self, event: str, error: BaseException | None = None) -> dict[str, Any]:
        record = request_record(event, self.request, self.info, self.arm)
        spent = self.spent(failed=event == "failed")
        record["usage"] = {**asdict(spent), "estimated": self.usage is None}
        record["outputs"] = [
            output.describe(index, {tool.name for tool in self.request.tools})
            for index, output in sorted(self._outputs.items())
            if output.characters or output.calls or output.finish_reason
        ]
        record["seconds"] = round(time.monotonic() - self._start, 6)
        if error is not None:  # no message: messages quote values
            code = error.code if isinstance(error, LmstackError) else None
            record["error"] = {"type": type(error).__name__, "code": code}
        return record


class _Text:
    """Text as it comes: its hash and length, and itself when that is kept."""

    def __init__(self) -> None:
        self.characters = 0
        self.bytes = 0
        self._hash = hashlib.sha256()
        self._kept: list[str] = []

    def add(self, text: str, keep: bool) -> None:
        data = text.encode("utf-8", "surrogatepass")
        self._hash.update(data)
        self.bytes += len(data)
        self.characters += len(text)
        if keep:
            self._kept.append(text)

    def describe(self) -> dict[str, Any]:
        described = {"sha256": self._hash.hexdigest(), "characters": self.characters}
        return described | ({"content": "".join(self._kept)} if self._kept else {})


class _Output:
    """One choice: its text, its calls by their number, and how it ended."""

    def __init__(self) -> None:
        self.text = _Text()
        self.calls: dict[int, tuple[str, _Text]] = {}
        self.finish_reason: str | None = None

    def add(self, delta: Delta, keep: bool) -> None:
        self.text.add(delta.text, keep)
        self.finish_reason = delta.finish_reason or self.finish_reason
        if (call := delta.tool_call) is not None:
            name, arguments = self.calls.get(call.index, ("", _Text()))
            arguments.add(call.arguments, keep)
            self.calls[call.index] = (name + call.name, arguments)

    @property
    def bytes(self) -> int:
        calls = (len(name) + arguments.bytes for name, arguments in self.calls.values())
        return self.text.bytes + sum(calls)

    @property
    def characters(self) -> int:
        return self.text.characters

    def describe(self, index: int, tools: Collection[str]) -> dict[str, Any]:
        """A call of none of ``tools`` has no name here: it would be the model's own words."""
        described = {
            "index": index,
            **self.text.describe(),
            "finish_reason": self.finish_reason,
        }
        calls = [
            {"name": name if name in tools else None, **arguments.describe()}
            for name, arguments in self.calls.values()
        ]
        return described | ({"calls": calls} if calls else {})


class Recorder:
    """Writes to ``log`` in the order of the calls; without a log it does nothing."""

    def __init__(self, log: AuditLog | None) -> None:
        self._log = log
        self._thread = ThreadPoolExecutor(1, "audit") if log is not None else None

    async def write(self, record: Mapping[str, Any]) -> None:
        """Returns once ``record`` is written. Cancelling the caller does not stop the write."""
        future = self._submit(record)
        if future is not None:
            await asyncio.shield(asyncio.wrap_future(future))

    def write_now(self, record: Mapping[str, Any]) -> None:
        """`write` for where nothing can be awaited; blocks until the disk has it."""
        future = self._submit(record)
        if future is not None:
            future.result()

    def _submit(self, record: Mapping[str, Any]) -> Future[None] | None:
        return None if self._thread is None else self._thread.submit(self._append, record)

    def _append(self, record: Mapping[str, Any]) -> None:
        assert self._log is not None
        try:
            self._log.append(record, keep=record["event"] in ENDS)
        except StoreError:
            raise
        except Exception as error:  # whatever it was, the record is not on disk
            raise StoreError(
                f"the audit log failed: {type(error).__name__}",
                hint="requests are refused until it can be written; the server's log has more",
            ) from error


class RefusalThrottle:
    """Which refusals get a record: the first of a client for a reason in a minute. The others
    are counted, and the count goes into the next record, so none is lost sight of."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._recorded_at: dict[tuple[str, str], float] = {}
        self._uncounted = 0

    def passes(self, client: str, code: str) -> bool:
        now = time.monotonic()
        with self._lock:
            if len(self._recorded_at) >= MAX_REFUSED_CLIENTS:
                self._recorded_at = {
                    k: at for k, at in self._recorded_at.items() if now - at < REFUSALS_EVERY_S
                }
            if len(self._recorded_at) >= MAX_REFUSED_CLIENTS:
                client = "*"
            last = self._recorded_at.get((client, code))
            if last is not None and now - last < REFUSALS_EVERY_S:
                self._uncounted += 1
                return False
            self._recorded_at[client, code] = now
            return True

    def counted(self, record: dict[str, Any]) -> dict[str, Any]:
        """``record`` with the number of refusals left out since the last one."""
        with self._lock:
            left_out, self._uncounted = self._uncounted, 0
        return {**record, "refusals_left_out": left_out} if left_out else record


def _content(request: Request) -> dict[str, Any]:
    if request.prompt is not None:
        prompt = request.prompt
        return {"prompt": prompt if isinstance(prompt, str) else list(prompt)}
    content: dict[str, Any] = {
        "messages": [
            {
                "role": m.role,
                "content": m.content,
                "name": m.name,
                "tool_call_id": m.tool_call_id,
                "tool_calls": [[c.id, c.name, c.arguments] for c in m.tool_calls],
            }
            for m in request.messages
        ]
    }
    if request.tools:  # not where there are none, so that older records still match their texts
        content["tools"] = [[t.name, t.description, t.parameters] for t in request.tools]
        content["tool_choice"] = request.tool_choice
    return content
