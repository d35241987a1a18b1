"""GGUF files of every architecture: written and read back the same, and read by llama.cpp."""

from __future__ import annotations

import gguf
import numpy as np
import pytest
import torch

from lmstack.core import InputError, UnsupportedError
from lmstack.model import build_module, load_module, read_gguf
from lmstack.model.formats.gguf.architectures import ARCHITECTURES
from lmstack.model.formats.gguf.writing import write_gguf

from .cases import batch
from .decoders import (
    DECODERS,
    GEMMA2,
    GEMMA3,
    GPT2,
    LLAMA,
    MISTRAL,
    MIXTRAL,
    MPT,
    NEOX,
    PHI3,
    QWEN3,
    SMOLLM3,
)
from .gguf_cases import BERT, WRITTEN

IDS = [f"{arch}-{variant}" for arch, _, variant in WRITTEN]


def vocabulary(size: int) -> dict:
    return {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "default",
        "tokenizer.ggml.tokens": [f"t{i}" for i in range(size)],
        "tokenizer.ggml.token_type": [1] * size,
        "tokenizer.ggml.merges": ["t 1"],
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": 2,
        "tokenizer.ggml.add_bos_token": False,
    }


def test_every_architecture_is_among_them():
    assert {arch for arch, _, _ in WRITTEN} | {"bert"} == {a.name for a in ARCHITECTURES}


@pytest.mark.parametrize(("arch", "case", "variant"), WRITTEN, ids=IDS)
@torch.no_grad()
def test_a_file_reads_back_as_the_same_model(arch, case, variant, tmp_path):
    module = case.ours(variant)
    write_gguf(module, tmp_path / "m.gguf", "f32", vocabulary(61))
    assert read_gguf(tmp_path / "m.gguf").metadata["general.architecture"] == arch
    values = batch(case, variant, "none")
    back = load_module(tmp_path / "m.gguf")(**values)
    torch.testing.assert_close(back.logits, module(**values).logits)


@torch.no_grad()
def test_a_bare_encoder_is_written_without_its_pooler(tmp_path):
    module = BERT.ours("plain")
    write_gguf(module, tmp_path / "m.gguf", "f32")
    values = batch(BERT, "plain", "right")
    back = load_module(tmp_path / "m.gguf")(**values)
    torch.testing.assert_close(back.last_hidden_state, module(**values).last_hidden_state)


@pytest.mark.parametrize(("arch", "case", "variant"), WRITTEN, ids=IDS)
@torch.no_grad()
def test_llama_cpp_gives_the_same_probabilities(arch, case, variant, tmp_path):
    """Within what its keys and values in 16 bits cost."""
    xllamacpp = pytest.importorskip("xllamacpp")
    module = case.ours(variant)
    path = tmp_path / "m.gguf"
    write_gguf(module, path, "f32", vocabulary(61))
    params = xllamacpp.CommonParams()
    params.model.path, params.n_ctx, params.n_parallel = str(path), 64, 1
    params.cpuparams.n_threads, params.warmup = 1, False
    ids = batch(case, variant, "none")["input_ids"]
    answer = xllamacpp.Server(params).handle_completions(
        {"prompt": ids[0].tolist(), "max_tokens": 1, "temperature": 0.0, "logprobs": 61}
    )
    found = answer["choices"][0]["logprobs"]["content"][0]["top_logprobs"]
    expected = module(ids).logits[0, -1].log_softmax(-1)
    places = torch.tensor([token["id"] for token in found])
    assert len(places) > 5
    torch.testing.assert_close(
        torch.tensor([token["logprob"] for token in found]), expected[places], rtol=0, atol=0.01
    )


@pytest.mark.parametrize("kind", ["f16", "bf16", "q8_0", "q4_0"])
def test_matrices_are_stored_as_asked_and_vectors_whole(kind, tmp_path):
    """GPT-NeoX at 64 channels: rows of whole blocks."""
    path = tmp_path / "m.gguf"
    write_gguf(NEOX.ours("plain"), path, kind)
    stored = {t.name: t for t in gguf.GGUFReader(path).tensors}
    up = stored["blk.0.ffn_up.weight"]
    assert up.tensor_type.name == kind.upper()
    assert stored["blk.0.ffn_up.bias"].tensor_type.name == "F32"
    original = NEOX.ours("plain").state_dict()["blocks.0.mlp.up.weight"].numpy()
    expected = gguf.dequantize(gguf.quantize(original, up.tensor_type), up.tensor_type)
    np.testing.assert_array_equal(gguf.dequantize(up.data, up.tensor_type), expected)
    # Rows of 80 are no whole number of blocks of 32.
    down = stored["blk.0.ffn_down.weight"].tensor_type.name
    assert down == ("F16" if kind in ("q8_0", "q4_0") else kind.upper())


