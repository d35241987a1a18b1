"""Forms in files: equal after a round trip, not copied, and never believed when damaged."""

from __future__ import annotations

import dataclasses
import json
from functools import partial

import pytest
import torch
from safetensors import safe_open

from lmstack.core import FormatError, NotFoundError
from lmstack.model import LayerKind, RopeSpec, Transformer, TransformerConfig
from lmstack.model.formats.assembly import matrices_of
from lmstack.model.formats.mapped.file import read_mapped, write_mapped
from lmstack.model.formats.mapped.header import read_stamp
from lmstack.model.quant.matrix import QuantizedMatrix
from lmstack.model.quant.progressive import on_lines
from lmstack.model.quant.quantize import quantize_int8, quantize_nf4, quantize_q4

STAMP = {"model": "sha256:abc", "form": "int8"}


def config(**changes) -> TransformerConfig:
    return TransformerConfig(
        vocab_size=37,
        hidden_size=48,
        intermediate_size=40,
        num_layers=2,
        num_heads=4,
        num_kv_heads=2,
        head_dim=12,
        max_positions=32,
        **changes,
    )


def act_order(weight: torch.Tensor) -> QuantizedMatrix:
    order = torch.arange(weight.shape[1], dtype=torch.int32).flip(0)
    return dataclasses.replace(quantize_q4(weight.flip(1)), order=order)


def weights_of(module: Transformer):
    """A mixture of everything that a file may hold."""
    wide = [partial(quantize_int8, group=group) for group in (128, 192, 256)]
    rows = [partial(quantize, per_channel=True) for quantize in (quantize_int8, quantize_q4)]
    lines = lambda weight: on_lines(quantize_q4(weight))  # noqa: E731
    quantizers = [quantize_int8, quantize_q4, quantize_nf4, act_order, lines, *wide, *rows]
    matrices = list(matrices_of(module))
    return {
        key: quantizers[matrices.index(key) % len(quantizers)](tensor)
        if key in matrices
        else tensor.detach()
        for key, tensor in module.state_dict().items()
    }


@pytest.fixture
def kept(tmp_path):
    made = weights_of(Transformer(config()))
    path = tmp_path / "deep" / "form.safetensors"
    write_mapped(path, config(), made, STAMP)
    return path, made


def test_what_is_read_is_what_was_written(kept):
    path, made = kept
    found_config, found = read_mapped(path, STAMP)
    assert found_config == config()
    assert found.keys() == made.keys()
    for key, weight in made.items():
        other = found[key]
        if isinstance(weight, QuantizedMatrix):
            assert isinstance(other, QuantizedMatrix)
            assert torch.equal(weight.dequantized(), other.dequantized())
            assert (weight.bits, weight.group) == (other.bits, other.group)
            assert weight.buffers().keys() == other.buffers().keys()
        else:
            assert torch.equal(weight, other)


def test_a_config_with_everything_nested_comes_back(tmp_path):
    rope = RopeSpec(scaling="longrope", short_factors=(1.1, 0.1) * 3, long_factors=(2.0, 1 / 3) * 3)
    whole = config(
        kinds=(LayerKind(rope=rope), LayerKind(rope=None, window=7)),
        pattern=(0, 1),
        encoder=config(causal=False, head="none", norm_eps=1.1e-7),
    )
    write_mapped(tmp_path / "f", whole, {"x": torch.ones(1)}, {})
    assert read_mapped(tmp_path / "f", {})[0] == whole


def test_codes_begin_at_cache_lines_and_scales_at_half_ones(kept):
    _, found = read_mapped(kept[0], STAMP)
    for weight in found.values():
        if isinstance(weight, QuantizedMatrix):
            assert weight.codes.data_ptr() % 64 == 0
            assert weight.scales.data_ptr() % 32 == 0
            assert weight.order is None or weight.order.data_ptr() % 4 == 0


def test_it_is_a_safetensors_file(kept):
    path, made = kept
    with safe_open(path, framework="pt") as file:
        assert file.metadata()["form"] == "int8"
        assert torch.equal(file.get_tensor("final_norm.weight"), made["final_norm.weight"])


