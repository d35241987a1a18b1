"""What we quantize is what the gguf package quantizes, bit for bit."""

from __future__ import annotations

import gguf
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from lmstack.model.formats.gguf.quantize import QUANTIZERS

BLOCKS = hnp.arrays(
    np.float32,
    (3, 32),
    elements=st.one_of(
        st.floats(-100, 100, width=32).filter(lambda x: x == 0 or abs(x) > 1e-20),
        # Ties of the rounding, once the largest of a block is 127 or -8.
        st.sampled_from([0.0, -0.0, 0.5, -0.5, 1.5, -2.5, 126.5, 127.0, -127.0, -8.0, 7.5]),
    ),
)


@pytest.mark.parametrize("name", sorted(QUANTIZERS))
@given(values=BLOCKS)
def test_blocks_are_those_of_the_gguf_package(name, values):
    kind = gguf.GGMLQuantizationType[name]
    expected = gguf.quantize(values, kind)
    found = QUANTIZERS[name](torch.from_numpy(values)).numpy()
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("name", sorted(QUANTIZERS))
@pytest.mark.parametrize("value", [0.0, 1e-45])
def test_a_block_of_nothing_stays_zero(value, name):
    found = QUANTIZERS[name](torch.full((2, 32), value)).numpy()
    values = gguf.dequantize(found, gguf.GGMLQuantizationType[name])
    assert not values.any()
