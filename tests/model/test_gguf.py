"""GGUF files: equal to transformers' reading, and nothing in them can hurt."""

from __future__ import annotations

import contextlib
import struct
import tracemalloc

import gguf
import numpy as np
import pytest
import torch
import transformers
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from transformers.modeling_gguf_pytorch_utils import load_gguf_checkpoint

from lmstack.core import FormatError, LmstackError, NotFoundError, UnsupportedError
from lmstack.model import load_module, read_gguf
from lmstack.model.formats.gguf.metadata import config_from_metadata

Q = gguf.GGMLQuantizationType
LAYERS, WIDTH, FFN, VOCAB, HEADS, KV = 2, 64, 96, 40, 4, 2


def tensor_shapes(bias: bool, tied: bool) -> dict[str, tuple[int, ...]]:
    head = WIDTH // HEADS
    shapes = {"token_embd.weight": (VOCAB, WIDTH), "output_norm.weight": (WIDTH,)}
    if not tied:
        shapes["output.weight"] = (VOCAB, WIDTH)
    for i in range(LAYERS):
        layer = {
            "attn_norm.weight": (WIDTH,),
            "attn_q.weight": (WIDTH, WIDTH),
            "attn_k.weight": (KV * head, WIDTH),
            "attn_v.weight": (KV * head, WIDTH),
            "attn_output.weight": (WIDTH, WIDTH),
            "ffn_norm.weight": (WIDTH,),
            "ffn_gate.weight": (FFN, WIDTH),
            "ffn_up.weight": (FFN, WIDTH),
            "ffn_down.weight": (WIDTH, FFN),
        }
        if bias:
            layer |= {"attn_q.bias": (WIDTH,), "attn_k.bias": (KV * head,)}
            layer |= {"attn_v.bias": (KV * head,)}
        shapes |= {f"blk.{i}.{name}": shape for name, shape in layer.items()}
    return shapes


