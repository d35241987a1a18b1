"""Adapters against PEFT: the same folders, the same numbers, in both directions."""

from __future__ import annotations

import functools
import math

import pytest
import torch
import transformers
from safetensors.torch import load_file
from tests.model.peft_pairs import KINDS, LAYERS, MODELS, SMALL, TARGETS, WARNINGS, Pair, make_pair
from tests.oracles import peft
from torch.testing import assert_close

from lmstack.core import InputError
from lmstack.engine import PrepackedOps
from lmstack.model import (
    REFERENCE_OPS,
    ForwardContext,
    Transformer,
    load_module,
    write_folder,
)
from lmstack.model.families import config_from_json
from lmstack.model.lora.adapter import (
    adapter_of,
    add_adapter,
    count_parameters,
    load_adapter,
    merge_adapter,
    remove_adapter,
    save_adapter,
    unmerge_adapter,
)
from lmstack.model.lora.config import LoraConfig

# Every model with plain adapters; other kinds on models whose matrices lie either way, and norms of
# rows also where several matrices are one.
USUAL = {(family, "lora") for family in MODELS}
USUAL |= {(family, kind) for family in ("llama", "gpt2") for kind in KINDS}
USUAL |= {("phi3", "dora"), ("gpt_neox", "dora")}
PAIRS = [
    pytest.param(family, kind, marks=() if (family, kind) in USUAL else pytest.mark.long)
    for family in MODELS
    for kind in KINDS
]
CASES = [(family, targets, "lora") for family in MODELS for targets in TARGETS[family]]
CASES += [
    pytest.param(family, TARGETS[family][0], kind, marks=param.marks)
    for param in PAIRS
    for family, kind in [param.values]
    if kind != "lora"
]
pytestmark = WARNINGS


@pytest.fixture
def pair(tmp_path, randomize):
    return functools.partial(make_pair, tmp_path, randomize)


@pytest.mark.parametrize(("family", "targets", "kind"), CASES)
def test_an_adapter_of_peft_gives_the_same_hidden_states(pair, family, targets, kind) -> None:
    case = pair(family, targets, kind)
    module = case.ours()
    before = case.run(module)
    load_adapter(module, case.adapter)
    after = case.run(module)
    assert_close(after, case.expected())
    assert (after - before).abs().max() > 1e-2


@pytest.mark.parametrize(("family", "kind"), PAIRS)
def test_a_merged_adapter_computes_the_same_and_unmerging_gives_every_bit_back(
    pair, family, kind
) -> None:
    case = pair(family, "all-linear", kind)
    module = case.ours(torch.float64)
    weights = {key: value.clone() for key, value in module.state_dict().items()}
    load_adapter(module, case.adapter)
    active = case.run(module)
    merge_adapter(module)
    assert_close(case.run(module), active)
    assert {p for p, _ in module.named_parameters()} == set(weights)
    unmerge_adapter(module)
    assert torch.equal(case.run(module), active)
    merge_adapter(module)
    remove_adapter(module)
    assert all(torch.equal(weights[key], value) for key, value in module.state_dict().items())


@pytest.mark.parametrize(("family", "kind"), PAIRS)
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
    add_adapter(module, LoraConfig(r=4), model_type=family)
    ours = {term.name for _, term in adapter_of(module).terms()}
    theirs = {
        name.removeprefix("base_model.model.")
        for name, layer in case.theirs.named_modules()
        if hasattr(layer, "lora_A")
    }
    assert ours == theirs


@pytest.mark.parametrize("family", MODELS)
def test_an_adapter_that_began_here_loads_in_peft(pair, family, tmp_path) -> None:
    case = pair(family, TARGETS[family][0])
    module = case.ours()
    config = LoraConfig(r=3, alpha=5, targets=tuple(TARGETS[family][0]), rslora=True)
    add_adapter(module, config, model_type=family)
    generator = torch.Generator().manual_seed(2)
    for _, term in adapter_of(module).terms():
        with torch.no_grad():
            term.B.copy_(0.3 * torch.randn(term.B.shape, generator=generator))
    save_adapter(module, tmp_path / "ours")
    base = type(case.theirs.get_base_model()).from_pretrained(case.base)
    theirs = peft.PeftModel.from_pretrained(base, tmp_path / "ours").eval()
    assert_close(case.run(module), case.expected(theirs))


@pytest.mark.parametrize("rslora", [False, True])
def test_an_adapter_of_a_class_with_a_head_fits_the_bare_model_and_back(
    pair, tmp_path, rslora
) -> None:
    case = pair(
        "llama",
        r"model\.layers\.\d\.self_attn\.(q|v)_proj",
        rank_pattern={r"^model\.layers\.0.*q_proj": 2},
        alpha_pattern={r"^model\.layers\.1.*v_proj": 3},
        use_rslora=rslora,
    )
    case.theirs.get_base_model().model.config.save_pretrained(tmp_path / "bare")
    headed = transformers.AutoModelForCausalLM.from_pretrained(case.base)
    headed.model.save_pretrained(tmp_path / "bare")
    module = load_module(tmp_path / "bare")
    assert module.config.head == "none"
    load_adapter(module, case.adapter)
    with torch.no_grad():
        expected = case.theirs(case.ids, output_hidden_states=True).hidden_states[-1]
    assert_close(case.run(module), expected)
    save_adapter(module, tmp_path / "ours")
    bare = transformers.AutoModel.from_pretrained(tmp_path / "bare")
    theirs = peft.PeftModel.from_pretrained(bare, tmp_path / "ours").eval()
    assert_close(case.expected(theirs), expected)


