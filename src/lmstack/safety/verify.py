"""The offline verifier of the audit log: reads it from the first line and says where it breaks.

Needs nothing but the log and its head: no server, no key (with one, the keyed hashes are checked
too). What it can and cannot find out is in `audit`. Works while a server writes.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lmstack.core import InputError, NotFoundError, StoreError, shown
from lmstack.safety.audit import head_path, locked
from lmstack.safety.chain import GENESIS, KEY_VARIABLE, Head, key_from_environment, open_line

__all__ = ["AuditReport", "verify"]


@dataclass(frozen=True)
class AuditReport:
    """``head``: hash of the last good record, the one to pin. ``bad_line``: the first line that
    is wrong, counted from 1, None when each line is right (a log that was cut short, or whose
    head is wrong, has a ``reason`` but no bad line). ``recovered``: records that a killed
    process left half written.
    ``keyed``: whether keyed hashes were checked. ``notes``: what could not be checked."""

    ok: bool
    records: int
    head: str
    bad_line: int | None = None
    reason: str = ""
    recovered: int = 0
    keyed: bool = False
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass
class _Walk:
    """How far the chain has been followed."""

    key: bytes | None
    expect_head: str | None
    seq: int = 0
    hash: str = GENESIS
    line: int = 0
    recovered: int = 0
    torn: int = 0
    keyed_log: bool = False
    pin_seen: bool = False
    at_stored_head: str | None = None


def verify(
    path: str | os.PathLike[str],
    *,
    expect_head: str | None = None,
    key: bytes | None = None,
) -> AuditReport:
    """Check the whole log.

    ``expect_head``: a head hash noted earlier; the log must still contain it. ``key``: by
    default ``$LMSTACK_AUDIT_KEY``. `NotFoundError` without a log, `StoreError` if it cannot be
    read; a log that is wrong is a report, not an error.
    """
    path = Path(path)
    key = key if key is not None else key_from_environment()
    if expect_head is not None and not _is_hash(expect_head):
        raise InputError(
            f"the expected head {shown(expect_head)} is not a SHA-256 hash",
            hint="pass the 64 hex digits that `lmstack audit verify` printed",
            param="expect_head",
        )
    walk = _Walk(key, expect_head)
    try:
        with locked(path) as file:
            size = os.fstat(file).st_size
            stored, problem = _stored_head(path, key)
        with path.open("rb") as lines:
            reason = _follow(walk, _until(lines, size), stored)
    except FileNotFoundError as error:
        raise NotFoundError(
            f"there is no audit log at {str(path)!r}",
            hint="it is made by the first request to `lmstack up`",
        ) from error
    except OSError as error:
        raise StoreError(
            f"cannot read the audit log {str(path)!r}: {error.strerror or error}",
            hint="run this as the user who runs the server",
        ) from error
    bad_line = walk.line + 1 if reason else None
    reason = reason or _end_reason(walk, stored, problem)
    return AuditReport(
        ok=not reason,
        records=walk.seq,
        head=walk.hash,
        bad_line=bad_line,
        reason=reason,
        recovered=walk.recovered,
        keyed=key is not None,
        notes=_notes(walk, stored, problem),
    )


def _follow(walk: _Walk, lines: Iterator[bytes], stored: Head | None) -> str:
    """Walk the chain; the reason why it breaks, or nothing. ``walk.line`` counts good lines."""
    torn: tuple[bytes, str] | None = None
    for line in lines:
        if torn is None and not line.endswith(b"\n"):
            walk.torn = len(line)  # before the head it is a cut, which `_end_reason` finds
            return ""
        content = line.removesuffix(b"\n")
        try:
            record = open_line(content, seq=walk.seq + 1, prev=walk.hash, key=walk.key)
        except ValueError as error:
            if torn is not None:
                return torn[1]
            torn = content, str(error)
            continue
        if torn is not None:
            if not _explains(record, torn[0]):
                return torn[1]
            walk.recovered += 1
            walk.line += 1
            torn = None
        _accept(walk, record, stored)
    return torn[1] if torn is not None else ""


def _accept(walk: _Walk, record: dict[str, Any], stored: Head | None) -> None:
    walk.line += 1
    walk.seq, walk.hash = record["seq"], record["hash"]
    walk.pin_seen = walk.pin_seen or record["hash"] == walk.expect_head
    walk.keyed_log = walk.keyed_log or "mac" in record
    if stored is not None and stored.seq == record["seq"]:
        walk.at_stored_head = record["hash"]


def _explains(record: dict[str, Any], torn: bytes) -> bool:
    """Whether ``record`` is the note that a writer left about the torn line before it."""
    return (
        record.get("event") == "recovered"
        and record.get("torn_bytes") == len(torn)
        and record.get("torn_sha256") == hashlib.sha256(torn).hexdigest()
    )


def _end_reason(walk: _Walk, stored: Head | None, problem: str) -> str:
    if problem:
        return problem
    if stored is None and walk.expect_head is None and walk.seq:
        return "the head file is missing, so a cut at the end cannot be ruled out"
    if stored is not None and stored.seq > walk.seq:
        return f"the log was cut short: it ends at record {walk.seq}, its head says {stored.seq}"
    if stored is not None and stored.seq and walk.at_stored_head != stored.hash:
        return f"the head file names another record {stored.seq} than the log holds"
    if walk.expect_head not in (None, GENESIS) and not walk.pin_seen:
        return "the expected head is not in the log: it was cut short, replaced or rewritten"
    return ""


def _notes(walk: _Walk, stored: Head | None, problem: str) -> tuple[str, ...]:
    notes = []
    if walk.torn:
        notes.append(
            f"the last {walk.torn} bytes are a record that a killed process left half written;"
            " the next record will say so"
        )
    if stored is None and not problem and walk.expect_head is not None:
        notes.append("the head file is missing; the log was checked up to the expected head")
    if walk.keyed_log and walk.key is None:
        notes.append(f"the log has keyed hashes; set {KEY_VARIABLE} to check them")
    return tuple(notes)


def _stored_head(path: Path, key: bytes | None) -> tuple[Head | None, str]:
    """The head file's content, or what is wrong with it."""
    try:
        return Head.from_bytes(head_path(path).read_bytes(), key), ""
    except FileNotFoundError:
        return None, ""
    except ValueError as error:
        return None, f"of the head file: {error}"


def _until(lines: Iterator[bytes], size: int) -> Iterator[bytes]:
    """The lines of the first ``size`` bytes: what was there when the head was read."""
    for line in lines:
        if size <= 0:
            return
        yield line[:size]
        size -= len(line)


def _is_hash(text: str) -> bool:
    return len(text) == 64 and all(c in "0123456789abcdef" for c in text)
