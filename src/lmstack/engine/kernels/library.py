"""The shared object of the native ops, by ctypes: found, checked, and its path chosen.

Mirrors the structs of lm.h that Python fills in. A build whose headers or sizes are others is
refused: `problem` says why, and the reference ops serve. The environment variable LMSTACK_KERNELS
names a path to use, or is "none" for the reference ops. Does not build anything (build.py).
"""

from __future__ import annotations

import ctypes
import functools
import os
import shlex
import sys
import sysconfig
from collections.abc import Callable
from ctypes import POINTER, Structure, c_char_p, c_float, c_int32, c_size_t, c_void_p
from pathlib import Path
from typing import ClassVar

from lmstack.core import EngineError, UnsupportedError, shown
from lmstack.engine.kernels.build import PATHS, headers_fingerprint

__all__ = [
    "VARIABLE",
    "Acts",
    "Attention",
    "Matrix",
    "NativePath",
    "available_paths",
    "load",
    "native",
    "path_now",
    "problem",
    "rebuilding",
    "select_path",
    "selected_path",
    "tile_bytes",
]

VARIABLE = "LMSTACK_KERNELS"
OFF = "none"
FOLDER = Path(__file__).parent


class Matrix(Structure):
    """``lm_matrix``."""

    _fields_: ClassVar = [
        *((name, c_void_p) for name in ("codes", "scales", "mins")),
        *((name, c_int32) for name in ("rows", "panels", "cols", "groups", "group", "bits")),
        *((name, c_int32) for name in ("zero", "paired")),
    ]


class Acts(Structure):
    """``lm_acts``."""

    _fields_: ClassVar = [(n, c_void_p) for n in ("codes", "scales", "offsets", "sums")]


class Attention(Structure):
    """``lm_attention``."""

    _fields_: ClassVar = [
        *((name, c_int32) for name in ("heads", "kv_heads", "head_dim", "causal", "window", "kv")),
        *((name, c_float) for name in ("scale", "softcap")),
        ("bias", c_void_p),
        ("reach", c_int32),
    ]


class After(Structure):
    """``lm_after``."""

    _fields_: ClassVar = [
        *((name, c_void_p) for name in ("bias", "up_bias", "base", "out")),
        *((name, ctypes.c_ssize_t) for name in ("base_stride", "out_stride")),
        *((name, c_int32) for name in ("act", "paired")),
    ]


_MATRIX, _ACTS, _ATTENTION = POINTER(Matrix), POINTER(Acts), POINTER(Attention)
_int, _float, _address, _apart = c_int32, c_float, c_void_p, ctypes.c_ssize_t
# The functions of a path: lm.h says what each does.
_FUNCTIONS: dict[str, tuple[object, ...]] = {
    "multiply": (_MATRIX, _int, _int, _ACTS, _int, _int, _address, _apart),
    "quantize": (_address, _MATRIX, _ACTS, _int),
    "rms_norm": (_address, _address, _int, _float, _int, _address),
    "layer_norm": (_address, _address, _address, _int, _float, _address),
    "activate": (_int, _address, _int, _address),
    "finish": (POINTER(After), _address, _apart, _int, _int),
    "rotate": (_address, _address, _address, _int),
    "store": (_ATTENTION, _address, _address, _address, _int),
    "attend": (
        *(_ATTENTION, _address, _address, _int, _int, _int, _int),
        *(_address, _apart, _address, _apart, _address),
    ),
}


class NativePath(Structure):
    """``lm_path``: functions of one kind of processor, called by their names."""

    multiply: Callable[..., None]
    quantize: Callable[..., None]
    rms_norm: Callable[..., None]
    layer_norm: Callable[..., None]
    activate: Callable[..., None]
    finish: Callable[..., None]
    rotate: Callable[..., None]
    store: Callable[..., None]
    attend: Callable[..., None]

    _fields_: ClassVar = [
        ("name", c_char_p),
        *((name, ctypes.CFUNCTYPE(None, *takes)) for name, takes in _FUNCTIONS.items()),  # type: ignore[arg-type]
    ]


