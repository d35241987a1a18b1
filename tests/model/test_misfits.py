"""Weights that are not those of their config: never installed, whatever they are packed in."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor

from lmstack.core import FormatError, InputError, LmstackError
from lmstack.model import Transformer, TransformerConfig, build_module, load_module
from lmstack.model.formats.assembly import matrices_of
from lmstack.model.formats.mapped.file import write_mapped
from lmstack.model.formats.mapped.header import QUANTIZED_FILE
from lmstack.model.loading import check_model
from lmstack.model.positions import RopeSpec
from lmstack.model.quant.matrix import QuantizedMatrix
from lmstack.model.quant.quantize import quantize_int8

CONFIG = TransformerConfig(
    vocab_size=37,
    hidden_size=64,
    intermediate_size=48,
    num_layers=2,
    num_heads=4,
    num_kv_heads=2,
    head_dim=16,
    max_positions=32,
)
Weights = dict[str, Tensor | QuantizedMatrix]


def weights_of(config: TransformerConfig) -> Weights:
    module = Transformer(config)
    matrices = matrices_of(module)
    return {
        key: quantize_int8(value.detach(), paired=matrices[key]) if key in matrices else value.data
        for key, value in module.state_dict().items()
    }


def matrix(rows: int, cols: int, *, paired: bool = False) -> QuantizedMatrix:
    return quantize_int8(torch.ones(rows, cols), paired=paired)


@pytest.fixture
def folder(tmp_path: Path) -> Callable[..., Path]:
    def make(config: TransformerConfig = CONFIG, **changes: Tensor | QuantizedMatrix) -> Path:
        weights = weights_of(config) | {k.replace("__", "."): v for k, v in changes.items()}
        write_mapped(tmp_path / QUANTIZED_FILE, config, weights, {"form": "int8"})
        return tmp_path

    return make


MISFITS = {
    "too many rows": ("blocks.0.attention.out.weight", partial(matrix, 131072, 64)),
    "too wide": ("blocks.0.mlp.down.weight", partial(matrix, 64, 1 << 16)),
    "too small": ("blocks.1.mlp.down.weight", partial(matrix, 16, 16)),
    "a wide head": ("head.weight", partial(matrix, 37, 1024)),
    "a narrow table": ("embed.weight", partial(matrix, 37, 32)),
    "a short norm": ("blocks.0.mlp_norm.weight", partial(torch.ones, 63)),
    "a norm of another rank": ("final_norm.weight", partial(torch.ones, 1, 64)),
}


@pytest.mark.parametrize("misfit", MISFITS)
def test_a_weight_of_another_shape_is_named_with_both_shapes(
    folder: Callable[..., Path], misfit: str
) -> None:
    key, make = MISFITS[misfit]
    path = folder(**{key: make()})
    for load in (check_model, partial(load_module, weights="int8"), load_module):
        with pytest.raises(FormatError) as caught:
            load(path)
        wanted = tuple(weights_of(CONFIG)[key].shape)
        assert f"{key} has shape {tuple(make().shape)}, its config says {wanted}" in str(
            caught.value
        )
        assert caught.value.message.startswith(str(path))
        assert caught.value.hint


OTHERS: dict[str, tuple[Weights, str]] = {
    "rows of gate and up in order": (
        {"blocks.0.mlp.up.weight": matrix(96, 64)},
        "mlp.up.weight is quantized with its rows in order",
    ),
    "a table in turns": (
        {"embed.weight": quantize_int8(torch.ones(38, 64), paired=True)},
        "embed.weight",
    ),
    "a quantized norm": (
        {"final_norm.weight": matrix(64, 1)},
        "final_norm.weight has shape",
    ),
    "an unknown tensor": ({"blocks.2.mlp_norm.weight": torch.ones(64)}, "no place for"),
    "floats of two kinds": ({"final_norm.weight": torch.ones(64).half()}, "torch.float16"),
    "bytes for floats": (
        {"final_norm.weight": torch.ones(64, dtype=torch.uint8)},
        "final_norm.weight holds torch.uint8",
    ),
}


@pytest.mark.parametrize("other", OTHERS)
def test_what_is_no_weight_of_the_model_is_refused(folder: Callable[..., Path], other: str) -> None:
    changes, said = OTHERS[other]
    path = folder(**changes)
    with pytest.raises(FormatError, match=said):
        load_module(path, weights="int8")
    with pytest.raises(FormatError, match=said):
        check_model(path)


def test_a_quantized_table_of_positions_is_refused(folder: Callable[..., Path]) -> None:
    learned = CONFIG.replace(positions="learned")
    path = folder(learned, **{"embed_positions.weight": matrix(32, 64)})
    with pytest.raises(FormatError, match=r"embed_positions\.weight is quantized, which only"):
        load_module(path, weights="int8")


def test_a_matrix_whose_codes_are_of_other_rows_is_named(folder: Callable[..., Path]) -> None:
    path = folder() / QUANTIZED_FILE
    raw = path.read_bytes()
    path.write_bytes(raw.replace(b'\\"head.weight\\": [37,', b'\\"head.weight\\": [99,'))
    with pytest.raises(FormatError, match=r"head\.weight: a quantized matrix holds") as caught:
        check_model(path.parent)
    assert caught.value.hint == "get the model again"


def test_a_missing_weight_is_named() -> None:
    weights = weights_of(CONFIG)
    del weights["blocks.1.attention.qkv.weight"]
    with pytest.raises(FormatError, match=r"no tensor 'blocks.1.attention.qkv.weight'"):
        build_module(CONFIG, weights)


def test_layers_that_no_weights_can_fill_are_not_made() -> None:
    with pytest.raises(FormatError, match="too few for 60000 layers"):
        build_module(CONFIG.replace(num_layers=60000), weights_of(CONFIG))


def test_floats_that_begin_at_an_odd_byte_are_refused(folder: Callable[..., Path]) -> None:
    path = folder() / QUANTIZED_FILE
    raw = path.read_bytes()
    size = int.from_bytes(raw[:8], "little")
    path.write_bytes(struct.pack("<Q", size + 1) + raw[8 : 8 + size] + b" " + raw[8 + size :])
    with pytest.raises(FormatError, match="damaged"):
        load_module(path.parent, weights="int8")


@pytest.mark.parametrize("value", ["Infinity", "1e999", "[" * 5000])
def test_numbers_without_bounds_are_damage(folder: Callable[..., Path], value: str) -> None:
    path = folder() / QUANTIZED_FILE
    raw = path.read_bytes()
    size = int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8 : 8 + size])
    header["__metadata__"]["matrices"] = f'{{"embed.weight": [{value}, 64, 64, 8, 128, 0]}}'
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + raw[8 + size :])
    with pytest.raises(FormatError, match="damaged"):
        check_model(path.parent)


SETTINGS: dict[str, dict[str, object]] = {
    "padding before the first row": {"positions": "learned", "position_pad": 5},
    "padding that rotates": {"positions": "learned", "position_pad": 1, "position_offset": 2},
    "a table that is no head": {"tie_embeddings": True, "embedding_size": 1024},
    "no bucket for the nearest": {"bias": "t5", "bias_buckets": 1},
    "no bucket for the furthest": {"bias": "t5", "bias_max_distance": 16},
    "a logarithm of nothing": {"bias": "deberta", "num_kv_heads": 4, "bias_buckets": 1},
    "tables of two models": {
        "encoder": CONFIG.replace(vocab_size=99, head="none"),
        "share_embeddings": True,
    },
    "a flag that is none": {"causal": "yes"},
    "half a layer": {"pattern": (0, 0.5)},
    "no norm to read in parallel": {"parallel": True, "first_norm": False},
    "a softcap beyond floats": {"logit_softcap": 10**30},
}


@pytest.mark.parametrize("setting", SETTINGS)
def test_settings_that_cannot_be_computed_are_refused(setting: str) -> None:
    with pytest.raises(InputError):
        CONFIG.replace(**SETTINGS[setting])


ROPES: dict[str, dict[str, object]] = {
    "divided by a logarithm of 1": {"scaling": "yarn", "theta": 1.0},
    "a length whose logarithm is 0": {"scaling": "dynamic", "original_positions": 1},
    "rotations without end": {"scaling": "yarn", "beta_slow": 1e-320},
    "an integer beyond floats": {"theta": 10**30},
}


@pytest.mark.parametrize("rope", ROPES)
def test_rotations_that_cannot_be_computed_are_refused(rope: str) -> None:
    with pytest.raises(InputError):
        RopeSpec(**ROPES[rope])  # type: ignore[arg-type]


def test_rotations_of_other_heads_are_refused_where_the_config_is_made() -> None:
    for rope in (
        RopeSpec(scaling="longrope", short_factors=(1.0,), long_factors=(1.0,)),
        RopeSpec(scaling="dynamic", fraction=2 / 16),
    ):
        kind = CONFIG.kinds[0].replace(rope=rope)
        with pytest.raises(LmstackError):
            CONFIG.replace(kinds=(kind,))
