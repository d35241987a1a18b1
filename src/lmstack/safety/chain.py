"""The format of the audit log: one line, one record, chained by hash.

A line is the canonical JSON of a record: keys sorted, no white space, ASCII only. `hash` is
SHA-256 over the canonical JSON of everything but `hash` and `mac`; `prev` is the hash of the
line before, so no line can be changed, put in, taken out or moved without breaking the chain.
With a key, `mac` is HMAC-SHA256 of the hash, so the chain cannot be rebuilt without the key.

The head, a file beside the log, holds the number and hash of the last line and the size of the
log up to it. It is what makes a log that was cut short look cut short.

Covers making and checking single lines and heads. Writing is in `audit`, walking a whole log
in `verify`.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lmstack.core import InputError, shown
from lmstack.core.json_text import canonical_json

__all__ = [
    "FORMAT",
    "GENESIS",
    "KEY_VARIABLE",
    "RESERVED",
    "Head",
    "canonical",
    "digest",
    "key_from_environment",
    "open_line",
    "seal",
]

FORMAT = 1
GENESIS = "0" * 64
RESERVED = ("hash", "mac", "prev", "seq", "time")
KEY_VARIABLE = "LMSTACK_AUDIT_KEY"
MIN_KEY_BYTES = 16


def canonical(value: Mapping[str, Any]) -> bytes:
    """The one way to write ``value`` as JSON. ValueError or TypeError if it is not JSON."""
    return canonical_json(value).encode("ascii")


def digest(record: Mapping[str, Any]) -> str:
    """The hash that ``record`` ought to carry."""
    body = {k: v for k, v in record.items() if k not in ("hash", "mac")}
    return hashlib.sha256(canonical(body)).hexdigest()


def seal(body: Mapping[str, Any], key: bytes | None) -> tuple[bytes, str]:
    """``body`` (with seq, time and prev) as a line, and its hash."""
    record = dict(body)
    record["hash"] = digest(record)
    if key is not None:
        record["mac"] = _mac(key, b"record", record["hash"].encode())
    return canonical(record) + b"\n", record["hash"]


def open_line(line: bytes, *, seq: int, prev: str, key: bytes | None) -> dict[str, Any]:
    """The record in ``line`` (without its newline), which must be number ``seq`` after a line
    with hash ``prev``. ValueError with the reason if it is not.

    The line has to be byte for byte what `canonical` writes, so a change that JSON does not see
    (a space, a repeated key, an escape) is found too.
    """
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        raise ValueError("the line is not JSON") from None
    if not isinstance(record, dict) or not _is_canonical(record, line):
        raise ValueError("the line is not in canonical form")
    if record.get("seq") != seq:
        raise ValueError(f"the record is number {shown(record.get('seq'))}, expected {seq}")
    if record.get("prev") != prev:
        raise ValueError("the record does not follow the line before it")
    if record.get("hash") != digest(record):
        raise ValueError("the record's content does not match its hash")
    if key is not None and not _mac_matches(record.get("mac"), key, b"record", record["hash"]):
        raise ValueError(f"the record was not made with the key in {KEY_VARIABLE}")
    return record


@dataclass(frozen=True, slots=True)
class Head:
    """Where the log ends: the last record's number and hash, and the log's size in bytes."""

    seq: int = 0
    hash: str = GENESIS
    size: int = 0

    def to_bytes(self, key: bytes | None) -> bytes:
        body: dict[str, Any] = {"hash": self.hash, "seq": self.seq, "size": self.size}
        if key is not None:
            body["mac"] = _mac(key, b"head", canonical(body))
        return canonical(body) + b"\n"

    @classmethod
    def from_bytes(cls, data: bytes, key: bytes | None) -> Head:
        """ValueError with the reason when ``data`` is not a head, or not one made with ``key``."""
        try:
            body = json.loads(data)
            head = cls(body["seq"], body["hash"], body["size"])
        except (ValueError, KeyError, TypeError, RecursionError):
            raise ValueError("it is not a head file") from None
        if type(head.seq) is not int or type(head.size) is not int or type(head.hash) is not str:
            raise ValueError("it is not a head file")
        mac = body.pop("mac", None)
        if key is not None and not _mac_matches(mac, key, b"head", canonical(body).decode()):
            raise ValueError(f"it was not made with the key in {KEY_VARIABLE}")
        return head


def key_from_environment() -> bytes | None:
    """The key in ``$LMSTACK_AUDIT_KEY``, None when it is unset or empty."""
    key = os.environ.get(KEY_VARIABLE, "").encode()
    if key and len(key) < MIN_KEY_BYTES:
        raise InputError(
            f"the key in {KEY_VARIABLE} has {len(key)} bytes, at least {MIN_KEY_BYTES} are needed",
            hint="make one with `openssl rand -hex 32`",
            param=KEY_VARIABLE,
        )
    return key or None


def _is_canonical(record: dict[str, Any], line: bytes) -> bool:
    try:
        return canonical(record) == line
    except (ValueError, RecursionError):
        return False


def _mac(key: bytes, purpose: bytes, data: bytes) -> str:
    return hmac.new(key, purpose + b"\0" + data, hashlib.sha256).hexdigest()


def _mac_matches(mac: object, key: bytes, purpose: bytes, data: str) -> bool:
    return isinstance(mac, str) and hmac.compare_digest(
        mac.encode("utf-8", "surrogatepass"), _mac(key, purpose, data.encode()).encode()
    )
