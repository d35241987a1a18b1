"""The structs of lm.h and program.h as Python has them, and the layout that both must agree on.

`expected_layout` holds what abi.c says of a build: a fingerprint of its headers, the size of every
struct, and where each field begins. `library` refuses a build that says otherwise.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from ctypes import POINTER, Structure, c_char_p, c_float, c_int32, c_int64, c_ssize_t, c_void_p
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from lmstack.engine.cpu.build import headers_fingerprint

if TYPE_CHECKING:
    from lmstack.model.quant.matrix import QuantizedMatrix

__all__ = [
    "DELTA_TERM",
    "SPAN",
    "STRUCTS",
    "Acts",
    "After",
    "Attention",
    "BufferStruct",
    "Delta",
    "Matrix",
    "NativePath",
    "OpStruct",
    "ProgramStruct",
    "StepStruct",
    "expected_layout",
    "layout_of",
]


class Matrix(Structure):
    """``lm_matrix``."""

    _fields_: ClassVar = [
        *((name, c_void_p) for name in ("codes", "scales", "mins", "scale_codes", "min_codes")),
        *((name, c_void_p) for name in ("codebook", "order")),
        *((name, c_int32) for name in ("rows", "panels", "cols", "groups", "group", "bits")),
        *((name, c_int32) for name in ("zero", "paired", "superblock")),
    ]

    @classmethod
    def of(cls, matrix: QuantizedMatrix) -> Matrix:
        """``matrix``, which has to be kept as long as this is used: its fields have these names."""
        made = cls(panels=matrix.codes.shape[0], groups=matrix.codes.shape[1])
        buffers = matrix.buffers()
        for name, kind, *_ in cls._fields_:
            if kind is c_void_p:
                setattr(made, name, buffers[name].data_ptr() if name in buffers else None)
            elif name not in ("panels", "groups"):
                setattr(made, name, getattr(matrix, name))
        return made


class Acts(Structure):
    """``lm_acts``."""

    _fields_: ClassVar = [(n, c_void_p) for n in ("codes", "scales", "offsets", "sums")]


class Delta(Structure):
    """``lm_delta``."""

    _fields_: ClassVar = [
        ("down", Matrix),
        *((name, c_void_p) for name in ("up", "gains", "terms")),
        *((name, c_int32) for name in ("num_terms", "ranks")),
    ]


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
        *((name, c_ssize_t) for name in ("base_stride", "out_stride")),
        *((name, c_int32) for name in ("act", "paired")),
    ]


_MATRIX, _ACTS, _ATTENTION = POINTER(Matrix), POINTER(Acts), POINTER(Attention)
_int, _float, _address, _apart = c_int32, c_float, c_void_p, c_ssize_t
# The functions of a path: lm.h says what each does.
_FUNCTIONS: dict[str, tuple[object, ...]] = {
    "multiply": (_MATRIX, _int, _int, _ACTS, _int, _int, _address, _apart),
    "quantize": (_address, _MATRIX, _ACTS, _int),
    "rms_norm": (_address, _address, _int, _float, _int, _address),
    "layer_norm": (_address, _address, _address, _int, _float, _address),
    "activate": (_int, _address, _int, _address),
    "finish": (POINTER(After), _address, _apart, _int, _int),
    "shrink": (POINTER(Delta), _ACTS, _int, _int, _address, _apart),
    "expand": (
        *(POINTER(Delta), POINTER(Delta), _int, _int),
        *(_address, _apart, _int, _address, _apart),
    ),
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
    shrink: Callable[..., None]
    expand: Callable[..., None]
    rotate: Callable[..., None]
    store: Callable[..., None]
    attend: Callable[..., None]

    _fields_: ClassVar = [
        ("name", c_char_p),
        *((name, ctypes.CFUNCTYPE(None, *takes)) for name, takes in _FUNCTIONS.items()),  # type: ignore[arg-type]
    ]


class BufferStruct(Structure):
    """``lm_buffer``."""

    _fields_: ClassVar = [("width", c_int32), ("local", c_int32), ("at", c_int64)]


class OpStruct(Structure):
    """``lm_op``."""

    _fields_: ClassVar = [
        *((name, c_int32) for name in ("kind", "norm", "act", "inner")),
        *((name, c_int32) for name in ("in_", "other", "third", "out")),
        *((name, c_int32) for name in ("in_at", "other_at", "third_at", "out_at")),
        *((name, c_int32) for name in ("cols", "matrix", "layer", "stream", "rope", "offset")),
        *((name, c_float) for name in ("eps", "a", "b")),
        ("table_cols", c_int32),
        *((name, c_void_p) for name in ("norm_weight", "norm_bias", "bias", "table")),
    ]


class ProgramStruct(Structure):
    """``lm_program``."""

    _fields_: ClassVar = [
        *((n, c_int32) for n in ("num_ops", "num_buffers", "num_matrices", "num_layers")),
        *((n, c_int64) for n in ("row_floats", "local_floats")),
        *((n, c_int32) for n in ("in_buffer", "out_buffer")),
        ("ops", POINTER(OpStruct)),
        ("buffers", POINTER(BufferStruct)),
        ("matrices", POINTER(Matrix)),
        ("layers", POINTER(Attention)),
    ]


class StepStruct(Structure):
    """``lm_step``."""

    _fields_: ClassVar = [
        ("rows", c_int32),
        ("num_spans", c_int32),
        *((n, c_void_p) for n in ("ids", "positions", "types", "spans", "cache")),
        ("layer_bytes", c_int64),
        *((n, c_void_p) for n in ("cosines", "sines", "rotary_widths", "in_", "out")),
        *((n, c_int64) for n in ("in_stride", "out_stride")),
        *((n, c_void_p) for n in ("adapter_of", "adapters")),
        ("low_floats", c_int64),
    ]


# ``lm_delta_term``
DELTA_TERM = np.dtype([(name, np.int32) for name in ("first", "end", "step", "part")])
# ``lm_span``
SPAN = np.dtype(
    [
        ("row", np.int32), ("count", np.int32), ("start", np.int32), ("cross_keys", np.int32),
        ("wanted", np.int32), ("padding", np.int32),
        ("table", np.uint64), ("cross_table", np.uint64),
    ]
)  # fmt: skip

# By their names in C.
STRUCTS: dict[str, Any] = {
    "lm_matrix": Matrix, "lm_acts": Acts, "lm_delta": Delta, "lm_attention": Attention,
    "lm_after": After, "lm_path": NativePath, "lm_buffer": BufferStruct, "lm_op": OpStruct,
    "lm_program": ProgramStruct, "lm_step": StepStruct,
}  # fmt: skip


def expected_layout() -> dict[str, int]:
    """What a build must say of itself before it is used."""
    expected = {"headers": headers_fingerprint()}
    for name, struct in STRUCTS.items():
        expected[name] = ctypes.sizeof(struct)
        for field, *_ in struct._fields_:
            # A trailing _: the name is a keyword of Python.
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
