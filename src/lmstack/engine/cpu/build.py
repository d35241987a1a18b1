"""Compiles the native ops: which files, with which flags, into one shared object.

`setup.py` loads this file by its path, tests build variants with it (sanitizers, other
processors), so it imports nothing of lmstack. A path whose files a compiler refuses is left out;
only the files that all share, and the portable path, must compile. Does not choose a path: that
happens at run time (paths.c).
"""

from __future__ import annotations

import os
import platform
import re
import shlex
import shutil
import subprocess
import sysconfig
import zlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

__all__ = [
    "COMMON",
    "PATHS",
    "BuildError",
    "NativePath",
    "build",
    "compilers",
    "first_compiler",
    "headers_fingerprint",
    "machine_of",
    "sources",
]

FOLDER = Path(__file__).parent / "csrc"
FLAGS = (
    *("-O3", "-std=c11", "-fPIC", "-pthread", "-fvisibility=default"),
    *("-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math"),
    *("-Wall", "-Wextra"),
)
# Compiled once, for any processor.
COMMON = ("abi.c", "paths.c", "attention_sizes.c", "team.c", "program.c")
# Compiled once for every path, with its flags and -DLM_PATH=name.
SHARED = ("rows.c", "lines.c", "finish.c", "deltas.c", "attention.c", "attention_store.c")


class BuildError(Exception):
    """The compiler is missing or refuses a file that is needed."""


class NativePath(NamedTuple):
    """``machine``: the processors that have it, "" for any. ``multiply``: the file of its own.
    ``attention``: flags of attention's files, where they are others than ``flags``."""

    name: str
    machine: str
    multiply: str
    flags: tuple[str, ...] = ()
    attention: tuple[str, ...] | None = None

    def flags_of(self, source: str) -> tuple[str, ...]:
        is_attention = source.startswith("attention")
        return self.attention if is_attention and self.attention is not None else self.flags


_AVX2 = ("-mavx2", "-mfma", "-mf16c")
_AVX512VNNI = (
    *_AVX2,
    *("-mavx512f", "-mavx512bw", "-mavx512vl", "-mavx512dq", "-mavx512vnni"),
)
_AVX512 = (*_AVX512VNNI, "-mavx512bf16")
PATHS = (
    NativePath("portable", "", "multiply_portable.c"),
    NativePath("avx2", "x86_64", "multiply_avx2.c", _AVX2),
    NativePath("avxvnni", "x86_64", "multiply_avx2.c", (*_AVX2, "-mavxvnni")),
    # Without products of bfloat16, attention's are those of AVX2.
    NativePath("avx512vnni", "x86_64", "multiply_avx512.c", _AVX512VNNI, _AVX2),
    NativePath("avx512", "x86_64", "multiply_avx512.c", _AVX512),
    NativePath(
        "amx",
        "x86_64",
        "multiply_amx.c",
        (*_AVX512, "-mamx-tile", "-mamx-int8", "-mamx-bf16"),
    ),
    NativePath("neon", "aarch64", "multiply_neon.c", ("-march=armv8.2-a+dotprod",)),
)


def sources() -> list[str]:
    """Every C file that some build compiles, by name."""
    names = (*COMMON, *SHARED, *(path.multiply for path in PATHS))
    return [name for name in dict.fromkeys(names) if (FOLDER / name).exists()]


def headers_fingerprint() -> int:
    """Of the headers whose structs and functions Python mirrors: a build and it must agree."""
    text = b"".join((FOLDER / name).read_bytes() for name in ("lm.h", "program.h", "team.h"))
    return zlib.crc32(text) & 0x7FFFFFFF


def compilers() -> list[list[str]]:
    """Commands to try, in order. ``CC``, when set, is the only one."""
    if os.environ.get("CC"):
        return [shlex.split(os.environ["CC"])]
    python_own = shlex.split(sysconfig.get_config_var("CC") or "")
    return [command for command in (python_own, ["cc"], ["gcc"], ["clang"]) if command]


def machine_of(compiler: Sequence[str]) -> str:
    """What ``compiler`` compiles for: "x86_64", "aarch64", or another name."""
    try:
        printed = subprocess.run(
            [*compiler, "-dumpmachine"], capture_output=True, text=True, check=True
        ).stdout
    except (OSError, subprocess.CalledProcessError) as error:
        raise BuildError(f"{' '.join(compiler)} cannot be run: {error}") from error
    name = printed.strip().partition("-")[0] or platform.machine()
    return {"arm64": "aarch64", "amd64": "x86_64"}.get(name, name)


