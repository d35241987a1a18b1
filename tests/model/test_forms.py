"""Models in each form: the blocks of a file are kept as they are, other forms come near."""

from __future__ import annotations

import gguf
import numpy as np
import pytest
import torch
import transformers

from lmstack.core import InputError, UnsupportedError
from lmstack.model import (
    FORMS,
    QuantizedEmbedding,
    QuantizedLinear,
    Transformer,
    TransformerConfig,
    load_module,
    read_folder,
    read_gguf,
    write_folder,
    write_gguf,
)
from lmstack.model.formats.gguf.blocks import BLOCK_TYPES
from lmstack.model.formats.gguf.matrices import file_matrix
from lmstack.model.formats.layouts import PAIRED, ROWS, TRANSPOSED, TensorPart, TensorPiece
from lmstack.model.loading import open_model_plan
from lmstack.model.quant.matrix import unpack

NUMBERS = {kind.name: number for number, kind in BLOCK_TYPES.items()}
GRID = [kind.name for kind in BLOCK_TYPES.values() if kind.grid is not None]
# Where the places of float16 scales are, to keep random ones finite and of ordinary size.
HALVES = {
    "Q4_0": [0], "Q4_1": [0, 2], "Q5_0": [0], "Q5_1": [0, 2], "Q8_0": [0], "Q2_K": [80, 82],
    "Q3_K": [108], "Q4_K": [0, 2], "Q5_K": [0, 2], "Q6_K": [208], "IQ4_NL": [0],
    "IQ4_XS": [0], "TQ1_0": [52], "TQ2_0": [64], "MXFP4": [],
}  # fmt: skip


