"""A LoRA on a frozen quantized base: gradients, what they keep in memory, and smoothed columns."""

from __future__ import annotations

import copy
import dataclasses
from functools import partial

import pytest
import torch
from safetensors.torch import load_file
from torch.testing import assert_close

from lmstack.core import UnsupportedError
from lmstack.model import Transformer, TransformerConfig, build_module, load_module, write_folder
from lmstack.model.formats.assembly import matrices_of
from lmstack.model.lora.adapter import (
    add_adapter,
    load_adapter,
    merge_adapter,
    remove_adapter,
    save_adapter,
    unmerge_adapter,
)
from lmstack.model.lora.config import LoraConfig
from lmstack.model.quant.matrix import (
    QuantizedLinear,
    QuantizedMatrix,
    float_state,
    pack,
    product,
    unpack,
)
from lmstack.model.quant.progressive import on_lines
from lmstack.model.quant.quantize import quantize_int8, quantize_nf4, quantize_q4

SIZES = {
    "vocab_size": 61, "hidden_size": 64, "num_layers": 2, "num_heads": 4, "num_kv_heads": 2,
    "head_dim": 16, "intermediate_size": 96, "max_positions": 128,
}  # fmt: skip
CONFIG = TransformerConfig(**SIZES)
IDS = torch.randint(5, 61, (2, 9), generator=torch.Generator().manual_seed(1))


def act_order(weight: torch.Tensor, *, paired: bool = False) -> QuantizedMatrix:
    """Columns sorted by their size, as GPTQ sorts them, before they are cut into groups."""
    order = weight.abs().amax(0).argsort(descending=True)
    matrix = quantize_q4(weight[:, order], paired=paired)
    return dataclasses.replace(matrix, order=order.int())


FORMS = {
    "int8": quantize_int8,
    "q4": quantize_q4,
    "int8 per channel": partial(quantize_int8, per_channel=True),
    "q4 in groups of 128": partial(quantize_q4, group=128),
    "nf4": quantize_nf4,
    "act-order": act_order,
    "file8": lambda weight, paired=False: on_lines(quantize_q4(weight, paired=paired)),
}
LORA = LoraConfig(r=4, alpha=8, targets="all-linear")


def quantized(form: str, config: TransformerConfig = CONFIG) -> Transformer:
    torch.manual_seed(0)
    module = Transformer(config)
    module.reset_parameters(0.1)
    matrices = matrices_of(module)
    made = {
        key: FORMS[form](tensor.detach(), paired=matrices[key])
        if key in matrices
        else tensor.detach()
        for key, tensor in module.state_dict().items()
    }
    return build_module(config, made)


def plain_copy(module: Transformer) -> Transformer:
    """The same model with every matrix dequantized."""
    copy = Transformer(module.config)
    copy.load_state_dict(float_state(module))
    return copy.eval()


def trained_gradients(module: Transformer, dora: bool) -> dict[str, torch.Tensor]:
    torch.manual_seed(3)
    adapter = add_adapter(module, LORA.replace(dora=dora))
    for _, term in adapter.terms():
        torch.nn.init.normal_(term.B, std=0.1)
    module(IDS).logits.square().sum().backward()
    return {
        f"{name}.{factor}": getattr(term, factor).grad
        for name, term in ((term.name, term) for _, term in adapter.terms())
        for factor in ("A", "B", *(["magnitude"] if dora else []))
    }


