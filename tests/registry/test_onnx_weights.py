"""Names and values that come back from exports of tiny models, beside the model exported."""

from __future__ import annotations

import re
import warnings

import numpy as np
import onnx
import pytest
import torch
import transformers
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import QuantType, quantize_dynamic
from tests.registry.onnx_floats import session

from lmstack.core import FormatError, UnsupportedError
from lmstack.registry.sources.onnx_file import read_onnx
from lmstack.registry.sources.onnx_weights import OnnxWeights

SMALL = {"vocab_size": 60, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
SMALL |= {"intermediate_size": 48, "max_position_embeddings": 40, "attn_implementation": "eager"}
IDS = torch.tensor([[5, 9, 2, 7, 59, 1, 30], [8, 3, 3, 6, 0, 0, 0]])


def randomized(model):
    """Fresh norms and biases are equal to each other, which would hide one taken for another."""
    torch.manual_seed(0)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return model.eval()


def bert(**changes):
    config = transformers.BertConfig(**SMALL, num_labels=3, **changes)
    return randomized(transformers.BertForSequenceClassification(config))


def export(model, path, **dynamic):
    axes = {"input_ids": {0: "b", 1: "s"}, "attention_mask": {0: "b", 1: "s"}}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's, about tracing and its own age
        torch.onnx.export(
            model,
            (IDS, (IDS > 0).long()),
            str(path),
            dynamo=False,
            input_names=list(axes),
            dynamic_axes=axes,
            **dynamic,
        )
    return path


def weights_of(path):
    return OnnxWeights(read_onnx(path))


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    model = bert()
    return model, export(model, tmp_path_factory.mktemp("onnx") / "model.onnx")


def test_float_export_gives_every_tensor_back_under_its_name(exported):
    model, path = exported
    found, state = weights_of(path), model.state_dict()
    assert set(found.names()) == set(state)
    for name, tensor in state.items():
        assert found.shape(name) == tuple(tensor.shape)
        torch.testing.assert_close(found.read(name), tensor, rtol=0, atol=0)


def test_tensors_that_were_merged_because_they_were_equal_come_back_twice(tmp_path):
    model = bert()
    one, other = (model.bert.encoder.layer[i].output.dense.bias for i in (0, 1))
    torch.nn.init.zeros_(one)
    torch.nn.init.zeros_(other)
    found = weights_of(export(model, tmp_path / "m.onnx"))
    assert set(found.names()) == set(model.state_dict())


def test_layers_that_share_their_weights_give_them_once(tmp_path):
    config = transformers.AlbertConfig(**SMALL, embedding_size=16)
    model = randomized(transformers.AlbertModel(config, add_pooling_layer=False))
    found, state = weights_of(export(model, tmp_path / "m.onnx")), model.state_dict()
    assert set(found.names()) == set(state)
    for name, tensor in state.items():
        torch.testing.assert_close(found.read(name), tensor, rtol=0, atol=0)


def test_wrapper_around_a_model_is_renamed(tmp_path):
    class Wrapper(torch.nn.Module):
        def __init__(self, inner):
            super().__init__()
            self.enc = inner

        def forward(self, input_ids, attention_mask):
            return self.enc(input_ids, attention_mask).last_hidden_state

    config = transformers.T5Config(
        vocab_size=60, d_model=32, d_kv=8, d_ff=48, num_layers=2, num_heads=4,
        feed_forward_proj="gated-gelu",
    )  # fmt: skip
    model = randomized(transformers.T5EncoderModel(config))
    path = export(Wrapper(model.encoder), tmp_path / "m.onnx")
    found = OnnxWeights(read_onnx(path), {"enc.": "encoder."})
    assert set(found.names()) == set(model.state_dict()) - {"shared.weight"}


@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("kind", [QuantType.QInt8, QuantType.QUInt8])
def test_int8_comes_back_within_half_a_step(exported, tmp_path, per_channel, kind):
    model, path = exported
    target = tmp_path / "q.onnx"
    quantize_dynamic(path, target, per_channel=per_channel, weight_type=kind)
    found, state = weights_of(target), model.state_dict()
    assert set(found.names()) == set(state)
    for name, tensor in state.items():
        low, high = tensor.min().clamp(max=0), tensor.max().clamp(min=0)
        step = torch.maximum((high - low) / 255, tensor.abs().max() / 127)
        assert (found.read(name) - tensor).abs().max() <= step * 0.51, name


def test_int8_values_are_those_that_the_quantizer_wrote(exported, tmp_path):
    """Of the first matrix: by its own arithmetic, from the initializers."""
    _, path = exported
    quantize_dynamic(path, tmp_path / "q.onnx", weight_type=QuantType.QInt8, per_channel=True)
    graph = onnx.load(tmp_path / "q.onnx").graph
    values = {t.name: numpy_helper.to_array(t) for t in graph.initializer}
    node = next(n for n in graph.node if n.op_type == "MatMulInteger")
    stored = values[node.input[1]].astype(np.float32) - values[node.input[3]].astype(np.float32)
    scale = values[re.sub("_quantized$", "_scale", node.input[1])]
    name = node.name.strip("/").replace("/", ".").replace("MatMul_quant", "weight")
    found = weights_of(tmp_path / "q.onnx").read(name)
    np.testing.assert_array_equal(found.numpy(), (stored * scale).T)


@pytest.mark.parametrize(
    ("bits", "zeros"),
    [(4, None), (4, np.uint8), (4, np.float32), (8, None), (8, np.uint8)],
)
@pytest.mark.parametrize("columns", [64, 72, 96])
def test_blocks_of_bits_are_what_the_runtime_multiplies_with(tmp_path, bits, zeros, columns):
    """The runtime itself is asked: the identity times the weights gives the weights. 72 columns
    fill no whole number of blocks of 32, and three zero points of 4 bits no whole bytes."""
    rng, rows, blocks = np.random.default_rng(0), 6, -(-columns // 32)
    tensors = {
        "onnx::MatMul_1_Q4": rng.integers(0, 256, (rows, blocks, 4 * bits), np.uint8),
        "s": rng.normal(size=(rows, blocks)).astype(np.float32),
    }
    inputs = ["x", "onnx::MatMul_1_Q4", "s"]
    if zeros is not None:
        inputs.append("z")
        size = (rows, blocks if zeros is np.float32 else -(-blocks * bits // 8))
        tensors["z"] = rng.integers(0, 256 if zeros is np.uint8 else 16, size).astype(zeros)
    node = helper.make_node(
        "MatMulNBits", inputs, ["y"], "/a/dense/MatMul_Q4", domain="com.microsoft",
        K=columns, N=rows, bits=bits, block_size=32,
    )  # fmt: skip
    path = graph_file(tmp_path / "q.onnx", [node], tensors, columns, rows)
    found = weights_of(path)
    assert list(found.names()) == ["a.dense.weight"]
    [product] = session(path).run(None, {"x": np.eye(columns, dtype=np.float32)})
    np.testing.assert_allclose(found.read("a.dense.weight").numpy().T, product, atol=1e-4)


def packed_bits(path, inputs=("x", "w", "s"), more=None, **changes):
    """A product with 2 rows of 64 weights of 4 bits, in blocks of 32."""
    numbers = {"K": 64, "N": 2, "block_size": 32} | changes
    stated = {name: value for name, value in numbers.items() if value is not None}
    node = helper.make_node(
        "MatMulNBits", list(inputs), ["y"], "/a/dense/MatMul", domain="com.microsoft", **stated
    )
    codes = np.arange(64, dtype=np.uint8).reshape(2, 2, 16)
    tensors = {"w": codes, "s": np.float32([1, 2, 3, 4]), **(more or {})}
    return weights_of(graph_file(path, [node], tensors, 64))


def test_a_product_of_blocks_has_4_bits_unless_it_says_otherwise_and_may_have_a_bias(tmp_path):
    bias = {"onnx::Add_9": np.float32([5, 6])}
    found = packed_bits(tmp_path / "q.onnx", ("x", "w", "s", "", "", "onnx::Add_9"), bias)
    np.testing.assert_array_equal(found.read("a.dense.bias"), [5, 6])
    # The low half of a byte comes first, and 8 stands for nought.
    np.testing.assert_array_equal(found.read("a.dense.weight")[0, :4], [-8, -8, -7, -8])
    assert found.shape("a.dense.weight") == (2, 64)


@pytest.mark.parametrize("name", ["K", "N", "block_size"])
@pytest.mark.parametrize("value", [None, 0, -1, [64]])
def test_a_product_of_blocks_whose_numbers_are_none_is_refused(tmp_path, name, value):
    with pytest.raises(FormatError, match="does not fit"):
        packed_bits(tmp_path / "q.onnx", **{name: value})


def test_one_row_of_blocks_is_read_where_the_product_says_that_it_has_one(tmp_path):
    one = {"w": np.arange(32, dtype=np.uint8).reshape(1, 2, 16), "s": np.float32([1, 2])}
    found = packed_bits(tmp_path / "q.onnx", more=one, N=1)
    assert found.shape("a.dense.weight") == (1, 64)
    with pytest.raises(FormatError, match="does not fit"):
        packed_bits(tmp_path / "q.onnx", more=one, N=None)


@pytest.mark.parametrize("block", [31, 33])
def test_a_block_of_an_odd_size_is_refused(tmp_path, block):
    with pytest.raises(FormatError, match="does not fit"):
        packed_bits(tmp_path / "q.onnx", block_size=block)


def test_other_bits_and_reordered_groups_are_refused(tmp_path):
    with pytest.raises(UnsupportedError, match="has 2 bits or reordered groups"):
        packed_bits(tmp_path / "q.onnx", bits=2)
    groups = {"g": np.zeros(64, np.int32)}
    with pytest.raises(UnsupportedError, match="has 4 bits or reordered groups"):
        packed_bits(tmp_path / "q.onnx", ("x", "w", "s", "", "g"), groups)


def graph_file(path, nodes, tensors, columns=4, rows=2):
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, columns])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [None, rows])
    values = [numpy_helper.from_array(value, name) for name, value in tensors.items()]
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("com.microsoft", 1)]
    graph = helper.make_graph(nodes, "g", [x], [y], values)
    model = helper.make_model(graph, opset_imports=opsets, ir_version=9)
    path.write_bytes(model.SerializeToString())
    return path


