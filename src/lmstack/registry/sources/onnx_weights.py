"""The weights of a model that was exported to ONNX, under the names they had in torch.

Exporters keep the name of a parameter only where its bytes are kept; a linear layer's matrix is
stored transposed and anonymous (``onnx::MatMul_1525``). The name of the node that uses it still
holds the path of its module (``/encoder/layer.0/output/dense/MatMul``), so the name can be had
back exactly, and what the node does with the matrix says how it lies. Quantized weights become
float32, as the runtime would compute with them. Covered: float exports, dynamic int8
quantization (``MatMulInteger``, ``DynamicQuantizeMatMul``), ``DequantizeLinear`` and the 4- and
8-bit blocks of ``MatMulNBits``. Every weight finds its place or the file is refused: fused
operations, whose weights no longer are those of the model, are named in the error.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lmstack.core import FormatError, UnsupportedError, shown
from lmstack.registry.sources.onnx_file import OnnxGraph, OnnxNode, OnnxTensor

__all__ = ["OnnxWeights"]

_FLOATS = {1: torch.float32, 10: torch.float16, 16: torch.float32, 11: torch.float64}
# What hands a named parameter on as it is, or computes with it elementwise.
_PLAIN = frozenset(
    ("Add", "Mul", "Sub", "Div", "Pow", "Transpose", "Cast", "Identity", "Reshape", "Unsqueeze",
     "Expand", "Where", "Concat", "Conv", "Gather", "Slice", "Squeeze")
)  # fmt: skip
_NORMS = frozenset(("LayerNormalization", "SimplifiedLayerNormalization", "RMSNormalization"))
# What may stand between a look-up in a quantized table and its dequantization.
_MOVES = frozenset(("Transpose", "Reshape", "Unsqueeze", "Squeeze", "Identity"))
_MOST_MOVES = 8
_CALL = re.compile(r"(.+)_\d+\.(weight|bias)")
_MOST_GROWTH, _FREE_GROWTH = 16, 1 << 26
_NBITS = "com.microsoft.MatMulNBits"
_DYNAMIC = "com.microsoft.DynamicQuantizeMatMul"
_EXPORT_AGAIN = "export it again without graph optimizations, or give its safetensors"

Floats = NDArray[np.floating]


@dataclass(frozen=True)
class _Weight:
    """``read`` gives the values in torch's layout."""

    shape: tuple[int, ...]
    dtype: torch.dtype
    read: Callable[[], Floats]


