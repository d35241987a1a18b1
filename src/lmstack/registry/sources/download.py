"""One file over HTTP, resumable and checked.

Covers ranges, retries, progress and hashes; what was received stays on disk, so a killed download
goes on where it stopped. Nothing appears under the final name before its hash fits. Does not
cover finding out what to fetch (`wheels`, `hub`).
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import httpx

from lmstack.core import AuthError, IntegrityError, NotFoundError, RemoteError, StoreError
from lmstack.core.files import store_error
from lmstack.registry.card import file_hash
from lmstack.registry.sources.local import Progress

__all__ = ["RemoteFile", "check_space", "download", "wrong_hash"]

_ATTEMPTS = 5
_PAUSE_S = 0.5


@dataclass(frozen=True)
class RemoteFile:
    """``label``: what progress is reported under. ``digest``: SHA-256, or the SHA-1 of git's blob;
    empty if the source states none. ``size``: bytes, where the source states them."""

    url: str
    label: str
    digest: str = ""
    size: int | None = None


def download(
    file: RemoteFile,
    target: Path,
    client: httpx.Client,
    *,
    part: Path | None = None,
    headers: Mapping[str, str] | None = None,
    progress: Progress | None = None,
) -> None:
    """Fetch ``file`` to ``target``; goes on from ``part`` (``target`` + ``.part``) if it is there.

    A lost connection is tried again from where it broke, `RemoteError` after five times without
    a byte. A wrong hash is an `IntegrityError` and leaves nothing behind.
    """
    part = part or target.with_name(target.name + ".part")
    try:
        if not file.digest:
            # Without a hash to check the whole against, two halves may be of two versions.
            part.unlink(missing_ok=True)
        resumed = _size(part) > 0
        _receive_all(file, part, client, dict(headers or {}), progress)
        found = file_hash(part, file.digest)
        if file.digest and found != file.digest:
            part.unlink()
            if not resumed:
                raise wrong_hash(file.label, found, file.digest)
            # What lay there was of something else: once more from the start.
            download(file, target, client, part=part, headers=headers, progress=progress)
            return
        target.parent.mkdir(parents=True, exist_ok=True)
        part.replace(target)
    except OSError as error:
        raise store_error(error, target, "writing") from error


def check_space(folder: Path, needed: int, what: str) -> None:
    """Raise `StoreError` before a download that cannot fit."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(folder).free
    except OSError as error:
        raise store_error(error, folder, "writing") from error
    if free < needed:
        raise StoreError(
            f"{what} needs {needed / 1e6:.0f} MB, {folder} has {free / 1e6:.0f} MB free",
            hint="free some space, or set LMSTACK_HOME to a folder on another disk",
        )


def wrong_hash(name: str, found: str, expected: str) -> IntegrityError:
    """The error for a file that is not the one that was asked for."""
    return IntegrityError(
        f"{name} has the hash {found[:16]}…, expected {expected[:16]}…",
        hint="nothing was kept; try again, and if it stays so, do not trust this source",
    )


def _receive_all(
    file: RemoteFile,
    part: Path,
    client: httpx.Client,
    headers: dict[str, str],
    progress: Progress | None,
) -> None:
    failures, farthest = 0, _size(part)
    while True:
        try:
            _receive(file, part, client, headers, progress)
        except httpx.TransportError as error:
            # Bytes that came before are no progress: a file that is too short would come for ever.
            reached = _size(part)
            failures = 0 if reached > farthest else failures + 1
            farthest = max(farthest, reached)
            if failures >= _ATTEMPTS:
                raise RemoteError(
                    f"{file.label} cannot be fetched: {error or type(error).__name__}",
                    hint="check the network and the proxy settings; what came so far is kept, so "
                    "run it again",
                ) from error
            time.sleep(_PAUSE_S * 2**failures)
        else:
            return


def _receive(
    file: RemoteFile,
    part: Path,
    client: httpx.Client,
    headers: dict[str, str],
    progress: Progress | None,
) -> None:
    have = _size(part)
    if file.size is not None and have == file.size:
        return
    # Bytes as stored: a compressed transfer would make ranges and sizes meaningless.
    headers = {**headers, "Accept-Encoding": "identity"}
    if have:
        headers["Range"] = f"bytes={have}-"
    with client.stream("GET", file.url, headers=headers) as response:
        if response.status_code == 416:
            part.unlink()
            raise httpx.ReadError("the server does not have the rest of the file")
        _check_status(response, file)
        if response.status_code != 206:
            have = 0
        total = file.size
        if total is None and "content-length" in response.headers:
            total = have + int(response.headers["content-length"])
        part.parent.mkdir(parents=True, exist_ok=True)
        with part.open("ab" if have else "wb") as handle:
            _copy(response, handle, have, total, file, progress)
    if total is not None and _size(part) < total:
        raise httpx.ReadError("the connection closed early")


def _copy(
    response: httpx.Response,
    handle: IO[bytes],
    done: int,
    total: int | None,
    file: RemoteFile,
    progress: Progress | None,
) -> None:
    # No chunk size: httpx would gather bytes in memory and lose them when the connection breaks.
    for chunk in response.iter_bytes():
        handle.write(chunk)
        done += len(chunk)
        if total is not None and done > total:
            raise IntegrityError(
                f"{file.label} is longer than the {total} bytes that were announced",
                hint="try again, and if it stays so, do not trust this source",
            )
        if progress is not None:
            progress(file.label, done, total)


def _check_status(response: httpx.Response, file: RemoteFile) -> None:
    code, host = response.status_code, response.url.host
    if code in (200, 206):
        return
    if code in (401, 403):
        raise AuthError(
            f"{host} refuses {file.label} ({code})",
            hint="it needs an account or its terms accepted: set HF_TOKEN for hf: references",
        )
    if code == 404:
        raise NotFoundError(f"{host} has no {file.label} (404)", hint="check name and revision")
    if code >= 500 or code == 429:
        raise httpx.ReadError(f"the server answered {code}")
    raise RemoteError(f"{host} answered {code} for {file.label}", hint="try again later")


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
