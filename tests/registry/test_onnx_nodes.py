"""What each operation of a graph says of the weights that go into it."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch
from onnx import helper
from tests.registry.test_onnx_weights import MATRIX, graph_file, weights_of

from lmstack.core import FormatError, UnsupportedError
from lmstack.registry.sources import onnx_weights
from lmstack.registry.sources.onnx_file import read_onnx
from lmstack.registry.sources.onnx_weights import OnnxWeights

VECTOR = np.float32([5, 6])
CODES = np.arange(8, dtype=np.int8).reshape(4, 2)
SQUARE = np.arange(4, dtype=np.int8).reshape(2, 2)


@pytest.fixture
def graph(tmp_path):
    """The weights of a graph of ``nodes``: arguments of `make_node`, attributes last."""

    def build(tensors, *nodes, renames=None):
        made = [helper.make_node(*node[:-1], **node[-1]) for node in nodes]
        return OnnxWeights(read_onnx(graph_file(tmp_path / "m.onnx", made, tensors)), renames)

    return build


@pytest.mark.parametrize(
    ("op", "index", "name"),
    [
        ("Gemm", 2, "a.b.bias"),
        ("LayerNormalization", 1, "a.b.weight"),
        ("LayerNormalization", 2, "a.b.bias"),
        ("SimplifiedLayerNormalization", 1, "a.b.weight"),
        ("RMSNormalization", 1, "a.b.weight"),
    ],
)
def test_a_vector_without_a_name_has_that_of_its_module(graph, op, index, name):
    inputs = ["x", "y", "z"]
    inputs[index] = "onnx::7"
    found = graph({"onnx::7": VECTOR}, (op, inputs, ["o"], "/a/b/Op", {}))
    assert list(found.names()) == [name]
    np.testing.assert_array_equal(found.read(name), VECTOR)
    inputs[index] = "own.bias"
    found = graph({"own.bias": VECTOR}, (op, inputs, ["o"], "/a/b/Op", {}))
    assert list(found.names()) == ["own.bias"]


@pytest.mark.parametrize("index", [0, 3])
@pytest.mark.parametrize("op", ["MatMul", "Gemm", "LayerNormalization"])
def test_a_matrix_at_another_place_is_nobodys(graph, op, index):
    inputs = ["x", "y", "z", "w"]
    inputs[index] = "onnx::7"
    with pytest.raises(UnsupportedError, match=f"'onnx::7' of shape .* operation {op} '/a/b/Op'"):
        graph({"onnx::7": MATRIX}, (op, inputs, ["o"], "/a/b/Op", {}))


def test_what_a_bias_or_a_norm_is_added_with_is_a_weight_where_it_has_a_name(graph):
    for op in ("Add", "Mul", "Conv", "Gather", "Where"):
        found = graph({"a.weight": VECTOR}, (op, ["x", "a.weight"], ["o"], "n", {}))
        assert found.shape("a.weight") == (2,)
    for name in ("a.scale", "onnx::a.weight"):
        with pytest.raises(UnsupportedError, match=f"the weight '{name}' of shape"):
            graph({name: VECTOR}, ("Add", ["x", name], ["o"], "n", {}))


@pytest.mark.parametrize("end", ["_quantized", "_Q4", "_Q8", ""])
def test_what_a_quantizer_adds_to_a_name_is_taken_off(graph, end):
    name = f"a.weight{end}"
    found = graph({name: MATRIX}, ("MatMul", ["x", name], ["o"], "/b/MatMul", {}))
    assert list(found.names()) == ["a.weight"]


@pytest.mark.parametrize("name", ["a/b/MatMul", "/MatMul", "/a//MatMul", "MatMul", ""])
def test_a_node_without_the_path_of_a_module_names_no_weight(graph, name):
    with pytest.raises(UnsupportedError, match=f"the node '{name}' does not say whose"):
        graph({"onnx::7": MATRIX}, ("MatMul", ["x", "onnx::7"], ["o"], name, {}))


def test_numbers_indices_and_shapes_are_no_weights(graph):
    tensors = {
        "one": np.float32([1]), "shape": np.int64([1, 2]), "flags": np.array([True, False]),
        "unused": MATRIX,
    }  # fmt: skip
    nodes = [("Add", ["x", name], [f"o{name}"], "n", {}) for name in ("one", "shape", "flags")]
    assert list(graph(tensors, *nodes).names()) == []
    for kind in (np.float16, np.float64, np.int8, np.uint8):
        with pytest.raises(UnsupportedError, match=r"the weight 't' of shape \(2,\)"):
            graph({"t": np.array([1, 2], kind)}, ("Sub", ["x", "t"], ["o"], "n", {}))


@pytest.mark.parametrize(
    ("kind", "dtype"),
    [(np.float32, torch.float32), (np.float16, torch.float16), (np.float64, torch.float64)],
)
def test_a_float_keeps_its_type_and_lies_as_torch_wants_it(graph, kind, dtype):
    tensors = {"a.weight": MATRIX.astype(kind)}
    found = graph(tensors, ("MatMul", ["x", "a.weight"], ["o"], "/a/MatMul", {}))
    assert (found.dtype("a.weight"), found.shape("a.weight")) == (dtype, (2, 4))
    read = found.read("a.weight")
    assert (read.dtype, read.is_contiguous()) == (dtype, True)
    out = torch.empty(2, 4)
    found.read_into("a.weight", out)
    np.testing.assert_array_equal(out, MATRIX.T)


def test_a_matrix_of_three_dimensions_or_of_numbers_is_odd(graph):
    for tensor in (MATRIX.reshape(2, 2, 2), VECTOR):
        with pytest.raises(FormatError, match=r"tensor 'a\.weight' of shape .* does not fit"):
            graph({"a.weight": tensor}, ("MatMul", ["x", "a.weight"], ["o"], "/a/MatMul", {}))
    flat = ("Gemm", ["x", "a.weight"], ["o"], "/a/Gemm", {"transB": 1})
    assert graph({"a.weight": MATRIX}, flat).shape("a.weight") == (4, 2)


def test_the_longest_prefix_is_renamed_and_once(graph):
    renames = {"a.": "x.", "a.b.": "a.", "": "z."}
    tensors = {"a.b.weight": VECTOR, "a.weight": VECTOR, "b.weight": VECTOR}
    nodes = [("Add", ["x", name], [f"o{name}"], "n", {}) for name in tensors]
    found = graph(tensors, *nodes, renames=renames)
    assert list(found.names()) == ["a.weight", "x.weight", "z.b.weight"]


def test_one_tensor_of_two_uses_is_one_weight_if_they_agree_and_two_of_one_name_are_refused(graph):
    uses = [("MatMul", ["x", "a.weight"], [out], f"/{out}/MatMul", {}) for out in "ab"]
    assert graph({"a.weight": MATRIX}, *uses).shape("a.weight") == (2, 4)
    uses[1] = ("Add", ["x", "a.weight"], ["b"], "n", {})
    with pytest.raises(
        UnsupportedError, match=r"is the weight of both 'a\.weight' and 'a\.weight'"
    ):
        graph({"a.weight": MATRIX}, *uses)
    twice = {"a.weight_quantized": MATRIX, "a.weight": MATRIX}
    nodes = [("MatMul", ["x", name], [f"o{name}"], "/a/MatMul", {}) for name in twice]
    with pytest.raises(FormatError, match=r"m\.onnx holds 'a\.weight' twice"):
        graph(twice, *nodes)


def test_a_module_that_is_called_again_is_one_where_its_copies_are_equal(graph):
    tensors = {
        "a.weight": VECTOR, "a_1.weight": VECTOR, "a_2.weight": VECTOR + 1,
        "a_3.weight": np.float32([5, 6, 7]), "b_1.weight": VECTOR, "a_1.bias": VECTOR,
        "a_x.weight": VECTOR,
    }  # fmt: skip
    nodes = [("Add", ["x", name], [f"o{name}"], "n", {}) for name in tensors]
    assert set(graph(tensors, *nodes).names()) == {*tensors} - {"a_1.weight"}


def test_a_file_may_become_so_many_weights_and_no_more(graph, monkeypatch):
    node = ("MatMul", ["x", "a.weight"], ["o"], "/a/MatMul", {})
    monkeypatch.setattr(onnx_weights, "_MOST_GROWTH", 0)
    monkeypatch.setattr(onnx_weights, "_FREE_GROWTH", 32)
    graph({"a.weight": MATRIX}, node)
    monkeypatch.setattr(onnx_weights, "_FREE_GROWTH", 31)
    with pytest.raises(FormatError, match="bytes would become 8 weights"):
        graph({"a.weight": MATRIX}, node)
    monkeypatch.setattr(onnx_weights, "_MOST_GROWTH", 1)
    graph({"a.weight": MATRIX}, node)


# Bytes, and what they stand for.


@pytest.mark.parametrize("turned", [0, 1])
@pytest.mark.parametrize("zero", [True, False])
def test_the_scale_of_a_product_of_bytes_is_found_on_either_side(graph, turned, zero):
    tensors = {"w": CODES, "s": np.float32([0.5, 2])} | ({"z": np.int8([1, 2])} if zero else {})
    order = slice(None, None, -1 if turned else 1)
    nodes = [
        ("MatMulInteger", ["x", "w", "xz", "z"][: 4 if zero else 2], ["m"], "/a/MatMul_q", {}),
        ("Relu", ["m"], ["r"], "n", {}),
        ("Cast", ["m"], ["c"], "n", {"to": 1}),
        ("Mul", ["xs", "s"][order], ["p"], "n", {}),
        ("Relu", ["c"], ["d"], "n", {}),
        ("Mul", ["c", "p"][order], ["y"], "n", {}),
    ]
    found = graph(tensors, *nodes).read("a.weight")
    expected = (CODES - (np.float32([1, 2]) if zero else 0)) * np.float32([0.5, 2])
    np.testing.assert_array_equal(found, expected.T)


@pytest.mark.parametrize(
    ("at", "node"),
    [
        (1, ("Floor", ["m"], ["c"], "n", {})),
        (2, ("Add", ["xs", "s"], ["p"], "n", {})),
        (2, ("Mul", ["s", "s2"], ["p"], "n", {})),
        (2, ("Mul", ["xs", "ys"], ["p"], "n", {})),
        (3, ("Add", ["c", "p"], ["y"], "n", {})),
        (3, ("Mul", ["c", "q"], ["y"], "n", {})),
    ],
)
def test_a_product_of_bytes_whose_scale_is_not_found_is_refused(graph, at, node):
    nodes = [
        ("MatMulInteger", ["x", "w"], ["m"], "/a/MatMul_q", {}),
        ("Cast", ["m"], ["c"], "n", {"to": 1}),
        ("Mul", ["xs", "s"], ["p"], "n", {}),
        ("Mul", ["c", "p"], ["y"], "n", {}),
    ]
    tensors = {"w": CODES, "s": np.float32(0.5), "s2": np.float32(0.5)}
    assert list(graph(tensors, *nodes).names()) == ["a.weight"]
    nodes[at] = node
    with pytest.raises(UnsupportedError, match="the scale of the weights of '/a/MatMul_q' cannot"):
        graph(tensors, *nodes)


@pytest.mark.parametrize(
    ("inputs", "names"),
    [
        (["x", "w", "s", "z", "onnx::Add_9"], {"a.weight", "a.bias"}),
        (["x", "w", "s", "", "own.bias"], {"a.weight", "own.bias"}),
        (["x", "w", "s"], {"a.weight"}),
    ],
)
def test_a_fused_product_of_bytes_has_a_bias_or_none(graph, inputs, names):
    tensors = {"w": CODES, "s": np.float32([0.5, 2]), "z": np.int8([1, 2])}
    tensors |= {"onnx::Add_9": VECTOR, "own.bias": VECTOR}
    used = {name: value for name, value in tensors.items() if name in inputs}
    node = ("DynamicQuantizeMatMul", inputs, ["y"], "/a/MatMul", {"domain": "com.microsoft"})
    found = graph(used, node)
    assert set(found.names()) == names
    zero = np.float32([1, 2]) if "z" in inputs else 0
    expected = ((CODES - zero) * np.float32([0.5, 2])).T
    np.testing.assert_array_equal(found.read("a.weight"), expected)


@pytest.mark.parametrize(
    ("op", "more", "index", "flipped"),
    [
        ("MatMul", {}, 1, True),
        ("Gemm", {}, 1, True),
        ("Gemm", {"transB": 1}, 1, False),
        ("MatMul", {}, 0, False),
        ("Gather", {}, 0, False),
    ],
)
@pytest.mark.parametrize(("axis", "along"), [(None, 1), (1, 1), (-1, 1), (0, 0), (-2, 0)])
def test_a_dequantized_matrix_has_a_scale_for_each_index_of_an_axis(
    graph, op, more, index, flipped, axis, along
):
    scale, zero = np.float32([0.5, 2]), np.int8([1, 3])
    inputs = ["x", "x"]
    inputs[index] = "f"
    stated = {} if axis is None else {"axis": axis}
    nodes = [
        ("DequantizeLinear", ["w", "s", "z"], ["f"], "dq", stated),
        (op, inputs, ["y"], "/a/Op", more),
    ]
    shape = (1, 2) if along == 1 else (2, 1)
    expected = (SQUARE - zero.astype(np.float32).reshape(shape)) * scale.reshape(shape)
    found = graph({"w": SQUARE, "s": scale, "z": zero}, *nodes).read("a.weight")
    np.testing.assert_array_equal(found, expected.T if flipped else expected)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"axis": [1]}, "'dq' dequantizes by blocks"),
        ({"block_size": 1}, "'dq' dequantizes by blocks"),
        ({"scale": np.float32([1, 2, 3])}, "tensor 'w' of shape"),
        ({"zero": np.int8([1, 2, 3])}, "tensor 'w' of shape"),
        ({"axis": 2}, "tensor 'w' of shape"),
        ({"axis": -3}, "tensor 'w' of shape"),
        ({"weight": SQUARE.astype(np.float32)}, "tensor 'w' of shape"),
        ({"weight": SQUARE.reshape(2, 2, 1)}, "tensor 'w' of shape"),
        ({"user": "Relu2"}, "nothing uses what 'dq' gives"),
        ({"inputs": ["w", "none", "z"]}, "tensor 'w' of shape"),
    ],
)
def test_a_dequantized_matrix_that_does_not_fit_is_refused(graph, change, said):
    stated = {name: change[name] for name in ("axis", "block_size") if name in change}
    tensors = {
        "w": change.get("weight", SQUARE),
        "s": change.get("scale", np.float32([0.5, 2])),
        "z": change.get("zero", np.int8([1, 3])),
    }
    nodes = [
        ("DequantizeLinear", change.get("inputs", ["w", "s", "z"]), ["f"], "dq", stated),
        ("MatMul", ["x", "g" if "user" in change else "f"], ["y"], "/a/MatMul", {}),
    ]
    with pytest.raises((FormatError, UnsupportedError), match=re.escape(said)):
        graph(tensors, *nodes)


def test_a_number_that_scales_all_is_spread_over_all(graph):
    kernel = np.arange(8, dtype=np.int8).reshape(2, 2, 2)
    for scale, axis in ((np.float32(0.5), 1), (np.float32([0.5]), 7), (np.float32([1, 2]), 0)):
        nodes = [
            ("DequantizeLinear", ["w", "s"], ["f"], "dq", {"axis": axis}),
            ("Conv", ["x", "f"], ["y"], "/a/Conv", {}),
        ]
        found = graph({"w": kernel, "s": scale}, *nodes)
        assert (found.shape("a.weight"), found.dtype("a.weight")) == ((2, 2, 2), torch.float32)
        expected = kernel * scale.reshape((-1, 1, 1) if scale.size > 1 else ())
        np.testing.assert_array_equal(found.read("a.weight"), expected)


@pytest.mark.parametrize("moves", [0, 1, 7])
def test_rows_that_were_looked_up_and_moved_are_scaled_as_one_table(graph, moves):
    names = ["m0", *(f"m{n + 1}" for n in range(moves))]
    ops = ("Transpose", "Reshape", "Unsqueeze", "Squeeze", "Identity", "Reshape", "Identity")
    nodes = [
        ("Gather", ["w", "x"], ["m0"], "/a/Gather", {}),
        *((ops[n], [names[n]], [names[n + 1]], "n", {}) for n in range(moves)),
        ("Shape", [names[-1]], ["shape"], "n", {}),
        ("DequantizeLinear", [names[-1], "s", "z"], ["y"], "dq", {}),
    ]
    tensors = {"w": CODES, "s": np.float32(0.5), "z": np.int8(3)}
    found = graph(tensors, *nodes)
    np.testing.assert_array_equal(found.read("a.weight"), (CODES - np.float32(3)) * 0.5)
    with pytest.raises(FormatError, match="tensor 'w' of shape"):
        graph({**tensors, "s": np.float32([0.5, 2])}, *nodes)


@pytest.mark.parametrize("moves", [["Relu"], ["Identity"] * 8])
def test_rows_that_go_elsewhere_or_too_far_are_nobodys(graph, moves):
    names = [f"m{n}" for n in range(len(moves) + 1)]
    nodes = [
        ("Gather", ["w", "x"], ["m0"], "/a/Gather", {}),
        *((op, [names[n]], [names[n + 1]], "n", {}) for n, op in enumerate(moves)),
        ("DequantizeLinear", [names[-1], "s"], ["y"], "dq", {}),
    ]
    with pytest.raises(UnsupportedError, match=r"the weight 'w' .* operation Gather '/a/Gather'"):
        graph({"w": CODES, "s": np.float32(0.5)}, *nodes)


def test_bytes_that_nothing_looks_up_are_nobodys(graph):
    for op, inputs in (("Add", ["w", "x"]), ("Gather", ["x", "w"])):
        with pytest.raises(UnsupportedError, match=f"the weight 'w' .* operation {op}"):
            graph({"w": CODES}, (op, inputs, ["y"], "/a/Op", {}))


def test_a_graph_is_named_by_its_file(tmp_path):
    node = helper.make_node("MatMul", ["x", "a.weight"], ["o"], "/a/MatMul")
    path = graph_file(tmp_path / "m.onnx", [node], {"a.weight": MATRIX})
    assert weights_of(path).label == str(path)
