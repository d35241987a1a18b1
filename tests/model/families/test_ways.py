"""Other ways through a model than a batch of texts: with the attention weights, packed end to
end, with padding in the decoder, longer than a tile of attention. One setting of each family."""

from __future__ import annotations

import pytest
import torch
import transformers

from lmstack.model import REFERENCE_OPS, DenseAttention, ForwardContext, load_module

from .all_cases import CASES
from .cases import alone, batch, randomized
from .encoders import DEBERTA, ENCODERS, MODERNBERT, MPNET
from .seq2seq import BART, MARIAN, MBART, PEGASUS, SEQ2SEQ, T5


def first_of_each(cases):
    """The first case of each family."""
    return [
        pytest.param(case, id=case.family)
        for case in {case.family: case for case in reversed(cases)}.values()
    ]


@pytest.mark.parametrize("case", first_of_each(CASES))
@torch.no_grad()
def test_attention_weights_are_those_of_transformers(case):
    values = batch(case, "plain", "none")
    ours = case.ours("plain")(**values, output_attentions=True)
    theirs = case.theirs("plain")(**values, output_attentions=True)
    if case.decodes:
        pairs = [
            (ours.attentions, theirs.decoder_attentions),
            (ours.cross_attentions, theirs.cross_attentions),
            (ours.encoder_attentions, theirs.encoder_attentions),
        ]
    else:
        pairs = [(ours.attentions, theirs.attentions)]
    for found, expected in pairs:
        assert len(found) == len(expected)
        for a, b in zip(found, expected, strict=True):
            torch.testing.assert_close(a, b)


@pytest.mark.parametrize("case", first_of_each(ENCODERS))
@torch.no_grad()
def test_packed_texts_have_the_states_that_they_have_alone(case):
    module, lengths = case.ours("plain"), (9, 4, 4, 1, 13)
    values = batch(case, "plain", "none")
    ids = values["input_ids"][0, :13]
    rows = [ids.roll(i)[:n] for i, n in enumerate(lengths)]
    types = [(torch.arange(n) > 2).long() for n in lengths]
    packed = module.varlen_hidden(torch.cat(rows), lengths, torch.cat(types)).split(lengths)
    for row, kinds, states in zip(rows, types, packed, strict=True):
        given = {"token_type_ids": kinds[None]} if "token_type_ids" in values else {}
        expected = case.theirs("plain")(row[None], output_hidden_states=True, **given)
        torch.testing.assert_close(states, expected.hidden_states[-1][0])


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("case", first_of_each(SEQ2SEQ))
@torch.no_grad()
def test_padding_of_the_decoder_is_never_seen(case, side):
    values = batch(case, "plain", "left")
    T = values["decoder_input_ids"].shape[1]
    places = torch.arange(T)
    short = places >= 4 if side == "left" else places < T - 4
    values["decoder_attention_mask"] = torch.stack((torch.ones(T), short)).long()
    ours = case.ours("plain")(**values)
    for row in range(2):
        one = alone(values, row)
        theirs = case.theirs("plain")(**one)
        real = values["decoder_attention_mask"][row].bool()
        torch.testing.assert_close(ours.logits[row][real], theirs.logits[0])


@pytest.mark.parametrize("case", [T5, DEBERTA, MODERNBERT, MPNET], ids=lambda case: case.family)
@torch.no_grad()
def test_a_text_longer_than_a_tile_of_attention_is_no_different(case, tmp_path):
    """Biases and windows are computed for a tile of queries at a time."""
    more = {} if case is T5 else {"max_position_embeddings": 512}
    model = randomized(
        getattr(transformers, case.architecture)(
            getattr(transformers, case.architecture).config_class(**{**case.settings, **more})
        )
    )
    if case.edit is not None:
        case.edit(model)
    model.save_pretrained(tmp_path)
    ids = torch.randint(5, 61, (1, 300), generator=torch.Generator().manual_seed(3))
    values = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    values["attention_mask"][:, 290:] = 0
    if case.decodes:
        values["decoder_input_ids"] = ids.roll(7)
    ours, theirs = load_module(tmp_path)(**values).logits, model(**values).logits
    real = slice(None) if case.decodes else slice(290)
    torch.testing.assert_close(ours[:, real], theirs[:, real])


@pytest.mark.parametrize("case", [T5, BART, MARIAN, MBART, PEGASUS], ids=lambda case: case.family)
@torch.no_grad()
def test_cross_attention_states_made_once_serve_every_step(case):
    """What an engine keeps: the encoder's states, projected for each layer."""
    module, values = case.ours("plain"), batch(case, "plain", "none")
    encoded = module.encode(values["input_ids"])
    whole = module(**values)
    torch.testing.assert_close(encoded, whole.encoder_last_hidden_state, rtol=0, atol=0)
    ids = values["decoder_input_ids"]
    attend = DenseAttention(module.config, REFERENCE_OPS, None, module.cross_states(encoded))
    last = module.hidden(ids, module.positions_of(ids), ForwardContext(attend=attend))
    torch.testing.assert_close(last, whole.last_hidden_state, rtol=0, atol=0)


@torch.no_grad()
def test_sums_that_overflow_half_precision_are_pulled_back_in_t5(tmp_path):
    model = randomized(transformers.T5ForConditionalGeneration(T5.config("plain")))
    for name, parameter in model.named_parameters():
        if name.endswith("wo.weight"):
            parameter.mul_(3e4)
    T5.edit(model)
    model.half().save_pretrained(tmp_path)
    values = batch(T5, "plain", "none")
    ours = load_module(tmp_path, torch.float16)(**values)
    theirs = model(**values, output_hidden_states=True)
    limit = torch.finfo(torch.float16).max - 1000
    assert (theirs.encoder_hidden_states[1].abs() >= limit).any()
    for a, b in [
        *zip(ours.encoder_hidden_states, theirs.encoder_hidden_states, strict=True),
        (ours.logits, theirs.logits),
    ]:
        # Single roundings of half precision, whose unit is 2^-11, add up along the way.
        assert (a.float() - b.float()).norm() < 0.005 * b.float().norm()
