"""Builds of the native ops other than the usual one: without a compiler, with half a compiler,
with another, under sanitizers. What they compute is held by the other tests of this folder, which
are run on such a build in a process of their own."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from tests.engine.cpu.calls import same_bits
from tests.engine.cpu.test_multiply import FORMS, drawn

from lmstack.engine.cpu import build, library
from lmstack.engine.cpu.mirrors import PathStruct

ROOT = Path(__file__).parents[3]
SUFFIX = sysconfig.get_config_var("EXT_SUFFIX")
FAMILIES = ("LlamaForCausalLM", "BertModel", "T5ForConditionalGeneration")
# The ordinary tests of this folder but these, on the build in a folder that is given.
ON_ANOTHER_BUILD = """
import sys
from pathlib import Path
import pytest
from lmstack.engine.cpu import library
library.FOLDER = Path(sys.argv[1])
assert not library.problem(), library.problem()
ours = ["tests/engine/cpu", "--ignore=tests/engine/cpu/test_build.py", "-x"]
plugins = ["-p", "no:cacheprovider", "-p", "no:faulthandler"]
sys.exit(pytest.main([*ours, *plugins, *sys.argv[2:]]))
"""


def built(folder: Path, **options: object) -> list[str]:
    return build.build(folder / f"_native{SUFFIX}", folder / "objects", **options)  # type: ignore[arg-type]


def passes_on(folder: Path, *more: str, environment: Mapping[str, str] | None = None) -> None:
    done = subprocess.run(
        [sys.executable, "-c", ON_ANOTHER_BUILD, str(folder), *more],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "2"} | dict(environment or {}),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-6000:]


def missing(command: Sequence[str]) -> bool:
    return not shutil.which(command[0])


def test_without_a_compiler_the_build_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CC", "/nonexistent/cc -O9")
    with pytest.raises(build.BuildError, match=r"no C compiler found.*/nonexistent/cc"):
        built(tmp_path)


def test_without_a_compiler_the_package_is_built_with_a_line_of_warning(tmp_path: Path) -> None:
    done = subprocess.run(
        [
            *(sys.executable, "setup.py", "build_ext"),
            *("--build-lib", str(tmp_path / "lib"), "--build-temp", str(tmp_path / "temp")),
        ],
        cwd=ROOT,
        env=os.environ | {"CC": "/nonexistent/cc"},
        capture_output=True,
        text=True,
        check=True,
    )
    warnings = [line for line in done.stderr.splitlines() if "warning" in line.lower()]
    assert len(warnings) == 1
    assert "lmstack runs without native ops" in warnings[0]
    assert not list(tmp_path.rglob(f"*{SUFFIX}"))


def test_every_source_is_built_and_packed() -> None:
    """A C file that no table names would never be compiled."""
    assert {path.name for path in build.FOLDER.glob("*.c")} == set(build.sources())


@pytest.mark.long
@pytest.mark.skipif("not build.machine_of(build.compilers()[0]) == 'x86_64'")
def test_a_compiler_that_knows_no_avx512_builds_the_other_paths(tmp_path: Path) -> None:
    wrapper = tmp_path / "old-cc"
    real = " ".join(build.first_compiler())
    wrapper.write_text(
        f'#!/bin/sh\ncase "$*" in *-mavx512f*) echo "error: -mavx512f?" >&2; exit 1;; esac\n'
        f'exec {real} "$@"\n'
    )
    wrapper.chmod(0o755)
    warnings: list[str] = []
    names = built(tmp_path, compiler=[str(wrapper)], warn=warnings.append)
    assert names == ["portable", "avx2", "avxvnni"]
    assert all("-mavx512f?" in line for line in warnings)
    assert len(warnings) == len([p for p in build.PATHS if "-mavx512f" in p.flags])
    found = library.load(tmp_path / f"_native{SUFFIX}")
    assert found.lm_available(0) in (b"avxvnni", b"avx2", b"portable")


@pytest.mark.long
@pytest.mark.parametrize("compiler", ["gcc", "clang"])
def test_every_compiler_gives_the_same_bits(tmp_path: Path, compiler: str) -> None:
    if missing([compiler]):
        pytest.skip(f"no {compiler}")
    built(tmp_path, compiler=[compiler])
    passes_on(tmp_path)


@pytest.mark.long
def test_no_op_reads_or_writes_beyond_its_arrays_or_has_undefined_behaviour(
    tmp_path: Path,
) -> None:
    """gcc's sanitizers, on every path that this processor has; of whole models, a few."""
    compiler = ["gcc"]
    if missing(compiler):
        pytest.skip("no gcc")
    # The last: gcc 12 aligns the stack too little for AVX-512 else (its bug 110027).
    checks = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-O1", "-g")
    checks = (*checks, "--param", "asan-use-after-return=0")
    built(tmp_path, compiler=compiler, extra=checks)
    preloaded = " ".join(
        subprocess.run(
            [*compiler, f"-print-file-name={name}"], capture_output=True, text=True, check=True
        ).stdout.strip()
        for name in ("libasan.so", "libubsan.so", "libstdc++.so")
    )
    # Leaks are Python's own. -s: an error is written where pytest would keep it to itself.
    passes_on(
        tmp_path,
        "-s",
        "-k",
        f"not test_programs or {' or '.join(FAMILIES)}",
        environment={
            "LD_PRELOAD": preloaded,
            # Its stand-ins for frames are aligned too little for vectors (gcc bug 110027).
            "ASAN_OPTIONS": "detect_leaks=0:detect_stack_use_after_return=0",
            "UBSAN_OPTIONS": "print_stacktrace=1",
            "PYTHONMALLOC": "malloc",
        },
    )


