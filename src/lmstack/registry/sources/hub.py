"""Models from a Hugging Face repository, over its HTTP API.

Honours ``HF_ENDPOINT`` (a mirror) and ``HF_TOKEN``. The revision is pinned to a commit before
anything is fetched; large files are checked against the SHA-256 that the repository states, small
ones against their git hash. Repository code is never fetched or run.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx

from lmstack.core import AuthError, IntegrityError, NotFoundError, RemoteError
from lmstack.core.files import store_error
from lmstack.registry.refs import HubRef
from lmstack.registry.sources.download import Progress, RemoteFile, check_space, download
from lmstack.registry.sources.selection import select

__all__ = ["fetch_repository"]

_ENDPOINT = "https://huggingface.co"


@dataclass(frozen=True)
class _Entry:
    size: int | None
    sha256: str
    git_sha1: str


def fetch_repository(
    ref: HubRef, target: Path, parts: Path, progress: Progress | None
) -> tuple[str, str, tuple[str, ...]]:
    """Put the model's files into ``target``; unfinished ones wait in ``parts`` for a resume.

    Returns (licence stated by the repository, commit, what was left out).
    """
    endpoint = os.environ.get("HF_ENDPOINT", "").rstrip("/") or _ENDPOINT
    headers = _headers()
    with httpx.Client(follow_redirects=True, timeout=httpx.Timeout(60, connect=20)) as client:
        info = _information(client, endpoint, ref, headers)
        commit = str(info.get("sha") or ref.revision)
        entries = _entries(info)
        chosen = select(entries, ref.part, str(ref))
        needed = sum(entries[name].size or 0 for name in chosen.files)
        check_space(target, needed, str(ref))
        for name, path in chosen.files.items():
            entry = entries[name]
            url = f"{endpoint}/{ref.repository}/resolve/{commit}/{quote(name)}"
            file = RemoteFile(url, name, entry.sha256, entry.size)
            part = parts / hashlib.sha256(f"{entry.sha256 or url}".encode()).hexdigest()[:32]
            download(file, part, client, headers=headers, progress=progress)
            _check_git(part, entry, name)
            _move(part, target / path)
    return _licence(info), commit, chosen.left_out


def _headers() -> dict[str, str]:
    token = os.environ.get("HF_TOKEN", "").strip()
    return {"Authorization": f"Bearer {token}"} if token else {}


def _information(
    client: httpx.Client, endpoint: str, ref: HubRef, headers: Mapping[str, str]
) -> Mapping[str, Any]:
    url = f"{endpoint}/api/models/{ref.repository}/revision/{quote(ref.revision, safe='')}"
    try:
        response = client.get(url, params={"blobs": "true"}, headers=dict(headers))
    except httpx.HTTPError as error:
        raise RemoteError(
            f"{endpoint} cannot be reached: {error or type(error).__name__}",
            hint="check the network, or set HF_ENDPOINT to a mirror",
        ) from error
    if response.status_code in (401, 403):
        raise AuthError(
            f"{endpoint} refuses {ref} ({response.status_code})",
            hint="the name may be wrong, or it needs an account: set HF_TOKEN",
        )
    if response.status_code == 404:
        raise NotFoundError(f"{endpoint} has no {ref}", hint="check the name and the revision")
    try:
        response.raise_for_status()
        value = response.json()
        if not isinstance(value, dict):
            raise ValueError("not an object")
    except (httpx.HTTPError, ValueError) as error:
        raise RemoteError(
            f"{endpoint} answered {response.status_code} for {ref}, not what its API says",
            hint="try again later, or check HF_ENDPOINT",
        ) from error
    return value


def _entries(info: Mapping[str, Any]) -> dict[str, _Entry]:
    entries = {}
    for sibling in info.get("siblings") or ():
        lfs = sibling.get("lfs") or {}
        entries[str(sibling["rfilename"])] = _Entry(
            size=lfs.get("size", sibling.get("size")),
            sha256=str(lfs.get("sha256") or lfs.get("oid") or "").removeprefix("sha256:"),
            git_sha1="" if lfs else str(sibling.get("blobId") or ""),
        )
    return entries


def _check_git(path: Path, entry: _Entry, name: str) -> None:
    if not entry.git_sha1:
        return
    try:
        data = path.read_bytes()
    except OSError as error:
        raise store_error(error, path, "reading") from error
    found = hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()
    if found != entry.git_sha1:
        path.unlink(missing_ok=True)
        raise IntegrityError(
            f"{name} has git hash {found[:12]}…, expected {entry.git_sha1[:12]}…",
            hint="nothing was kept; try again, and if it stays so, do not trust this source",
        )


def _move(part: Path, target: Path) -> None:
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        part.replace(target)
    except OSError as error:
        raise store_error(error, target, "writing") from error


def _licence(info: Mapping[str, Any]) -> str:
    card = info.get("cardData")
    licence = card.get("license") if isinstance(card, Mapping) else None
    if isinstance(licence, list):
        licence = " AND ".join(str(part) for part in licence)
    if licence in (None, "other") and isinstance(card, Mapping):
        licence = card.get("license_name") or licence
    return str(licence or "")
