"""Smoothing: the same model until it is rounded, a better one after, and nothing elsewhere."""

from __future__ import annotations

import copy

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings
from tests.engine.cpu.quantized_models import Rounding
from tests.engine.cpu.quantized_models import rounded as rounded_codes
from tests.model.families.all_cases import CASES

from lmstack.model import (
    REFERENCE_OPS,
    ForwardContext,
    LayerKind,
    Ops,
    ReferenceOps,
    Transformer,
    TransformerConfig,
    build_module,
    write_folder,
)
from lmstack.model.formats.assembly import matrices_of
from lmstack.model.forms import weights_in_form
from lmstack.model.loading import open_model_plan, read_weights
from lmstack.model.quant.matrix import QuantizedMatrix
from lmstack.model.quant.quantize import int8_group, quantize_int8
from lmstack.model.quant.smoothquant import (
    CalibrationOps,
    Smoothing,
    calibration_text,
    may_smooth,
    observed,
    smoothing_of,
)

IDS = [3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8, 9, 7, 9, 3, 2, 3, 8, 4]
SIZES = {
    "vocab_size": 31, "hidden_size": 24, "intermediate_size": 40, "num_layers": 2, "num_heads": 4,
    "num_kv_heads": 2, "head_dim": 6, "max_positions": 64,
}  # fmt: skip
GEMMA = {"norm": "rms1p", "norm_place": "sandwich", "activation": "gelu_tanh"} | {
    "embedding_scale": 5.0, "tie_embeddings": True, "logit_softcap": 30.0, "qk_norm": "head",
}  # fmt: skip
GPT = {"norm": "ln", "mlp": "plain", "activation": "gelu", "positions": "learned"} | {
    "kinds": (LayerKind(None),), "qkv_bias": True, "out_bias": True, "mlp_bias": True,
}  # fmt: skip
DECODERS = {
    "llama": {},
    "gemma": GEMMA,
    "gpt": GPT,
    "parallel": {"parallel": True, "norm": "ln_nobias"},
    "parallel plain": GPT | {"parallel": True},
    "biases": {"qkv_bias": True, "mlp_bias": True, "norm": "ln"},
    "normed queries": {"qk_norm": "full", "qkv_clip": 2.0},
    "shared blocks": {"num_blocks": 1, "num_layers": 3},
    "no first norm": {"first_norm": False},
}


def config(**changes) -> TransformerConfig:
    return TransformerConfig(**SIZES | changes)


@st.composite
def configs(draw):
    """Any decoder that may be smoothed."""
    drawn = {
        "norm": st.sampled_from(["rms", "rms1p", "ln", "ln_nobias"]),
        "norm_place": st.sampled_from(["pre", "sandwich"]),
        "mlp": st.sampled_from(["plain", "glu"]),
        "activation": st.sampled_from(["silu", "gelu", "relu"]),
        "qk_norm": st.sampled_from(["none", "head", "full"]),
        **dict.fromkeys(("qkv_bias", "out_bias", "mlp_bias", "tie_embeddings"), st.booleans()),
        "num_blocks": st.sampled_from([None, 1]),
        "head": st.sampled_from(["lm", "none"]),
        "parallel": st.booleans(),
    }
    values = {name: draw(strategy) for name, strategy in drawn.items()}
    if values["head"] == "none":
        values["tie_embeddings"] = False
    if not values["parallel"]:
        values["first_norm"] = draw(st.booleans())
    return config(**values)


def decoder(config: TransformerConfig, seed: int = 0) -> Transformer:
    """Random, its channels of sizes far apart."""
    generator = torch.Generator().manual_seed(seed)
    module = Transformer(config).eval()
    with torch.no_grad():
        for name, p in module.named_parameters():
            noise = torch.randn(p.shape, generator=generator)
            uneven = torch.exp2(2 * torch.randn(p.shape[-1:], generator=generator))
            if name.endswith("norm.weight"):
                p.copy_(uneven if config.norm != "rms1p" else uneven - 1)
            else:
                p.copy_(0.2 * noise * (uneven if p.dim() == 2 and "blocks." in name else 1))
    return module


