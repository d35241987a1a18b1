"""The shared object of the native ops, by ctypes: found, checked, and its path chosen.

A build whose structs lie otherwise than their mirrors (mirrors.py) is refused: `problem` says why,
and the reference ops serve. The environment variable LMSTACK_KERNELS names a path to use, or is
"none" for the reference ops. Does not build anything (build.py).
"""

from __future__ import annotations

import ctypes
import functools
import os
import shlex
import sys
import sysconfig
from ctypes import POINTER, c_char_p, c_int32, c_size_t, c_void_p
from pathlib import Path

from lmstack.core import EngineError, UnsupportedError, shown
from lmstack.engine.cpu.build import PATHS
from lmstack.engine.cpu.mirrors import AttentionStruct, PathStruct, expected_layout, layout_of

__all__ = [
    "VARIABLE",
    "available_paths",
    "load",
    "multiplies_lines",
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


def load(file: Path) -> ctypes.CDLL:
    """The build at ``file``, its functions typed; `EngineError` where it is none of ours, or of
    other headers than those beside this module, or its structs lie otherwise."""
    try:
        library = ctypes.CDLL(str(file))
        found = layout_of(library)
    except OSError as error:
        raise EngineError(f"{file.name} cannot be loaded: {error}", hint=rebuilding()) from error
    except AttributeError:
        found = {}
    expected = expected_layout()
    wrong = [name for name in expected | found if found.get(name) != expected.get(name)]
    if wrong:
        raise EngineError(
            f"{file.name} was built from other sources: {wrong[0]} is {found.get(wrong[0])} there,"
            f" {expected.get(wrong[0])} here",
            hint=rebuilding(),
        )
    for name, result, *takes in (
        ("lm_select", c_int32, c_char_p),
        ("lm_selected", c_char_p),
        ("lm_available", c_char_p, c_int32),
        ("lm_path_now", POINTER(PathStruct)),
        ("lm_tile_bytes", c_int32, c_int32, c_int32),
        ("lm_attend_scratch", c_size_t, POINTER(AttentionStruct)),
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
        f"the native path {shown(name)} cannot run on this processor or is missing in this build"
        if known
        else f"no native path is called {shown(name)}",
        hint=f"use one of {', '.join([*_available(library), OFF])}",
        param=param,
    )


def multiplies_lines() -> bool:
    """Whether the path in use multiplies 4-bit codes on lines as they are."""
    return not problem() and path_now().line_rows > 0


def path_now() -> PathStruct:
    """The path in use, its functions to be called one by one."""
    found: PathStruct = native().lm_path_now().contents
    return found


def tile_bytes(head_dim: int, kv: int) -> int:
    """Bytes of a cache tile; ``kv``: LM_KV_BF16 or LM_KV_INT8."""
    return int(native().lm_tile_bytes(head_dim, kv))
