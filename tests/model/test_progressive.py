"""4-bit blocks on the grid of int8: the codes stay, and weights are as near as a code of 8 bits."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from lmstack.model.quant.matrix import QuantizedMatrix, pack, unpack
from lmstack.model.quant.progressive import fits_lines, on_lines
from lmstack.model.quant.quantize import quantize_int8, quantize_nf4, quantize_q4


def blocks(seed: int, rows: int, cols: int, *, group: int, mins: bool) -> QuantizedMatrix:
    """As files hold them: scales of any sign and size, zeros among them, mins anywhere."""
    draw = torch.Generator().manual_seed(seed)
    G = -(-cols // group)
    scales = torch.randn(rows, G, generator=draw) * 10.0 ** (seed % 7 - 4)
    scales[torch.rand(rows, G, generator=draw) < 0.1] = 0
    lows = -7.5 * scales + torch.randn(rows, G, generator=draw) * scales.abs() * 10.0 ** (seed % 3)
    return pack(
        torch.randint(0, 16, (rows, cols), generator=draw, dtype=torch.uint8),
        scales,
        lows.clamp(-6e4, 6e4) if mins else None,  # finite in float16, as a file's are
        bits=4,
        group=group,
        zero=0 if mins else 8,
        paired=rows % 2 == 0 and seed % 2 == 0,
    )


def errors(matrix: QuantizedMatrix, made: QuantizedMatrix) -> Tensor:
    """The root mean square error of each group, in codes of 8 bits."""
    scales = unpack(made)[1]
    wide = made.group * scales.shape[1]
    apart = torch.zeros(matrix.rows, wide)
    apart[:, : matrix.cols] = made.dequantized() - matrix.dequantized()
    # Under the smallest normal number of float16 a scale keeps less than its digits.
    units = scales.float().clamp(min=2**-14)
    return apart.view(matrix.rows, -1, made.group).square().mean(-1).sqrt() / units


@settings(max_examples=150, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    rows=st.integers(1, 40),
    cols=st.integers(1, 200),
    group=st.sampled_from([16, 32, 64]),
    mins=st.booleans(),
)
def test_weights_are_as_near_as_codes_of_8_bits(
    seed: int, rows: int, cols: int, group: int, mins: bool
) -> None:
    matrix = blocks(seed, rows, cols, group=group, mins=mins)
    made = on_lines(matrix)
    assert (made.shape, made.paired, made.group) == (matrix.shape, matrix.paired, 2 * group)
    codes = unpack(made)[0][:, :cols]
    assert int(codes.min()) >= 1
    # Slopes and starts half a code from theirs, about the middle of 15 steps: at most 3.8.
    assert float(errors(matrix, made).max()) < 4
    everything = torch.arange(rows)
    assert torch.equal(made.looked_up(everything), made.dequantized())


def test_codes_of_a_block_that_rises_are_kept() -> None:
    matrix = quantize_q4(torch.randn(48, 128))
    made = on_lines(matrix)
    stored = made.codes
    low, high = matrix.codes.unflatten(1, (-1, 2)).unbind(2)
    # Blocks of 32 become the halves of groups of 64: low nibbles first.
    as_blocks = torch.cat((stored & 15, stored >> 4), 2)
    halves = [torch.cat((each & 15, each >> 4), 2) for each in (low, high)]
    assert torch.equal(as_blocks, torch.cat(halves, 2))


@pytest.mark.parametrize("constant", [0.0, 1.0, -3.0])
def test_a_matrix_of_one_number_is_that_number(constant: float) -> None:
    weight = torch.full((16, 64), constant)
    found = on_lines(quantize_q4(weight)).dequantized()
    torch.testing.assert_close(found, weight, rtol=4e-3, atol=0)


def test_the_cost_is_that_of_int8() -> None:
    """Of the error that the blocks have already, the grid adds a hundredth or two, and not much
    more than codes of 8 bits of the same weights would."""
    torch.manual_seed(0)
    weight = torch.randn(256, 576)
    matrix = quantize_q4(weight)
    blocks = matrix.dequantized()
    added = (on_lines(matrix).dequantized() - blocks).square().mean()
    assert added < 0.02 * (blocks - weight).square().mean()
    assert added < 2.5 * (quantize_int8(blocks).dequantized() - blocks).square().mean()


def test_what_is_on_no_line_is_told() -> None:
    weight = torch.randn(32, 128)
    assert fits_lines(quantize_q4(weight))
    made = on_lines(quantize_q4(weight))
    assert not any(map(fits_lines, (made, quantize_nf4(weight), quantize_int8(weight))))
    assert made.nbytes < quantize_q4(weight).nbytes < quantize_int8(weight).nbytes