def smoothed(module: Transformer, smoothing: Smoothing) -> Transformer:
    return build_module(
        module.config, {k: smoothing(k, t.detach()) for k, t in module.state_dict().items()}
    )


@torch.inference_mode()
def answer(module: Transformer, ops: Ops = REFERENCE_OPS) -> torch.Tensor:
    output = module(torch.tensor([IDS]), context=ForwardContext(ops))
    return output.last_hidden_state if output.logits is None else output.logits


def factors(smoothing: Smoothing, module: Transformer) -> dict[str, torch.Tensor]:
    """What each tensor is multiplied by; what counts from one left out."""
    from_one = module.config.norm == "rms1p"
    ones = {k: torch.ones_like(t) for k, t in module.state_dict().items()}
    return {
        key: smoothing(key, one)
        for key, one in ones.items()
        if not (from_one and key.endswith("norm.weight"))
    }


def same_model(module: Transformer) -> None:
    """Bit by bit where nothing counts from one, which rounds a norm's weight once more."""
    smoothing = smoothing_of(module, IDS)
    expected, found = answer(module), answer(smoothed(module, smoothing))
    if module.config.norm == "rms1p":
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    else:
        assert torch.equal(found, expected)


@settings(max_examples=40, deadline=None)
@given(config=configs())
def test_what_is_recorded_is_computed_in_float64_whatever_dtype_weights_have(
    config: TransformerConfig,
) -> None:
    module = decoder(config).bfloat16()
    rounded, exact = observed(module, IDS), observed(copy.deepcopy(module).double(), IDS)
    for one, two in ((rounded.largest, exact.largest), (rounded.squares, exact.squares)):
        assert len(one) == len(two) > 0
        for found, wanted in zip(one.values(), two.values(), strict=True):
            assert found.dtype == torch.float64
            assert torch.allclose(found, wanted, rtol=1e-12, atol=0)
    for found, wanted in zip(rounded.attended, exact.attended, strict=True):
        for one, two in zip(found, wanted, strict=True):
            assert torch.allclose(one, two, rtol=1e-12, atol=0)


@settings(max_examples=40, deadline=None)
@given(configs(), st.integers(0, 99))
def test_no_decoder_changes_until_it_is_rounded(config, seed):
    same_model(decoder(config, seed))


@pytest.mark.parametrize("kind", DECODERS)
def test_decoders_of_the_field_are_smoothed_and_stay_the_same(kind):
    module = decoder(config(**DECODERS[kind]))
    assert may_smooth(module.config)
    same_model(module)
    found = factors(smoothing_of(module, IDS), module)
    changed = {key for key, factor in found.items() if not (factor == 1).all()}
    gated = module.config.mlp == "glu"
    for layer in range(len(module.blocks)):
        start = f"blocks.{layer}."
        assert f"{start}mlp.up.weight" in changed
        assert (f"{start}mlp.down.weight" in changed) == gated
        normed = module.blocks[layer].attention_norm is not None
        assert (f"{start}attention.qkv.weight" in changed) == normed
        normed = module.config.qk_norm != "none" and module.config.norm != "rms1p"
        for name in ("q_norm", "k_norm"):
            assert (f"{start}attention.{name}.weight" in changed) == normed
    rest = [k for k in changed if k.endswith(("out.weight", "_post_norm.weight", "down.bias"))]
    assert not rest
    assert all(key.startswith("blocks.") for key in changed)


@settings(max_examples=20, deadline=None)
@given(configs(), st.integers(0, 99))
def test_factors_are_powers_of_two(config, seed):
    module = decoder(config, seed)
    for key, factor in factors(smoothing_of(module, IDS), module).items():
        assert torch.equal(torch.frexp(factor).mantissa, torch.full_like(factor, 0.5)), key


def test_activations_and_weights_of_a_channel_become_of_like_size():
    """As near as powers of two bring them: factors of one would be true to the model as well."""
    module = decoder(config())

    @torch.inference_mode()
    def spread(module: Transformer) -> float:
        watching = CalibrationOps()
        module(torch.tensor([IDS]), context=ForwardContext(watching))
        found = []
        for block in module.blocks:
            for matrix in (block.attention.qkv, block.mlp.up, block.mlp.down):
                logs = (watching.largest[matrix] / matrix.weight.abs().amax(0)).log2()
                found.append(float(logs.max() - logs.min()))
        return max(found)

    assert spread(module) > 6
    assert spread(smoothed(module, smoothing_of(module, IDS))) < 2.001