def write(path, arch="llama", quant=Q.Q8_0, *, tied=True, tokens=True, **metadata):
    """A small random model, written by the gguf package."""
    writer = gguf.GGUFWriter(path, arch)
    writer.add_block_count(LAYERS)
    writer.add_context_length(128)
    writer.add_embedding_length(WIDTH)
    writer.add_feed_forward_length(FFN)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(20000.0)
    writer.add_vocab_size(VOCAB)
    if tokens:
        writer.add_tokenizer_model("gpt2")
        writer.add_tokenizer_pre("default")
        writer.add_token_list([f"t{i}" for i in range(VOCAB)])
        writer.add_token_types([1] * VOCAB)
        writer.add_token_merges(["t 1"])
        writer.add_bos_token_id(1)
        writer.add_eos_token_id(2)
    for key, value in metadata.items():
        name = key.replace("__", ".")
        add = writer.add_string if isinstance(value, str) else writer.add_uint32
        (writer.add_float32 if isinstance(value, float) else add)(name, value)
    rng = np.random.default_rng(7)
    for name, shape in tensor_shapes(arch == "qwen2", tied).items():
        values = rng.standard_normal(shape, dtype=np.float32) * 0.2
        if "norm" in name:
            values += 1
        if len(shape) == 2 and quant is not Q.F32:
            data = gguf.quantize(values, quant)
            writer.add_tensor(name, data, raw_dtype=quant)
        else:
            writer.add_tensor(name, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def transformers_from_gguf(path, arch):
    """`from_pretrained(gguf_file=...)` without the package that it wants for placing devices."""
    stem = {"llama": "Llama", "qwen2": "Qwen2"}[arch]
    settings = load_gguf_checkpoint(path)["config"]
    config = getattr(transformers, f"{stem}Config")(**settings)
    model = getattr(transformers, f"{stem}ForCausalLM")(config)
    tensors = load_gguf_checkpoint(path, return_tensors=True, model_to_load=model)["tensors"]
    missing, unexpected = model.load_state_dict(tensors, strict=False)
    assert not unexpected
    assert set(missing) <= {"lm_head.weight"}
    model.tie_weights()
    return model.eval()


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("arch", ["llama", "qwen2"])
def test_logits_equal_those_of_transformers_on_the_same_file(arch, tied, tmp_path):
    """Catches query and key rows left in the interleaved order of the file."""
    path = write(tmp_path / "m.gguf", arch, Q.Q4_1, tied=tied)
    ours = load_module(path)
    theirs = transformers_from_gguf(path, arch)
    ids = torch.randint(0, VOCAB, (2, 13), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(ours(ids).logits, theirs(ids).logits)


@pytest.mark.parametrize("quant", [Q.F32, Q.F16, Q.BF16, Q.Q4_0, Q.Q5_1, Q.Q8_0])
def test_tensors_equal_those_of_the_gguf_package(quant, tmp_path):
    path = write(tmp_path / "m.gguf", quant=quant)
    ours, theirs = read_gguf(path), gguf.GGUFReader(path)
    assert set(ours.names()) == {t.name for t in theirs.tensors}
    for tensor in theirs.tensors:
        expected = gguf.dequantize(tensor.data, tensor.tensor_type)
        np.testing.assert_array_equal(ours.read(tensor.name).numpy(), expected)


def test_metadata_of_every_type_equals_that_of_the_gguf_package(tmp_path):
    path = tmp_path / "m.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    for kind, value in {
        "uint8": 255, "int8": -1, "uint16": 65535, "int16": -2, "uint32": 1 << 31, "int32": -3,
        "float32": 0.5, "uint64": 1 << 63, "int64": -(1 << 40), "float64": 0.1, "bool": True,
        "string": "naïve ✓",
    }.items():  # fmt: skip
        getattr(writer, f"add_{kind}")(f"x.{kind}", value)
    writer.add_array("x.ints", [1, -2, 3])
    writer.add_array("x.floats", [0.5, 1.5])
    writer.add_array("x.bools", [True, False])
    writer.add_array("x.texts", ["a", "", "ü"])
    writer.add_array("x.nested", [[1, 2], [3]])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    fields = gguf.GGUFReader(path).fields
    found = read_gguf(path).metadata
    assert found["x.nested"] == [[1, 2], [3]]
    for key, value in found.items():
        if key != "x.nested":  # the oracle flattens it
            assert value == fields[key].contents(), key


def test_sizes_come_from_metadata_and_ties_from_tensor_names(tmp_path):
    path = write(tmp_path / "m.gguf", tied=False, llama__rope__scaling__type="linear",
                 llama__rope__scaling__factor=4.0)  # fmt: skip
    file = read_gguf(path)
    config = config_from_metadata(file.metadata, file.names())
    rope = config.layer(0).rope
    assert (rope.scaling, rope.factor, rope.theta) == ("linear", 4.0, 20000.0)
    assert config.norm_eps == 1e-5
    assert not config.tie_embeddings
    assert (config.num_heads, config.num_kv_heads, config.head_dim) == (HEADS, KV, 16)


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ({"llama__attention__value_length": 8}, "value_length = 8"),
        ({"llama__rope__dimension_count": 8}, "dimension_count = 8"),
        ({"llama__attention__sliding_window": 32}, "sliding_window = 32"),
        ({"llama__rope__scaling__type": "ntk"}, "'ntk'"),
    ],
)
def test_features_that_would_change_results_are_refused_by_name(metadata, message, tmp_path):
    with pytest.raises(UnsupportedError, match=message):
        load_module(write(tmp_path / "m.gguf", **metadata))


def test_an_architecture_that_is_not_implemented_is_named(tmp_path):
    with pytest.raises(UnsupportedError, match=r"'mamba'.*implemented: .*llama"):
        load_module(write(tmp_path / "m.gguf", "mamba"))


@pytest.mark.parametrize("quant", [Q.IQ2_XXS, Q.IQ1_M])
def test_a_block_type_that_is_not_implemented_is_named(quant, tmp_path):
    path = tmp_path / "m.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    size = gguf.GGML_QUANT_SIZES[quant][1]
    writer.add_tensor("token_embd.weight", np.zeros((1, size), np.uint8), raw_dtype=quant)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with pytest.raises(UnsupportedError, match=quant.name):
        read_gguf(path)


