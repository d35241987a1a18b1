"""The graph of an ONNX file without the rounding of activations, for the runtime to be a judge.

``quantize_dynamic`` stores weights in int8 and rounds activations to 8 bits at run time. lmstack
takes the weights and computes in float32, so what the two give differs by that rounding, which
is large. Here every ``MatMulInteger`` becomes a ``MatMul`` with weights dequantized by the onnx
package's own reading, apart from lmstack's: what is left must agree to float32's precision.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

__all__ = ["session", "without_activation_rounding"]


def without_activation_rounding(path: Path) -> onnx.ModelProto:
    model = onnx.load(path)
    graph = model.graph
    values = {tensor.name: tensor for tensor in graph.initializer}
    made = {name: node for node in graph.node for name in node.output}
    users: dict[str, list[Any]] = {}
    for node in graph.node:
        for name in node.input:
            users.setdefault(name, []).append(node)
    replaced = {}
    for node in graph.node:
        if node.op_type != "MatMulInteger":
            continue
        [cast] = users[node.output[0]]
        [product] = users[cast.output[0]]
        scales = made[next(n for n in product.input if n != cast.output[0])]
        [scale] = [n for n in scales.input if n in values]
        weight, zero, factor = (
            numpy_helper.to_array(values[n]).astype(np.float32)
            for n in (node.input[1], node.input[3], scale)
        )
        name = f"{node.name}_float"
        graph.initializer.append(numpy_helper.from_array((weight - zero) * factor, name))
        source = made[node.input[0]].input[0]
        replaced[product.output[0]] = helper.make_node(
            "MatMul", [source, name], [product.output[0]], name
        )
    nodes = [replaced.get(node.output[0], node) for node in graph.node]
    unused = ("MatMulInteger", "DynamicQuantizeLinear")
    del graph.node[:]
    graph.node.extend(node for node in nodes if node.op_type not in unused)
    _drop_dead(graph)
    return model


def _drop_dead(graph: Any) -> None:
    """Nodes that nothing asks for any more, such as products of the scales of activations."""
    kept: list[Any] = []
    wanted = {value.name for value in graph.output}
    for node in reversed(graph.node):
        if wanted & set(node.output):
            kept.append(node)
            wanted |= set(node.input)
    del graph.node[:]
    graph.node.extend(reversed(kept))


def session(model: onnx.ModelProto | Path) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    source = str(model) if isinstance(model, Path) else model.SerializeToString()
    return onnxruntime.InferenceSession(source, options, ["CPUExecutionProvider"])
