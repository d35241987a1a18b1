"""Models from a Hugging Face repository.

`huggingface_hub` finds the repository, the token and the mirror (``HF_ENDPOINT``, ``HF_TOKEN`` or
what ``hf auth login`` keeps, ``HF_HUB_OFFLINE``). The revision is pinned to a commit before
anything is fetched. Its own downloads start over after a killed process and check no hash, so the
bytes come by `download`. Repository code is never fetched or run.
"""

from __future__ import annotations

import hashlib
import os
import threading
from dataclasses import replace
from pathlib import Path

import httpx
from huggingface_hub import HfApi, constants, hf_hub_url
from huggingface_hub.errors import HfHubHTTPError
from huggingface_hub.hf_api import ModelInfo, RepoSibling
from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]

from lmstack.core import AuthError, LmstackError, NotFoundError, RemoteError
from lmstack.registry.refs import HubRef
from lmstack.registry.selection import select
from lmstack.registry.sources.download import RemoteFile, check_space, download
from lmstack.registry.sources.local import Progress

__all__ = ["fetch_file", "fetch_repository"]

_TIMEOUT_S = 60
_REACH_S = 5.0  # in which an endpoint answers that another source can stand in for


def fetch_repository(
    ref: HubRef, target: Path, parts: Path, progress: Progress | None
) -> tuple[str, str, tuple[str, ...]]:
    """Put the model's files into ``target``; unfinished ones wait in ``parts`` for a resume.

    Returns (licence stated by the repository, commit, what was left out).
    """
    headers = _headers()
    api = HfApi(endpoint=os.environ.get("HF_ENDPOINT", "").rstrip("/") or None)
    info = _information(api, ref)
    commit = info.sha or ref.revision
    entries = {entry.rfilename: entry for entry in info.siblings or ()}
    chosen = select(entries, ref.part, str(ref))
    files = {
        target / path: _remote_file(entries[name], commit, ref, api.endpoint)
        for name, path in chosen.files.items()
    }
    check_space(target, sum(file.size or 0 for file in files.values()), str(ref))
    with httpx.Client(follow_redirects=True, timeout=_TIMEOUT_S) as client:
        for path, file in files.items():
            key = file.digest or hashlib.sha256(file.url.encode()).hexdigest()
            part = parts / f"{key[:32]}.part"
            download(file, path, client, part=part, headers=headers, progress=progress)
    return _licence(info), commit, chosen.left_out


def fetch_file(
    ref: HubRef, file: RemoteFile, target: Path, part: Path, progress: Progress | None
) -> None:
    """Put the one file that ``ref`` names into ``target``, where its hash and size are known: the
    API is not asked. ``file``: these, without a URL. ``part``: what came so far.

    `RemoteError` in a few seconds where the endpoint does not answer."""
    endpoint = os.environ.get("HF_ENDPOINT", "").rstrip("/") or constants.ENDPOINT
    if constants.HF_HUB_OFFLINE:
        raise RemoteError(
            f"{endpoint} is not asked: HF_HUB_OFFLINE is set", hint="unset HF_HUB_OFFLINE"
        )
    url = hf_hub_url(ref.repository, ref.part, revision=ref.revision, endpoint=endpoint)
    headers = _headers()
    if progress is not None:
        progress(file.label, part.stat().st_size if part.exists() else 0, file.size)
    with httpx.Client(follow_redirects=True, timeout=_TIMEOUT_S) as client:
        _check_answers(client, url, headers, endpoint, ref)
        file = replace(file, url=url)
        download(file, target, client, part=part, headers=headers, progress=progress)


def _headers() -> dict[str, str]:
    """With the token, and without a list of the packages that are installed here: neither in these
    nor in what the library itself asks afterwards."""
    constants.HF_HUB_DISABLE_TELEMETRY = True
    headers: dict[str, str] = build_hf_headers()
    return headers


def _check_answers(
    client: httpx.Client, url: str, headers: dict[str, str], endpoint: str, ref: HubRef
) -> None:
    """The first byte of ``url`` can be had. In a thread of its own, because no timeout of httpx
    covers looking up the name of a host."""
    found: list[int | Exception] = []

    def ask() -> None:
        one_byte = {**headers, "Range": "bytes=0-0"}
        try:
            with client.stream("GET", url, headers=one_byte, timeout=_REACH_S) as response:
                found.append(response.status_code)
        except Exception as error:  # also one of an address that is none, or of a closed client
            found.append(error)

    thread = threading.Thread(target=ask, daemon=True, name="lmstack-reach")
    thread.start()
    thread.join(_REACH_S)
    answer = found[0] if found else TimeoutError(f"no answer in {_REACH_S:.0f} s")
    if isinstance(answer, Exception):
        raise _unreachable(endpoint, answer) from answer
    if answer not in (200, 206):
        raise _refused(answer, endpoint, ref)


def _information(api: HfApi, ref: HubRef) -> ModelInfo:
    try:
        return api.model_info(
            ref.repository, revision=ref.revision, files_metadata=True, timeout=_TIMEOUT_S
        )
    except HfHubHTTPError as error:
        raise _refused(error.response.status_code, api.endpoint, ref) from error
    except (ValueError, TypeError, LookupError, AttributeError) as error:
        raise RemoteError(
            f"{api.endpoint} did not answer for {ref} as the Hugging Face API does",
            hint="try again later, or check HF_ENDPOINT",
        ) from error
    except Exception as error:  # of the library that it sends requests with, which changes
        raise _unreachable(api.endpoint, error) from error


def _unreachable(endpoint: str, error: Exception) -> RemoteError:
    return RemoteError(
        f"{endpoint} cannot be reached: {error or type(error).__name__}",
        hint="check the network, or set HF_ENDPOINT to a mirror",
    )


def _refused(status: int, endpoint: str, ref: HubRef) -> LmstackError:
    if status in (401, 403):
        return AuthError(
            f"{endpoint} refuses {ref} ({status})",
            hint="check the name; if it needs an account, set HF_TOKEN",
        )
    if status == 404:
        return NotFoundError(f"{endpoint} has no {ref}", hint="check the name and the revision")
    return RemoteError(f"{endpoint} answered {status} for {ref}", hint="try again later")


def _remote_file(entry: RepoSibling, commit: str, ref: HubRef, endpoint: str) -> RemoteFile:
    """Large files have a SHA-256, small ones the hash that git gives them."""
    name = entry.rfilename
    return RemoteFile(
        hf_hub_url(ref.repository, name, revision=commit, endpoint=endpoint),
        name,
        (entry.lfs.sha256 if entry.lfs else entry.blob_id) or "",
        entry.lfs.size if entry.lfs else entry.size,
    )


def _licence(info: ModelInfo) -> str:
    licence = getattr(info.card_data, "license", None)
    if isinstance(licence, list):
        licence = " AND ".join(str(part) for part in licence)
    if licence in (None, "other"):
        licence = getattr(info.card_data, "license_name", None) or licence
    return str(licence or "")
