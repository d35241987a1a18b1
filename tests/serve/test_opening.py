"""What `lmstack.load` gives for each kind of model, and for a folder without a tokenizer."""

from __future__ import annotations

import pytest
import torch
import transformers
from torch.testing import assert_close

import lmstack
from lmstack.core import NotFoundError, UnsupportedError
from lmstack.registry import LoadedModel

BERT = {
    "vocab_size": 61,
    "hidden_size": 48,
    "intermediate_size": 80,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
}
IDS = torch.randint(5, 61, (2, 7), generator=torch.Generator().manual_seed(0))


@pytest.fixture
def saved(tmp_path):
    def save(name):
        torch.manual_seed(0)
        model = getattr(transformers, name)(transformers.BertConfig(**BERT)).eval()
        model.save_pretrained(tmp_path / name)
        return model, tmp_path / name

    return save


@pytest.mark.parametrize("name", ["BertModel", "BertForMaskedLM", "BertForSequenceClassification"])
@torch.no_grad()
def test_a_folder_of_weights_alone_gives_its_module(name, saved):
    theirs, folder = saved(name)
    ours = lmstack.load(folder)
    assert isinstance(ours, LoadedModel)
    a, b = ours.module(IDS, torch.ones_like(IDS), torch.zeros_like(IDS)), theirs(IDS)
    expected = b.last_hidden_state if name == "BertModel" else b.logits
    assert_close(a.last_hidden_state if a.logits is None else a.logits, expected)


def test_the_missing_tokenizer_is_named_when_it_is_used_not_before(saved):
    model = lmstack.load(saved("BertForMaskedLM")[1])
    with pytest.raises(NotFoundError, match=r"BertForMaskedLM has no tokenizer\.json"):
        model.tokenizer.encode("a text")
    with pytest.raises(UnsupportedError, match="does not generate text"):
        model.generate("a text")


def test_what_was_loaded_without_a_tokenizer_saves_what_transformers_loads(saved, tmp_path):
    theirs, folder = saved("BertForMaskedLM")
    lmstack.load(folder).save(tmp_path / "again")
    again = transformers.BertForMaskedLM.from_pretrained(tmp_path / "again").state_dict()
    for name, tensor in theirs.state_dict().items():
        assert torch.equal(again[name], tensor), name
