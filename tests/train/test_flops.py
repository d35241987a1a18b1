"""Operations of a pass: against torch's own counter, and against the formula of the papers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from lmstack.model import (
    LayerKind,
    LoraConfig,
    Transformer,
    TransformerConfig,
    add_adapter,
    count_parameters,
)
from lmstack.model.families import config_from_json
from lmstack.train.flops import Load, count_flops

SHAPE = {
    "vocab_size": 90,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_layers": 3,
    "num_heads": 4,
    "num_kv_heads": 2,
    "head_dim": 8,
    "max_positions": 64,
}
PLAIN = {"num_kv_heads": 4, "causal": False, "kinds": (LayerKind(rope=None),), "mlp": "plain"}
CONFIGS = {
    "llama": {},
    "tied": {"tie_embeddings": True},
    "window": {"kinds": (LayerKind(window=5),)},
    "bert": {**PLAIN, "positions": "learned", "token_types": 2, "norm": "ln", "transform": "gelu"},
    "albert": {**PLAIN, "num_blocks": 1, "embedding_size": 16, "norm": "ln"},
    "classifier": {**PLAIN, "head": "token", "num_labels": 5, "positions": "learned"},
    "mixture": {"num_experts": 4, "experts_per_token": 2},
    "sandwich": {"norm_place": "sandwich", "qk_norm": "head"},
}


PARTS = {"embeddings", "projections", "scores", "feed-forward", "output layer", "adapters"}


def counted(module: Transformer, ids: torch.Tensor, lengths: list[int], **more) -> int:
    """torch's count of a pass and its backward pass: all pairs of a sequence, masked or not."""
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        output = module(ids, lengths=lengths, output_hidden_states=False, **more)
        output.logits.float().square().sum().backward()
    return counter.get_total_flops()


def ours(module: Transformer, lengths: list[int], outputs: int | None = None) -> int:
    """Our count, with the pairs that a mask hides counted as torch counts them."""
    load = Load(np.array(lengths), sum(lengths) if outputs is None else outputs)
    found = count_flops(module, load)
    assert found.forward_by_part.keys() | found.backward_by_part.keys() <= PARTS
    scores = found.forward_by_part["scores"] + found.backward_by_part["scores"]
    (length,) = set(lengths)
    config = module.config
    width = config.num_heads * config.head_dim
    full = 4 * width * config.num_layers * length**2 * len(lengths)
    share = scores / found.forward_by_part["scores"]
    return found.total() - scores + round(full * share)


@pytest.mark.parametrize("name", CONFIGS)
def test_all_weights_trained_is_what_torch_counts(name: str) -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    module = Transformer(TransformerConfig(**{**SHAPE, **CONFIGS[name]}))
    lengths = [9, 9]
    assert ours(module, lengths) == counted(module, torch.randint(90, (18,)), lengths)