MATRIX = np.arange(8, dtype=np.float32).reshape(4, 2)


@pytest.mark.parametrize(
    ("op", "attributes", "flipped"),
    [("MatMul", {}, True), ("Gemm", {}, True), ("Gemm", {"transB": 1}, False)],
)
def test_linear_layers_lie_as_torch_has_them(tmp_path, op, attributes, flipped):
    nodes = [helper.make_node(op, ["x", "w.weight"], ["y"], "/w/op", **attributes)]
    found = weights_of(graph_file(tmp_path / "m.onnx", nodes, {"w.weight": MATRIX}))
    np.testing.assert_array_equal(found.read("w.weight"), MATRIX.T if flipped else MATRIX)


def test_dequantized_matrix_is_turned_as_the_product_needs_it(tmp_path):
    nodes = [
        helper.make_node("DequantizeLinear", ["w.weight_quantized", "s"], ["f"], "dq", axis=1),
        helper.make_node("MatMul", ["x", "f"], ["y"], "/w/MatMul"),
    ]
    codes = np.arange(8, dtype=np.int8).reshape(4, 2)
    tensors = {"w.weight_quantized": codes, "s": np.float32([0.5, 2])}
    found = weights_of(graph_file(tmp_path / "m.onnx", nodes, tensors))
    np.testing.assert_array_equal(found.read("w.weight"), (codes * np.float32([0.5, 2])).T)