def random_tensor(kind: str, rows: int, cols: int, seed: int = 0) -> np.ndarray:
    """Bytes (rows, bytes of a row) of random blocks with scales from 0.001 to 0.01."""
    generator = np.random.default_rng(seed)
    block = BLOCK_TYPES[NUMBERS[kind]]
    raw = generator.integers(0, 256, (rows * cols // block.weights, block.size), dtype=np.uint8)
    if kind == "MXFP4":  # of scales from 2 ** -18 to 2 ** -8
        raw[:, 0] = generator.integers(110, 121, len(raw))
    for at in HALVES[kind]:
        scales = generator.uniform(0.001, 0.01, len(raw)).astype(np.float16)
        raw[:, at : at + 2] = scales[:, None].view(np.uint8)
    return raw.reshape(rows, -1)


@pytest.fixture
def opened(tmp_path):
    """A GGUF file of named tensors, each (type, bytes)."""
    files = []

    def open_file(**tensors):
        writer = gguf.GGUFWriter(tmp_path / "x.gguf", "llama")
        for name, (kind, raw) in tensors.items():
            raw_dtype = None if kind == "F32" else gguf.GGMLQuantizationType[kind]
            writer.add_tensor(name, raw, raw_dtype=raw_dtype)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        files.append(read_gguf(tmp_path / "x.gguf"))
        return files[-1]

    yield open_file
    for file in files:
        file.close()


def piece(name: str, rows: int, cols: int, layout=ROWS, head_dim: int = 16) -> TensorPiece:
    return TensorPiece(
        name, TensorPart(name, layout), torch.empty(rows, cols, device="meta"), head_dim
    )


@pytest.mark.parametrize("kind", GRID)
def test_a_matrix_of_blocks_is_that_of_the_gguf_package(kind, opened):
    raw = random_tensor(kind, 40, 512)
    matrix = file_matrix(opened(w=(kind, raw)), [piece("w", 40, 512)], paired=False)
    assert matrix is not None
    expected = torch.from_numpy(gguf.dequantize(raw, gguf.GGMLQuantizationType[kind]))
    assert torch.equal(matrix.dequantized(), expected)


BITS = {
    "Q4_0": (4, 32, 8), "Q4_1": (4, 32, 0), "Q8_0": (8, 32, 128), "Q4_K": (4, 32, 0),
    "Q5_K": (8, 32, 0), "Q6_K": (8, 16, 128), "Q5_0": (8, 32, 128), "Q2_K": (4, 16, 0),
    "IQ4_NL": (4, 32, 128), "IQ4_XS": (4, 32, 128), "MXFP4": (4, 32, 128), "TQ2_0": (4, 256, 8),
}  # fmt: skip


@pytest.mark.parametrize("kind", BITS)
def test_blocks_keep_their_bits_and_groups(kind, opened):
    raw = random_tensor(kind, 16, 256)
    matrix = file_matrix(opened(w=(kind, raw)), [piece("w", 16, 256)], paired=False)
    assert matrix is not None
    assert (matrix.bits, matrix.group, matrix.zero) == BITS[kind]


@pytest.mark.parametrize(
    ("kind", "bits"), [("Q4_K", 4.625), ("Q6_K", 8.5625), ("IQ4_XS", 4.3125), ("MXFP4", 4.5)]
)
def test_codes_of_scales_are_kept_as_codes(kind, bits, opened):
    """Bits of a weight: codes, their scales' codes, and 16 bits for each scale of 256 weights."""
    raw = random_tensor(kind, 32, 512)
    matrix = file_matrix(opened(w=(kind, raw)), [piece("w", 32, 512)], paired=False)
    assert matrix is not None
    codebook = 0 if matrix.codebook is None else matrix.codebook.nbytes
    assert (matrix.nbytes - codebook) * 8 == bits * 32 * 512


def test_an_exponent_that_float16_has_not_makes_bytes_of_the_matrix(opened):
    raw = random_tensor("MXFP4", 16, 64)
    raw[3, 0] = 90
    matrix = file_matrix(opened(w=("MXFP4", raw)), [piece("w", 16, 64)], paired=False)
    assert matrix is not None
    assert matrix.bits == 8
    expected = torch.from_numpy(gguf.dequantize(raw, gguf.GGMLQuantizationType.MXFP4))
    assert distance(matrix.dequantized(), expected) < 0.01


@pytest.mark.parametrize(
    ("kinds", "form"),
    [
        (("Q4_0", "Q4_0", "Q8_0"), (8, 32, 128)),
        (("Q4_0", "Q4_1", "Q4_1"), (4, 32, 0)),
        (("Q4_K", "Q4_K", "Q6_K"), (8, 16, 0)),
        (("Q5_0", "Q8_0", "Q5_1"), (8, 32, 0)),
        (("Q4_K", "Q4_K", "Q5_K"), (8, 32, 0)),
        (("IQ4_NL", "IQ4_NL", "IQ4_NL"), (4, 32, 128)),
        (("IQ4_XS", "IQ4_XS", "Q4_K"), (8, 32, 0)),
        (("IQ4_NL", "MXFP4", "Q4_0"), (8, 32, 128)),
        (("IQ4_XS", "Q6_K", "Q6_K"), (8, 16, 128)),
    ],
)
def test_parts_of_several_types_lose_nothing_when_they_are_joined(kinds, form, opened):
    raws = [random_tensor(kind, 32, 256, seed) for seed, kind in enumerate(kinds)]
    file = opened(**{f"w{i}": pair for i, pair in enumerate(zip(kinds, raws, strict=True))})
    parts = [piece(f"w{i}", 32, 256) for i in range(3)]
    joined = file_matrix(file, parts, paired=False)
    alone = [file_matrix(file, [part], paired=False) for part in parts]
    assert joined is not None
    assert (joined.bits, joined.group, joined.zero) == form
    expected = torch.cat([matrix.dequantized() for matrix in alone if matrix is not None])
    # What takes a min is rounded at another place: codes run to 255 steps of a scale then.
    largest = max(float(unpack(matrix)[1].abs().max()) for matrix in alone if matrix is not None)
    torch.testing.assert_close(joined.dequantized(), expected, rtol=0, atol=largest * 2**-15)


def test_a_part_that_is_plain_becomes_int8_beside_blocks(opened):
    plain = np.random.default_rng(0).standard_normal((16, 96)).astype(np.float32)
    file = opened(a=("Q8_0", random_tensor("Q8_0", 16, 96)), b=("F32", plain))
    matrix = file_matrix(file, [piece("a", 16, 96), piece("b", 16, 96)], paired=False)
    assert matrix is not None
    assert torch.equal(matrix.dequantized()[:16], file.read("a"))
    error = (matrix.dequantized()[16:] - torch.from_numpy(plain)).abs().max()
    assert float(error) <= np.abs(plain).max() / 127 * 0.51


def test_rows_that_a_file_interleaves_are_put_in_order_as_codes(opened):
    raw = random_tensor("Q4_1", 64, 64)
    file = opened(w=("Q4_1", raw))
    matrix = file_matrix(file, [piece("w", 64, 64, PAIRED)], paired=False)
    assert matrix is not None
    assert torch.equal(matrix.dequantized(), PAIRED.read(file.read("w"), 16))


def test_what_does_not_lie_by_rows_is_left_to_its_floats(opened):
    file = opened(
        w=("Q8_0", random_tensor("Q8_0", 32, 32)), x=("F32", np.ones((32, 32), np.float32))
    )
    assert file_matrix(file, [piece("w", 32, 32, TRANSPOSED)], paired=False) is None
    assert file_matrix(file, [piece("x", 32, 32)], paired=False) is None


CONFIG = TransformerConfig(
    vocab_size=53, hidden_size=64, intermediate_size=96, num_layers=2, num_heads=4,
    num_kv_heads=2, head_dim=16, max_positions=64,
)  # fmt: skip
IDS = torch.tensor([[3, 1, 4, 1, 5, 9, 2, 6]])


@pytest.fixture
def tiny():
    torch.manual_seed(0)
    module = Transformer(CONFIG).eval()
    module.reset_parameters(0.1)
    return module


def logits(module: Transformer) -> torch.Tensor:
    with torch.inference_mode():
        found = module(IDS).logits
    assert found is not None
    return found


def distance(one: torch.Tensor, other: torch.Tensor) -> float:
    return float((one - other).norm() / other.norm())


@pytest.mark.parametrize("kind", ["q8_0", "q4_0"])
def test_a_file_served_by_its_blocks_equals_the_file_dequantized(kind, tiny, tmp_path):
    write_gguf(tiny, tmp_path / "m.gguf", kind)
    served = load_module(tmp_path / "m.gguf", weights="file")
    assert isinstance(served.blocks[0].mlp.up, QuantizedLinear)
    assert torch.equal(logits(served), logits(load_module(tmp_path / "m.gguf")))


@pytest.mark.parametrize(("kind", "limit"), [("q8_0", 0.03), ("q4_0", 0.03)])
def test_blocks_on_the_grid_of_int8_come_near_the_file(kind, limit, tiny, tmp_path):
    write_gguf(tiny, tmp_path / "m.gguf", kind)
    served = load_module(tmp_path / "m.gguf", weights="file8")
    assert (served.blocks[0].mlp.up.lines is None) == (kind == "q8_0")
    exact = logits(load_module(tmp_path / "m.gguf"))
    assert 0 < distance(logits(served), exact) < limit


@pytest.mark.parametrize(
    ("form", "limit"), [("int8", 0.04), ("q4", 0.4), ("nf4", 0.5), ("bfloat16", 0.02)]
)
def test_a_form_comes_near_the_floats(form, limit, tiny, tmp_path):
    write_folder(tiny, tmp_path)
    assert 0 < distance(logits(load_module(tmp_path, weights=form)).float(), logits(tiny)) < limit


def test_only_matrices_are_quantized_and_gate_and_up_are_paired(tiny, tmp_path):
    write_folder(tiny, tmp_path)
    module = load_module(tmp_path, weights="int8")
    kept = {
        type(m) for m in module.modules() if isinstance(m, QuantizedLinear | QuantizedEmbedding)
    }
    paired = {p for p, m in module.named_modules() if isinstance(m, QuantizedLinear) and m.paired}
    assert kept == {QuantizedLinear, QuantizedEmbedding}
    assert paired == {"blocks.0.mlp.up", "blocks.1.mlp.up"}
    assert {p.dtype for p in module.parameters()} == {torch.float32}
    assert module.dtype == torch.float32


def test_classifiers_and_tables_of_positions_stay_floats(tmp_path):
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=53,
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=40,
        num_labels=3,
    )
    bert = transformers.BertForSequenceClassification(config).eval()
    bert.save_pretrained(tmp_path)
    module = load_module(tmp_path, weights="int8")
    floats = {k for k, p in module.named_parameters() if p.dim() == 2}
    assert floats == {"embed_positions.weight", "embed_types.weight", "classifier.weight"}
    with torch.inference_mode():
        assert distance(logits(module), bert(IDS).logits) < 0.05


def test_an_encoder_shares_the_table_that_was_quantized(tmp_path):
    torch.manual_seed(0)
    t5 = transformers.T5ForConditionalGeneration(
        transformers.T5Config(
            vocab_size=53,
            d_model=32,
            d_kv=8,
            d_ff=48,
            num_layers=2,
            num_heads=4,
            decoder_start_token_id=0,
        )
    ).eval()
    t5.save_pretrained(tmp_path)
    module = load_module(tmp_path, weights="int8")
    assert module.encoder is not None
    assert module.encoder.table is module.table
    assert isinstance(module.table, QuantizedEmbedding)
    with torch.inference_mode():
        ours = module(IDS, decoder_input_ids=IDS).logits
        theirs = t5(IDS, decoder_input_ids=IDS).logits
    assert distance(ours, theirs) < 0.03


def test_a_quantized_model_is_saved_as_the_floats_it_stands_for(tiny, tmp_path):
    write_folder(tiny, tmp_path / "original")
    module = load_module(tmp_path / "original", weights="int8")
    write_folder(module, tmp_path / "saved")
    assert torch.equal(logits(load_module(tmp_path / "saved")), logits(module))
    saved = read_folder(tmp_path / "saved")[1]
    assert torch.equal(saved["embed.weight"], module.table.weight)


@pytest.mark.parametrize("form", ["file", "file8"])
def test_a_folder_of_floats_has_no_blocks_to_keep(form, tiny, tmp_path):
    write_folder(tiny, tmp_path)
    with pytest.raises(UnsupportedError, match="floats") as raised:
        load_module(tmp_path, weights=form)
    assert "int8" in str(raised.value.hint)


def test_an_unknown_form_names_those_that_are(tiny, tmp_path):
    write_folder(tiny, tmp_path)
    with pytest.raises(InputError) as raised:
        load_module(tmp_path, weights="int7")
    assert all(form in str(raised.value.hint) for form in FORMS)


def test_matrices_of_a_plan_are_known_before_anything_is_read(tiny, tmp_path):
    write_folder(tiny, tmp_path)
    with open_model_plan(tmp_path) as plan:
        assert set(plan.matrices) == {k for k, shape in plan.shapes.items() if len(shape) == 2}
