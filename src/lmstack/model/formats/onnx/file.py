"""ONNX files: graph and tensors, read through a memory map, without the onnx package.

Reads the fields that lead to weights: nodes, their names, inputs and attributes, and
initializers. Every length is checked against the file before it is used, so that a damaged or
hostile file is a `FormatError` and never a large allocation. Not covered: running a graph,
weights in files beside it, subgraphs of control flow, functions. What the tensors mean is in
`onnx_weights`.
"""

from __future__ import annotations

import dataclasses
import math
import mmap
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lmstack.core import FormatError, NotFoundError, UnsupportedError, shown
from lmstack.core.files import store_error
from lmstack.model.formats.onnx.protobuf import (
    BYTES,
    FIXED32,
    FIXED64,
    VARINT,
    Wire,
    packed_varints,
    signed,
)

__all__ = ["OnnxGraph", "OnnxNode", "OnnxTensor", "read_onnx"]

_MAX_DIMS = 8
# TensorProto.DataType, those that weights and their scales are stored in.
_DTYPES: dict[int, str] = {
    1: "<f4", 2: "|u1", 3: "|i1", 4: "<u2", 5: "<i2", 6: "<i4", 7: "<i8", 9: "|b1",
    10: "<f2", 11: "<f8", 12: "<u4", 13: "<u8", 16: "bfloat16",
}  # fmt: skip
_DTYPE_NAMES = {8: "string", 14: "complex64", 15: "complex128", 21: "uint4", 22: "int4"}
# Where the values of a type are when they are not in raw_data: field and how they are written.
_TYPED = {
    1: (4, "<f4"), 2: (5, "varint"), 3: (5, "varint"), 4: (5, "varint"), 5: (5, "varint"),
    6: (5, "varint"), 7: (7, "varint"), 9: (5, "varint"), 10: (5, "varint"), 11: (10, "<f8"),
    12: (11, "varint"), 13: (11, "varint"), 16: (5, "varint"),
}  # fmt: skip

Array = NDArray[np.generic]


@dataclass(frozen=True)
class OnnxTensor:
    """``kind``: the number of its type. Its bytes are read by `OnnxGraph.read`."""

    name: str
    shape: tuple[int, ...]
    kind: int
    raw: tuple[int, int] | None
    typed: tuple[tuple[int, int, int], ...] = ()

    @property
    def integer(self) -> bool:
        return self.kind in (2, 3, 4, 5, 6, 7, 9, 12, 13)

    @property
    def size(self) -> int:
        """Elements."""
        return math.prod(self.shape)


@dataclass(frozen=True)
class OnnxNode:
    """``op``: with its domain in front where that is not ONNX's own. ``attributes``: whole
    numbers and lists of them; others are left out."""

    name: str
    op: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, int | tuple[int, ...]] = field(default_factory=dict)