class OnnxWeights:
    """A `TensorSource` over a graph. ``renames``: prefixes of recovered names and what stands
    for them in the checkpoint, for models that were wrapped when they were exported."""

    def __init__(self, graph: OnnxGraph, renames: Mapping[str, str] | None = None) -> None:
        self.label = graph.label
        self._graph = graph
        self._renames = sorted((renames or {}).items(), key=lambda pair: -len(pair[0]))
        self._uses: dict[str, list[tuple[OnnxNode, int]]] = {}
        self._made: dict[str, OnnxNode] = {}
        for node in graph.nodes:
            for index, name in enumerate(node.inputs):
                self._uses.setdefault(name, []).append((node, index))
            for name in node.outputs:
                self._made[name] = node
        self._weights: dict[str, _Weight] = {}
        self._taken: set[str] = set()
        self._place_all()
        # Four bits become a float32, and names share tensors; more than that is no model.
        values = sum(math.prod(weight.shape) for weight in self._weights.values())
        if values * 4 > _MOST_GROWTH * graph.file_size + _FREE_GROWTH:
            raise graph.fail(f"{graph.file_size} bytes would become {values} weights")
        self._merge_calls()

    def names(self) -> Collection[str]:
        return self._weights.keys()

    def shape(self, name: str) -> tuple[int, ...]:
        return self._weights[name].shape

    def dtype(self, name: str) -> torch.dtype:
        return self._weights[name].dtype

    def read(self, name: str) -> Tensor:
        """The tensor ``name``, dequantized."""
        weight = self._weights[name]
        return torch.from_numpy(np.array(weight.read(), order="C"))

    def read_into(self, name: str, out: Tensor) -> None:
        out.copy_(self.read(name))

    def _place_all(self) -> None:
        later: list[OnnxTensor] = []
        for tensor in self._graph.tensors.values():
            uses = self._uses.get(tensor.name, [])
            placed = [self._place(tensor, node, index) for node, index in uses]
            named = [found for found in placed if found is not None]
            if named:
                self._keep(tensor, named)
            elif uses:
                later.append(tensor)
        for tensor in later:
            if tensor.name not in self._taken and _is_weight(tensor):
                node, _ = self._uses[tensor.name][0]
                raise UnsupportedError(
                    f"{self.label}: the weight {shown(tensor.name)} of shape {tensor.shape} goes "
                    f"into the operation {node.op} {shown(node.name)}, which does not say whose "
                    "it is",
                    hint=_EXPORT_AGAIN,
                )

    def _merge_calls(self) -> None:
        """A module that is called again (ALBERT's layers) has a copy of its matrix a call, under
        a path that ends in the number of the call."""
        for name in list(self._weights):
            match = _CALL.fullmatch(name)
            first = f"{match[1]}.{match[2]}" if match else name
            if match is None or first not in self._weights:
                continue
            if self._weights[first].shape == self._weights[name].shape and torch.equal(
                self.read(first), self.read(name)
            ):
                del self._weights[name]

    def _keep(self, tensor: OnnxTensor, placed: list[tuple[str, _Weight]]) -> None:
        """One stored tensor is one weight, whatever the number of its uses: a small file cannot
        turn into a large model."""
        name, weight = placed[0]
        for other, again in placed[1:]:
            if other != name or again.shape != weight.shape:
                raise UnsupportedError(
                    f"{self.label}: {shown(tensor.name)} is the weight of both {shown(name)} and "
                    f"{shown(other)}",
                    hint=_EXPORT_AGAIN,
                )
        for prefix, instead in self._renames:
            if name.startswith(prefix):
                name = instead + name.removeprefix(prefix)
                break
        if name in self._weights:
            raise FormatError(
                f"{self.label} holds {shown(name)} twice", hint="do not trust this file"
            )
        self._weights[name] = weight

    def _place(self, tensor: OnnxTensor, node: OnnxNode, index: int) -> tuple[str, _Weight] | None:
        """Name and reader of ``tensor`` as input ``index`` of ``node``; None if no weight."""
        if node.op == "MatMulInteger":
            return self._matmul_integer(tensor, node) if index == 1 else None
        if node.op == _DYNAMIC:
            return self._dynamic(tensor, node, index)
        if node.op == _NBITS:
            return self._nbits(tensor, node, index)
        if node.op == "DequantizeLinear":
            return self._dequantized(tensor, node) if index == 0 else None
        if tensor.integer:
            return self._gathered(tensor, node) if index == 0 else None
        if node.op in ("MatMul", "Gemm") and index == 1:
            flipped = node.op == "MatMul" or not node.attributes.get("transB")
            return self._linear_name(tensor, node), self._plain(tensor, flipped)
        if node.op == "Gemm" and index == 2:
            return self._named(tensor) or self._path(node, "bias"), self._plain(tensor)
        if node.op in _NORMS and index in (1, 2):
            kind = "weight" if index == 1 else "bias"
            return self._named(tensor) or self._path(node, kind), self._plain(tensor)
        name = self._named(tensor)
        if name is not None and node.op in _PLAIN:
            return name, self._plain(tensor)
        return None

    def _matmul_integer(self, tensor: OnnxTensor, node: OnnxNode) -> tuple[str, _Weight]:
        scale, zero = self._output_scale(node), _input(node, 3)
        return self._affine(tensor, node, scale, zero, axis=1, flipped=True)

    def _dynamic(
        self, tensor: OnnxTensor, node: OnnxNode, index: int
    ) -> tuple[str, _Weight] | None:
        if index == 4:
            return self._named(tensor) or self._path(node, "bias"), self._plain(tensor)
        if index != 1:
            return None
        scale, zero = _input(node, 2), _input(node, 3)
        return self._affine(tensor, node, scale, zero, axis=1, flipped=True)

    def _output_scale(self, node: OnnxNode) -> str:
        """The scale of the weights of a ``MatMulInteger``: its sums are made floats, then
        multiplied by the product of the scales of both sides."""
        for cast, _ in self._uses.get(_output(node), []):
            for product, index in self._uses.get(_output(cast), []):
                if cast.op != "Cast" or product.op != "Mul" or len(product.inputs) != 2:
                    continue
                made = self._made.get(product.inputs[1 - index])
                scales = [n for n in (made.inputs if made else ()) if n in self._graph.tensors]
                if made is not None and made.op == "Mul" and len(scales) == 1:
                    return scales[0]
        raise UnsupportedError(
            f"{self.label}: the scale of the weights of {shown(node.name)} cannot be found",
            hint=_EXPORT_AGAIN,
        )

    def _dequantized(self, tensor: OnnxTensor, node: OnnxNode) -> tuple[str, _Weight]:
        axis = node.attributes.get("axis", 1)
        if not isinstance(axis, int) or node.attributes.get("block_size"):
            raise UnsupportedError(
                f"{self.label}: {shown(node.name)} dequantizes by blocks", hint=_EXPORT_AGAIN
            )
        if _output(node) not in self._uses:
            raise self._graph.fail(f"nothing uses what {shown(node.name)} gives")
        user, index = self._uses[_output(node)][0]
        matrix = user.op in ("MatMul", "Gemm") and index == 1
        flipped = matrix and (user.op == "MatMul" or not user.attributes.get("transB"))
        scale, zero = _input(node, 1), _input(node, 2)
        return self._affine(tensor, user, scale, zero, axis=axis, flipped=flipped)

    def _gathered(self, tensor: OnnxTensor, node: OnnxNode) -> tuple[str, _Weight] | None:
        """Rows of a quantized table, dequantized after they were looked up, and perhaps moved."""
        if node.op != "Gather":
            return None
        at = _output(node)
        for _ in range(_MOST_MOVES):
            following = self._uses.get(at, [])
            for user, index in following:
                if user.op == "DequantizeLinear" and index == 0:
                    # One scale for the whole table: rows that moved keep it.
                    return self._affine(tensor, node, _input(user, 1), _input(user, 2), axis=None)
            moved = [_output(n) for n, i in following if n.op in _MOVES and i == 0]
            if not moved:
                return None
            at = moved[0]
        return None

    def _affine(
        self,
        tensor: OnnxTensor,
        node: OnnxNode,
        scale: str,
        zero: str,
        *,
        axis: int | None,
        flipped: bool = False,
    ) -> tuple[str, _Weight]:
        """(q - zero) * scale, with one of each for the tensor or for each index of ``axis``."""
        dims = len(tensor.shape)
        if (dims != 2 and flipped) or not tensor.integer:
            raise self._odd(tensor)
        per_axis = axis is not None and -dims <= axis < dims
        channels = tensor.shape[axis] if axis is not None and per_axis else 1
        for name in (scale, zero) if zero else (scale,):
            self._check_size(name, (1, channels), tensor)

        def spread(name: str) -> Floats:
            values = self._graph.read(name).astype(np.float32).reshape(-1)
            if values.size == 1:
                return values
            shape = [1] * dims
            shape[axis or 0] = values.size
            return values.reshape(shape)

        def read() -> Floats:
            values = self._graph.read(tensor.name).astype(np.float32)
            if zero:
                values -= spread(zero)
            values *= spread(scale)
            return values.T if flipped else values

        shape = tensor.shape[::-1] if flipped else tensor.shape
        return self._linear_name(tensor, node), _Weight(shape, torch.float32, read)

    def _nbits(self, tensor: OnnxTensor, node: OnnxNode, index: int) -> tuple[str, _Weight] | None:
        if index == 5:
            return self._named(tensor) or self._path(node, "bias"), self._plain(tensor)
        if index != 1:
            return None
        numbers = [node.attributes.get(key) for key in ("N", "K", "block_size")]
        rows, columns, block = (n if isinstance(n, int) else 0 for n in numbers)
        bits = node.attributes.get("bits", 4)
        if bits not in (4, 8) or _input(node, 4):
            raise UnsupportedError(
                f"{self.label}: {shown(node.name)} has {bits} bits or reordered groups",
                hint="implemented: 4 and 8 bits in order",
            )
        if min(rows, columns, block) < 1 or block % 2 or max(rows, columns) > 1 << 31:
            raise self._odd(tensor)
        blocks = -(-columns // block)
        scale, zero = _input(node, 2), _input(node, 3)
        packed = -(-blocks * bits // 8)
        self._check_size(tensor.name, (rows * blocks * block * bits // 8,), tensor)
        self._check_size(scale, (rows * blocks,), tensor)
        if zero:
            floating = zero in self._graph.tensors and not self._graph.tensors[zero].integer
            self._check_size(zero, (rows * (blocks if floating else packed),), tensor)

        def read() -> Floats:
            codes = _unpacked(self._graph.read(tensor.name).reshape(rows * blocks, -1), bits)
            values = codes.astype(np.float32).reshape(rows, blocks, block)
            scales = self._graph.read(scale).astype(np.float32).reshape(rows, blocks, 1)
            zeros: Floats | float = float(1 << (bits - 1))
            if zero:
                found = self._graph.read(zero).reshape(rows, -1)
                if found.dtype.kind != "f":
                    found = _unpacked(found.view(np.uint8), bits)[:, :blocks]
                zeros = found.astype(np.float32).reshape(rows, blocks, 1)
            return ((values - zeros) * scales).reshape(rows, -1)[:, :columns]

        weight = _Weight((rows, columns), torch.float32, read)
        return self._linear_name(tensor, node), weight

    def _check_size(self, name: str, sizes: tuple[int, ...], tensor: OnnxTensor) -> None:
        """``name``, a companion of ``tensor``, is there with as many values as it must have."""
        if name not in self._graph.tensors or self._graph.tensors[name].size not in sizes:
            raise self._odd(tensor)
        self._taken.add(name)

    def _plain(self, tensor: OnnxTensor, flipped: bool = False) -> _Weight:
        if flipped and len(tensor.shape) != 2:
            raise self._odd(tensor)
        if tensor.kind not in _FLOATS:
            raise self._odd(tensor)

        def read() -> Floats:
            values: Floats = self._graph.read(tensor.name)  # type: ignore[assignment]
            return values.T if flipped else values

        shape = tensor.shape[::-1] if flipped else tensor.shape
        return _Weight(shape, _FLOATS[tensor.kind], read)

    def _odd(self, tensor: OnnxTensor) -> FormatError:
        return self._graph.fail(
            f"tensor {shown(tensor.name)} of shape {tensor.shape} does not fit its operation"
        )

    def _named(self, tensor: OnnxTensor) -> str | None:
        """The parameter's own name, where the exporter kept it."""
        name = tensor.name.removesuffix("_quantized").removesuffix("_Q4").removesuffix("_Q8")
        return name if name.endswith((".weight", ".bias")) and "::" not in name else None

    def _linear_name(self, tensor: OnnxTensor, node: OnnxNode) -> str:
        return self._named(tensor) or self._path(node, "weight")

    def _path(self, node: OnnxNode, kind: str) -> str:
        parts = node.name.strip("/").split("/")[:-1]
        if not node.name.startswith("/") or not parts or not all(parts):
            raise UnsupportedError(
                f"{self.label}: the node {shown(node.name)} does not say whose weights it has",
                hint="torch.onnx.export(..., dynamo=False) keeps the names of modules: export it "
                "again, or give its safetensors",
            )
        return ".".join((*parts, kind))


def _input(node: OnnxNode, index: int) -> str:
    """Empty where it is left out."""
    return node.inputs[index] if index < len(node.inputs) else ""


def _output(node: OnnxNode) -> str:
    return node.outputs[0] if node.outputs else ""


def _is_weight(tensor: OnnxTensor) -> bool:
    """Not a single number, and of a type that weights have: an index or a shape is none."""
    return tensor.size > 1 and tensor.kind in (*_FLOATS, 2, 3)


def _unpacked(values: NDArray[np.generic], bits: int) -> NDArray[np.uint8]:
    """Codes of ``bits`` bits along the last axis, the lower half of each byte first."""
    octets = values.astype(np.uint8, copy=False)
    if bits == 8:
        return octets
    pair = np.stack((octets & 0x0F, octets >> 4), axis=-1)
    return pair.reshape(*octets.shape[:-1], -1)