def test_writing_to_a_tensor_does_not_reach_the_file(kept):
    path, made = kept
    read_mapped(path, STAMP)[1]["final_norm.weight"].fill_(7)
    assert torch.equal(read_mapped(path, STAMP)[1]["final_norm.weight"], made["final_norm.weight"])


def test_the_stamp_says_what_it_was_made_from(kept):
    assert STAMP.items() <= read_stamp(kept[0]).items()
    with pytest.raises(FormatError, match="another model"):
        read_mapped(kept[0], STAMP | {"model": "sha256:abd"})


def test_another_layout_is_refused(kept, monkeypatch):
    monkeypatch.setattr("lmstack.model.formats.mapped.header.LAYOUT", "other")
    with pytest.raises(FormatError, match="layout"):
        read_mapped(kept[0], STAMP)


def test_there_is_none(tmp_path):
    with pytest.raises(NotFoundError):
        read_mapped(tmp_path / "none", STAMP)


@pytest.mark.parametrize("left", [0, 5, 100, -64, -1])
def test_a_file_that_was_cut_is_refused(kept, left):
    path, _ = kept
    data = path.read_bytes()
    path.write_bytes(data[:left])
    with pytest.raises(FormatError, match="damaged"):
        read_mapped(path, STAMP)


@pytest.mark.parametrize("place", ["the first byte of codes", "the last byte", "the config"])
def test_a_flipped_bit_is_found_where_the_hash_is_asked_for(kept, place):
    path, _ = kept
    read_mapped(path, STAMP, verified=True)
    data = bytearray(path.read_bytes())
    size = 8 + int.from_bytes(data[:8], "little")
    at = {"the first byte of codes": size, "the last byte": len(data) - 1}
    data[at.get(place) or data.index(b"norm_eps") + 13] ^= 1
    path.write_bytes(data)
    with pytest.raises(FormatError, match="not those that were written"):
        read_mapped(path, STAMP, verified=True)


def rewritten(path, change):
    """The file with another header."""
    data = path.read_bytes()
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + size])
    change(header)
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data[8 + size :])


DAMAGES = {
    "no config": lambda h: h["__metadata__"].pop("config"),
    "a config of lies": lambda h: h["__metadata__"].update(config='{"kinds": [], "encoder": null}'),
    "no matrices": lambda h: h["__metadata__"].update(matrices="[]"),
    "a matrix without codes": lambda h: h.pop("embed.weight.codes"),
    "a shape that does not fit": lambda h: h["final_norm.weight"].update(shape=[47]),
    "a negative shape": lambda h: h["final_norm.weight"].update(shape=[-48]),
    "an unknown type": lambda h: h["final_norm.weight"].update(dtype="I64"),
    "a start below the file": lambda h: h["final_norm.weight"].update(data_offsets=[-192, 0]),
    "super-blocks of no groups": lambda h: h["__metadata__"].update(
        matrices=h["__metadata__"]["matrices"].replace(", 1]", ", 0]")
    ),
    "a matrix of other rows": lambda h: h["__metadata__"].update(
        matrices=h["__metadata__"]["matrices"].replace("[37, 48", "[999, 48")
    ),
}


def test_an_order_that_would_be_read_outside_of_a_row_is_refused(kept):
    path, made = kept
    key = next(k for k, m in made.items() if isinstance(m, QuantizedMatrix) and m.order is not None)
    data = bytearray(path.read_bytes())
    size = 8 + int.from_bytes(data[:8], "little")
    at = size + json.loads(data[8:size])[f"{key}.order"]["data_offsets"][0]
    data[at : at + 4] = (1 << 20).to_bytes(4, "little")
    path.write_bytes(data)
    with pytest.raises(FormatError, match="not a permutation"):
        read_mapped(path, STAMP)


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_header_that_lies_is_refused(kept, damage):
    rewritten(kept[0], DAMAGES[damage])
    with pytest.raises(FormatError):
        read_mapped(kept[0], STAMP)