def test_fused_product_of_bytes_is_read(tmp_path):
    nodes = [
        helper.make_node(
            "DynamicQuantizeMatMul", ["x", "w", "s", "z", "w.bias"], ["y"], "/w/MatMul",
            domain="com.microsoft",
        )
    ]  # fmt: skip
    codes = np.arange(8, dtype=np.uint8).reshape(4, 2)
    tensors = {"w": codes, "s": np.float32(0.5), "z": np.uint8(3), "w.bias": np.float32([1, 2])}
    found = weights_of(graph_file(tmp_path / "m.onnx", nodes, tensors))
    np.testing.assert_array_equal(found.read("w.weight"), (codes.astype(np.float32) - 3).T * 0.5)
    np.testing.assert_array_equal(found.read("w.bias"), [1, 2])


@pytest.mark.parametrize(
    ("node", "said"),
    [
        (("MatMul", ["x", "onnx::MatMul_7"], ["y"], "MatMul_7"), "whose weights"),
        (("MatMul", ["x", "onnx::MatMul_7"], ["y"], "node_MatMul_7"), "whose weights"),
        (("FusedMatMul", ["x", "onnx::MatMul_7"], ["y"], "/a/MatMul"), "operation FusedMatMul"),
        (("Add", ["x", "onnx::MatMul_7"], ["y"], "/a/Add"), "operation Add"),
        (("Attention", ["x", "a.weight"], ["y"], "/a/Attention"), "operation Attention"),
    ],
)
def test_weight_without_a_place_is_refused_by_name(tmp_path, node, said):
    nodes = [helper.make_node(*node)]
    path = graph_file(tmp_path / "m.onnx", nodes, {node[1][1]: MATRIX})
    with pytest.raises(UnsupportedError, match=said):
        weights_of(path)