class _Object(NamedTuple):
    source: Path
    output: Path
    flags: tuple[str, ...]


def build(
    output: Path,
    folder: Path,
    *,
    compiler: Sequence[str] | None = None,
    extra: Sequence[str] = (),
    extra_sources: Sequence[Path] = (),
    shared: bool = True,
    warn: Callable[[str], None] = print,
) -> list[str]:
    """Writes the shared object ``output`` and gives the names of its paths. Objects are kept in
    ``folder`` and compiled again when their source, a header or this file is newer.

    ``extra``: more flags for every command. ``extra_sources``: compiled along, flags as COMMON.
    ``shared=False``: a program, whose main is among these.
    """
    command = list(compiler) if compiler is not None else first_compiler()
    machine = machine_of(command)
    extra = (*shlex.split(os.environ.get("CFLAGS", "")), *extra)
    folder.mkdir(parents=True, exist_ok=True)
    output.parent.mkdir(parents=True, exist_ok=True)
    objects, names = [], []
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        for path in PATHS:
            if path.machine not in ("", machine):
                continue
            wanted = [_of_path(name, path, folder, extra) for name in (*SHARED, path.multiply)]
            failed = [f for f in pool.map(lambda o: _compile(command, o), wanted) if f]
            if failed and not path.machine:
                raise BuildError(failed[0])
            if failed:
                warn(f"lmstack: built without the {path.name} ops: {failed[0]}")
                continue
            objects += wanted
            names.append(path.name)
        common = [_common(FOLDER / name, folder, extra, names) for name in COMMON]
        common += [_common(source, folder, extra, names) for source in extra_sources]
        failed = [f for f in pool.map(lambda o: _compile(command, o), common) if f]
        if failed:
            raise BuildError(failed[0])
    made = [str(o.output) for o in (*common, *objects)]
    kind = ("-shared",) if shared else ()
    message = _run([*command, *kind, "-pthread", *extra, "-o", str(output), *made, "-lm"])
    if message:
        raise BuildError(message)
    return names


def first_compiler() -> list[str]:
    """The first of `compilers` that is there; `BuildError` where none is."""
    tried = compilers()
    for command in tried:
        if shutil.which(command[0]):
            return command
    raise BuildError(f"no C compiler found (tried {', '.join(c[0] for c in tried)})")


def _of_path(name: str, path: NativePath, folder: Path, extra: Sequence[str]) -> _Object:
    flags = (*FLAGS, *path.flags_of(name), f"-DLM_PATH={path.name}", *extra)
    return _Object(FOLDER / name, folder / f"{Path(name).stem}-{path.name}.o", flags)


def _common(source: Path, folder: Path, extra: Sequence[str], names: list[str]) -> _Object:
    flags = [*FLAGS, f"-I{FOLDER}", *extra]
    if source.name == "paths.c":
        flags += [f"-DLM_WITH_{name.upper()}" for name in names]
    if source.name == "abi.c":
        flags += [f"-DLM_HEADERS={headers_fingerprint()}"]
    return _Object(source, folder / f"{source.stem}.o", tuple(flags))


def _compile(compiler: list[str], made: _Object) -> str:
    """Nothing, or why it failed, in a line."""
    command = [*compiler, *made.flags, "-c", str(made.source), "-o", str(made.output)]
    written = made.output.with_suffix(".command")
    changed = max(p.stat().st_mtime for p in (*FOLDER.glob("*.h"), Path(__file__)))
    try:
        changed = max(changed, made.source.stat().st_mtime)
        if (
            written.read_text("utf-8") == shlex.join(command)
            and made.output.stat().st_mtime > changed
        ):
            return ""
    except FileNotFoundError:
        pass  # not compiled yet
    written.unlink(missing_ok=True)
    message = _run(command)
    if not message:
        written.write_text(shlex.join(command), "utf-8")
    return message


def _run(command: list[str]) -> str:
    """Nothing, or the first error, in a line."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        return f"{command[0]} cannot be run: {error.strerror}"
    if done.returncode == 0:
        return ""
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    errors = [line for line in lines if re.search(r"\berror\b", line)] or lines
    return (errors or [f"{command[0]} failed"])[0]