class OnnxGraph:
    """``tensors``: initializers and constants by name; ``nodes`` in the order of the file.

    Holds the map of the file until it is closed or forgotten; arrays that were read are copies.
    """

    def __init__(self, label: str, buffer: mmap.mmap) -> None:
        self.label = label
        self._buffer = buffer
        self.nodes: list[OnnxNode] = []
        self.tensors: dict[str, OnnxTensor] = {}
        self.inputs: list[str] = []
        self.outputs: list[str] = []
        _Parser(self, buffer).model()
        self._name_copies()

    def _name_copies(self) -> None:
        """Exporters keep equal tensors once, and give them their other names through Identity."""
        rest = []
        for node in self.nodes:
            if node.op == "Identity" and len(node.inputs) == 1 == len(node.outputs):
                [source], [name] = node.inputs, node.outputs
                if source in self.tensors and name not in self.tensors:
                    self.tensors[name] = dataclasses.replace(self.tensors[source], name=name)
                    continue
            rest.append(node)
        self.nodes = rest

    def read(self, name: str) -> Array:
        """The values of tensor ``name``; bfloat16 as float32, all other types as stored."""
        if name not in self.tensors:
            raise self.fail(f"a tensor {shown(name)} is asked for that it does not hold")
        tensor = self.tensors[name]
        if tensor.kind not in _DTYPES:
            kind = _DTYPE_NAMES.get(tensor.kind, f"number {tensor.kind}")
            raise UnsupportedError(
                f"{self.label}: tensor {shown(name)} is of type {kind}",
                hint="weights may be float32, float16, bfloat16, float64, int8 or uint8",
            )
        stored = _DTYPES[tensor.kind]
        dtype = np.dtype("<u2" if stored == "bfloat16" else stored)
        if tensor.raw is not None:
            start, end = tensor.raw
            values: Array = np.frombuffer(self._buffer[start:end], dtype)
        else:
            values = self._typed(tensor, dtype)
        if values.size != tensor.size:
            raise self.fail(
                f"tensor {shown(name)} of shape {tensor.shape} holds {values.size} values"
            )
        if stored == "bfloat16":
            values = (values.astype(np.uint32) << np.uint32(16)).view(np.float32)
        return values.reshape(tensor.shape)

    def _typed(self, tensor: OnnxTensor, dtype: np.dtype[np.generic]) -> Array:
        number, written = _TYPED[tensor.kind]
        parts: list[Array] = []
        for where, start, end in tensor.typed:
            if where != number:
                raise self.fail(f"tensor {shown(tensor.name)} has values of another type")
            data = self._buffer[start:end]
            if written == "varint":
                numbers = packed_varints(data)
                if numbers is None:
                    raise self.fail(f"tensor {shown(tensor.name)} has a number that is cut")
                # Halves and bfloat16 are bit patterns in the low 16 bits; the rest are numbers.
                parts.append(
                    numbers.astype(np.uint16).view(dtype)
                    if dtype.kind == "f"
                    else numbers.view(np.int64).astype(dtype)
                )
            elif len(data) % dtype.itemsize:
                raise self.fail(f"tensor {shown(tensor.name)} has a number that is cut")
            else:
                parts.append(np.frombuffer(data, written))
        return np.concatenate(parts) if parts else np.empty(0, dtype)

    def fail(self, problem: str) -> FormatError:
        return FormatError(
            f"{self.label} is not a valid ONNX file: {problem}",
            hint="the file is damaged or incomplete; fetch the model again",
        )

    @property
    def file_size(self) -> int:
        """Bytes of the file."""
        return len(self._buffer)

    def close(self) -> None:
        self._buffer.close()


def read_onnx(path: Path | str) -> OnnxGraph:
    """Open ``path`` and read all but the weights."""
    path = Path(path)
    try:
        with path.open("rb") as file:
            buffer = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except FileNotFoundError:
        raise NotFoundError(f"{path} does not exist", hint="check the path") from None
    except ValueError:
        raise FormatError(f"{path} is empty", hint="fetch the model again") from None
    except OSError as error:
        raise store_error(error, path, "reading") from error
    try:
        return OnnxGraph(str(path), buffer)
    except BaseException:
        buffer.close()
        raise


