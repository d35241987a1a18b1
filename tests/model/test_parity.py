"""Hidden states and logits equal those of transformers on tiny random models."""

from __future__ import annotations

import pytest
import torch
import transformers
from torch.testing import assert_close

from lmstack.core import ContextLengthError, InputError, UnsupportedError

LLAMA_VARIANTS = {
    "grouped": {},
    "multi_head": {"num_key_value_heads": 6},
    "multi_query": {"num_key_value_heads": 1},
    "tied": {"tie_word_embeddings": True},
    "biases": {"attention_bias": True, "mlp_bias": True},
    "wide_heads": {"head_dim": 24},
    "theta": {"rope_parameters": {"rope_type": "default", "rope_theta": 1e5}},
    "linear_rope": {"rope_parameters": {"rope_type": "linear", "rope_theta": 1e4, "factor": 4.0}},
    "llama3_rope": {
        "rope_parameters": {
            "rope_type": "llama3",
            "rope_theta": 1e3,
            "factor": 8.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 32,
        }
    },
    "gelu": {"hidden_act": "gelu_pytorch_tanh"},
    "large_eps": {"rms_norm_eps": 0.1},
}
LLAMA_KEYS = (
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "max_position_embeddings",
)
BERT_VARIANTS = {
    "plain": {},
    "one_type": {"type_vocab_size": 1},
    "gelu_new": {"hidden_act": "gelu_new"},
    "relu": {"hidden_act": "relu"},
    "large_eps": {"layer_norm_eps": 0.1},
}


def batch(B: int, T: int) -> torch.Tensor:
    return torch.randint(0, 61, (B, T), generator=torch.Generator().manual_seed(T))


def padded(side: str) -> torch.Tensor:
    """(4, 9): rows with 9, 8, 4 and 1 real tokens."""
    lengths = torch.tensor([9, 8, 4, 1])[:, None]
    column = torch.arange(9)[None]
    return (column < lengths if side == "right" else column >= 9 - lengths).long()


@torch.no_grad()
def compare(ours, theirs, ids, mask=None, positions=None, **inputs) -> None:
    a = ours(ids, mask, output_hidden_states=True, **inputs)
    told = inputs if positions is None else inputs | {"position_ids": positions}
    b = theirs(input_ids=ids, attention_mask=mask, output_hidden_states=True, **told)
    real = torch.ones_like(ids, dtype=torch.bool) if mask is None else mask.bool()
    assert len(a.hidden_states) == len(b.hidden_states)
    for x, y in zip(a.hidden_states, b.hidden_states, strict=True):
        assert_close(x[real], y[real])
    if a.logits is not None:
        assert_close(a.logits[real], b.logits[real])
    # Theirs pools the left edge even where that is padding.
    if a.pooled is not None and bool(real[:, 0].all()):
        assert_close(a.pooled, b.pooler_output)
    assert a.last_hidden_state.isfinite().all()


@pytest.mark.parametrize("variant", LLAMA_VARIANTS)
def test_llama_equals_transformers(variant, make_llama, reloaded):
    theirs = make_llama(**LLAMA_VARIANTS[variant])
    ours = reloaded(theirs)
    for T in (1, 2, 7, 33):
        compare(ours, theirs, batch(3, T))


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("variant", ["grouped", "multi_head"])
def test_padding_of_llama_is_never_seen(variant, side, make_llama, reloaded):
    theirs = make_llama(**LLAMA_VARIANTS[variant])
    compare(reloaded(theirs), theirs, batch(4, 9), padded(side))


@pytest.mark.parametrize("variant", BERT_VARIANTS)
def test_bert_equals_transformers(variant, make_bert, reloaded):
    theirs = make_bert(**BERT_VARIANTS[variant])
    ours = reloaded(theirs)
    for T in (1, 2, 7, 33):
        compare(ours, theirs, batch(3, T))


@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_of_bert_is_never_seen(side, make_bert, reloaded):
    theirs = make_bert()
    ours = reloaded(theirs)
    ids, mask = batch(4, 9), padded(side)
    # transformers counts positions from the left edge, padding included, unless told.
    positions = (mask.cumsum(-1) - 1).clamp(min=0)
    compare(ours, theirs, ids, mask, positions=positions, token_type_ids=(ids % 2))


def test_token_types_change_bert_as_in_transformers(make_bert, reloaded):
    theirs = make_bert()
    ids = batch(2, 8)
    compare(
        reloaded(theirs), theirs, ids, token_type_ids=(torch.arange(8) >= 4).long().expand(2, 8)
    )