@pytest.mark.parametrize("key", ["block_count", "embedding_length", "attention.head_count"])
def test_a_missing_key_is_named(key):
    metadata = {"general.architecture": "llama", "llama.vocab_size": 9} | {
        f"llama.{name}": 8
        for name in (
            "block_count", "context_length", "embedding_length", "feed_forward_length",
            "attention.head_count", "attention.layer_norm_rms_epsilon",
        )
    }  # fmt: skip
    del metadata[f"llama.{key}"]
    with pytest.raises(FormatError, match=key):
        config_from_metadata(metadata)


@pytest.mark.parametrize("value", ["eight", 0, -3, 2.5, True, 1 << 40, [1], 3])
def test_a_size_that_makes_no_sense_is_named(value):
    metadata = {
        "general.architecture": "llama", "llama.vocab_size": 9, "llama.block_count": 1,
        "llama.context_length": 8, "llama.embedding_length": 8, "llama.feed_forward_length": 8,
        "llama.attention.head_count": 4, "llama.attention.head_count_kv": value,
        "llama.attention.layer_norm_rms_epsilon": 1e-5,
    }  # fmt: skip
    with pytest.raises(FormatError, match=r"head_count_kv|num_kv_heads"):
        config_from_metadata(metadata)


def header(tensors: int, entries: int, version: int = 3) -> bytes:
    return b"GGUF" + struct.pack("<IQQ", version, tensors, entries)


def entry(key: str, kind: int, payload: bytes) -> bytes:
    return struct.pack("<Q", len(key)) + key.encode() + struct.pack("<I", kind) + payload


def info(name: str, dims: tuple[int, ...], kind: int, offset: int) -> bytes:
    return (
        struct.pack("<Q", len(name))
        + name.encode()
        + struct.pack(f"<I{len(dims)}QIQ", len(dims), *dims, kind, offset)
    )


