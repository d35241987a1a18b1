"""What single families of encoders and encoder-decoders do that no table of cases says: older
spellings, tensors that are missing or idle, and what is refused by name."""

from __future__ import annotations

import copy
import json

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from lmstack.core import FormatError, UnsupportedError
from lmstack.model import load_module, write_folder
from lmstack.model.families import config_from_json

from .cases import batch, randomized
from .encoders import ALBERT, BERT, DEBERTA, MODERNBERT, MPNET
from .seq2seq import BART, MARIAN, T5, T5_V11


def folder_of(case, tmp_path, variant="plain"):
    case.theirs(variant).save_pretrained(tmp_path)
    return tmp_path


def renamed(folder, change):
    """The weights of ``folder`` under other names: ``change`` gives a new mapping."""
    file = folder / "model.safetensors"
    save_file(change(load_file(file)), file)
    return load_module(folder)


def reconfigured(folder, *gone, **changes):
    file = folder / "config.json"
    values = json.loads(file.read_text()) | changes
    file.write_text(json.dumps({k: v for k, v in values.items() if k not in gone}))
    return folder


def assert_same(module, case, variant="plain"):
    expected = case.ours(variant).state_dict()
    found = module.state_dict()
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        assert torch.equal(found[name], tensor), name


@pytest.mark.parametrize("case", [BERT, ALBERT], ids=["BERT", "ALBERT"])
def test_norms_of_old_checkpoints_are_gamma_and_beta(case, tmp_path):
    def old(tensors):
        return {
            k.replace("LayerNorm.weight", "LayerNorm.gamma").replace(
                "LayerNorm.bias", "LayerNorm.beta"
            ): v
            for k, v in tensors.items()
        }

    assert_same(renamed(folder_of(case, tmp_path), old), case)


@pytest.mark.parametrize("stem", ["Bert", "Albert"])
def test_a_file_of_pretraining_is_read_for_its_masked_words(stem, tmp_path):
    case = {"Bert": BERT, "Albert": ALBERT}[stem]
    model = getattr(transformers, f"{stem}ForPreTraining")(copy.deepcopy(case.config("plain")))
    randomized(model).save_pretrained(tmp_path)
    values = batch(case, "plain", "none")
    with torch.no_grad():
        ours, theirs = load_module(tmp_path)(**values).logits, model(**values).prediction_logits
    torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("case", [BERT, DEBERTA, MPNET], ids=["BERT", "DeBERTa", "MPNet"])
def test_a_base_model_passes_over_the_head_for_masked_words(case, tmp_path):
    stem = case.architecture.removesuffix("ForMaskedLM")
    reconfigured(folder_of(case, tmp_path), architectures=[f"{stem}Model"])
    values = batch(case, "plain", "none")
    with torch.no_grad():
        ours = load_module(tmp_path)(**values)
        theirs = case.ours("plain")(**values)
    assert ours.logits is None
    assert torch.equal(ours.last_hidden_state, theirs.last_hidden_state)


def test_a_tied_bias_under_its_second_name_alone_is_read(tmp_path):
    def second(tensors):
        bias = tensors.pop("cls.predictions.bias")
        return tensors | {"cls.predictions.decoder.bias": bias}

    assert_same(renamed(folder_of(BERT, tmp_path), second), BERT)


def test_a_deberta_as_microsoft_published_it_keeps_its_head(tmp_path):
    def published(tensors):
        old = {"cls.predictions.transform.": "lm_predictions.lm_head."}
        old |= {"cls.predictions.bias": "lm_predictions.lm_head.bias"}
        for new, name in old.items():
            tensors = {k.replace(new, name): v for k, v in tensors.items()}
        return tensors | {"mask_predictions.dense.weight": torch.ones(48, 48)}

    assert_same(renamed(folder_of(DEBERTA, tmp_path), published), DEBERTA)


def test_a_deberta_that_is_not_legacy_has_the_same_head(tmp_path):
    config = DEBERTA.config("plain")
    config.legacy = False
    model = randomized(transformers.DebertaV2ForMaskedLM(config))
    model.save_pretrained(tmp_path)
    values = batch(DEBERTA, "plain", "none")
    module = load_module(tmp_path)
    with torch.no_grad():
        torch.testing.assert_close(module(**values).logits, model(**values).logits)
    original = json.loads((tmp_path / "config.json").read_text())
    write_folder(module, tmp_path / "again", original=original)
    before, after = (load_file(p / "model.safetensors") for p in (tmp_path, tmp_path / "again"))
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert json.loads((tmp_path / "again/config.json").read_text()) == original


@torch.no_grad()
def test_a_convolution_stays_within_its_text():
    """Texts end to end, each shorter or longer than the convolution is wide."""
    module, lengths = DEBERTA.ours("convolution in groups"), (9, 4, 4, 1, 2)
    ids = batch(DEBERTA, "plain", "none")["input_ids"][0, : sum(lengths)]
    together = module.varlen_hidden(ids, lengths).split(lengths)
    for row, states in zip(ids.split(lengths), together, strict=True):
        theirs = DEBERTA.theirs("convolution in groups")(row[None], output_hidden_states=True)
        torch.testing.assert_close(states, theirs.hidden_states[-1][0])


def test_an_older_modernbert_counts_its_global_layers(tmp_path):
    folder = folder_of(MODERNBERT, tmp_path)
    reconfigured(
        folder,
        "layer_types",
        "rope_parameters",
        global_attn_every_n_layers=3,
        global_rope_theta=160000.0,
        local_rope_theta=10000.0,
    )
    assert load_module(folder).config == MODERNBERT.ours("plain").config


