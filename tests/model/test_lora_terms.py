"""Terms of an adapter for one request: against PEFT, on every form of the base."""

from __future__ import annotations

import functools

import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.model.peft_pairs import LAYERS, MODELS, TARGETS, WARNINGS, Pair, make_pair
from torch import Tensor
from torch.testing import assert_close

from lmstack.core import FormatError, UnsupportedError
from lmstack.engine.torch.adapted_ops import AdaptedOps
from lmstack.model import (
    REFERENCE_OPS,
    ForwardContext,
    Transformer,
    load_adapter,
    load_module,
)
from lmstack.model.lora.terms import read_terms

DECODERS = [family for family in MODELS if family not in ("bert", "t5")]
CASES = [(family, targets, "lora") for family in DECODERS for targets in TARGETS[family]]
CASES += [(f, TARGETS[f][0], kind) for f in DECODERS for kind in ("rslora", "patterns", "dora")]
pytestmark = WARNINGS


@pytest.fixture
def pair(tmp_path, randomize):
    return functools.partial(make_pair, tmp_path, randomize)


def run(case: Pair, module: Transformer, *, adapted: bool = True) -> Tensor:
    """Logits of both rows of the pair, of which each is a token sequence of its own."""
    ids = case.ids.flatten()
    adapters = []
    if adapted:
        terms = read_terms(module, case.adapter)
        matrices = {module.get_submodule(p): found for p, found in terms.matrices.items()}
        adapters.append((torch.arange(len(ids)), matrices))
    context = ForwardContext(AdaptedOps(REFERENCE_OPS, adapters))
    with torch.inference_mode():
        lengths = [case.ids.shape[1]] * len(case.ids)
        hidden = module.varlen_hidden(ids, lengths, context=context)
        return module.logits(hidden, context).view(*case.ids.shape, -1)


@pytest.mark.parametrize(("family", "targets", "kind"), CASES)
def test_terms_give_the_logits_of_peft(pair, family, targets, kind) -> None:
    case = pair(family, targets, kind)
    assert_close(run(case, case.ours()), case.expected(), atol=2e-5, rtol=1e-4)


def smoothed(case: Pair) -> Transformer:
    """In int8, of a base changed to have activations of unlike size, which smoothing is for."""
    for name, value in case.theirs.state_dict().items():
        if "layernorm.weight" in name:
            value[::7] *= 30
    case.theirs.get_base_model().save_pretrained(case.base)
    weights = case.base / "model.safetensors"
    kept = {
        name.replace(".base_layer", ""): tensor
        for name, tensor in load_file(weights).items()
        if "lora_" not in name
    }
    save_file(kept, weights, metadata={"format": "pt"})
    int8 = load_module(case.base, weights="int8")
    up = int8.get_submodule("blocks.0.mlp.up")
    assert up.col_factors.max() > 2 * up.col_factors.min()
    assert up.row_factors.max() > 1.5 * up.row_factors.min()
    return int8


def test_gains_on_smoothed_weights_are_those_of_the_weights_before(pair) -> None:
    case = pair("llama", "all-linear", "dora")
    held, own = (read_terms(module, case.adapter) for module in (smoothed(case), case.ours()))
    for path, terms in own.matrices.items():
        for found, expected in zip(held.matrices[path], terms, strict=True):
            assert_close(found.gains, expected.gains, rtol=0.03, atol=0)


@pytest.mark.parametrize("family", ["llama", "qwen2"])
def test_terms_on_smoothed_weights_are_as_near_as_the_base_is(pair, family) -> None:
    """Weights in int8 are multiplied by column and row first, and so must the terms be."""
    case = pair(family, "all-linear")
    int8 = smoothed(case)
    exact = case.expected()
    with case.theirs.disable_adapter():
        base = case.expected()
    off = (run(case, int8, adapted=False) - base).abs().max() / base.abs().max()
    adapted_off = (run(case, int8) - exact).abs().max() / exact.abs().max()
    assert (exact - base).abs().max() > 0.2 * base.abs().max()
    assert adapted_off < 3 * off + 0.005


def test_terms_leave_the_module_alone(pair) -> None:
    case = pair("llama", "all-linear")
    module = case.ours()
    before = run(case, module, adapted=False)
    run(case, module)
    assert torch.equal(run(case, module, adapted=False), before)


@pytest.mark.parametrize(
    ("kind", "changes", "said"),
    [
        ("lora", {"modules_to_save": ["norm"]}, "trained whole"),
        ("lora", {"target_modules": ["q_proj", "lm_head"]}, "output layer"),
    ],
)
def test_what_cannot_be_added_for_one_request_is_refused(pair, kind, changes, said) -> None:
    targets = changes.pop("target_modules", ["q_proj"])
    case = pair("llama", targets, kind, **changes)
    with pytest.raises(UnsupportedError, match=said):
        read_terms(case.ours(), case.adapter)


def test_an_encoder_decoder_and_a_model_with_an_adapter_are_refused(pair) -> None:
    case = pair("t5", ["q"])
    with pytest.raises(UnsupportedError, match="encoder-decoder"):
        read_terms(case.ours(), case.adapter)


def test_an_adapter_of_another_model_is_refused(pair, tmp_path) -> None:
    case = pair("llama", ["q_proj"])
    other = Transformer(case.ours().config.replace(hidden_size=24, num_layers=1))
    with pytest.raises(FormatError):
        read_terms(other, case.adapter)
    module = case.ours()
    load_adapter(module, case.adapter)
    with pytest.raises(Exception, match="an adapter that is not merged"):
        read_terms(module, case.adapter)


def test_the_digest_is_that_of_the_files(pair, tmp_path) -> None:
    case = pair("llama", ["q_proj"])
    module = case.ours()
    terms = read_terms(module, case.adapter)
    assert terms.digest == read_terms(module, case.adapter).digest
    config = case.adapter / "adapter_config.json"
    config.write_text(config.read_text().replace('"lora_alpha": 6', '"lora_alpha": 7'))
    assert read_terms(module, case.adapter).digest != terms.digest
    assert terms.rank == 4
    assert terms.num_parameters == LAYERS["num_hidden_layers"] * 4 * (48 + 48)