def test_a_text_longer_than_the_model_is_cut():
    module = decoder(config(**GPT))
    many = factors(smoothing_of(module, IDS * 10), module)
    few = factors(smoothing_of(module, (IDS * 10)[: module.config.max_positions]), module)
    assert all(torch.equal(many[key], few[key]) for key in few)


def test_the_text_has_characters_of_many_kinds():
    text = calibration_text()
    assert len(set(text)) > 100
    assert "\n" in text
    assert not text.isascii()


# -- channels that say nothing -------------------------------------------------------------------


def test_a_channel_that_no_token_uses_or_no_weight_reads_stays_as_it_is():
    module = decoder(config())
    with torch.no_grad():
        block = module.blocks[0]
        block.attention_norm.weight[3] = 0
        block.attention.qkv.weight[:, 7] = 0
        block.mlp.down.weight[:, 11] = 0
    same_model(module)
    found = factors(smoothing_of(module, IDS), module)
    qkv = found["blocks.0.attention.qkv.weight"]
    assert (qkv[:, [3, 7]] == 1).all()
    assert not (qkv == 1).all()
    assert (found["blocks.0.mlp.down.weight"][:, 11] == 1).all()
    assert (found["blocks.0.attention_norm.weight"][[3, 7]] == 1).all()


def test_a_layer_of_zeros_stays_as_it_is():
    module = decoder(config())
    with torch.no_grad():
        module.blocks[1].mlp.up.weight.zero_()
    same_model(module)
    found = factors(smoothing_of(module, IDS), module)
    assert (found["blocks.1.mlp.up.weight"] == 1).all()
    assert (found["blocks.1.mlp.down.weight"] == 1).all()


@pytest.mark.parametrize("value", [torch.inf, torch.nan])
def test_activations_that_are_not_finite_tell_nothing(value):
    module = decoder(config())
    with torch.no_grad():
        module.blocks[0].attention_norm.weight[3] = value
    found = factors(smoothing_of(module, IDS), module)
    qkv = found["blocks.0.attention.qkv.weight"]
    assert (qkv[:, 3] == 1).all()
    assert not (qkv == 1).all()
    # After it nothing is a number any more.
    assert (found["blocks.1.mlp.up.weight"] == 1).all()


# -- rounded -------------------------------------------------------------------------------------

WIDE = {"hidden_size": 128, "intermediate_size": 256, "head_dim": 32, "num_layers": 3}


def planted(module: Transformer, times: float) -> None:
    """Norms give channel 5 so many times larger, what reads it is as much smaller."""
    with torch.no_grad():
        for block in module.blocks:
            for norm, matrix in (
                (block.attention_norm, block.attention.qkv),
                (block.mlp_norm, block.mlp.up),
            ):
                norm.weight[5] *= times
                if module.config.norm == "rms1p":
                    norm.weight[5] += times - 1
                matrix.weight[:, 5] /= times


def rounded(module: Transformer, smoothing: Smoothing) -> Transformer:
    """In int8."""
    matrices = matrices_of(module)

    def made(key: str, tensor: torch.Tensor):
        tensor = smoothing(key, tensor.detach())
        if key not in matrices:
            return tensor
        group = int8_group(module.config, key, tensor.shape[1])
        return quantize_int8(tensor, group, paired=matrices[key])

    return build_module(module.config, {k: made(k, t) for k, t in module.state_dict().items()})


@pytest.mark.parametrize("kind", ["llama", "gemma", "gpt", "parallel"])
def test_a_model_with_an_outlier_is_nearer_to_its_floats_when_smoothed(kind):
    torch.manual_seed(0)
    module = Transformer(config(**DECODERS[kind] | WIDE)).eval()
    module.reset_parameters(0.1)
    planted(module, 100.0)

    def error(smoothing: Smoothing) -> float:
        made = rounded(module, smoothing)
        return float((answer(made, Rounding("bfloat16")) - answer(module)).norm())

    assert error(smoothing_of(module, IDS)) < 0.3 * error(Smoothing())