def load(file: Path) -> ctypes.CDLL:
    """The build at ``file``, its functions typed; `EngineError` where it is none of ours, or of
    other headers than those beside this module."""
    try:
        library = ctypes.CDLL(str(file))
        library.lm_abi.argtypes = (c_int32,)
        library.lm_abi.restype = c_int32
    except (OSError, AttributeError) as error:
        raise EngineError(f"{file.name} cannot be loaded: {error}", hint=rebuilding()) from error
    mirrored = (Matrix, Acts, Attention, NativePath)
    expected = [headers_fingerprint(), *(ctypes.sizeof(struct) for struct in mirrored)]
    if [library.lm_abi(i) for i in range(len(expected))] != expected:
        raise EngineError(f"{file.name} was built from other sources", hint=rebuilding())
    for name, result, *takes in (
        ("lm_select", c_int32, c_char_p),
        ("lm_selected", c_char_p),
        ("lm_available", c_char_p, c_int32),
        ("lm_path_now", POINTER(NativePath)),
        ("lm_tile_bytes", c_int32, c_int32, c_int32),
        ("lm_attend_scratch", c_size_t, _ATTENTION),
        ("lm_team_new", c_void_p, c_int32),
        ("lm_team_free", None, c_void_p),
        ("lm_run", c_int32, c_void_p, c_void_p, c_void_p),
    ):
        function = getattr(library, name)  # library[name] would be another object each time
        function.restype, function.argtypes = result, tuple(takes)
    return library


@functools.cache
def _found() -> tuple[ctypes.CDLL | None, str]:
    """The build and "", or None and why there is none to use."""
    wanted = os.environ.get(VARIABLE, "")
    if wanted == OFF:
        return None, f"switched off by {VARIABLE}={OFF}"
    file = FOLDER / f"_native{sysconfig.get_config_var('EXT_SUFFIX')}"
    if not file.exists():
        return None, "not built: no C compiler worked when lmstack was installed"
    try:
        library = load(file)
    except EngineError as error:
        return None, error.message
    if wanted:
        _select(library, wanted, VARIABLE)
    return library, ""


def rebuilding() -> str:
    """The command that builds the native ops anew, in a checkout or for an installed package."""
    root = Path(__file__).parents[4]
    checkout = (root / "setup.py").exists()
    what = ["--editable", str(root)] if checkout else ["--force-reinstall", "lmstack"]
    return shlex.join([sys.executable, "-m", "pip", "install", "--no-deps", *what])


def problem() -> str:
    """Why there are no native ops, or ""."""
    return _found()[1]


def native() -> ctypes.CDLL:
    """The build; `EngineError` where there is none."""
    library, why = _found()
    if library is None:
        raise EngineError(f"no native ops: {why}", hint="lmstack doctor")
    return library


def available_paths() -> list[str]:
    """Names of the paths that this build and this processor have, best first; none of them
    without native ops."""
    library = _found()[0]
    return [] if library is None else _available(library)


def _available(library: ctypes.CDLL) -> list[str]:
    names: list[str] = []
    while (name := library.lm_available(len(names))) is not None:
        names.append(name.decode())
    return names


def selected_path() -> str | None:
    """The name of the path in use; None without native ops."""
    library = _found()[0]
    return None if library is None else str(library.lm_selected().decode())


def select_path(name: str | None) -> None:
    """Computes on path ``name`` from now on; None: on the best one. For the whole process."""
    _select(native(), name)


def _select(library: ctypes.CDLL, name: str | None, param: str | None = None) -> None:
    if library.lm_select(None if name is None else name.encode()) == 0:
        return
    known = name in {path.name for path in PATHS}
    raise UnsupportedError(
        f"the native path {shown(name)} is not to be had on this processor or in this build"
        if known
        else f"no native path is called {shown(name)}",
        hint=f"use one of {', '.join([*_available(library), OFF])}",
        param=param,
    )


def path_now() -> NativePath:
    """The path in use, its functions to be called one by one."""
    found: NativePath = native().lm_path_now().contents
    return found


def tile_bytes(head_dim: int, kv: int) -> int:
    """Bytes of a cache tile; ``kv``: LM_KV_BF16 or LM_KV_INT8."""
    return int(native().lm_tile_bytes(head_dim, kv))