@pytest.mark.parametrize(
    "lora",
    [
        LoraConfig(r=4, targets=("q_proj", "v_proj")),
        LoraConfig(r=4, targets=("down_proj",), layers=(1,)),
        LoraConfig(r=2, targets=("q_proj", "o_proj"), layers=(2,)),
        LoraConfig(r=4, targets=("q_proj", "up_proj"), dora=True),
        LoraConfig(r=4, targets=("v_proj",), dora=True, dropout=0.1),
        LoraConfig(r=4),
        LoraConfig(r=4, targets=("q_proj",), modules_to_save=("lm_head",)),
    ],
    ids=lambda lora: f"{lora.targets}-{lora.layers}-{lora.dora}-{lora.modules_to_save}",
)
def test_an_adapter_on_a_frozen_base_is_what_torch_counts(lora: LoraConfig) -> None:
    """Frozen matrices have no gradient, and layers below the first adapter none at all."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    module = Transformer(TransformerConfig(**SHAPE))
    add_adapter(module, lora)
    module.train()
    lengths = [12]
    assert ours(module, lengths) == counted(module, torch.randint(90, (12,)), lengths)


@pytest.mark.parametrize("name", ["llama", "bert", "classifier", "sandwich"])
def test_one_trained_parameter_costs_what_lies_above_it(name: str) -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    module = Transformer(TransformerConfig(**{**SHAPE, **CONFIGS[name]}))
    lengths, ids = [12], torch.randint(90, (12,))
    parameters = dict(module.named_parameters())
    of_scores = {}
    for trained, parameter in parameters.items():
        module.requires_grad_(False)
        parameter.requires_grad_(True)
        if trained.endswith(("q_norm.weight", "k_norm.weight")):
            of_scores[trained] = count_flops(module, Load(np.array(lengths), 0)).backward_by_part
        elif not trained.startswith("blocks.2"):
            assert ours(module, lengths) == counted(module, ids, lengths), trained
    # Either is counted as if it were both, which torch tells apart.
    for trained, parts in of_scores.items():
        above = 3 - int(trained.split(".")[1])
        assert parts["scores"] == above * 2 * 2 * 2 * (12 * 13 // 2) * 32


def test_an_encoder_decoder_is_what_torch_counts() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    config = config_from_json(
        {
            "model_type": "t5",
            "architectures": ["T5ForConditionalGeneration"],
            "vocab_size": 90,
            "d_model": 32,
            "d_kv": 8,
            "d_ff": 48,
            "num_layers": 2,
            "num_heads": 4,
        },
        "test",
    )
    module = Transformer(config)
    source, target = torch.randint(90, (2, 7)), torch.randint(90, (2, 5))
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        output = module(source, decoder_input_ids=target, output_hidden_states=False)
        output.logits.square().sum().backward()
    found = count_flops(module, Load(np.array([5, 5]), 10, np.array([7, 7])))
    # The decoder's own pairs are half of what torch counts, the diagonal aside.
    hidden = 2 * (25 - 15) * config.num_layers * 4 * config.num_heads * config.head_dim
    assert found.total() + 3 * hidden == counter.get_total_flops()
    named = PARTS - {"embeddings", "adapters"}
    assert found.forward_by_part.keys() == found.backward_by_part.keys() == named


@pytest.mark.parametrize("shares", [True, False])
def test_relative_positions_are_what_torch_counts(shares: bool) -> None:
    """DeBERTa, whose table of positions is projected in each layer, and whose first layer is
    followed by a convolution. Without a causal mask all pairs attend, as torch counts them."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    values = {
        "model_type": "deberta-v2",
        "architectures": ["DebertaV2ForMaskedLM"],
        **{"vocab_size": 90, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2},
        **{"num_attention_heads": 4, "max_position_embeddings": 64, "relative_attention": True},
        **{"pos_att_type": ["c2p", "p2c"], "position_buckets": 8, "norm_rel_ebd": "layer_norm"},
        **{"conv_kernel_size": 3, "conv_act": "gelu", "hidden_act": "gelu", "type_vocab_size": 0},
        "share_att_key": shares,
    }
    module = Transformer(config_from_json(values, "test"))
    found = count_flops(module, Load(np.array([9, 9]), 18))
    assert found.forward_by_part.keys() == found.backward_by_part.keys() == PARTS - {"adapters"}
    assert found.total() == counted(module, torch.randint(90, (18,)), [9, 9])


