"""ONNX files: the nodes and tensors of a graph, without the onnx package.

Reads the fields that lead to weights: nodes, their names, inputs and attributes, and
initializers. Not covered: running a graph, weights in files beside it, subgraphs of control flow,
functions. What the tensors mean is in `onnx_weights`.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lmstack.core import FormatError, NotFoundError, UnsupportedError, shown
from lmstack.core.files import store_error
from lmstack.text.vocab.protobuf import Schema, parse_message

__all__ = ["OnnxGraph", "OnnxNode", "OnnxTensor", "read_onnx"]

_SCHEMA: Schema = {
    "Model": {"graph": (7, "Graph"), "functions": (25, "bytes*")},
    "Graph": {
        "node": (1, "Node*"), "initializer": (5, "Tensor*"), "input": (11, "Value*"),
        "output": (12, "Value*"), "sparse_initializer": (15, "bytes*"),
    },
    "Value": {"name": (1, "string")},
    "Node": {
        "input": (1, "string*"), "output": (2, "string*"), "name": (3, "string"),
        "op_type": (4, "string"), "attribute": (5, "Attribute*"), "domain": (7, "string"),
    },
    "Attribute": {
        "name": (1, "string"), "i": (3, "int64"), "t": (5, "Tensor"), "ints": (8, "int64*"),
    },
    "Tensor": {
        "dims": (1, "int64*"), "data_type": (2, "int32"), "segment": (3, "bytes"),
        "float_data": (4, "float*"), "int32_data": (5, "int32*"), "int64_data": (7, "int64*"),
        "name": (8, "string"), "raw_data": (9, "bytes"), "double_data": (10, "double*"),
        "uint64_data": (11, "uint64*"), "external_data": (13, "bytes*"),
        "data_location": (14, "int32"),
    },
}  # fmt: skip
_MAX_DIMS = 8
_MOST_PARTS = 1 << 20  # a graph of a large model has 10^5
# TensorProto.DataType, those that weights and their scales are stored in.
_DTYPES: dict[int, str] = {
    1: "<f4", 2: "|u1", 3: "|i1", 4: "<u2", 5: "<i2", 6: "<i4", 7: "<i8", 9: "|b1",
    10: "<f2", 11: "<f8", 12: "<u4", 13: "<u8", 16: "bfloat16",
}  # fmt: skip
_DTYPE_NAMES = {8: "string", 14: "complex64", 15: "complex128", 21: "uint4", 22: "int4"}
# Where values are when they are not in raw_data; all others are in int32_data.
_TYPED = {1: "float_data", 7: "int64_data", 11: "double_data", 12: "uint64_data", 13: "uint64_data"}

Array = NDArray[np.generic]


@dataclass(frozen=True)
class OnnxTensor:
    """``kind``: the number of its type. ``message``: its values, for `OnnxGraph.read`."""

    name: str
    shape: tuple[int, ...]
    kind: int
    message: Any = field(repr=False)

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
    """``tensors``: initializers and constants by name; ``nodes`` in the order of the file;
    ``file_size``: bytes."""

    def __init__(self, label: str, data: bytes) -> None:
        self.label, self.file_size = label, len(data)
        self.nodes: list[OnnxNode] = []
        self.tensors: dict[str, OnnxTensor] = {}
        try:
            model = parse_message(_SCHEMA, "Model", data)
        except ValueError as error:
            raise self.fail(str(error)) from error
        if not model.HasField("graph"):
            raise self.fail("it has no graph")
        if len(model.graph.node) + len(model.graph.initializer) > _MOST_PARTS:
            raise self.fail(f"it has more than {_MOST_PARTS} nodes and tensors")
        for what, found in (
            ("functions of its own", model.functions),
            ("sparse tensors", model.graph.sparse_initializer),
        ):
            if found:
                raise UnsupportedError(
                    f"{label} has {what}", hint="export it again with dense weights, inlined"
                )
        for tensor in model.graph.initializer:
            self._keep(tensor.name, tensor)
        self._read_nodes(model.graph.node)
        self.inputs, self.outputs = (
            [value.name for value in values] for values in (model.graph.input, model.graph.output)
        )

    def _read_nodes(self, nodes: Iterable[Any]) -> None:
        for node in nodes:
            constant = next((a.t for a in node.attribute if a.HasField("t")), None)
            if node.op_type == "Constant" and constant is not None and len(node.output) == 1:
                self._keep(node.output[0], constant)
                continue
            inputs, outputs = tuple(node.input), tuple(node.output)
            if node.op_type == "Identity" and len(inputs) == 1 == len(outputs):
                # Exporters keep equal tensors once, and give them their other names so.
                [source], [name] = inputs, outputs
                if source in self.tensors and name not in self.tensors:
                    self.tensors[name] = dataclasses.replace(self.tensors[source], name=name)
                    continue
            attributes = {
                a.name: tuple(a.ints) if a.ints else a.i
                for a in node.attribute
                if a.ints or a.HasField("i")
            }
            own = node.domain in ("", "ai.onnx")
            op = node.op_type if own else f"{node.domain}.{node.op_type}"
            self.nodes.append(OnnxNode(node.name, op, inputs, outputs, attributes))

    def _keep(self, name: str, message: Any) -> None:
        if not name or name in self.tensors:
            raise self.fail(f"two tensors are called {shown(name)}")
        if message.external_data or message.data_location or message.HasField("segment"):
            raise UnsupportedError(
                f"{self.label} keeps the values of {shown(name)} in another file",
                hint="save the model as one file: onnx.save(onnx.load(IN), OUT)",
            )
        shape = tuple(message.dims)
        if len(shape) > _MAX_DIMS or any(not 0 <= size < 1 << 40 for size in shape):
            raise self.fail(f"tensor {shown(name)} of shape {shown(shape)}")
        self.tensors[name] = OnnxTensor(name, shape, message.data_type, message)

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
        values = self._values(tensor, np.dtype("<u2" if stored == "bfloat16" else stored))
        if stored == "bfloat16":
            values = (values.astype(np.uint32) << np.uint32(16)).view(np.float32)
        return values.reshape(tensor.shape)

    def _values(self, tensor: OnnxTensor, dtype: np.dtype[np.generic]) -> Array:
        if raw := tensor.message.raw_data:
            size = len(raw) / dtype.itemsize
            values: Array = np.frombuffer(raw[: int(size) * dtype.itemsize], dtype)
        else:
            typed = getattr(tensor.message, _TYPED.get(tensor.kind, "int32_data"))
            size = len(typed)
            # Halves and bfloat16 are bit patterns in the low 16 bits; the rest are numbers.
            as_bits = dtype == np.float16
            values = np.array(typed)
            values = values.astype(np.uint16).view(dtype) if as_bits else values.astype(dtype)
        if size != tensor.size:
            raise self.fail(
                f"tensor {shown(tensor.name)} of shape {tensor.shape} holds {size:g} values"
            )
        return values

    def fail(self, problem: str) -> FormatError:
        return FormatError(
            f"{self.label} is not a valid ONNX file: {problem}",
            hint="the file is damaged or incomplete; fetch the model again",
        )


def read_onnx(path: Path | str) -> OnnxGraph:
    """The graph in ``path``."""
    path = Path(path)
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise NotFoundError(f"{path} does not exist", hint="check the path") from None
    except OSError as error:
        raise store_error(error, path, "reading") from error
    return OnnxGraph(str(path), data)