@pytest.mark.parametrize(
    ("family", "changes"), [("Qwen2", {}), ("Mistral", {"sliding_window": None})]
)
def test_relatives_of_llama_are_configs(family, changes, make_llama, reloaded, randomize):
    settings = make_llama().config.to_dict()
    kept = {k: settings[k] for k in LLAMA_KEYS} | changes
    config = getattr(transformers, f"{family}Config")(**kept)
    theirs = randomize(getattr(transformers, f"{family}ForCausalLM")(config))
    compare(reloaded(theirs), theirs, batch(2, 11))


def test_a_base_model_without_head_has_hidden_states_and_no_logits(make_llama, reloaded):
    theirs = make_llama().model
    ours = reloaded(theirs)
    ids = batch(2, 5)
    with torch.no_grad():
        out = ours(ids)
        assert out.logits is None
        assert_close(out.last_hidden_state, theirs(ids).last_hidden_state)
    with pytest.raises(UnsupportedError, match="no logits"):
        ours.logits(out.last_hidden_state)


@pytest.mark.parametrize("lengths", [(5, 3), (1,), (4, 4, 4, 2), (7, 0, 1), (2, 9, 2)])
@pytest.mark.parametrize("kind", ["causal", "bidirectional"])
def test_packed_sequences_have_the_states_that_they_have_alone(
    kind, lengths, make_llama, make_bert, reloaded
):
    ours = reloaded(make_llama() if kind == "causal" else make_bert())
    rows = [batch(1, n)[0] for n in lengths]
    with torch.no_grad():
        packed = ours.varlen_hidden(torch.cat(rows), lengths).split(lengths)
        for row, states in zip(rows, packed, strict=True):
            if len(row):
                assert_close(states, ours(row[None]).last_hidden_state[0])


def test_nothing_packed_is_nothing(make_bert, reloaded):
    assert reloaded(make_bert()).varlen_hidden(torch.tensor([], dtype=torch.long), []).shape == (
        0,
        48,
    )


def test_lengths_that_do_not_add_up_are_refused(make_bert, reloaded):
    with pytest.raises(InputError, match="add up to 3"):
        reloaded(make_bert()).varlen_hidden(torch.tensor([1, 2]), [1, 2])


def test_gradients_equal_those_of_transformers(make_llama, reloaded):
    theirs = make_llama()
    ours = reloaded(theirs)
    ids, mask = batch(4, 9), padded("right")
    real = mask.bool()
    ours(ids, mask).logits[real].square().mean().backward()
    theirs(input_ids=ids, attention_mask=mask).logits[real].square().mean().backward()
    assert_close(ours.embed.weight.grad, theirs.model.embed_tokens.weight.grad)
    down = theirs.model.layers[0].mlp.down_proj.weight.grad
    assert_close(ours.blocks[0].mlp.down.weight.grad, down)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_a_row_of_padding_gives_zeros_from_attention_not_nan(dtype, make_llama, reloaded):
    ours = reloaded(make_llama()).to(dtype)
    mask = torch.tensor([[1, 1, 1], [0, 0, 0]])
    with torch.no_grad():
        assert ours(batch(2, 3), mask).logits.isfinite().all()


def test_bfloat16_stays_near_float32(make_llama, reloaded):
    theirs = make_llama()
    ours = reloaded(theirs)
    ids = batch(2, 16)
    with torch.no_grad():
        exact = ours(ids).logits
        rounded = ours.to(torch.bfloat16)(ids).logits
    assert rounded.dtype == torch.bfloat16
    assert (rounded.float() - exact).norm() / exact.norm() < 0.03


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        (torch.tensor([[0, 61]]), "0 to 61"),
        (torch.tensor([[-1, 3]]), "-1 to 3"),
        (torch.tensor([1, 2]), "shape"),
        (torch.tensor([[0.5]]), "float32"),
    ],
)
def test_ids_that_cannot_be_tokens_are_named(ids, message, make_llama, reloaded):
    with pytest.raises(InputError, match=message):
        reloaded(make_llama())(ids)


def test_a_mask_of_another_shape_is_refused(make_llama, reloaded):
    with pytest.raises(InputError, match="attention_mask"):
        reloaded(make_llama())(batch(2, 4), torch.ones(2, 5))


def test_more_tokens_than_learned_positions_are_refused_not_cut(make_bert, reloaded):
    with pytest.raises(ContextLengthError, match="41 tokens"):
        reloaded(make_bert())(batch(1, 41))


def test_an_empty_batch_gives_empty_states(make_llama, reloaded):
    with torch.no_grad():
        assert reloaded(make_llama())(batch(0, 4)).logits.shape == (0, 4, 61)