def test_operations_are_known_by_the_part_of_the_model() -> None:
    module = Transformer(TransformerConfig(**SHAPE))
    load = Load(np.array([4, 6]), 5)
    assert (load.tokens, load.sources.tolist(), load.places.tolist()) == (10, [], [0])
    found = count_flops(module, load)
    pairs = 10 + 21
    forward = {
        "projections": 3 * 2 * 10 * 32 * (64 + 32),  # of queries, keys and values; of the output
        "scores": 3 * 2 * 2 * pairs * 32,
        "feed-forward": 3 * 2 * 10 * 32 * (96 + 48),
        "output layer": 2 * 5 * 32 * 90,
    }
    assert found.forward_by_part == forward
    assert found.backward_by_part == {name: 2 * size for name, size in forward.items()}
    assert found.recomputed == found.forward - forward["output layer"]
    assert found.total() == 3 * found.forward
    assert found.total(checkpointing=True) == found.total() + found.recomputed
    for parameter in module.parameters():
        parameter.requires_grad_(False)
    frozen = count_flops(module, load)
    assert (frozen.forward, frozen.backward, frozen.recomputed) == (found.forward, 0, 0)
    add_adapter(module, LoraConfig(r=2, targets=("q_proj",), layers=(1,)))
    adapted = count_flops(module, load)
    size = 2 * 10 * 2 * 32  # through A, and through B
    assert adapted.forward_by_part == {**forward, "adapters": 2 * size}
    # Of A none by its input, which nothing is trained before.
    assert adapted.backward_by_part["adapters"] == 3 * size
    of_blocks = found.recomputed // 3
    assert adapted.recomputed == 2 * of_blocks + 2 * size
    small = Transformer(TransformerConfig(**{**SHAPE, **CONFIGS["albert"]}))
    parts = count_flops(small, load).forward_by_part
    assert parts["embeddings"] == 2 * 10 * 16 * 32
    tagger = Transformer(TransformerConfig(**{**SHAPE, **CONFIGS["classifier"]}))
    assert count_flops(tagger, load).forward_by_part["output layer"] == 2 * 5 * 32 * 5


def test_pairs_of_a_window_are_those_that_attend() -> None:
    config = TransformerConfig(**SHAPE | {"kinds": (LayerKind(window=5),)})
    module = Transformer(config)
    found = count_flops(module, Load(np.array([12, 3]), 0)).forward_by_part["scores"]
    pairs = sum(min(t + 1, 5) for t in range(12)) + sum(t + 1 for t in range(3))
    assert found == 4 * pairs * 32 * 3


def test_pairs_of_what_goes_on_are_those_of_the_whole_without_its_beginning() -> None:
    for window in (None, 5):
        module = Transformer(TransformerConfig(**SHAPE | {"kinds": (LayerKind(window=window),)}))
        load = Load(np.array([7, 4, 2]), 0, places=np.array([0, 7, 7]))
        found = count_flops(module, load).forward_by_part["scores"]
        pairs = sum(min(t + 1, window or 99) for t in (*range(11), *range(7, 9)))
        assert found == 4 * pairs * 32 * 3


def test_a_long_known_model_takes_six_operations_a_parameter_and_token() -> None:
    """Kaplan's 6 N for a model whose embeddings and attention are small beside the rest."""
    shape = SHAPE | {"hidden_size": 1024, "intermediate_size": 4096, "head_dim": 128}
    shape |= {"num_heads": 8, "num_kv_heads": 8, "num_layers": 12}
    with torch.device("meta"):
        module = Transformer(TransformerConfig(**shape))
    _, parameters = count_parameters(module)
    lengths = np.full(8, 64)
    total = count_flops(module, Load(lengths, 512)).total()
    assert total / 512 == pytest.approx(6 * parameters, rel=0.01)


def test_the_guides_lora_of_llama_2_7b_counts_what_peft_prints() -> None:
    """r=16 on q_proj and v_proj: 8,388,608 trainable of 6,746,804,224."""
    values = {
        "model_type": "llama",
        "architectures": ["LlamaForCausalLM"],
        "vocab_size": 32000,
        "hidden_size": 4096,
        "intermediate_size": 11008,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 32,
        "max_position_embeddings": 4096,
        "rms_norm_eps": 1e-5,
        "tie_word_embeddings": False,
    }
    with torch.device("meta"):
        module = Transformer(config_from_json(values, "Llama-2-7B"))
        add_adapter(module, LoraConfig(r=16, alpha=32, targets=("q_proj", "v_proj")))
    assert count_parameters(module) == (8_388_608, 6_746_804_224)
    # Two forwards, two for gradients by inputs, next to nothing for gradients by weights.
    per_token = count_flops(module, Load(np.array([512]), 512)).total() / 512
    assert per_token == pytest.approx(4 * 6.6e9, rel=0.05)
