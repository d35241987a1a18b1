"""The structs of lm.h and program.h as Python has them, read from these headers.

A build says of itself what its compiler made of the structs (abi.c): a fingerprint of the headers,
the size of each and where its fields begin. `library` refuses one that differs from
`expected_layout`. Covered is the C that these two headers use for structs, no more of it.
"""

from __future__ import annotations

import ctypes
import keyword
import re
from collections.abc import Callable, Iterator
from ctypes import POINTER, Structure, c_char_p, c_float, c_int32, c_int64, c_ssize_t, c_void_p
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from lmstack.engine.cpu.build import FOLDER, headers_fingerprint

if TYPE_CHECKING:
    from lmstack.model.quant.matrix import QuantizedMatrix

__all__ = [
    "DELTA_TERM",
    "SPAN",
    "STRUCTS",
    "ActsStruct",
    "AfterStruct",
    "AttentionStruct",
    "BufferStruct",
    "DeltaStruct",
    "MatrixStruct",
    "OpStruct",
    "PathStruct",
    "ProgramStruct",
    "StepStruct",
    "expected_layout",
    "layout_of",
]

S = TypeVar("S", bound=type[Structure])

_NUMBERS = {
    "int": c_int32, "int32_t": c_int32, "int64_t": c_int64, "ptrdiff_t": c_ssize_t,
    "float": c_float,
}  # fmt: skip
# By their names in C.
STRUCTS: dict[str, Any] = {}


def _bodies() -> dict[str, str]:
    """What stands between the braces of each struct."""
    text = "".join((FOLDER / name).read_text("utf-8") for name in ("lm.h", "program.h"))
    text = re.sub(r"/\*.*?\*/", "", text, flags=re.DOTALL)
    return {name: body for body, name in re.findall(r"typedef struct \{(.*?)\} (\w+);", text, re.S)}


_BODIES = _bodies()


def _fields(struct: str) -> Iterator[tuple[str, Any]]:
    """Names and types in order, a name that is a keyword of Python with a _ behind it."""
    for declaration in _BODIES[struct].split(";"):
        function = re.fullmatch(r"\s*void \(\*(\w+)\)\((.*)\)", declaration, re.DOTALL)
        if function is not None:
            takes = (_kind(*_split(each)) for each in function[2].split(","))
            yield function[1], ctypes.CFUNCTYPE(None, *takes)
        elif declaration.strip():
            base, first = _split(declaration)
            for declared in first.split(","):
                name = re.sub(r"\W|\bconst\b", "", declared)
                yield name + "_" * keyword.iskeyword(name), _kind(base, declared)


def _split(declaration: str) -> tuple[str, str]:
    """``const float *a, *b`` to ``float`` and ``*a, *b``."""
    base, _, rest = declaration.strip().removeprefix("const ").partition(" ")
    return base, rest


def _kind(base: str, declared: str) -> Any:
    """The type of what is ``declared`` with type ``base``; pointers to numbers are addresses."""
    if "*" not in declared:
        return _NUMBERS.get(base) or STRUCTS[base]
    if base in STRUCTS and declared.count("*") == 1:
        return POINTER(STRUCTS[base])
    return c_char_p if base == "char" else c_void_p


def _mirrors(name: str) -> Callable[[S], S]:
    """Gives a class the fields of the struct ``name``. Those that it points to come before it."""

    def fill(struct: S) -> S:
        struct._fields_ = list(_fields(name))
        STRUCTS[name] = struct
        return struct

    return fill


@_mirrors("lm_matrix")
class MatrixStruct(Structure):
    @classmethod
    def of(cls, matrix: QuantizedMatrix) -> MatrixStruct:
        """``matrix``, which has to be kept as long as this is used: its fields have these names."""
        made = cls(panels=matrix.codes.shape[0], groups=matrix.codes.shape[1])
        buffers = matrix.buffers()
        for name, kind, *_ in cls._fields_:
            if kind is c_void_p:
                setattr(made, name, buffers[name].data_ptr() if name in buffers else None)
            elif name not in ("panels", "groups"):
                setattr(made, name, getattr(matrix, name))
        return made


@_mirrors("lm_acts")
class ActsStruct(Structure):
    """``lm_acts``."""


@_mirrors("lm_delta")
class DeltaStruct(Structure):
    """``lm_delta``."""


@_mirrors("lm_attention")
class AttentionStruct(Structure):
    """``lm_attention``."""


@_mirrors("lm_after")
class AfterStruct(Structure):
    """``lm_after``."""


@_mirrors("lm_path")
class PathStruct(Structure):
    """Functions of one kind of processor, called by their names."""


@_mirrors("lm_buffer")
class BufferStruct(Structure):
    """``lm_buffer``."""


@_mirrors("lm_op")
class OpStruct(Structure):
    """``lm_op``."""


@_mirrors("lm_program")
class ProgramStruct(Structure):
    """``lm_program``."""


@_mirrors("lm_step")
class StepStruct(Structure):
    """``lm_step``."""


def _dtype(struct: str) -> np.dtype[Any]:
    """Of a struct of which NumPy makes arrays."""
    numbers = {c_int32: np.int32, c_void_p: np.uint64}
    return np.dtype([(name, numbers[kind]) for name, kind in _fields(struct)])


DELTA_TERM, SPAN = _dtype("lm_delta_term"), _dtype("lm_span")


def expected_layout() -> dict[str, int]:
    """What a build must say of itself before it is used."""
    expected = {"headers": headers_fingerprint()}
    for name, struct in STRUCTS.items():
        expected[name] = ctypes.sizeof(struct)
        for field, *_ in struct._fields_:
            expected[f"{name}.{field.rstrip('_')}"] = getattr(struct, field).offset
    for name, dtype in {"lm_span": SPAN, "lm_delta_term": DELTA_TERM}.items():
        expected[name] = dtype.itemsize
        for field, (_, at, *_) in (dtype.fields or {}).items():
            expected[f"{name}.{field}"] = at
    return expected


def layout_of(library: ctypes.CDLL) -> dict[str, int]:
    """What the build says; `AttributeError` where it cannot."""
    library.lm_layout.argtypes, library.lm_layout.restype = (c_int32, c_void_p), c_char_p
    found: dict[str, int] = {}
    number = c_int64()
    while (name := library.lm_layout(len(found), ctypes.byref(number))) is not None:
        found[name.decode()] = number.value
    return found
