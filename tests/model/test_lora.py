"""Adapters against PEFT: the same folders, the same numbers, in both directions."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from torch.testing import assert_close

from lmstack.core import FormatError, InputError, NotFoundError, UnsupportedError
from lmstack.model import Transformer, TransformerConfig, load_module, write_folder
from lmstack.model.lora import (
    adapter_of,
    add_adapter,
    count_parameters,
    load_adapter,
    merge,
    remove_adapter,
    save_adapter,
    unmerge,
)
from lmstack.model.lora_config import LoraConfig

# PEFT asks transformers in words that it will drop, and names what it does itself.
pytestmark = [
    pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated"),
    pytest.mark.filterwarnings("ignore::UserWarning:peft"),
]

SMALL = {"vocab_size": 61, "hidden_size": 48, "num_attention_heads": 6}
LAYERS = {"num_hidden_layers": 2, "intermediate_size": 80, "max_position_embeddings": 64}


def llama() -> Any:
    config = transformers.LlamaConfig(**SMALL, **LAYERS, num_key_value_heads=2)
    return transformers.LlamaForCausalLM(config)


def bert() -> Any:
    return transformers.BertModel(transformers.BertConfig(**SMALL, **LAYERS))


def biased_qwen() -> Any:
    config = transformers.Qwen2Config(**SMALL, **LAYERS, num_key_value_heads=2)
    return transformers.Qwen2ForCausalLM(config)


MODELS = {"llama": llama, "bert": bert, "qwen2": biased_qwen}
# Targets that are parts of what is fused here, and all linear layers.
TARGETS: dict[str, list[Any]] = {
    "llama": [["q_proj", "v_proj"], ["k_proj", "up_proj", "o_proj"], "all-linear"],
    "bert": [["query", "dense"], "all-linear"],
    "qwen2": [["q_proj", "k_proj", "gate_proj"], r".*\.1\..*_proj"],
}
KINDS: dict[str, dict[str, Any]] = {
    "lora": {},
    "rslora": {"use_rslora": True},
    "dora": {"use_dora": True},
    "patterns": {"rank_pattern": {"^.*1.*": 2}, "alpha_pattern": {"^.*0.*": 3}},
}
CASES = [(family, targets, "lora") for family in MODELS for targets in TARGETS[family]]
CASES += [(family, TARGETS[family][0], kind) for family in MODELS for kind in list(KINDS)[1:]]


@dataclass
class Pair:
    """One model with one adapter: PEFT's, and the two folders that it wrote."""

    theirs: Any
    base: Path
    adapter: Path
    ids: torch.Tensor

    def ours(self, dtype: torch.dtype = torch.float32) -> Transformer:
        """Our module of the base, and theirs, in ``dtype``."""
        self.theirs.to(dtype)
        return load_module(self.base, dtype)

    def run(self, module: Transformer) -> torch.Tensor:
        with torch.no_grad():
            return module(self.ids).last_hidden_state

    def expected(self, model: Any = None) -> torch.Tensor:
        with torch.no_grad():
            out = (model or self.theirs)(self.ids, output_hidden_states=True)
        return out.hidden_states[-1]


@pytest.fixture
def pair(tmp_path, randomize):
    def make(family: str, targets: Any, kind: str = "lora", **changes: Any) -> Pair:
        model = randomize(MODELS[family]())
        model.save_pretrained(tmp_path / "base")
        settings = {"r": 4, "lora_alpha": 6, "init_lora_weights": False} | KINDS[kind] | changes
        theirs = peft.get_peft_model(model, peft.LoraConfig(target_modules=targets, **settings))
        generator = torch.Generator().manual_seed(1)
        for name, parameter in theirs.named_parameters():
            if "lora_" in name:
                noise = torch.randn(parameter.shape, generator=generator)
                magnitude = "magnitude" in name
                parameter.data = parameter * (1 + 0.3 * noise) if magnitude else 0.3 * noise
        theirs.eval().save_pretrained(tmp_path / "adapter")
        ids = torch.randint(0, 61, (2, 7), generator=generator)
        return Pair(theirs, tmp_path / "base", tmp_path / "adapter", ids)

    return make