HUGE = 1 << 62
BROKEN = {
    "empty": b"",
    "short": b"GG",
    "magic": b"PK\x03\x04" + bytes(60),
    "no counts": b"GGUF\x03\0\0\0",
    "version": header(0, 0, version=9),
    "version 1": header(0, 0, version=1),
    "big endian": b"GGUF" + struct.pack(">IQQ", 3, 0, 0),
    "tensor count": header(HUGE, 0) + bytes(64),
    "entry count": header(0, HUGE) + bytes(64),
    "key length": header(0, 1) + struct.pack("<Q", HUGE) + bytes(32),
    "text length": header(0, 1) + entry("k", 8, struct.pack("<Q", HUGE)),
    "text not utf-8": header(0, 1) + entry("k", 8, struct.pack("<Q", 2) + b"\xff\xfe"),
    "array length": header(0, 1) + entry("k", 9, struct.pack("<IQ", 4, HUGE)),
    "array of texts": header(0, 1) + entry("k", 9, struct.pack("<IQ", 8, HUGE)),
    "array of arrays": header(0, 1) + entry("k", 9, struct.pack("<IQ", 9, HUGE)),
    "text in array": header(0, 1) + entry("k", 9, struct.pack("<IQQ", 8, 1, HUGE)),
    "deep arrays": header(0, 1) + entry("k", 9, struct.pack("<IQ", 9, 1) * 5000),
    "value type": header(0, 1) + entry("k", 77, bytes(8)),
    "key twice": header(0, 2) + 2 * entry("k", 4, bytes(4)),
    "alignment 0": header(0, 1) + entry("general.alignment", 4, bytes(4)),
    "alignment 33": header(0, 1) + entry("general.alignment", 4, struct.pack("<I", 33)),
    "alignment text": header(0, 1) + entry("general.alignment", 8, struct.pack("<Q", 1) + b"x"),
    "no dimensions": header(1, 0) + info("t", (), 0, 0) + bytes(64),
    "many dimensions": header(1, 0) + info("t", (1,) * 40, 0, 0) + bytes(64),
    "zero dimension": header(1, 0) + info("t", (0, 4), 0, 0) + bytes(64),
    "huge dimension": header(1, 0) + info("t", (HUGE,), 0, 0) + bytes(64),
    "overflowing product": header(1, 0) + info("t", (1 << 32, 1 << 32), 0, 0) + bytes(64),
    "offset past end": header(1, 0) + info("t", (4,), 0, HUGE) + bytes(64),
    "offset not aligned": header(1, 0) + info("t", (4,), 0, 4) + bytes(64),
    "partial block": header(1, 0) + info("t", (33,), 8, 0) + bytes(128),
    "type": header(1, 0) + info("t", (4,), 999, 0) + bytes(64),
    "no name": header(1, 0) + info("", (4,), 0, 0) + bytes(64),
    "tensor twice": header(2, 0) + 2 * info("t", (4,), 0, 0) + bytes(64),
    "overlap": header(2, 0) + info("t", (4,), 0, 0) + info("u", (4,), 0, 0) + bytes(64),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_file_is_an_error_of_ours_and_costs_no_memory(name, tmp_path):
    path = tmp_path / "m.gguf"
    path.write_bytes(BROKEN[name])
    tracemalloc.start()
    try:
        with pytest.raises((FormatError, UnsupportedError), match=r"m\.gguf"):
            read_gguf(path)
        assert tracemalloc.get_traced_memory()[1] < 2 << 20
    finally:
        tracemalloc.stop()


def test_a_file_that_is_not_there_is_not_found(tmp_path):
    with pytest.raises(NotFoundError):
        read_gguf(tmp_path / "m.gguf")
    with pytest.raises(NotFoundError):
        load_module(tmp_path / "m.gguf")


@pytest.fixture(scope="module")
def valid(tmp_path_factory) -> bytes:
    return write(tmp_path_factory.mktemp("gguf") / "m.gguf").read_bytes()


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_no_mutation_escapes_as_another_error(data, valid, tmp_path):
    """Bytes of the header overwritten, then perhaps the file cut: it loads or it is refused."""
    broken = bytearray(valid)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, 3600))
        patch = data.draw(
            st.one_of(
                st.binary(min_size=1, max_size=8),
                st.sampled_from([b"\xff" * 8, bytes(8), b"\x01" + bytes(7), b"\0\0\0\0\x01\0\0\0"]),
            )
        )
        broken[at : at + len(patch)] = patch
    broken = broken[: data.draw(st.sampled_from([len(broken), len(broken) - 1, 2000, 100]))]
    path = tmp_path / "m.gguf"
    path.write_bytes(broken)
    with contextlib.suppress(LmstackError):
        load_module(path)


@pytest.mark.parametrize(
    ("key", "wrong"),
    [
        ("llama.block_count", 1),
        ("llama.block_count", 3),
        ("llama.block_count", 1 << 30),
        ("llama.feed_forward_length", 128),
        ("llama.vocab_size", 41),
    ],
)
def test_a_config_that_does_not_fit_the_tensors_is_refused(key, wrong, valid, tmp_path):
    path = tmp_path / "m.gguf"
    at = valid.index(key.encode()) + len(key) + 4
    path.write_bytes(valid[:at] + struct.pack("<I", wrong) + valid[at + 4 :])
    with pytest.raises(FormatError, match=r"too few|no place|no tensor|its config says|num_layers"):
        load_module(path)


def test_tensors_outlive_the_file(tmp_path):
    path = write(tmp_path / "m.gguf", quant=Q.F32)
    with read_gguf(path) as file:
        kept = file.read("blk.0.attn_q.weight")
    path.unlink()
    assert kept.isfinite().all()


def test_loading_does_not_write_to_the_file(tmp_path):
    path = write(tmp_path / "m.gguf", quant=Q.F32)
    before = path.read_bytes()
    with read_gguf(path) as file:
        file.raw("blk.0.attn_q.weight").zero_()
    assert path.read_bytes() == before


def test_two_gguf_files_in_a_folder_are_ambiguous(tmp_path):
    write(tmp_path / "a.gguf")
    write(tmp_path / "b.gguf")
    with pytest.raises(FormatError, match=r"a\.gguf"):
        load_module(tmp_path)
