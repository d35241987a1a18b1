"""4 bits fitted by what a model's matrices are given: less is lost where it counts."""

from __future__ import annotations

import pytest
import torch
from tests.model.test_smoothing import GEMMA, GPT, IDS, WIDE, answer, config, decoder, same_weights

from lmstack.model import Transformer, build_module, write_folder
from lmstack.model.formats.assembly import matrices_of
from lmstack.model.forms import weights_in_form
from lmstack.model.loading import open_model_plan, read_weights
from lmstack.model.quant.importance import importance_of
from lmstack.model.quant.quantize import quantize_q4

UNEVEN = torch.exp2(torch.linspace(-6, 6, 64))


def lost(weight: torch.Tensor, importance: torch.Tensor | None) -> float:
    """Of products with activations whose sizes are `UNEVEN`."""
    found = quantize_q4(weight, importance=importance).dequantized() - weight
    return float((found.square() * UNEVEN.square()).sum())


def test_a_fit_by_importance_loses_less_of_a_product():
    torch.manual_seed(0)
    weight = torch.randn(48, 64)
    assert lost(weight, UNEVEN.square()) < 0.6 * lost(weight, None)


def test_importance_that_is_the_same_everywhere_changes_nothing():
    torch.manual_seed(0)
    weight = torch.randn(40, 70)  # the last group is padded
    plain, even = quantize_q4(weight), quantize_q4(weight, importance=torch.full((70,), 4.0))
    assert torch.equal(plain.dequantized(), even.dequantized())


def test_importance_of_one_column_keeps_groups_of_equal_weights():
    weight = torch.full((16, 64), 0.37)
    found = quantize_q4(weight, importance=UNEVEN).dequantized()
    torch.testing.assert_close(found, weight, rtol=1e-3, atol=0)


@pytest.mark.parametrize("changes", [{}, GEMMA, GPT, {"tie_embeddings": True}])
def test_a_decoder_in_4_bits_is_nearer_to_its_floats_by_importance(changes):
    module = decoder(config(**changes | WIDE))
    matrices = matrices_of(module)
    importance = importance_of(module, IDS)
    assert set(importance) <= set(matrices)
    tied = module.config.tie_embeddings
    assert ("embed.weight" in importance) == tied
    assert all(name in importance for name in matrices if name.startswith("blocks."))
    for shares in importance.values():
        assert float(shares.min()) > 0
        assert float(shares.mean()) == pytest.approx(1, rel=4e-3)  # of 8 bits

    def error(counts: dict[str, torch.Tensor]) -> float:
        def made(key: str, tensor: torch.Tensor):
            if key not in matrices:
                return tensor
            return quantize_q4(tensor, paired=matrices[key], importance=counts.get(key))

        state = {k: made(k, t.detach()) for k, t in module.state_dict().items()}
        return float((answer(build_module(module.config, state)) - answer(module)).norm())

    assert error(importance) < error({})


def test_activations_that_are_not_finite_or_all_zero_tell_nothing():
    module = decoder(config())
    with torch.no_grad():
        module.blocks[0].attention_norm.weight.zero_()
        module.blocks[1].mlp_norm.weight[3] = torch.nan
    found = importance_of(module, IDS)
    assert "blocks.0.attention.qkv.weight" not in found
    assert "blocks.1.mlp.up.weight" not in found
    assert "blocks.0.mlp.up.weight" in found


def test_q4_is_fitted_by_what_the_text_shows(tmp_path):
    write_folder(decoder(config(**WIDE)), tmp_path)
    with open_model_plan(tmp_path) as plan:
        module = build_module(plan.config, weights_in_form(plan, "bfloat16"))
        wanted = weights_in_form(plan, "q4", importance=importance_of(module, IDS))
        plain = weights_in_form(plan, "q4")
    found = read_weights(tmp_path, "q4", IDS)[1]
    assert same_weights(found, wanted)
    assert not same_weights(found, plain)


def test_a_shared_block_counts_the_tokens_of_all_its_layers():
    module = decoder(config(num_blocks=1, num_layers=3))
    assert isinstance(module, Transformer)
    assert "blocks.0.mlp.up.weight" in importance_of(module, IDS)
