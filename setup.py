"""Builds the native ops along with the package; pyproject.toml holds the rest.

They are optional: where they cannot be compiled, installation goes on with a warning of one line
and lmstack runs on its reference ops. LMSTACK_NATIVE=0 does not try.
"""

from __future__ import annotations

import importlib.util
import os
import sys
import zlib
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.errors import CompileError

KERNELS = Path("src/lmstack/engine/cpu")
TRAINING = Path("src/lmstack/train/native")

spec = importlib.util.spec_from_file_location("lmstack_kernels_build", KERNELS / "build.py")
assert spec is not None
assert spec.loader is not None
native = importlib.util.module_from_spec(spec)
sys.modules[spec.name] = native
spec.loader.exec_module(native)


def fingerprint(folder: Path) -> int:
    """Of its C files: a build knows what it was made of (lmstack/train/native/library.py)."""
    files = sorted(folder.glob("*.[ch]"))
    return zlib.crc32(b"".join(file.read_bytes() for file in files)) & 0x7FFFFFFF


class BuildNative(build_ext):
    """Hands the engine's extension to build.py: each file has flags of its own."""

    def build_extension(self, ext: Extension) -> None:
        if ext is not engine:
            try:
                native.first_compiler()
            except native.BuildError:
                return  # the engine's warning says so
            super().build_extension(ext)
            return
        output = Path(self.get_ext_fullpath(ext.name)).resolve()
        folder = Path(self.build_temp).resolve() / "kernels"
        output.unlink(missing_ok=True)  # or one of an earlier build would be packed
        try:
            native.build(output, folder, warn=self.warn)
        except native.BuildError as error:
            if self.editable_mode:
                (KERNELS / output.name).unlink(missing_ok=True)
            raise CompileError(
                f"{error}; lmstack runs without native ops, slower (see `lmstack doctor`)"
            ) from error


engine = Extension(
    "lmstack.engine.cpu._native",
    sources=[str(KERNELS / "csrc" / name) for name in native.sources()],
    depends=[str(path) for path in sorted((KERNELS / "csrc").glob("*.h"))],
    optional=True,
)
# One file for all: it says itself whether a processor can run it (threads.c).
training = Extension(
    "lmstack.train.native._native",
    sources=[str(path) for path in sorted(TRAINING.glob("*.c"))],
    depends=[str(path) for path in sorted(TRAINING.glob("*.h"))],
    extra_compile_args=["-O3", "-std=gnu11", "-fno-math-errno"],
    define_macros=[("LMT_SOURCES", str(fingerprint(TRAINING)))],
    optional=True,
)
wanted = os.environ.get("LMSTACK_NATIVE", "1") != "0"
setup(ext_modules=[engine, training] if wanted else [], cmdclass={"build_ext": BuildNative})
