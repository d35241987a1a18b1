"""What reaches C stays within its memory, also of modules that were changed after they were built:
widths where a program is made, positions and tables where a step begins."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from tests.engine.conftest import tiny_config
from tests.engine.cpu.quantized_models import (
    encoded_natively,
    generated_natively,
    quantized,
    writes,
)

from lmstack.core import (
    ContextLengthError,
    EngineError,
    FormatError,
    InputError,
    UnsupportedError,
)
from lmstack.engine.cpu.executor import NativeEncoder, NativeExecutor
from lmstack.engine.cpu.lowering import lower
from lmstack.engine.cpu.program import Program
from lmstack.engine.cpu.structs import Spans
from lmstack.engine.cpu.trace import trace_hidden
from lmstack.engine.executor import CrossSpan, SequenceSpan
from lmstack.model import LayerKind, Transformer
from lmstack.model.layers import RMSNorm
from lmstack.model.quant.matrix import QuantizedEmbedding, QuantizedLinear
from lmstack.model.quant.quantize import quantize_int8

UNROTATED = {"kinds": (LayerKind(rope=None),)}
IDS = [(7 * i) % 250 for i in range(30)]


@pytest.fixture(autouse=True)
def _inference(paths: list[str]) -> object:
    del paths
    with torch.inference_mode():
        yield


def model(**changes: object) -> Transformer:
    torch.manual_seed(3)
    return quantized(Transformer(tiny_config(**changes)).eval(), "int8")


def linear(rows: int, cols: int, *, paired: bool = False) -> QuantizedLinear:
    return QuantizedLinear(quantize_int8(torch.ones(rows, cols), paired=paired))


CHANGES: dict[str, Callable[[Transformer], None]] = {
    "rows of what attention gives": lambda m: m.put("blocks.0.attention.out", linear(4096, 32)),
    "fewer rows than the residual": lambda m: m.put("blocks.0.attention.out", linear(16, 32)),
    "a wide input": lambda m: m.put("blocks.0.mlp.down", linear(32, 4096)),
    "a narrow input": lambda m: m.put("blocks.0.mlp.down", linear(32, 16)),
    "fewer queries": lambda m: m.put("blocks.0.attention.qkv", linear(32, 32)),
    "a wide head": lambda m: m.put("head", linear(260, 4096)),
    "a narrow head": lambda m: m.put("head", linear(260, 16)),
    "a wide table": lambda m: m.put(
        "embed", QuantizedEmbedding(quantize_int8(torch.ones(260, 64)))
    ),
    "a long norm": lambda m: setattr(m.blocks[0], "mlp_norm", RMSNorm(64, 1e-6)),
    "a bias": lambda m: setattr(m.blocks[0].mlp.down, "bias", torch.ones(16)),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_module_whose_parts_do_not_meet_makes_no_program(change: str) -> None:
    module = model()
    CHANGES[change](module)
    with pytest.raises((FormatError, UnsupportedError)):
        NativeExecutor(module, 4, 16)


def test_a_misfit_says_which_step_and_how_many_columns() -> None:
    module = model()
    CHANGES["a wide input"](module)
    with pytest.raises(FormatError, match=r"\(linear\), 'in' is columns 0 to 4096 of .* with 48"):
        NativeExecutor(module, 4, 16)


@pytest.mark.parametrize("position", [-1, 256])
def test_a_position_outside_a_table_is_refused_at_both_ends(position: int) -> None:
    module = model(positions="learned", **UNROTATED)
    executor = NativeExecutor(module, 4, 16)
    with pytest.raises(InputError, match=f"position {position}"):
        executor.hidden([5], [position], [SequenceSpan([1], 0, 1)], None)


def test_a_position_before_the_first_is_refused_where_heads_rotate() -> None:
    executor = NativeExecutor(model(), 4, 16)
    with pytest.raises(InputError, match="position -1"):
        executor.hidden([5], [-1], [SequenceSpan([1], 0, 1)], None)


def test_padding_reaches_the_row_before_the_first_position_and_no_other() -> None:
    module = model(
        positions="learned", position_pad=0, position_offset=1, causal=False, head="none",
        **UNROTATED,
    )  # fmt: skip
    ids = [0, 5, 0, 7]
    expected = module(torch.tensor([ids])).last_hidden_state[0]
    (found,) = encoded_natively(module, [ids])
    assert float((found - expected).abs().max()) < 0.1 * float(expected.abs().max())


def test_a_quantized_table_of_positions_has_bounds_too() -> None:
    module = model(positions="learned", max_positions=4, **UNROTATED)
    module.put("embed_positions", QuantizedEmbedding(quantize_int8(torch.ones(4, 32))))
    program = Program(lower([trace_hidden(module)]), module.config)
    with pytest.raises(ContextLengthError, match="position 4, but the model has 4"):
        program.run(1, ids=np.zeros(1, np.int32), positions=np.array([4], np.int32))


@pytest.mark.parametrize(("start", "end", "blocks"), [(0, 17, [1]), (16, 33, [1, 2]), (-1, 3, [1])])
def test_tokens_without_a_place_in_the_cache_are_refused(
    start: int, end: int, blocks: list[int]
) -> None:
    executor = NativeExecutor(model(), 4, 16)
    with pytest.raises(EngineError, match="cache tiles"):
        executor.hidden(
            [5] * (end - start), range(end - start), [SequenceSpan(blocks, start, end)], None
        )


def test_an_encoder_that_read_more_than_its_tiles_hold_is_refused() -> None:
    with pytest.raises(EngineError, match="17 of its encoder"):
        Spans(1).put(0, 0, 1, 0, [1], [2], 17)
    assert CrossSpan([2], 17).count == 17


@pytest.mark.parametrize(
    "changes",
    [
        {"positions": "sinusoidal", "max_positions": (1 << 31) - 1, **UNROTATED},
        {"bias": "alibi", "max_positions": (1 << 31) - 1, **UNROTATED},
        {"bias": "t5", "bias_max_distance": (1 << 31) - 1, **UNROTATED},
    ],
)
def test_a_config_that_claims_any_number_of_positions_takes_no_memory_for_them(
    changes: dict[str, object],
) -> None:
    module = model(**changes)
    assert writes(module)
    with pytest.raises(UnsupportedError, match=r"positions by \d+ has no native kernel"):
        generated_natively(module, IDS, "int8")


def test_given_states_of_another_width_are_refused() -> None:
    executor = NativeExecutor(model(), 4, 16)
    with pytest.raises(EngineError, match="33 columns are given, not 32"):
        executor.logits(torch.zeros(1, 33))


def test_ids_outside_a_table_are_refused() -> None:
    encoder = NativeEncoder(model(causal=False, head="none"))
    for token in (-1, 260):
        with pytest.raises(InputError, match="outside"):
            encoder.varlen_hidden([token], [1])
