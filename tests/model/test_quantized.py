"""Quantized matrices: their layout byte by byte, and that they are what they were made of."""

from __future__ import annotations

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings

from lmstack.core import FormatError, UnsupportedError
from lmstack.model import REFERENCE_OPS, TransformerConfig
from lmstack.model.layers import Linear
from lmstack.model.quant.matrix import (
    GROUPS,
    QuantizedEmbedding,
    QuantizedLinear,
    QuantizedMatrix,
    float_state,
    pack,
    unpack,
)
from lmstack.model.quant.nf4 import DYNAMIC, NF4
from lmstack.model.quant.quantize import (
    int8_group,
    quantize_int8,
    quantize_nf4,
    quantize_q4,
)

FORMS = [(8, 128), (8, 0), (4, 8), (4, 0)]


@st.composite
def matrices(draw):
    """Rows, columns, group, (bits, zero), paired."""
    paired = draw(st.booleans())
    rows = draw(st.integers(1, 40)) * (2 if paired else 1)
    form = draw(st.sampled_from(FORMS))
    group = draw(st.sampled_from(GROUPS))
    return rows, draw(st.integers(1, max(150, 2 * group + 20))), group, form, paired


def made(rows, cols, group, form, paired, seed=0):
    """Codes, scales and mins, and the matrix that packs them."""
    bits, zero = form
    generator = torch.Generator().manual_seed(seed)
    codes = torch.randint(0, 1 << bits, (rows, cols), dtype=torch.uint8, generator=generator)
    scales = torch.rand(rows, -(-cols // group), generator=generator).half()
    mins = None if zero else -scales * 3
    matrix = pack(codes, scales, mins, bits=bits, group=group, zero=zero, paired=paired)
    return codes, scales, mins, matrix


def rows_of_panels(rows: int, paired: bool) -> list[list[int | None]]:
    """Which row stands in each place of each panel; None: padding."""
    halves = [list(range(rows // 2)), list(range(rows // 2, rows))] if paired else [range(rows)]
    panels = []
    for start in range(0, len(halves[0]), 16):
        for half in halves:
            part: list[int | None] = list(half[start : start + 16])
            panels.append(part + [None] * (16 - len(part)))
    return panels


def described(codes, group, bits, zero, paired) -> list[int]:
    """The bytes that the layout prescribes, one at a time."""
    rows, cols = codes.shape
    found = []
    for panel in rows_of_panels(rows, paired):
        for start in range(0, -(-cols // group) * group, group):
            steps = [
                zero if row is None or start + k >= cols else int(codes[row, start + k])
                for step in range(0, group, 4)
                for row in panel
                for k in range(step, step + 4)
            ]
            half = len(steps) // 2
            pairs = zip(steps[:half], steps[half:], strict=True)
            found += steps if bits == 8 else [low | (high << 4) for low, high in pairs]
    return found


@settings(max_examples=40, deadline=None)
@given(matrices())
def test_the_bytes_lie_as_the_layout_says(drawn):
    _, _, group, (bits, zero), paired = drawn
    codes, _, _, matrix = made(*drawn)
    assert matrix.codes.flatten().tolist() == described(codes, group, bits, zero, paired)


@settings(max_examples=40, deadline=None)
@given(matrices())
def test_scales_lie_by_panel_and_group_with_zeros_for_padding(drawn):
    rows, _, _, _, paired = drawn
    _, scales, _, matrix = made(*drawn)
    for panel, places in zip(matrix.scales, rows_of_panels(rows, paired), strict=True):
        for lane, row in enumerate(places):
            expected = torch.zeros_like(panel[:, lane]) if row is None else scales[row]
            assert torch.equal(panel[:, lane], expected)


@settings(max_examples=60, deadline=None)
@given(matrices())
def test_unpacking_gives_back_what_was_packed(drawn):
    codes, scales, mins, matrix = made(*drawn)
    found, back, low = unpack(matrix)
    assert torch.equal(found[:, : codes.shape[1]], codes)
    assert torch.equal(back, scales)
    assert (low is None) == (mins is None)
    assert mins is None or torch.equal(low, mins)


@settings(max_examples=40, deadline=None)
@given(matrices(), st.data())
def test_the_weight_is_the_formula_and_a_row_is_a_row_of_it(drawn, data):
    rows, cols, group, (_, zero), _ = drawn
    codes, scales, mins, matrix = made(*drawn)
    wide = scales.float().repeat_interleave(group, 1)[:, :cols]
    expected = (codes.float() - zero) * wide
    if mins is not None:
        expected = expected + mins.float().repeat_interleave(group, 1)[:, :cols]
    weight = matrix.dequantized()
    assert torch.equal(weight, expected)
    ids = torch.tensor(data.draw(st.lists(st.integers(0, rows - 1), min_size=2, max_size=6)))
    ids = ids[: len(ids) // 2 * 2].view(2, -1)
    assert torch.equal(QuantizedEmbedding(matrix).looked_up(ids), weight[ids])


# What a form may have beside codes and one float16 scale for each group.
PARTS = {
    "a scale a row": ("rows",),
    "codes of scales": ("scale_codes",),
    "codes of scales and mins": ("mins", "scale_codes", "min_codes"),
    "zero points": ("mins", "min_codes"),
    "a codebook": ("codebook",),
    "an order": ("order",),
    "a codebook, codes of scales and an order": ("codebook", "scale_codes", "order"),
}


def drawn_with(parts, rows, cols, group, bits, paired, superblock, seed=0):
    """What `pack` is given, and the weight that it stands for."""
    generator = torch.Generator().manual_seed(seed)
    G = -(-cols // group)
    superblock = G if "rows" in parts else min(superblock, G)
    S = -(-G // superblock)
    codes = torch.randint(0, 1 << bits, (rows, cols), dtype=torch.uint8, generator=generator)
    scales = torch.rand(rows, S, generator=generator).half()
    mins = torch.randn(rows, S, generator=generator).half() if "mins" in parts else None
    more = {}
    for name in ("scale_codes", "min_codes"):
        if name in parts:
            of_groups = torch.randint(-128, 128, (rows, G), generator=generator)
            more[name] = of_groups.to(torch.int8)
    if "codebook" in parts:
        more["codebook"] = torch.randint(0, 256, (16,), generator=generator).to(torch.uint8)
    if "order" in parts:
        more["order"] = torch.randperm(cols, generator=generator).int()
    middle = 128 if bits == 8 or "codebook" in parts else 8
    zero = 0 if "mins" in parts else middle
    matrix = pack(
        codes, scales, mins, bits=bits, group=group, zero=zero, paired=paired,
        superblock=superblock, **more,
    )  # fmt: skip
    expected = torch.zeros(rows, cols)
    for k in range(cols):
        g, to = k // group, int(more["order"][k]) if "order" in more else k
        scale = scales[:, g // superblock].double()
        scale = scale * more["scale_codes"][:, g] if "scale_codes" in more else scale
        code = codes[:, k].long()
        value = (more["codebook"][code].int() if "codebook" in more else code) - zero
        weight = (value * scale).float()
        if mins is not None:
            low = mins[:, g // superblock].double()
            low = low * more["min_codes"][:, g] if "min_codes" in more else low
            weight = weight + low.float()
        expected[:, to] = weight
    return matrix, expected


@pytest.mark.parametrize("name", PARTS)
@settings(max_examples=10, deadline=None)
@given(st.data())
def test_the_weight_is_the_formula_with_everything_that_a_form_may_have(name, data):
    bits = 4 if "codebook" in PARTS[name] else data.draw(st.sampled_from((4, 8)))
    rows = 2 * data.draw(st.integers(1, 20))
    group = data.draw(st.sampled_from(GROUPS))
    cols = data.draw(st.integers(1, 3 * group + 20))
    paired, superblock = data.draw(st.booleans()), data.draw(st.integers(1, 4))
    matrix, expected = drawn_with(PARTS[name], rows, cols, group, bits, paired, superblock)
    assert torch.equal(matrix.dequantized(), expected)
    ids = torch.tensor([[rows - 1, 0], [rows // 2, rows // 3]])
    assert torch.equal(matrix.looked_up(ids), expected[ids])
    layer = QuantizedLinear(matrix).to(torch.bfloat16)
    assert torch.equal(layer.weight, expected)


def test_a_matrix_that_contradicts_its_description_is_refused():
    *_, matrix = made(20, 40, 32, (8, 128), False)
    whole = vars(matrix)
    codes = torch.zeros(2, 2, 16, dtype=torch.int8)
    wrong = {
        "codes": matrix.codes[:1],
        "scales": matrix.scales.float(),
        "mins": matrix.scales,  # with a zero of 128
        "bits": 4,
        "zero": 8,
        "rows": 40,
        "group": 48,
        "superblock": 2,
        "scale_codes": codes[:, :1],
        "min_codes": codes,  # without mins
        "codebook": torch.zeros(16, dtype=torch.uint8),  # of 8 bits
        "order": torch.arange(40),  # int64
        "row_factors": torch.ones(40),
    }
    for name, value in wrong.items():
        with pytest.raises(FormatError):
            QuantizedMatrix(**(whole | {name: value}))
    floats = {"codebook": torch.zeros(16), "scales": torch.zeros(16), "zero": 0, "bits": 4}
    *_, matrix = made(20, 40, 32, (4, 8), False)
    with pytest.raises(FormatError):
        QuantizedMatrix(**(vars(matrix) | floats))
    QuantizedMatrix(**(vars(matrix) | floats | {"scale_codes": codes}))
    QuantizedMatrix(**(whole | {"scale_codes": codes, "order": torch.arange(40).int()}))


@pytest.mark.parametrize("place", [-1, 40, 3])
def test_an_order_that_is_no_permutation_is_refused(place):
    *_, matrix = made(20, 40, 32, (8, 128), False)
    order = torch.arange(40, dtype=torch.int32)
    order[7] = place
    with pytest.raises(FormatError, match="not a permutation"):
        QuantizedMatrix(**(vars(matrix) | {"order": order}))


@pytest.mark.parametrize(("bits", "group"), [(4, 96), (4, 8), (2, 32), (8, 96), (8, 320), (8, 0)])
def test_a_group_that_no_kernel_multiplies_is_refused(bits, group):
    codes, scales = torch.zeros(16, 512, dtype=torch.uint8), torch.ones(16, 32)
    with pytest.raises(FormatError, match=f"{bits} bits in groups of {group}"):
        pack(codes, scales, None, bits=bits, group=group, zero=8 if bits == 4 else 128)


def test_a_change_of_dtype_leaves_scales_as_they_are():
    *_, matrix = made(20, 40, 32, (4, 0), False)
    layer = QuantizedLinear(matrix, torch.ones(20)).to(torch.bfloat16)
    assert layer.bias is not None
    assert (layer.bias.dtype, layer.scales.dtype) == (torch.bfloat16, torch.float16)
    assert torch.equal(layer.weight, matrix.dequantized())


def test_the_float_state_is_that_of_a_plain_layer():
    *_, matrix = made(20, 40, 32, (4, 0), False)
    plain = Linear(40, 20, bias=True)
    plain.load_state_dict(float_state(QuantizedLinear(matrix, torch.ones(20))))
    assert torch.equal(plain.weight, matrix.dequantized())


def test_the_reference_multiplies_by_the_dequantized_weight():
    *_, matrix = made(20, 40, 32, (8, 128), False)
    x, bias = torch.randn(3, 40), torch.randn(20)
    expected = torch.nn.functional.linear(x, matrix.dequantized(), bias)
    assert torch.equal(REFERENCE_OPS.linear(x, QuantizedLinear(matrix, bias)), expected)


@settings(max_examples=40, deadline=None)
@given(
    st.integers(1, 40),
    st.integers(1, 300),
    st.sampled_from(GROUPS),
    st.floats(1e-7, 1e4),
    st.booleans(),
)
def test_int8_is_within_half_a_step_of_every_weight(rows, cols, group, size, paired):
    rows *= 2
    weight = torch.randn(rows, cols) * size
    matrix = quantize_int8(weight, group, paired=paired)
    assert matrix.group == group
    steps = unpack(matrix)[1].float().repeat_interleave(group, 1)[:, :cols]
    error = (matrix.dequantized() - weight).abs()
    assert bool((error <= steps * 0.501).all())
    assert bool((steps <= weight.abs().max() / 127 * 1.001 + 6e-8).all())


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 20), st.integers(1, 300), st.sampled_from(GROUPS), st.floats(1e-7, 1e4))
def test_narrow_codes_fit_16_bits_in_fours_with_unsigned_bytes(rows, cols, group, size):
    weight = torch.randn(2 * rows, cols) * size
    matrix = quantize_int8(weight, group, narrow=True)
    codes, scales, _ = unpack(matrix)
    signed = (codes.int() - 128).unflatten(1, (-1, 2, 2, 2))
    assert int(signed.clamp(min=0).sum((-3, -1)).max()) <= 128
    assert int(signed.clamp(max=0).sum((-3, -1)).min()) >= -128
    steps = scales.float().repeat_interleave(group, 1)[:, :cols]
    assert bool(((matrix.dequantized() - weight).abs() <= steps * 0.501).all())


@pytest.mark.parametrize("cols", [64, 150, 576])
@pytest.mark.parametrize("quantize", [quantize_int8, quantize_q4])
def test_per_channel_holds_one_scale_for_each_row_and_loses_little(quantize, cols):
    weight = torch.randn(40, cols, generator=torch.Generator().manual_seed(1))
    matrix = quantize(weight, 64, per_channel=True)
    assert matrix.scales.shape == (3, 1, 16)
    finer = (quantize(weight, 64).dequantized() - weight).norm()
    whole = (matrix.dequantized() - weight).norm()
    assert finer < whole < 2 * finer + 1e-6 or cols == 64
    steps = weight.abs().amax(1, keepdim=True) / 127
    if quantize is quantize_int8:
        assert bool(((matrix.dequantized() - weight).abs() <= steps * 0.501).all())


def by_bitsandbytes(weight):
    """Codes (rows, cols), scales (rows, G) and the dequantized weight."""
    from bitsandbytes import functional as bnb

    packed, state = bnb.quantize_4bit(
        weight, blocksize=64, quant_type="nf4", compress_statistics=True
    )
    codes = torch.stack((packed >> 4, packed & 15), dim=1).view(weight.shape)
    scales = bnb.dequantize_blockwise(state.absmax, state.state2) + state.offset
    return codes, scales.view(len(weight), -1), bnb.dequantize_4bit(packed, state)


def test_the_numbers_of_nf4_are_those_of_bitsandbytes():
    from bitsandbytes import functional as bnb

    assert torch.equal(NF4, bnb.get_4bit_type("nf4", device="cpu"))
    assert torch.equal(DYNAMIC, bnb.create_dynamic_map())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@settings(max_examples=20, deadline=None)
@given(st.data())
def test_nf4_is_that_of_bitsandbytes_bit_by_bit(dtype, data):
    rows, G = 2 * data.draw(st.integers(1, 400)), data.draw(st.integers(1, 9))
    tail = data.draw(st.sampled_from((1.5, 2.5, 100.0)))
    size = data.draw(st.sampled_from((1e-3, 0.02, 10.0)))
    torch.manual_seed(data.draw(st.integers(0, 1 << 20)))
    drawn = torch.distributions.StudentT(tail).sample((rows, 64 * G)) * size
    weight = drawn.clamp(-6e4, 6e4).to(dtype)  # what is not finite is refused
    weight[rows // 2, :64] = 0  # as the rows that a vocabulary was padded by
    matrix = quantize_nf4(weight, paired=data.draw(st.booleans()))
    codes, scales, dequantized = by_bitsandbytes(weight)
    found = unpack(matrix)
    assert torch.equal(found[0], codes)
    assert torch.equal(found[1], scales)
    assert torch.equal(matrix.dequantized().to(dtype), dequantized)
    assert torch.equal(QuantizedEmbedding(matrix).looked_up(torch.tensor([rows - 1, 0])),
                       matrix.dequantized()[[rows - 1, 0]])  # fmt: skip


def test_nf4_takes_the_bits_of_its_double_quantization():
    matrix = quantize_nf4(torch.randn(1536, 576, generator=torch.Generator().manual_seed(1)))
    assert 4 + 8 / 64 + 32 / (64 * 256) < matrix.nbytes * 8 / (1536 * 576) < 4.13


def test_importance_leaves_less_of_the_error_that_counts():
    generator = torch.Generator().manual_seed(1)
    weight, counts = torch.randn(64, 576, generator=generator), torch.rand(576, generator=generator)

    def error(matrix):
        return float(((matrix.dequantized() - weight).square() * counts).sum())

    assert error(quantize_nf4(weight, importance=counts)) < 0.99 * error(quantize_nf4(weight))


@pytest.mark.parametrize("paired", [False, True])
def test_a_codebook_of_floats_is_multiplied_in_bytes(paired):
    weight = torch.randn(96, 192, generator=torch.Generator().manual_seed(1))
    matrix = quantize_nf4(weight, paired=paired)
    in_bytes = matrix.in_bytes()
    assert in_bytes.codes is matrix.codes
    assert in_bytes.in_bytes() is in_bytes
    largest = unpack(matrix)[1].repeat_interleave(64, dim=1)
    # Half a step of 1/127, and what float16 rounds the scale by.
    limit = largest * (0.5 / 127 + 2**-11)
    assert bool(((in_bytes.dequantized() - matrix.dequantized()).abs() <= limit).all())


def test_a_large_matrix_in_nf4_is_multiplied_a_tile_at_a_time():
    weight = torch.randn(4200, 64, generator=torch.Generator().manual_seed(1))
    layer, x = QuantizedLinear(quantize_nf4(weight)), torch.randn(3, 64)
    expected = x @ layer.weight.T
    assert torch.allclose(REFERENCE_OPS.linear(x, layer), expected, rtol=0, atol=1e-5)


CAUSAL = TransformerConfig(
    vocab_size=32, hidden_size=16, intermediate_size=32, num_layers=1, num_heads=2,
    num_kv_heads=1, head_dim=8, max_positions=16,
)  # fmt: skip


@pytest.mark.parametrize(
    ("cols", "group"),
    [(64, 64), (576, 192), (1536, 256), (384, 192), (896, 128), (256, 256), (1000, 64), (320, 64)],
)
def test_int8_has_the_widest_group_that_needs_no_padding(cols, group):
    assert int8_group(CAUSAL, "blocks.0.mlp.up.weight", cols) == group


@pytest.mark.parametrize(
    "key",
    [
        "embed.weight",
        "head.weight",
        "blocks.0.attention.out.weight",
        "blocks.0.mlp.down.weight",
    ],
)
def test_tables_heads_and_what_reads_uneven_activations_have_small_groups(key):
    assert int8_group(CAUSAL, key, 768) == 64


@pytest.mark.parametrize(
    ("changes", "group"),
    [
        ({"causal": False, "norm_place": "post"}, 128),  # a norm has just made them alike
        ({"causal": False}, 64),
        ({"num_experts": 4}, 64),
        ({"norm_place": "post_only"}, 64),
        ({"encoder": CAUSAL.replace(causal=False, head="none")}, 64),
    ],
)
def test_group_fits_how_alike_activations_are(changes, group):
    config = CAUSAL.replace(**changes)
    assert int8_group(config, "blocks.0.attention.qkv.weight", 768) == group


def test_int8_of_zeros_is_zero():
    assert not quantize_int8(torch.zeros(4, 70)).dequantized().any()


def test_a_padded_group_is_fitted_to_its_real_weights_alone():
    weight = 5 + 0.01 * torch.randn(16, 33)  # zeros as padding would make the range 500 times wider
    error = (quantize_q4(weight).dequantized() - weight).abs()
    assert float(error.max()) < 0.01


def test_q4_fits_better_than_the_ends_of_the_range():
    weight = torch.randn(64, 320)
    groups = weight.view(64, 10, 32)
    low, high = groups.aminmax(dim=-1, keepdim=True)
    scale = (high - low) / 15
    naive = ((groups - low) / scale).round() * scale + low
    fitted = quantize_q4(weight).dequantized()
    assert (fitted - weight).square().sum() < 0.9 * (naive - groups).square().sum()


def test_q4_is_exact_on_sixteen_equally_spaced_values():
    weight = torch.arange(16).repeat(4, 2).float() * 0.25 - 1
    assert torch.equal(quantize_q4(weight).dequantized(), weight)


@pytest.mark.parametrize("quantize", [quantize_int8, quantize_q4, quantize_nf4])
@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_weights_that_are_not_finite_are_refused(quantize, value):
    weight = torch.ones(4, 32)
    weight[1, 3] = value
    with pytest.raises(UnsupportedError, match="finite"):
        quantize(weight)