@pytest.mark.parametrize("dora", [False, True], ids=["lora", "dora"])
@pytest.mark.parametrize("form", FORMS)
def test_gradients_are_those_through_the_dequantized_matrices(form: str, dora: bool) -> None:
    module = quantized(form)
    expected = trained_gradients(plain_copy(module), dora)
    found = trained_gradients(module, dora)
    assert found.keys() == expected.keys()
    assert len(found) >= 28
    for name, gradient in expected.items():
        assert gradient.abs().max() > 1e-4, name
        assert_close(found[name], gradient, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("form", FORMS)
def test_a_quantized_product_keeps_no_floats_of_its_matrix_for_the_backward_pass(form: str) -> None:
    layer = QuantizedLinear(FORMS[form](torch.randn(9000, 64)))
    x = torch.randn(3, 64, requires_grad=True)
    saved: list[int] = []
    hooks = torch.autograd.graph.saved_tensors_hooks(
        lambda tensor: saved.append(tensor.numel()) or tensor, lambda tensor: tensor
    )
    with hooks:
        out = product(x, layer)
    assert sum(saved) == 0
    # In three tiles of rows, forwards and backwards.
    assert_close(out, x @ layer.weight.T)
    out.square().sum().backward()
    assert_close(x.grad, 2 * (x @ layer.weight.T) @ layer.weight, rtol=1e-4, atol=1e-2)


def test_the_bias_of_a_quantized_layer_can_be_trained() -> None:
    layer = QuantizedLinear(quantize_int8(torch.randn(5, 64)), torch.zeros(5))
    assert layer.bias is not None
    layer.bias.requires_grad_(True)
    product(torch.randn(2, 3, 64), layer).sum().backward()
    assert_close(layer.bias.grad, torch.full((5,), 6.0))


def smoothed(folder, uneven: bool = True) -> tuple[Transformer, Transformer]:
    """A model on disk whose channels are of sizes far apart: as floats, and in int8, smoothed."""
    torch.manual_seed(0)
    module = Transformer(CONFIG)
    module.reset_parameters(0.1)
    with torch.no_grad():
        for name, p in module.named_parameters():
            if name.endswith("norm.weight") and uneven:
                p.copy_(torch.exp2(2 * torch.randn(p.shape)))
    write_folder(module, folder)
    return load_module(folder), load_module(folder, weights="int8")


def shares(one: torch.Tensor, other: torch.Tensor) -> float:
    return float((one - other).norm() / other.norm())


def test_an_adapter_trained_on_floats_does_the_same_on_smoothed_bytes(tmp_path) -> None:
    floats, narrow = smoothed(tmp_path / "model")
    held = [m for m in narrow.modules() if isinstance(m, QuantizedLinear)]
    assert any(m.col_factors is not None and m.col_factors.unique().numel() > 2 for m in held)
    assert any(m.row_factors is not None for m in held)
    with torch.no_grad():
        before = floats(IDS).logits
        rounding = shares(narrow(IDS).logits, before)
        adapter = add_adapter(floats, LORA)
        for _, term in adapter.terms():
            torch.nn.init.normal_(term.B, std=0.5)
        save_adapter(floats, tmp_path / "adapter")
        expected = floats(IDS).logits
        load_adapter(narrow, tmp_path / "adapter")
        found = narrow(IDS).logits
    assert shares(expected, before) > 0.5
    assert shares(found, expected) < max(3 * rounding, 0.02)


def test_an_adapter_trained_on_smoothed_bytes_is_saved_for_the_floats(tmp_path) -> None:
    floats, narrow = smoothed(tmp_path / "model")
    load = tmp_path / "adapter"
    adapter = add_adapter(floats, LORA)
    for _, term in adapter.terms():
        torch.nn.init.normal_(term.B, std=0.5)
    save_adapter(floats, load)
    load_adapter(narrow, load)
    save_adapter(narrow, tmp_path / "again")
    first, again = (
        load_file(folder / "adapter_model.safetensors") for folder in (load, tmp_path / "again")
    )
    assert first.keys() == again.keys()
    for name, tensor in first.items():  # powers of two there and back
        assert torch.equal(again[name], tensor), name


def reordered(matrix: QuantizedMatrix) -> QuantizedMatrix:
    """The same weights, the columns of each group shuffled."""
    codes, scales, mins = unpack(matrix)
    seed = torch.Generator().manual_seed(matrix.rows)
    groups = torch.arange(matrix.cols).split(matrix.group)
    order = torch.cat([group[torch.randperm(len(group), generator=seed)] for group in groups])
    made = pack(
        codes[:, order], scales, mins, bits=matrix.bits, group=matrix.group, zero=matrix.zero,
        paired=matrix.paired, order=order.int(),
    )  # fmt: skip
    return dataclasses.replace(made, row_factors=matrix.row_factors, col_factors=matrix.col_factors)


def test_an_order_of_columns_changes_nothing_about_smoothing_or_an_adapter(tmp_path) -> None:
    floats, narrow = smoothed(tmp_path / "model")
    adapter = add_adapter(floats, LORA)
    for _, term in adapter.terms():
        torch.nn.init.normal_(term.B, std=0.5)
    save_adapter(floats, tmp_path / "adapter")
    shuffled = copy.deepcopy(narrow)
    for path, layer in list(shuffled.named_modules()):
        if isinstance(layer, QuantizedLinear):
            shuffled.put(path, QuantizedLinear(reordered(layer.matrix), layer.bias))
    with torch.no_grad():
        assert torch.equal(shuffled(IDS).logits, narrow(IDS).logits)
        for module in (narrow, shuffled):
            load_adapter(module, tmp_path / "adapter")
        assert torch.equal(shuffled(IDS).logits, narrow(IDS).logits)
    save_adapter(shuffled, tmp_path / "again")
    first, again = (
        load_file(tmp_path / name / "adapter_model.safetensors") for name in ("adapter", "again")
    )
    assert all(torch.equal(again[name], tensor) for name, tensor in first.items())


def test_what_cannot_be_adapted_on_smoothed_bytes_is_refused(tmp_path) -> None:
    _, narrow = smoothed(tmp_path / "model")
    with pytest.raises(UnsupportedError, match="DoRA on int8"):
        add_adapter(narrow, LORA.replace(dora=True))
    with pytest.raises(UnsupportedError, match="modules_to_save"):
        add_adapter(narrow, LORA.replace(modules_to_save=("input_layernorm",)))


@pytest.mark.parametrize("form", FORMS)
def test_merged_into_quantized_layers_the_sum_is_a_float_and_comes_off_again(form: str) -> None:
    module = quantized(form)
    with torch.no_grad():
        before = module(IDS).logits
        adapter = add_adapter(module, LORA)
        for _, term in adapter.terms():
            torch.nn.init.normal_(term.B, std=0.1)
        active = module(IDS).logits
        merge_adapter(module)
        assert_close(module(IDS).logits, active, rtol=1e-4, atol=1e-5)
        unmerge_adapter(module)
        remove_adapter(module)
        assert torch.equal(module(IDS).logits, before)


@pytest.mark.parametrize("form", ["int8", "q4"])
def test_rows_between_two_panels_are_those_of_the_whole(form: str) -> None:
    weight = torch.randn(75, 80)
    matrix = quantize_int8(weight) if form == "int8" else quantize_q4(weight)
    whole = matrix.dequantized()
    for first, last in ((0, 32), (32, 64), (64, 75), (0, 75)):
        assert torch.equal(matrix.between(first, last).dequantized(), whole[first:last])