def test_a_merged_model_is_saved_like_any_and_loads_in_transformers(pair, tmp_path) -> None:
    case = pair("llama", "all-linear")
    module = case.ours()
    load_adapter(module, case.adapter)
    merge_adapter(module, keep=False)
    write_folder(module, tmp_path / "merged")
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "merged")
    # Other weights, rounded once more: sums differ in their last bits, and by machine.
    assert_close(case.expected(theirs), case.expected(), rtol=1e-5, atol=3e-5)
    with pytest.raises(InputError, match="no adapter"):
        unmerge_adapter(module)


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
    expected = REFERENCE_OPS.linear(x, attention.qkv)
    attention.train()
    torch.manual_seed(0)
    found = REFERENCE_OPS.linear(x.expand(20_000, -1), attention.qkv)
    assert found.std(0)[:48].min() > 1e-3
    assert_close(found.mean(0, keepdim=True), expected, atol=0.05, rtol=0.02)


def test_the_counts_of_llama_2_7b(tmp_path) -> None:
    config = config_from_json(
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


@pytest.fixture
def classifier_pair(tmp_path, randomize):
    """A BERT classifier with a low-rank term and a classifier trained whole, as PEFT saves it."""
    model = randomize(
        transformers.BertForSequenceClassification(
            transformers.BertConfig(**SMALL, **LAYERS, num_labels=3)
        )
    )
    model.save_pretrained(tmp_path / "base")
    config = peft.LoraConfig(
        task_type="SEQ_CLS", target_modules=["query"], modules_to_save=["classifier"], r=4
    )
    theirs = peft.get_peft_model(model, config).eval()
    for parameter in theirs.parameters():
        if parameter.requires_grad:
            parameter.data = 0.3 * torch.randn(parameter.shape)
    theirs.save_pretrained(tmp_path / "adapter")
    return Pair(theirs, tmp_path / "base", tmp_path / "adapter", torch.tensor([[1, 5, 9, 30]]))


def test_modules_that_were_trained_whole_are_replaced_and_given_back(
    classifier_pair, tmp_path
) -> None:
    case = classifier_pair
    module = case.ours()
    before = case.run(module)
    load_adapter(module, case.adapter, trainable=True)
    assert_close(case.run(module), case.expected())
    trained = {name for name, p in module.named_parameters() if p.requires_grad}
    assert {"classifier.weight", "classifier.bias"} < trained
    merge_adapter(module)
    assert_close(case.run(module), case.expected())
    save_adapter(module, tmp_path / "ours")
    name = "adapter_model.safetensors"
    theirs, ours = load_file(case.adapter / name), load_file(tmp_path / "ours" / name)
    assert theirs.keys() == ours.keys()
    assert all(torch.equal(theirs[key], ours[key]) for key in theirs)
    remove_adapter(module)
    assert torch.equal(case.run(module), before)


def test_a_fresh_adapter_trains_the_modules_that_it_names_and_not_the_base(
    classifier_pair,
) -> None:
    module = classifier_pair.ours()
    weights = {key: value.clone() for key, value in module.state_dict().items()}
    add_adapter(module, LoraConfig(targets=("query",), modules_to_save=("classifier",)))
    trained = {name: p for name, p in module.named_parameters() if p.requires_grad}
    assert {name for name in trained if ".terms." not in name} == {
        "classifier.weight",
        "classifier.bias",
    }
    with torch.no_grad():
        for parameter in trained.values():
            parameter += 1
    remove_adapter(module)
    assert all(torch.equal(weights[key], value) for key, value in module.state_dict().items())


def test_an_adapter_that_is_loaded_to_be_used_trains_nothing(classifier_pair) -> None:
    module = classifier_pair.ours()
    load_adapter(module, classifier_pair.adapter)
    assert not [name for name, p in module.named_parameters() if p.requires_grad]


@pytest.mark.parametrize("back", [unmerge_adapter, remove_adapter])
@pytest.mark.parametrize("training", [False, True])
def test_layers_that_come_back_train_or_not_as_the_model_does_by_then(pair, back, training) -> None:
    case = pair("llama", ["q_proj"], lora_dropout=0.5)
    module = case.ours().train(not training)
    load_adapter(module, case.adapter)
    assert {each.training for each in module.modules()} == {not training}
    merge_adapter(module)
    module.train(training)
    back(module)
    assert {each.training for each in module.modules()} == {training}


def test_the_packed_ops_of_serving_give_the_same(pair) -> None:
    case = pair("llama", "all-linear")
    module = load_module(case.base)
    context = ForwardContext(PrepackedOps())
    with torch.inference_mode():
        before = module(case.ids, context=context).logits
    load_adapter(module, case.adapter)
    with torch.inference_mode():
        assert_close(module(case.ids, context=context).logits, case.expected())
    remove_adapter(module)
    with torch.inference_mode():
        assert torch.equal(module(case.ids).logits, before)


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
    merge_adapter(module)
    assert {p.dtype for p in module.parameters()} == {torch.bfloat16}