@pytest.mark.long
def test_the_sanitizers_would_see_a_read_beyond_an_array(tmp_path: Path) -> None:
    """That the test above can fail."""
    if missing(["gcc"]):
        pytest.skip("no gcc")
    (tmp_path / "main.c").write_text(
        '#include "lm.h"\n#include <stdlib.h>\n'
        "int main(void) { float *x = malloc(3 * sizeof *x); x[0] = x[1] = x[2] = 1;\n"
        "lm_path_portable()->activate(LM_RELU, x, 4, x); free(x); return 0; }\n"
    )
    program = tmp_path / "main"
    build.build(
        program,
        tmp_path / "objects",
        compiler=["gcc"],
        extra=("-fsanitize=address", "-O1"),
        extra_sources=[tmp_path / "main.c"],
        shared=False,
    )
    done = subprocess.run([str(program)], capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "heap-buffer-overflow" in done.stderr


def hashes(program: Path, *runner: str) -> dict[str, dict[str, str]]:
    """What driver.c prints: of each path, the hash of each op."""
    done = subprocess.run([*runner, str(program)], capture_output=True, text=True, check=True)
    found: dict[str, dict[str, str]] = {}
    for line in done.stdout.splitlines():
        path, op, value = line.split()
        found.setdefault(path, {})[op] = value
    return found


def driver(folder: Path, compiler: list[str]) -> Path:
    build.build(
        folder / "driver",
        folder / "objects",
        compiler=compiler,
        extra=("-static",),
        extra_sources=[Path(__file__).with_name("driver.c")],
        shared=False,
    )
    return folder / "driver"


@pytest.mark.long
def test_arm_processors_give_the_same_bits(tmp_path: Path) -> None:
    """Cross-compiled and run by qemu: gcc-aarch64-linux-gnu and qemu-user of Debian. Only
    attention over bfloat16 may differ, by the kind of processor."""
    cross, runner = ["aarch64-linux-gnu-gcc"], "qemu-aarch64"
    if missing(cross) or missing([runner]):
        pytest.skip("apt-get install gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user")
    here = hashes(driver(tmp_path / "here", build.first_compiler()))
    there = hashes(driver(tmp_path / "there", cross), runner)
    assert list(there) == ["neon", "portable"]
    for found in (*here.values(), *there.values()):
        assert len(found) > 80
        for op, value in found.items():
            assert op.startswith("attend-0-") or value == there["portable"][op], op
    assert here["portable"] == there["portable"]


def library_of(folder: Path, sources: Sequence[str], *flags: str) -> ctypes.CDLL:
    """Some files of the native ops, compiled by themselves."""
    made = folder / "some.so"
    files = [str(build.FOLDER / name) for name in sources]
    command = [*build.first_compiler(), *build.FLAGS, *flags, "-shared", *files, "-o", str(made)]
    subprocess.run(command, check=True)
    return ctypes.CDLL(str(made))


def as_a_path(multiply: Any, like: PathStruct, line_rows: int = 0) -> PathStruct:
    multiply.argtypes = like.multiply.argtypes  # type: ignore[attr-defined]
    made = SimpleNamespace(multiply=multiply, line_rows=line_rows, unpack=like.unpack)
    return cast("PathStruct", made)


def flags_of(path: str) -> tuple[str, ...]:
    return next(found.flags for found in build.PATHS if found.name == path)


def test_products_in_tiles_give_the_same_bits_where_plain_c_stands_in_for_them(
    tmp_path: Path, every: list[PathStruct]
) -> None:
    """For processors without AMX: which tiles are loaded, multiplied and scaled, and when."""
    if "avx512vnni" not in [path.name.decode() for path in every]:
        pytest.skip("products of few rows in the same file need AVX-512")
    sources = ("multiply_amx.c", "multiply_avx512.c")
    flags = (*flags_of("amx"), "-O1", "-DLM_AMX_EMULATED", "-DLM_PATH=avx512")
    found = library_of(tmp_path, sources, *flags)
    assert ctypes.c_bool(found.lm_amx_ready()).value
    emulated = as_a_path(found.lm_multiply_amx, every[-1], 8)
    for seed, form in enumerate(FORMS):
        for rows in (1 + seed % 20, 16 + seed * 7 % 50, 127 + seed % 9):
            acts = drawn(seed, form, rows)
            assert same_bits(acts.multiplied(emulated), acts.multiplied(every[-1])), (form, rows)


def test_dot_products_of_avx_vnni_give_the_same_bits(
    tmp_path: Path, every: list[PathStruct]
) -> None:
    """On a processor that has them with AVX-512 but not by themselves: the same instruction in
    its other encoding."""
    names = [path.name.decode() for path in every]
    if "avxvnni" in names or "avx512vnni" not in names:
        pytest.skip("tested as a path" if "avxvnni" in names else "no such instruction here")
    other = ("-mavx512vl", "-mavx512vnni", "-D__AVXVNNI__=1", "-DLM_PATH=avxvnni")
    renamed = "-D_mm256_dpbusd_avx_epi32=_mm256_dpbusd_epi32"
    found = library_of(tmp_path, ["multiply_avx2.c"], *flags_of("avx2"), *other, renamed)
    avxvnni = as_a_path(found.lm_multiply_avxvnni, every[-1])
    for seed, form in enumerate(FORMS * 4):
        acts = drawn(seed, form, 1 + seed % 13)
        assert same_bits(acts.multiplied(avxvnni), acts.multiplied(every[-1]))