def test_a_t5_whose_file_has_no_output_layer_is_tied_whatever_it_says(tmp_path):
    folder = reconfigured(folder_of(T5, tmp_path), tie_word_embeddings=False)
    module = load_module(folder)
    assert module.config.tie_embeddings
    assert module.head is None


def test_a_t5_that_says_tied_and_holds_two_tables_has_two(tmp_path):
    folder = reconfigured(folder_of(T5_V11, tmp_path), tie_word_embeddings=True)
    assert not load_module(folder).config.tie_embeddings
    write_folder(load_module(folder), tmp_path / "again")
    assert not load_module(tmp_path / "again").config.tie_embeddings


def test_an_older_t5_scales_its_output_unless_it_says_untied(tmp_path):
    folder = reconfigured(folder_of(T5, tmp_path), "scale_decoder_outputs")
    assert load_module(folder).config.logit_scale == 48**-0.5
    reconfigured(folder, tie_word_embeddings=False)
    assert load_module(folder).config.logit_scale == 1.0


def test_a_t5_under_its_first_name_is_the_same_model(tmp_path):
    folder = reconfigured(folder_of(T5, tmp_path), architectures=["T5WithLMHeadModel"])
    assert load_module(folder).config == T5.ours("plain").config


@pytest.mark.parametrize("case", [T5, BART], ids=["T5", "BART"])
def test_copies_of_the_shared_table_are_passed_over(case, tmp_path):
    shared = "shared.weight" if case is T5 else "model.shared.weight"
    start = shared.removesuffix("shared.weight")

    def copied(tensors):
        names = (f"{start}{stack}.embed_tokens.weight" for stack in ("encoder", "decoder"))
        return tensors | {name: tensors[shared].clone() for name in names}

    assert_same(renamed(folder_of(case, tmp_path), copied), case)


@pytest.mark.parametrize("case", [T5, BART], ids=["T5", "BART"])
def test_another_table_where_one_is_shared_is_refused_not_dropped(case, tmp_path):
    shared = "shared.weight" if case is T5 else "model.shared.weight"
    name = shared.replace("shared", "encoder.embed_tokens")
    with pytest.raises(UnsupportedError, match="different embeddings"):
        renamed(folder_of(case, tmp_path), lambda t: t | {name: t[shared] + 1})


def test_a_bart_without_a_bias_of_the_logits_has_zeros(tmp_path):
    module = renamed(
        folder_of(BART, tmp_path), lambda t: {k: v for k, v in t.items() if "logits_bias" not in k}
    )
    assert not module.head_bias.bias.any()


def test_sinusoids_in_a_file_are_passed_over(tmp_path):
    table = "embed_positions.weight"
    module = renamed(
        folder_of(MARIAN, tmp_path),
        lambda t: t | {f"model.{s}.{table}": torch.ones(64, 48) for s in ("encoder", "decoder")},
    )
    assert_same(module, MARIAN)


def test_segments_are_passed_over_by_models_without_them():
    """Their tokenizers give them all the same."""
    values = batch(DEBERTA, "plain", "none")
    with torch.no_grad():
        plain = DEBERTA.ours("plain")(**values).logits
        given = DEBERTA.ours("plain")(**values, token_type_ids=torch.ones_like(values["input_ids"]))
    assert torch.equal(plain, given.logits)


@pytest.mark.parametrize(
    ("case", "changes", "named"),
    [
        (BERT, {"is_decoder": True}, "is_decoder"),
        (BERT, {"position_embedding_type": "relative_key"}, "relative_key"),
        (BERT, {"hidden_act": "mish"}, "mish"),
        (MPNET, {"relative_attention_num_buckets": 16}, "num_buckets is 16"),
        (DEBERTA, {"legacy": False, "embedding_size": 24}, "embedding_size"),
        (DEBERTA, {"pos_att_type": []}, "pos_att_type"),
        (T5, {"feed_forward_proj": "twice-gelu"}, "twice-gelu"),
    ],
)
def test_what_cannot_be_computed_is_refused_by_name(case, changes, named):
    values = case.config("plain").to_dict() | {"architectures": [case.architecture]} | changes
    with pytest.raises(UnsupportedError, match=named):
        config_from_json(values)


@pytest.mark.parametrize(
    ("case", "changes", "named"),
    [
        (BERT, {"type_vocab_size": 0}, "type_vocab_size"),
        (DEBERTA, {"pos_att_type": ["c2c"]}, "pos_att_type"),
        (DEBERTA, {"pos_att_type": 3}, "pos_att_type"),
        (DEBERTA, {"conv_kernel_size": 4}, "conv_size"),
        (MODERNBERT, {"layer_types": ["all"] * 4}, "layer_types"),
        (MODERNBERT, {"layer_types": None, "global_attn_every_n_layers": 0}, "global_attn"),
        (MODERNBERT, {"layer_types": ["full_attention"]}, "for 4 layers"),
        (BART, {"encoder_attention_heads": 0}, "head"),
        (T5, {"relative_attention_num_buckets": 2}, "bias_buckets"),
    ],
)
def test_a_damaged_setting_is_named(case, changes, named):
    values = case.config("plain").to_dict() | {"architectures": [case.architecture]} | changes
    with pytest.raises(FormatError, match=named):
        config_from_json(values)
