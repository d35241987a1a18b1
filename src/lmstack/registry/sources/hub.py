"""Models from a Hugging Face repository.

`huggingface_hub` finds the repository, the token and the mirror (``HF_ENDPOINT``, ``HF_TOKEN`` or
what ``hf auth login`` keeps, ``HF_HUB_OFFLINE``). The revision is pinned to a commit before
anything is fetched. Its own downloads start over after a killed process and check no hash, so the
bytes come by `download`. Repository code is never fetched or run.
"""

from __future__ import annotations

import hashlib
import os
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

__all__ = ["fetch_repository"]

_TIMEOUT_S = 60


def fetch_repository(
    ref: HubRef, target: Path, parts: Path, progress: Progress | None
) -> tuple[str, str, tuple[str, ...]]:
    """Put the model's files into ``target``; unfinished ones wait in ``parts`` for a resume.

    Returns (licence stated by the repository, commit, what was left out).
    """
    constants.HF_HUB_DISABLE_TELEMETRY = True
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
    headers = build_hf_headers()
    with httpx.Client(follow_redirects=True, timeout=_TIMEOUT_S) as client:
        for path, file in files.items():
            key = file.digest or hashlib.sha256(file.url.encode()).hexdigest()
            part = parts / f"{key[:32]}.part"
            download(file, path, client, part=part, headers=headers, progress=progress)
    return _licence(info), commit, chosen.left_out


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
        raise RemoteError(
            f"{api.endpoint} cannot be reached: {error or type(error).__name__}",
            hint="check the network, or set HF_ENDPOINT to a mirror",
        ) from error


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