class _Parser(Wire):
    """Fills an `OnnxGraph` from its file. One message is the bytes ``[start, end)``."""

    def __init__(self, graph: OnnxGraph, buffer: mmap.mmap) -> None:
        super().__init__(buffer, graph.fail)
        self.graph = graph

    def model(self) -> None:
        graphs = 0
        for number, wire, a, b in self.fields(0, len(self.buffer)):
            if number == 7:
                self.need(wire, BYTES, "the graph")
                graphs += 1
                if graphs > 1:
                    raise self.graph.fail("it has two graphs")
                self.graph_fields(a, b)
            elif number == 25:
                raise UnsupportedError(
                    f"{self.graph.label} defines functions of its own",
                    hint="export it again with functions inlined",
                )
        if not graphs:
            raise self.graph.fail("it has no graph")

    def graph_fields(self, start: int, end: int) -> None:
        graph = self.graph
        for number, wire, a, b in self.fields(start, end):
            if number == 1:
                self.need(wire, BYTES, "a node")
                self.node(a, b)
            elif number == 5:
                self.need(wire, BYTES, "an initializer")
                self.keep(self.tensor(a, b))
            elif number == 11:
                self.need(wire, BYTES, "an input")
                graph.inputs.append(self.value_name(a, b))
            elif number == 12:
                self.need(wire, BYTES, "an output")
                graph.outputs.append(self.value_name(a, b))
            elif number == 15:
                raise UnsupportedError(
                    f"{graph.label} has sparse tensors", hint="export it with dense weights"
                )

    def keep(self, tensor: OnnxTensor) -> None:
        if not tensor.name or tensor.name in self.graph.tensors:
            raise self.graph.fail(f"two tensors are called {shown(tensor.name)}")
        self.graph.tensors[tensor.name] = tensor

    def value_name(self, start: int, end: int) -> str:
        for number, wire, a, b in self.fields(start, end):
            if number == 1:
                return self.text(wire, a, b, "the name of a value")
        raise self.graph.fail(f"an input or output without a name at byte {start}")

    def node(self, start: int, end: int) -> None:
        name = op = domain = ""
        inputs: list[str] = []
        outputs: list[str] = []
        attributes: dict[str, int | tuple[int, ...]] = {}
        constant: OnnxTensor | None = None
        for number, wire, a, b in self.fields(start, end):
            if number == 1:
                inputs.append(self.text(wire, a, b, "an input of a node"))
            elif number == 2:
                outputs.append(self.text(wire, a, b, "an output of a node"))
            elif number == 3:
                name = self.text(wire, a, b, "the name of a node")
            elif number == 4:
                op = self.text(wire, a, b, "the operation of a node")
            elif number == 7:
                domain = self.text(wire, a, b, "the domain of a node")
            elif number == 5:
                self.need(wire, BYTES, "an attribute")
                key, value = self.attribute(a, b)
                if isinstance(value, OnnxTensor):
                    constant = value
                elif value is not None:
                    attributes[key] = value
        if domain not in ("", "ai.onnx"):
            op = f"{domain}.{op}"
        if op == "Constant" and constant is not None:
            if len(outputs) != 1:
                raise self.graph.fail(f"a constant {shown(name)} with {len(outputs)} outputs")
            self.keep(
                OnnxTensor(outputs[0], constant.shape, constant.kind, constant.raw, constant.typed)
            )
            return
        self.graph.nodes.append(OnnxNode(name, op, tuple(inputs), tuple(outputs), attributes))

    def attribute(
        self, start: int, end: int
    ) -> tuple[str, int | tuple[int, ...] | OnnxTensor | None]:
        name = ""
        value: int | OnnxTensor | None = None
        many: list[int] = []
        for number, wire, a, b in self.fields(start, end):
            if number == 1:
                name = self.text(wire, a, b, "the name of an attribute")
            elif number == 3:
                self.need(wire, VARINT, "a whole number")
                value = signed(a)
            elif number == 5:
                self.need(wire, BYTES, "a tensor")
                value = self.tensor(a, b)
            elif number == 8:
                many += self.integers(wire, a, b, "a list of numbers")
        return name, tuple(many) if many else value

    def tensor(self, start: int, end: int) -> OnnxTensor:
        name, kind = "", 0
        dims: list[int] = []
        raw: tuple[int, int] | None = None
        typed: list[tuple[int, int, int]] = []
        for number, wire, a, b in self.fields(start, end):
            if number == 1:
                dims += self.integers(wire, a, b, "the shape of a tensor")
            elif number == 2:
                self.need(wire, VARINT, "the type of a tensor")
                kind = a
            elif number == 8:
                name = self.text(wire, a, b, "the name of a tensor")
            elif number == 9:
                self.need(wire, BYTES, "the data of a tensor")
                raw = (a, b)
            elif number in (4, 5, 7, 10, 11):
                typed.append(self.typed_range(number, wire, a, b))
            elif number in (3, 13) or (number == 14 and a != 0):
                raise UnsupportedError(
                    f"{self.graph.label} keeps the values of {shown(name)} in another file",
                    hint="save the model as one file: onnx.save(onnx.load(IN), OUT)",
                )
        if len(dims) > _MAX_DIMS or any(not 0 <= d < 1 << 40 for d in dims):
            raise self.graph.fail(f"tensor {shown(name)} of shape {shown(dims)}")
        found = OnnxTensor(name, tuple(dims), kind, raw, tuple(typed))
        if raw is not None and kind in _DTYPES:
            width = 2 if _DTYPES[kind] == "bfloat16" else np.dtype(_DTYPES[kind]).itemsize
            if typed or found.size * width != raw[1] - raw[0]:
                raise self.graph.fail(
                    f"tensor {shown(name)} of shape {found.shape} in {raw[1] - raw[0]} bytes"
                )
        return found

    def typed_range(self, number: int, wire: int, a: int, b: int) -> tuple[int, int, int]:
        """Where the values of a typed field are. One value a field, as old writers have it, is
        allowed for fixed numbers, whose bytes are the same; no writer does it for varints."""
        widths = {4: FIXED32, 10: FIXED64}
        if wire != widths.get(number):
            self.need(wire, BYTES, "the values of a tensor")
        return number, a, b