def test_matrix_of_two_modules_is_refused(tmp_path):
    nodes = [
        helper.make_node("MatMul", ["x", "onnx::MatMul_7"], [out], f"/{out}/MatMul")
        for out in ("a", "b")
    ]
    with pytest.raises(UnsupportedError, match=re.escape("both 'a.weight' and 'b.weight'")):
        weights_of(graph_file(tmp_path / "m.onnx", nodes, {"onnx::MatMul_7": MATRIX}))


def test_bytes_without_their_scale_are_refused(tmp_path):
    nodes = [helper.make_node("MatMulInteger", ["x", "w"], ["y"], "/a/MatMul_quant")]
    codes = np.arange(8, dtype=np.int8).reshape(4, 2)
    with pytest.raises(UnsupportedError, match="scale"):
        weights_of(graph_file(tmp_path / "m.onnx", nodes, {"w": codes}))


def test_scales_that_do_not_fit_are_refused(tmp_path):
    nodes = [
        helper.make_node(
            "MatMulNBits", ["x", "w", "s"], ["y"], "/a/MatMul", domain="com.microsoft",
            K=64, N=2, bits=4, block_size=32,
        )
    ]  # fmt: skip
    tensors = {"w": np.zeros((2, 2, 16), np.uint8), "s": np.zeros(3, np.float32)}
    with pytest.raises(FormatError, match="does not fit"):
        weights_of(graph_file(tmp_path / "m.onnx", nodes, tensors))


def test_small_file_cannot_name_a_large_model(tmp_path):
    """A tensor of 1 MB under a hundred names would be a hundred tensors."""
    nodes = [
        helper.make_node("Identity", ["a.weight"], [f"b{i}.weight"], f"i{i}") for i in range(99)
    ]
    nodes += [helper.make_node("Add", ["x", f"b{i}.weight"], [f"y{i}"]) for i in range(99)]
    path = graph_file(tmp_path / "m.onnx", nodes, {"a.weight": np.zeros(1 << 18, np.float32)})
    with pytest.raises(FormatError, match="would become"):
        weights_of(path)