class RoundedHeads(ReferenceOps):
    """Queries and keys in a byte a channel, as they meet over a cache of bytes."""

    def attention(self, q, k, v, *rest):
        return super().attention(
            rounded_codes(q, q.shape[-1]), rounded_codes(k, k.shape[-1]), v, *rest
        )


@pytest.mark.parametrize("changes", [GEMMA, {"qk_norm": "full"}, {"qk_norm": "head", "norm": "ln"}])
def test_keys_with_an_outlier_lose_less_in_a_cache_of_bytes_when_smoothed(changes):
    """As Gemma has them: one channel of the keys far larger, of the queries smaller."""
    torch.manual_seed(0)
    module = Transformer(config(**changes | WIDE)).eval()
    module.reset_parameters(0.1)
    one = module.config.norm == "rms1p"
    with torch.no_grad():
        for block in module.blocks:
            block.attention.q_norm.weight[5] = 1 / 30 - one
            block.attention.k_norm.weight[5] = 30 - one

    def error(smoothing: Smoothing) -> float:
        made = smoothed(module, smoothing)
        return float((answer(made, RoundedHeads()) - answer(module)).norm())

    assert error(smoothing_of(module, IDS)) < 0.5 * error(Smoothing())


def test_channels_that_a_rotation_mixes_are_multiplied_alike():
    found = factors(smoothing_of(module := decoder(config(qk_norm="head")), IDS), module)
    for name, other in (("q_norm", "k_norm"), ("k_norm", "q_norm")):
        factor = found[f"blocks.0.attention.{name}.weight"]
        assert torch.equal(factor[:3], factor[3:])
        assert torch.equal(factor, 1 / found[f"blocks.0.attention.{other}.weight"])


def same_weights(one, other) -> bool:
    assert one.keys() == other.keys()
    for key, weight in one.items():
        theirs = other[key]
        assert isinstance(weight, QuantizedMatrix) == isinstance(theirs, QuantizedMatrix)
        if isinstance(weight, QuantizedMatrix):
            assert weight.group == theirs.group
            weight, theirs = weight.dequantized(), theirs.dequantized()
        if not torch.equal(weight, theirs):
            return False
    return True


@pytest.fixture
def saved(tmp_path):
    """A folder with a decoder whose channels are of sizes far apart."""
    write_folder(decoder(config(**WIDE)), tmp_path)
    return tmp_path


@pytest.mark.parametrize("ids", [None, IDS])
def test_a_file_gives_the_same_form_again(ids, saved):
    first, again = (read_weights(saved, "int8", ids)[1] for _ in range(2))
    assert same_weights(first, again)


def test_int8_is_smoothed_by_what_the_text_shows(saved):
    with open_model_plan(saved) as plan:
        module = build_module(plan.config, weights_in_form(plan, "bfloat16"))
        wanted = weights_in_form(plan, "int8", smoothing_of(module, IDS))
        plain = weights_in_form(plan, "int8")
    found = read_weights(saved, "int8", IDS)[1]
    assert same_weights(found, wanted)
    assert not same_weights(found, plain)


@pytest.mark.parametrize("form", ["bfloat16", "float32"])
def test_other_forms_are_not_smoothed(form, saved):
    with open_model_plan(saved) as plan:
        wanted = weights_in_form(plan, form)
    assert same_weights(read_weights(saved, form, IDS)[1], wanted)


# Encoders, a decoder that norms what it adds, a mixture, encoder-decoders.
OTHERS = ["BertModel", "ModernBertModel", "Olmo2ForCausalLM", "MixtralForCausalLM"]
OTHERS += ["T5ForConditionalGeneration", "BartForConditionalGeneration"]


@pytest.mark.parametrize("architecture", OTHERS)
def test_where_more_than_one_matrix_reads_a_norm_nothing_changes(architecture, tmp_path):
    case = next(case for case in CASES if case.architecture == architecture)
    case.theirs("plain").save_pretrained(tmp_path)
    with open_model_plan(tmp_path) as plan:
        assert not may_smooth(plan.config)
        wanted = weights_in_form(plan, "int8")
    assert same_weights(read_weights(tmp_path, "int8", IDS)[1], wanted)