@pytest.mark.parametrize(("family", "targets", "kind"), CASES)
def test_an_adapter_of_peft_gives_the_same_hidden_states(pair, family, targets, kind) -> None:
    case = pair(family, targets, kind)
    module = case.ours()
    before = case.run(module)
    load_adapter(module, case.adapter)
    after = case.run(module)
    assert_close(after, case.expected())
    assert (after - before).abs().max() > 1e-2


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("family", MODELS)
def test_a_merged_adapter_computes_the_same_and_unmerging_gives_every_bit_back(
    pair, family, kind
) -> None:
    case = pair(family, "all-linear", kind)
    module = case.ours(torch.float64)
    weights = {key: value.clone() for key, value in module.state_dict().items()}
    load_adapter(module, case.adapter)
    active = case.run(module)
    merge(module)
    assert_close(case.run(module), active)
    assert {p for p, _ in module.named_parameters()} == set(weights)
    unmerge(module)
    assert torch.equal(case.run(module), active)
    merge(module)
    remove_adapter(module)
    assert all(torch.equal(weights[key], value) for key, value in module.state_dict().items())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("family", MODELS)
def test_a_saved_adapter_has_the_tensors_of_peft_and_loads_there(
    pair, family, kind, tmp_path
) -> None:
    case = pair(family, TARGETS[family][0], kind)
    module = case.ours()
    load_adapter(module, case.adapter)
    save_adapter(module, tmp_path / "ours")
    name = "adapter_model.safetensors"
    theirs, ours = load_file(case.adapter / name), load_file(tmp_path / "ours" / name)
    assert theirs.keys() == ours.keys()
    assert all(torch.equal(theirs[key], ours[key]) for key in theirs)
    base = type(case.theirs.get_base_model()).from_pretrained(case.base)
    again = peft.PeftModel.from_pretrained(base, tmp_path / "ours").eval()
    assert torch.equal(case.expected(again), case.expected())


@pytest.mark.parametrize("family", MODELS)
def test_all_linear_is_what_peft_takes_for_it(pair, family) -> None:
    case = pair(family, "all-linear")
    module = case.ours()
    add_adapter(module, LoraConfig(r=4))
    ours = {term.name for _, term in adapter_of(module).terms()}
    theirs = {
        name.removeprefix("base_model.model.")
        for name, layer in case.theirs.named_modules()
        if hasattr(layer, "lora_A")
    }
    assert ours == theirs


def test_a_merged_model_is_saved_like_any_and_loads_in_transformers(pair, tmp_path) -> None:
    case = pair("llama", "all-linear")
    module = case.ours()
    load_adapter(module, case.adapter)
    merge(module, keep=False)
    write_folder(module, tmp_path / "merged")
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "merged")
    assert_close(case.expected(theirs), case.expected())
    with pytest.raises(InputError, match="no adapter"):
        unmerge(module)


def test_a_model_with_an_active_adapter_is_not_saved_without_it(pair, tmp_path) -> None:
    case = pair("llama", ["q_proj"])
    module = case.ours()
    load_adapter(module, case.adapter)
    with pytest.raises(InputError, match="adapter") as caught:
        write_folder(module, tmp_path / "merged")
    assert "merge" in str(caught.value.hint)


@pytest.mark.parametrize("dora", [False, True], ids=["lora", "dora"])
def test_a_fresh_adapter_changes_nothing_and_only_it_gets_gradients(pair, dora) -> None:
    case = pair("llama", "all-linear")
    module = case.ours()
    before = case.run(module)
    add_adapter(module, LoraConfig(r=4, targets=("q_proj", "gate_proj"), dora=dora))
    assert_close(case.run(module), before)
    module(case.ids).last_hidden_state.square().sum().backward()
    trained = {name for name, p in module.named_parameters() if p.grad is not None}
    kinds = {name.rpartition(".")[2] for name in trained}
    assert kinds == ({"A", "B", "magnitude"} if dora else {"A", "B"})
    assert len(trained) == 2 * 2 * len(kinds)
    assert all(".terms." in name for name, p in module.named_parameters() if p.requires_grad)


def test_training_moves_the_loss_and_not_the_base(pair) -> None:
    case = pair("bert", "all-linear")
    module = case.ours()
    weights = {key: value.clone() for key, value in module.state_dict().items()}
    add_adapter(module, LoraConfig(r=4, targets=("query", "value")))
    optimizer = torch.optim.SGD([p for p in module.parameters() if p.requires_grad], lr=1e-3)
    losses = []
    for _ in range(5):
        loss = module(case.ids).last_hidden_state[..., 0].square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    remove_adapter(module)
    assert all(torch.equal(weights[key], value) for key, value in module.state_dict().items())
    assert all(p.requires_grad for p in module.parameters())


