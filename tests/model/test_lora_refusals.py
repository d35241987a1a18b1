"""Adapters that cannot be honoured: refused by name, and the model is left as it was."""

from __future__ import annotations

import functools
import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.model.peft_pairs import WARNINGS, make_pair

from lmstack.core import FormatError, InputError, NotFoundError, UnsupportedError
from lmstack.model import load_module
from lmstack.model.lora.adapter import add_adapter, load_adapter, merge_adapter
from lmstack.model.lora.config import LoraConfig

pytestmark = WARNINGS


@pytest.fixture
def pair(tmp_path, randomize):
    return functools.partial(make_pair, tmp_path, randomize)


@pytest.mark.parametrize(
    ("targets", "said"),
    [
        (("q_prj",), "'q_proj'"),
        (("q_proj", "c_attn"), "linear layers"),
        (r"nothing\..*", "linear layers"),
    ],
)
def test_a_target_that_matches_nothing_is_an_error(pair, targets, said) -> None:
    module = pair("llama", ["q_proj"]).ours()
    with pytest.raises(InputError, match="matches no linear layer") as caught:
        add_adapter(module, LoraConfig(targets=targets))
    assert said in str(caught.value.hint)
    assert all(p.requires_grad for p in module.parameters())


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"peft_type": "IA3"}, "IA3"),
        ({"bias": "all"}, "bias"),
        ({"init_lora_weights": "pissa"}, "pissa"),
        ({"use_qalora": True}, "use_qalora"),
        ({"target_parameters": ["mlp.experts.gate_up_proj"]}, "target_parameters"),
        ({"a_new_setting": {"of": "tomorrow"}}, "a_new_setting"),
        ({"r": 0}, "r is 0"),
        ({"lora_alpha": "much"}, "alpha"),
        ({"alpha_pattern": {"(a+)+": 2}}, "very long"),
        ({"alpha_pattern": ["q"]}, "adapter_config"),
        ({"target_modules": 3}, "targets"),
    ],
)
def test_settings_that_are_not_implemented_or_wrong_are_refused_by_name(
    pair, changes, said
) -> None:
    case = pair("llama", ["q_proj"])
    module = case.ours()
    before = case.run(module)
    path = case.adapter / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    with pytest.raises((FormatError, UnsupportedError), match=said):
        load_adapter(module, case.adapter)
    assert torch.equal(case.run(module), before)


def _drop(tensors: dict[str, torch.Tensor], end: str) -> None:
    del tensors[next(key for key in tensors if key.endswith(end))]


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda t: _drop(t, "lora_B.weight"), "lora_B"),
        (lambda t: t.update({k: v[:, :-1] for k, v in t.items() if "lora_A" in k}), "shape"),
        (lambda t: t.update({k: v[:-1] for k, v in t.items() if "lora_B" in k}), "shape"),
        (lambda t: t.update({k: v.long() for k, v in t.items()}), "int64"),
        (lambda t: t.update({"base_model.model.x.lora_A.weight": torch.ones(4, 48)}), "'x'"),
        (lambda t: t.update({"base_model.model.x.weight": torch.ones(4)}), "x.weight"),
        (lambda t: t.update({"base_model.model.x.lora_embedding_A": torch.ones(4)}), "embedding"),
        (lambda t: t.clear(), "no tensors"),
    ],
)
def test_tensors_that_do_not_fit_are_refused_by_name(pair, spoil, said) -> None:
    case = pair("llama", ["q_proj", "v_proj"])
    module = case.ours()
    before = case.run(module)
    path = case.adapter / "adapter_model.safetensors"
    tensors = load_file(path)
    spoil(tensors)
    save_file({key: value.contiguous() for key, value in tensors.items()}, path)
    with pytest.raises((FormatError, UnsupportedError), match=said):
        load_adapter(module, case.adapter)
    assert torch.equal(case.run(module), before)


def test_an_adapter_of_another_family_says_so(pair) -> None:
    llama_case = pair("llama", ["q_proj"])
    adapter = load_file(llama_case.adapter / "adapter_model.safetensors")
    bert_case = pair("bert", ["query"])
    save_file(adapter, bert_case.adapter / "adapter_model.safetensors")
    with pytest.raises(FormatError, match="q_proj") as caught:
        load_adapter(bert_case.ours(), bert_case.adapter)
    assert "another model" in str(caught.value.hint)


def test_pickled_and_missing_adapters_are_told_apart(pair) -> None:
    case = pair("llama", ["q_proj"])
    (case.adapter / "adapter_model.safetensors").rename(case.adapter / "adapter_model.bin")
    with pytest.raises(UnsupportedError, match="pickled"):
        load_adapter(case.ours(), case.adapter)
    (case.adapter / "adapter_model.bin").unlink()
    with pytest.raises(NotFoundError, match=r"adapter_model\.safetensors"):
        load_adapter(case.ours(), case.adapter)
    with pytest.raises(NotFoundError, match=r"adapter_config\.json"):
        load_adapter(case.ours(), case.adapter / "nowhere")


def test_a_second_adapter_is_refused_until_the_first_is_gone(pair) -> None:
    case = pair("llama", ["q_proj"])
    module = case.ours()
    load_adapter(module, case.adapter)
    with pytest.raises(InputError, match="already"):
        load_adapter(module, case.adapter)
    merge_adapter(module, keep=False)
    once = case.run(module)
    load_adapter(module, case.adapter)
    assert not torch.equal(case.run(module), once)


@pytest.mark.parametrize(
    ("name", "said"),
    [("embed_tokens", "output layer"), ("q_proj", "fused"), ("score", "does not have")],
)
def test_modules_that_cannot_be_trained_whole_are_refused(pair, name, said) -> None:
    case = pair("llama", ["v_proj"])
    config = json.loads((case.base / "config.json").read_text()) | {"tie_word_embeddings": True}
    (case.base / "config.json").write_text(json.dumps(config))
    tensors = load_file(case.base / "model.safetensors")
    tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"].clone()
    save_file(tensors, case.base / "model.safetensors")
    module = load_module(case.base)
    with pytest.raises((InputError, UnsupportedError), match=said):
        add_adapter(module, LoraConfig(targets=("v_proj",), modules_to_save=(name,)))
    assert all(p.requires_grad for p in module.parameters())