def test_routers_and_positions_are_never_quantized(tmp_path):
    for case, name in ((MIXTRAL, "blk.0.ffn_gate_inp.weight"), (GPT2, "position_embd.weight")):
        write_gguf(case.ours("plain"), tmp_path / "m.gguf", "q8_0")
        kinds = {t.name: t.tensor_type.name for t in gguf.GGUFReader(tmp_path / "m.gguf").tensors}
        assert kinds[name] == "F32"


def test_metadata_is_read_by_the_gguf_package(tmp_path):
    path = tmp_path / "m.gguf"
    more = {"general.name": "naïve ✓", "x.flag": True, "x.low": -3, "x.wide": 1 << 40}
    more |= {"x.ratio": 0.5, "x.floats": [0.5, 1.5], "x.flags": [True, False], "x.none": []}
    write_gguf(LLAMA.ours("plain"), path, "q8_0", vocabulary(61) | more)
    fields = gguf.GGUFReader(path).fields
    for key, value in more.items():
        if value != []:
            assert fields[key].contents() == value, key
    assert fields["general.file_type"].contents() == 7
    assert fields["llama.attention.head_count_kv"].types == [gguf.GGUFValueType.UINT32]
    assert fields["tokenizer.ggml.tokens"].contents()[:2] == ["t0", "t1"]


def test_a_vocabulary_is_filled_up_to_the_rows_of_the_table(tmp_path):
    write_gguf(LLAMA.ours("plain"), tmp_path / "m.gguf", "f32", vocabulary(59))
    found = read_gguf(tmp_path / "m.gguf").metadata
    assert found["tokenizer.ggml.tokens"][-2:] == ["[PAD59]", "[PAD60]"]
    assert found["tokenizer.ggml.token_type"][-2:] == [5, 5]


def test_a_vocabulary_larger_than_the_table_is_refused(tmp_path):
    with pytest.raises(InputError, match="62 tokens, the model 61"):
        write_gguf(LLAMA.ours("plain"), tmp_path / "m.gguf", "f32", vocabulary(62))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("case", "variant"),
    [
        (MISTRAL, "plain"),  # a window, which the llama architecture has not
        (PHI3, "window"),  # llama.cpp reads it and computes without
        (LLAMA, "dynamic"),
        (LLAMA, "gelu"),
        (QWEN3, "biases"),
        (SMOLLM3, "listed"),
        (GEMMA2, "untied"),
        (NEOX, "no biases"),
        (MPT, "scale"),
    ],
)
def test_what_llama_cpp_would_compute_otherwise_is_refused(case, variant, tmp_path):
    with pytest.raises(UnsupportedError, match="no architecture of GGUF"):
        write_gguf(case.ours(variant), tmp_path / "m.gguf")


def test_a_classifier_is_refused(tmp_path):
    case = next(c for c in DECODERS if c.architecture == "LlamaForSequenceClassification")
    with pytest.raises(UnsupportedError):
        write_gguf(case.ours("plain"), tmp_path / "m.gguf")


def test_an_unknown_kind_is_named(tmp_path):
    with pytest.raises(InputError, match="'q5_k'"):
        write_gguf(LLAMA.ours("plain"), tmp_path / "m.gguf", "q5_k")


@torch.no_grad()
def test_norms_of_a_half_precision_gemma_keep_their_bits(tmp_path):
    """1 + w in bfloat16 would lose most of w."""
    module = GEMMA3.ours("scale of the head")
    half = build_module(module.config, {k: t.bfloat16() for k, t in module.state_dict().items()})
    write_gguf(half, tmp_path / "m.gguf", "bf16")
    back = load_module(tmp_path / "m.gguf")
    for name, tensor in half.state_dict().items():
        torch.testing.assert_close(back.state_dict()[name], tensor.float(), rtol=0, atol=1e-6)