@pytest.mark.parametrize("kind", ["lora", "dora"])
def test_gradients_are_those_of_peft(pair, kind) -> None:
    case = pair("llama", ["q_proj", "down_proj"], kind)
    module = case.ours(torch.float64)
    load_adapter(module, case.adapter, trainable=True)
    module(case.ids).last_hidden_state.square().sum().backward()
    out = case.theirs(case.ids, output_hidden_states=True)
    out.hidden_states[-1].square().sum().backward()
    theirs = dict(case.theirs.named_parameters())
    # Theirs computes norms and rotation in float32 whatever the model is in.
    close = {"rtol": 1e-3, "atol": 1e-3}
    for _, term in adapter_of(module).terms():
        at = f"base_model.model.{term.name}"
        assert_close(term.A.grad, theirs[f"{at}.lora_A.default.weight"].grad, **close)
        assert_close(term.B.grad, theirs[f"{at}.lora_B.default.weight"].grad, **close)
        if term.magnitude is not None:
            magnitude = theirs[f"{at}.lora_magnitude_vector.default.weight"]
            assert_close(term.magnitude.grad, magnitude.grad, **close)


def test_dropout_is_for_training_only(pair) -> None:
    case = pair("llama", ["q_proj"], lora_dropout=0.5)
    module = case.ours()
    load_adapter(module, case.adapter)
    assert torch.equal(case.run(module), case.run(module))
    module.train()
    assert not torch.equal(case.run(module), case.run(module))
    module.eval()
    assert_close(case.run(module), case.expected())


@pytest.mark.parametrize("kind", ["lora", "dora"])
def test_dropout_keeps_the_expectation(pair, kind) -> None:
    case = pair("llama", ["q_proj"], kind, lora_dropout=0.3)
    module = case.ours()
    load_adapter(module, case.adapter)
    x = torch.randn(1, 48, generator=torch.Generator().manual_seed(0))
    attention = module.get_submodule("blocks.0.attention")
    expected = module.ops.linear(x, attention.qkv)
    attention.train()
    torch.manual_seed(0)
    found = module.ops.linear(x.expand(20_000, -1), attention.qkv)
    assert found.std(0)[:48].min() > 1e-3
    assert_close(found.mean(0, keepdim=True), expected, atol=0.05, rtol=0.02)


def test_the_counts_of_llama_2_7b(tmp_path) -> None:
    config = TransformerConfig.from_hf(
        {
            "model_type": "llama",
            "architectures": ["LlamaForCausalLM"],
            "vocab_size": 32000,
            "hidden_size": 4096,
            "intermediate_size": 11008,
            "num_hidden_layers": 32,
            "num_attention_heads": 32,
            "num_key_value_heads": 32,
            "max_position_embeddings": 4096,
        }
    )
    with torch.device("meta"):
        module = Transformer(config)
    add_adapter(module, LoraConfig(r=16, targets=("q_proj", "v_proj")))
    assert count_parameters(module) == (8_388_608, 6_746_804_224)


def test_a_scale_is_alpha_over_the_rank_or_over_its_root() -> None:
    assert LoraConfig(r=16, alpha=8).scale_of("x") == 0.5
    assert LoraConfig(r=16, alpha=8, rslora=True).scale_of("x") == 2.0
    mixed = LoraConfig(r=16, alpha=8, rank_pattern={"q": 4}, alpha_pattern={"0.k": 32})
    assert [mixed.scale_of(f"m.0.{n}") for n in "qkv"] == [2.0, 2.0, 0.5]
    assert math.isclose(mixed.scale_of("m.1.k"), 0.5)


# What cannot be honoured is refused by name, and leaves the model as it was.


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
    merge(module, keep=False)
    once = case.run(module)
    load_adapter(module, case.adapter)
    assert not torch.equal(case.run(module), once)


def test_half_precision_models_keep_factors_in_float32(pair) -> None:
    case = pair("llama", "all-linear")
    module = load_module(case.base, torch.bfloat16)
    load_adapter(module, case.adapter)
    assert {term.A.dtype for _, term in adapter_of(module).terms()} == {torch.float32}
    found = case.run(module)
    assert found.dtype == torch.bfloat16
    truth = case.expected()
    theirs = case.theirs.to(torch.bfloat16)
    for name, parameter in theirs.named_parameters():
        if "lora_" in name:
            parameter.data = parameter.data.float()
    assert (found - truth).abs().mean() < 1.5 * (case.expected(theirs) - truth).abs().mean()
    merge(module)
    assert {p.dtype for p in module.parameters()} == {torch.bfloat16}
