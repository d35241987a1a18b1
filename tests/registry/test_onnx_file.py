"""The reader of ONNX files beside the onnx package, and what damaged files come to."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from onnx import TensorProto, helper, numpy_helper

from lmstack.core import FormatError, LmstackError, NotFoundError, StoreError, UnsupportedError
from lmstack.registry.sources import onnx_file
from lmstack.registry.sources.onnx_file import read_onnx
from lmstack.registry.sources.onnx_weights import OnnxWeights

DTYPES = [np.float32, np.float16, np.float64, np.int8, np.uint8, np.int32, np.int64, np.bool_]
ARRAYS = st.sampled_from(DTYPES).flatmap(
    lambda dtype: npst.arrays(dtype, npst.array_shapes(min_dims=0, max_dims=3, min_side=0))
)
TYPED = {
    np.float32: TensorProto.FLOAT,
    np.float16: TensorProto.FLOAT16,
    np.float64: TensorProto.DOUBLE,
    np.int8: TensorProto.INT8,
    np.uint8: TensorProto.UINT8,
    np.int32: TensorProto.INT32,
    np.int64: TensorProto.INT64,
    np.bool_: TensorProto.BOOL,
}


def model(nodes, tensors, **extra):
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, 4])]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None, 4])]
    graph = helper.make_graph(nodes, "g", inputs, outputs, tensors)
    return helper.make_model(graph, **extra)


def small() -> bytes:
    """A linear layer, quantized, with every kind of thing that the reader looks at."""
    weight = np.arange(16, dtype=np.int8).reshape(4, 4)
    nodes = [
        helper.make_node("DynamicQuantizeLinear", ["x"], ["xq", "xs", "xz"], "q"),
        helper.make_node("MatMulInteger", ["xq", "w", "xz", "wz"], ["m"], "/a/b/MatMul_quant"),
        helper.make_node("Cast", ["m"], ["c"], "cast", to=TensorProto.FLOAT),
        helper.make_node("Mul", ["xs", "ws"], ["s"], "scales"),
        helper.make_node("Mul", ["c", "s"], ["p"], "product"),
        helper.make_node("Add", ["p", "a.b.bias"], ["y"], "/a/b/Add"),
        helper.make_node("Constant", [], ["k"], "k", value=numpy_helper.from_array(weight)),
    ]
    tensors = [
        numpy_helper.from_array(weight, "w"),
        numpy_helper.from_array(np.int8(3), "wz"),
        numpy_helper.from_array(np.float32(0.5), "ws"),
        helper.make_tensor("a.b.bias", TensorProto.FLOAT, [4], [1.0, 2.0, 3.0, 4.0]),
    ]
    return model(nodes, tensors).SerializeToString()


SMALL = small()


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("onnx") / "model.onnx"


def opened(place, data: bytes):
    place.write_bytes(data)
    return read_onnx(place)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(ARRAYS, st.booleans())
@example(np.array([-1, 127, -128], np.int8), False)  # as ten bytes each, not raw
@example(np.array(1.5, np.float32), True)
def test_values_are_those_that_the_onnx_package_reads(place, array, raw):
    if raw:
        tensor = numpy_helper.from_array(array, "t")
    else:
        kind = TYPED[array.dtype.type]
        tensor = helper.make_tensor("t", kind, array.shape, array.reshape(-1))
    graph = opened(place, model([], [tensor]).SerializeToString())
    found = graph.read("t")
    assert found.dtype == array.dtype
    assert found.shape == array.shape
    np.testing.assert_array_equal(found, numpy_helper.to_array(tensor))


def test_bfloat16_widens_to_float32(place):
    for raw in (True, False):
        bits = np.array([0x3FC0, 0xC000, 0x7F80], np.uint16)
        tensor = TensorProto(name="t", dims=[3], data_type=TensorProto.BFLOAT16)
        if raw:
            tensor.raw_data = bits.tobytes()
        else:
            tensor.int32_data.extend(bits.tolist())
        graph = opened(place, model([], [tensor]).SerializeToString())
        np.testing.assert_array_equal(graph.read("t"), np.float32([1.5, -2, np.inf]))


def test_nodes_have_their_names_inputs_and_whole_numbers(place):
    node = helper.make_node("F", ["x", "", "t"], ["y"], "/n", domain="com.x", N=5, axes=[1, -2])
    graph = opened(place, model([node], []).SerializeToString())
    [found] = graph.nodes
    assert (found.name, found.op, found.inputs) == ("/n", "com.x.F", ("x", "", "t"))
    assert found.attributes == {"N": 5, "axes": (1, -2)}
    assert (graph.inputs, graph.outputs) == (["x"], ["y"])


def test_constant_is_a_tensor_and_identity_another_name_for_one(place):
    value = numpy_helper.from_array(np.float32([1, 2]))
    nodes = [
        helper.make_node("Constant", [], ["k"], value=value),
        helper.make_node("Identity", ["k"], ["same"]),
    ]
    graph = opened(place, model(nodes, []).SerializeToString())
    assert graph.nodes == []
    np.testing.assert_array_equal(graph.read("same"), graph.read("k"))


def test_floats_written_one_by_one_are_read(place):
    """As proto2 writers without packing do; the onnx package reads both."""
    data = b"\x08\x02\x10\x01" + b"".join(b"\x25" + np.float32(v).tobytes() for v in (1, 2))
    data += b"\x42\x01t"
    graph = opened(place, _enclosed(7, _enclosed(5, data)))
    np.testing.assert_array_equal(graph.read("t"), np.float32([1, 2]))


def _enclosed(number: int, data: bytes) -> bytes:
    assert len(data) < 128
    return bytes([number << 3 | 2, len(data)]) + data


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"\x00\x00", "corrupt"),
        (b"\x3b", "corrupt"),
        (b"\x3a\x7f", "corrupt"),
        (b"\xff" * 11, "corrupt"),
        (b"\x38\x01", "no graph"),
        (b"\x08\x01", "no graph"),
        (_enclosed(7, _enclosed(1, b"\x0a\x01\xff")), "UTF-8"),
        (_enclosed(7, _enclosed(5, b"\x08\x01\x10\x01")), "called ''"),
        (_enclosed(7, _enclosed(5, b"\x08" + b"\xff" * 9 + b"\x01\x42\x01t")), "of shape"),
        (_enclosed(7, _enclosed(5, b"\x08\x01" * 9 + b"\x42\x01t")), "of shape"),
    ],
)
def test_damage_is_named(place, data, said):
    with pytest.raises(FormatError, match=said):
        opened(place, data)


def test_typed_values_of_another_type_or_number_are_refused(place):
    wrong = TensorProto(name="t", dims=[2], data_type=TensorProto.FLOAT, int32_data=[1, 2])
    few = TensorProto(name="t", dims=[3], data_type=TensorProto.FLOAT, float_data=[1, 2])
    short = TensorProto(name="t", dims=[2], data_type=TensorProto.FLOAT, raw_data=b"abcd")
    odd = TensorProto(name="t", dims=[1], data_type=TensorProto.FLOAT, raw_data=b"abcde")
    for tensor in (wrong, few, short, odd):
        graph = opened(place, model([], [tensor]).SerializeToString())
        with pytest.raises(FormatError):
            graph.read("t")


def test_what_is_not_implemented_is_refused_by_name(place):
    outside = TensorProto(name="t", dims=[1], data_type=1, data_location=TensorProto.EXTERNAL)
    with pytest.raises(UnsupportedError, match="another file"):
        opened(place, model([], [outside]).SerializeToString())
    function = helper.make_function("d", "f", ["x"], ["y"], [], [helper.make_opsetid("", 18)])
    with pytest.raises(UnsupportedError, match="functions"):
        opened(place, model([], [], functions=[function]).SerializeToString())
    text = helper.make_tensor("t", TensorProto.STRING, [1], [b"a"])
    graph = opened(place, model([], [text]).SerializeToString())
    with pytest.raises(UnsupportedError, match="string"):
        graph.read("t")


def test_number_of_parts_is_bounded(place, monkeypatch):
    monkeypatch.setattr(onnx_file, "_MOST_PARTS", 5)
    with pytest.raises(FormatError, match="more than 5 nodes"):
        opened(place, SMALL)


def test_missing_and_empty_files_are_errors(tmp_path):
    with pytest.raises(NotFoundError, match=r"none\.onnx does not exist"):
        read_onnx(tmp_path / "none.onnx")
    (tmp_path / "empty.onnx").touch()
    with pytest.raises(FormatError, match=r"empty\.onnx is not a valid ONNX file: it has no graph"):
        read_onnx(tmp_path / "empty.onnx")
    with pytest.raises(StoreError, match="reading"):
        read_onnx(tmp_path)


@pytest.mark.parametrize(
    ("kind", "field"),
    [
        (TensorProto.FLOAT, "float_data"),
        (TensorProto.DOUBLE, "double_data"),
        (TensorProto.INT64, "int64_data"),
        (TensorProto.INT16, "int32_data"),
        (TensorProto.UINT16, "int32_data"),
        (TensorProto.UINT32, "uint64_data"),
        (TensorProto.UINT64, "uint64_data"),
    ],
)
def test_values_that_are_not_raw_stand_in_the_field_of_their_type(place, kind, field):
    tensor = TensorProto(name="t", dims=[2], data_type=kind)
    getattr(tensor, field).extend([1, 2])
    graph = opened(place, model([], [tensor]).SerializeToString())
    np.testing.assert_array_equal(graph.read("t"), numpy_helper.to_array(tensor))
    assert graph.tensors["t"].integer == (kind not in (TensorProto.FLOAT, TensorProto.DOUBLE))


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        (8, "string"),
        (14, "complex64"),
        (15, "complex128"),
        (21, "uint4"),
        (22, "int4"),
        (99, "number 99"),
    ],
)
def test_a_type_that_is_not_read_is_named(place, kind, said):
    tensor = TensorProto(name="t", dims=[1], data_type=kind)
    graph = opened(place, model([], [tensor]).SerializeToString())
    with pytest.raises(UnsupportedError, match=rf"model\.onnx: tensor 't' is of type {said} "):
        graph.read("t")


def test_two_tensors_of_one_name_and_one_that_is_missing_are_refused(place):
    tensor = numpy_helper.from_array(np.float32([1]), "t")
    with pytest.raises(FormatError, match="two tensors are called 't'"):
        opened(place, model([], [tensor, tensor]).SerializeToString())
    with pytest.raises(FormatError, match="a tensor 'u' is asked for that it does not hold"):
        opened(place, model([], [tensor]).SerializeToString()).read("u")


def test_a_node_of_onnx_s_own_domain_is_called_by_its_name_alone(place):
    nodes = [
        helper.make_node("F", ["x"], [f"y{n}"], f"n{n}", domain=domain)
        for n, domain in enumerate(("", "ai.onnx", "ai.onnx.ml"))
    ]
    graph = opened(place, model(nodes, []).SerializeToString())
    assert [node.op for node in graph.nodes] == ["F", "F", "ai.onnx.ml.F"]


def test_file_cut_anywhere_is_an_error_or_has_lost_a_whole_part(place):
    for end in range(len(SMALL)):
        try:
            read_all(opened(place, SMALL[:end]))
        except LmstackError:
            continue
        onnx.load_from_string(SMALL[:end])  # the library finds it whole, too


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=300
)
@given(st.lists(st.tuples(st.integers(0, len(SMALL) - 1), st.integers(0, 255)), max_size=6))
def test_changed_bytes_never_are_more_than_an_error(place, changes):
    data = bytearray(SMALL)
    for at, value in changes:
        data[at] = value
    try:
        read_all(opened(place, bytes(data)))
    except LmstackError:
        return


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.binary(min_size=1, max_size=200))
def test_random_bytes_never_are_more_than_an_error(place, data):
    try:
        read_all(opened(place, data))
    except LmstackError:
        return


def read_all(graph):
    for name in graph.tensors:
        graph.read(name)
    weights = OnnxWeights(graph)
    for name in weights.names():
        assert tuple(weights.read(name).shape) == weights.shape(name)
