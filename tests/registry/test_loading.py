"""From a folder to module, tokenizer, template and defaults; and what damaged folders say."""

from __future__ import annotations

import json
import os
import re

import pytest
import torch
from safetensors.torch import load_file, save_file

from lmstack.core import (
    FormatError,
    IntegrityError,
    LmstackError,
    Message,
    NotFoundError,
    UnsupportedError,
)
from lmstack.registry import SamplingDefaults, Store, card, load, load_text
from lmstack.registry.sources.pinned import Traits

WORDS = ["<unk>", "<s>", "</s>", "<|im_end|>", "a", "b", "c", "d"]
LLAMA = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "vocab_size": len(WORDS),
    "hidden_size": 8,
    "intermediate_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "max_position_embeddings": 32,
    "rms_norm_eps": 1e-5,
    "tie_word_embeddings": True,
}
QUANTIZED = LLAMA | {"hidden_size": 32, "intermediate_size": 32}
BERT = {
    "architectures": ["BertModel"],
    "model_type": "bert",
    "vocab_size": len(WORDS),
    "hidden_size": 8,
    "intermediate_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "max_position_embeddings": 32,
    "type_vocab_size": 2,
    "hidden_act": "gelu",
    "layer_norm_eps": 1e-12,
}


def tokenizer_json():
    added = [
        {
            "id": index,
            "content": word,
            "single_word": False,
            "lstrip": False,
            "rstrip": False,
            "normalized": False,
            "special": True,
        }
        for index, word in enumerate(WORDS[:4])
    ]
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added,
        "normalizer": None,
        "pre_tokenizer": {"type": "Whitespace"},
        "post_processor": None,
        "decoder": None,
        "model": {
            "type": "WordLevel",
            "vocab": {word: index for index, word in enumerate(WORDS)},
            "unk_token": "<unk>",
        },
    }


@pytest.fixture
def write(tmp_path):
    """Writes a model folder: weights of a fresh transformers model, and the given JSON files."""
    import transformers

    def write(config=LLAMA, **files):
        folder = tmp_path / "model"
        torch.manual_seed(0)
        is_llama = config["model_type"] == "llama"
        kind = transformers.LlamaForCausalLM if is_llama else transformers.BertModel
        kind(kind.config_class(**config)).save_pretrained(folder)
        (folder / "generation_config.json").unlink(missing_ok=True)
        everything = {
            "config": config,
            "tokenizer": tokenizer_json(),
            "tokenizer_config": {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"},
            **files,
        }
        for name, value in everything.items():
            path = folder / (name.replace("__", "/") + ".json")
            path.parent.mkdir(exist_ok=True)
            path.write_text(json.dumps(value))
        return folder

    return write


@pytest.fixture
def loaded(store):
    return lambda folder, **options: load(folder, store, **options)


def test_language_model_loads_whole(write, loaded):
    folder = write()
    found = loaded(folder)
    ids = found.tokenizer.encode("a b c")
    assert found.module(input_ids=torch.tensor([ids])).logits.shape == (1, 3, len(WORDS))
    assert (found.template, found.pooling) == (None, None)
    assert (found.kind, found.form, found.labels, found.late) == ("generate", "float32", (), None)
    assert (found.traits, found.name) == (Traits(), folder.name)
    assert found.parameters == sum(weight.numel() for weight in found.module.state_dict().values())


def test_the_text_half_of_a_folder_is_read_without_weights(tmp_path):
    values = {"bos_token": "<s>", "eos_token": "</s>", "chat_template": "old"}
    (tmp_path / "tokenizer.json").write_text(json.dumps(tokenizer_json()))
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(values))
    (tmp_path / "chat_template.jinja").write_text("new")
    found = load_text(tmp_path)
    assert found.template.source == "new"
    assert list(found.sources.values()) == ["new", "old"]
    assert found.tokenizer.eos_id in found.generation.eos_ids
    assert found.name == tmp_path.name


def test_the_text_half_is_that_of_the_whole_model(write, store):
    folder = write()
    store.pull(folder)
    half, whole = load_text("model", store), load("model", store)
    assert half.tokenizer.encode("a b c") == whole.tokenizer.encode("a b c")
    assert (half.name, half.generation) == (whole.name, whole.generation)


def flip(path, at=-1):
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


def test_weights_that_changed_since_they_were_pulled_are_refused_and_named(write, store):
    store.pull(write())
    load("model", store)
    flip(store.folder / "model" / "model.safetensors")
    with pytest.raises(IntegrityError, match=r"model\.safetensors has changed") as caught:
        load("model", store)
    assert "lmstack pull model" in caught.value.hint


def test_a_change_that_puts_the_time_back_is_seen_all_the_same(write, store):
    store.pull(write())
    weights = store.folder / "model" / "model.safetensors"
    load("model", store)
    before = weights.stat()
    flip(weights)
    os.utime(weights, ns=(before.st_atime_ns, before.st_mtime_ns))
    with pytest.raises(IntegrityError):
        load("model", store)


def test_bytes_are_hashed_once_and_not_at_every_load(write, store, monkeypatch):
    store.pull(write())
    load("model", store)
    monkeypatch.setattr(card, "file_hash", None)
    load("model", store)


def test_a_survey_that_hashes_finds_the_changed_model(write, store):
    store.pull(write())
    flip(store.folder / "model" / "model.safetensors")
    assert [m.name for m in store.models()] == ["model"]
    whole, [broken] = store.checked()
    assert (whole, broken.name) == ([], "model")


def test_weights_come_in_the_dtype_asked_for(write, loaded):
    found = loaded(write(), dtype=torch.bfloat16)
    assert {p.dtype for p in found.module.parameters()} == {torch.bfloat16}


def test_loading_from_the_store_equals_loading_in_place(write, store):
    folder = write()
    store.pull(folder)
    here, there = load("model", store), load(folder, store)
    assert here.digest == there.digest
    for a, b in zip(here.module.parameters(), there.module.parameters(), strict=True):
        assert torch.equal(a, b)


def test_every_end_of_turn_stops_generation(write, loaded):
    folder = write(generation_config={"eos_token_id": [7], "temperature": 0.6, "top_k": 20})
    generation = loaded(folder).generation
    # What the configuration lists, the tokenizer's own, and the chat turn's.
    assert generation.eos_ids == {7, 2, 3}
    assert generation.sampling == SamplingDefaults(temperature=0.6, top_k=20)


def with_sampling(store, folder, sampling):
    """The model in the store, after its card was edited by hand."""
    path = store.pull(folder).path / "card.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"sampling": sampling}))


def test_a_card_decides_before_the_files_of_the_model(write, store):
    folder = write(generation_config={"temperature": 0.6, "top_k": 20})
    with_sampling(store, folder, {"temperature": 0.1, "max_tokens": 77})
    stated = SamplingDefaults(temperature=0.1, max_tokens=77)
    assert load("model", store).generation.sampling == stated
    assert load_text("model", store).generation.sampling == stated
    assert load(folder, store).generation.sampling.top_k == 20


@pytest.mark.parametrize("sampling", [{"temperature": 9}, {"temprature": 0.1}, ["temperature"]])
def test_a_card_with_settings_that_no_request_may_have_is_named(write, store, sampling):
    with_sampling(store, write(), sampling)
    with pytest.raises(FormatError, match=r"card\.json: ") as caught:
        store.resolve("model")
    assert "sampling" in caught.value.hint


@pytest.mark.parametrize("value", ["x", [None, "x"], {"a": 1}, float("inf")])
def test_damaged_generation_defaults_are_named(write, loaded, value):
    with pytest.raises(FormatError, match="generation_config"):
        loaded(write(generation_config={"eos_token_id": value}))


def test_template_of_its_own_file_comes_first(write, loaded):
    folder = write(tokenizer_config={"chat_template": "old", "bos_token": "<s>"})
    (folder / "chat_template.jinja").write_text("{{ bos_token }}new")
    assert loaded(folder).template.render([Message("user", "x")]) == "<s>new"


def test_default_is_taken_of_several_templates(write, loaded):
    several = [{"name": "tool_use", "template": "t"}, {"name": "default", "template": "d"}]
    folder = write(tokenizer_config={"chat_template": several})
    assert loaded(folder).template.source == "d"


def test_template_that_is_no_text_is_refused(write, loaded):
    with pytest.raises(FormatError, match="chat template"):
        loaded(write(tokenizer_config={"chat_template": 3}))


MODULES = [
    {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
    {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
]
NORMALIZE = {"idx": 2, "name": "2", "path": "2_Normalize", "type": "x.models.Normalize"}


@pytest.mark.parametrize(("key", "mode"), [
    ("pooling_mode_cls_token", "cls"), ("pooling_mode_mean_tokens", "mean"),
    ("pooling_mode_max_tokens", "max"), ("pooling_mode_lasttoken", "last"),
])  # fmt: skip
def test_pooling_is_what_the_folder_says(write, loaded, key, mode):
    folder = write(
        BERT,
        modules=[*MODULES, NORMALIZE],
        sentence_bert_config={"max_seq_length": 16},
        config_sentence_transformers={"prompts": {"query": "query: "}},
        **{"1_Pooling__config": {key: True, "word_embedding_dimension": 8}},
    )
    pooling = loaded(folder).pooling
    assert (pooling.mode, pooling.normalize, pooling.max_length) == (mode, True, 16)
    assert pooling.prompts == {"query": "query: "}


def test_plain_encoder_is_averaged_as_sentence_transformers_does(write, loaded):
    pooling = loaded(write(BERT, tokenizer_config={"model_max_length": 10**30})).pooling
    assert (pooling.mode, pooling.normalize, pooling.max_length) == ("mean", False, None)


@pytest.mark.parametrize("config", [{}, {"pooling_mode_cls_token": True,
    "pooling_mode_mean_tokens": True}, {"pooling_mode": "weird"}])  # fmt: skip
def test_pooling_that_is_not_supported_is_refused_by_name(write, loaded, config):
    with pytest.raises(UnsupportedError, match="pooling"):
        loaded(write(BERT, modules=MODULES, **{"1_Pooling__config": config}))


def test_stage_that_is_not_supported_is_refused_by_name(write, loaded):
    dense = {"idx": 1, "name": "1", "path": "2_Dense", "type": "x.models.Dense"}
    with pytest.raises(UnsupportedError, match="Dense"):
        loaded(write(BERT, modules=[MODULES[0], dense]))


@pytest.mark.parametrize("modules", [3, [3], [{}], [{**MODULES[1], "path": "../../etc"}]])
def test_damaged_list_of_stages_is_a_format_error(write, loaded, modules):
    with pytest.raises(FormatError):
        loaded(write(BERT, modules=modules))


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "model.safetensors"])
@pytest.mark.parametrize("damage", ["gone", "empty", "cut", "noise"])
def test_damaged_folder_names_the_file_and_what_to_do(write, loaded, name, damage):
    path = write() / name
    data = path.read_bytes()
    path.unlink()
    if damage != "gone":
        bad = {"empty": b"", "cut": data[: len(data) // 2], "noise": b"\x00\xff" * 50}
        path.write_bytes(bad[damage])
    with pytest.raises(LmstackError) as caught:
        loaded(path.parent).tokenizer.encode("a text")
    assert name in caught.value.message or "safetensors" in caught.value.message
    assert caught.value.hint


@pytest.mark.parametrize("form", ["int8", "q4"])
def test_a_quantized_model_is_saved_and_loaded_in_its_form(write, loaded, tmp_path, form):
    found = loaded(write(QUANTIZED), weights=form)
    found.save_quantized(tmp_path / "saved")
    again = loaded(tmp_path / "saved")
    assert again.form == form
    ids = torch.tensor([found.tokenizer.encode("a b c")])
    assert torch.equal(again.module(ids).logits, found.module(ids).logits)
    assert again.tokenizer.encode("a b") == found.tokenizer.encode("a b")


def test_what_looks_for_a_special_method_of_no_tokenizer_finds_none(write, loaded):
    folder = write()
    (folder / "tokenizer.json").unlink()
    found = loaded(folder)
    assert not found.has_tokenizer
    with pytest.raises(AttributeError, match="__of_no_class__"):
        found.tokenizer.__of_no_class__  # noqa: B018  asks for it


def test_a_folder_without_tokenizer_loads_and_says_so_when_it_is_used(write, loaded):
    folder = write()
    (folder / "tokenizer.json").unlink()
    found = loaded(folder)
    assert not found.has_tokenizer
    with pytest.raises(NotFoundError, match="has no tokenizer"):
        found.tokenizer.decode([1])


@pytest.mark.weights
def test_default_language_model_loads_from_its_single_file(smollm2):
    found = load(smollm2)
    assert found.module.config.vocab_size == found.tokenizer.vocab_size == 49_152
    assert {found.tokenizer.token(i) for i in found.generation.eos_ids} == {
        "<|im_end|>",
        "<|endoftext|>",
    }
    assert found.template.render([Message("user", "hi")]).endswith("<|im_start|>assistant\n")


@pytest.mark.weights
def test_gguf_file_in_place_equals_the_store(smollm2, tmp_path):
    found = Store(tmp_path).resolve(smollm2.gguf)
    assert found.kind == "generate"
    assert found.card.parameters == 134_515_008
    assert found.file(smollm2.gguf.name) == found.gguf == smollm2.gguf


@pytest.mark.weights
def test_default_embedder_loads_with_its_pooling(minilm):
    found = load(minilm)
    pooling = found.pooling
    assert (pooling.mode, pooling.normalize, pooling.max_length) == ("mean", True, 256)
    assert found.template is None


@pytest.mark.weights
@pytest.mark.parametrize("name", ["smollm2", "minilm"])
def test_default_models_are_what_was_pinned(name, request):
    folder = request.getfixturevalue(name)
    folder.verify()
    assert folder.card.licence
    assert folder.card.lineage


def test_a_chat_template_is_saved_where_others_look_for_it(write, loaded, tmp_path):
    folder = write(tokenizer_config={"chat_template": "old"})
    loaded(folder).save(tmp_path / "saved")
    assert (tmp_path / "saved" / "chat_template.jinja").read_text() == "old"


def test_saving_keeps_that_no_token_is_forced(loaded, tmp_path):
    """BART's config forces </s> at the end unless a file says null."""
    import transformers

    sizes = {f"{side}_layers": 2 for side in ("encoder", "decoder")}
    sizes |= {f"{side}_attention_heads": 2 for side in ("encoder", "decoder")}
    config = transformers.BartConfig(
        vocab_size=13, d_model=8, max_position_embeddings=16, forced_eos_token_id=None, **sizes
    )
    transformers.BartForConditionalGeneration(config).save_pretrained(tmp_path / "theirs")
    loaded(tmp_path / "theirs").save(tmp_path / "ours")
    saved = transformers.AutoConfig.from_pretrained(tmp_path / "ours")
    assert (saved.forced_eos_token_id, saved.decoder_start_token_id) == (None, 2)


def test_an_mbart_is_saved_as_it_came(loaded, tmp_path):
    """Settings that only its trainer reads, names of tensors and how to write included."""
    import transformers

    sizes = {f"{side}_layers": 2 for side in ("encoder", "decoder")}
    sizes |= {f"{side}_attention_heads": 2 for side in ("encoder", "decoder")}
    config = transformers.MBartConfig(
        vocab_size=13, d_model=8, max_position_embeddings=16, decoder_start_token_id=5,
        classifier_dropout=0.25, **sizes,
    )  # fmt: skip
    model = transformers.MBartForConditionalGeneration(config)
    model.generation_config.forced_bos_token_id = 7
    model.save_pretrained(tmp_path / "theirs")
    (tmp_path / "theirs/tokenizer.json").write_text(json.dumps(tokenizer_json()))
    loaded(tmp_path / "theirs").save(tmp_path / "ours")
    for name in ("config.json", "generation_config.json"):
        theirs, ours = (json.loads((tmp_path / f / name).read_text()) for f in ("theirs", "ours"))
        assert ours == theirs, name
    theirs, ours = (load_file(tmp_path / f / "model.safetensors") for f in ("theirs", "ours"))
    assert theirs.keys() == ours.keys()
    assert all(torch.equal(theirs[name], ours[name]) for name in theirs)


@pytest.mark.parametrize(("shape", "fits"), [((4, 8), True), ((4, 9), False), ((8,), False)])
def test_a_projection_of_tokens_must_fit_the_model(write, loaded, shape, fits):
    stages = (("", "st.Transformer"), ("1_Dense", "pylate.models.Dense.Dense"))
    listed = [{"idx": i, "path": place, "type": name} for i, (place, name) in enumerate(stages)]
    folder = write(
        BERT,
        modules=listed,
        config_sentence_transformers={"query_length": 8},
        **{"1_Dense__config": {"activation_function": "torch.nn.Identity"}},
    )
    save_file({"linear.weight": torch.ones(shape)}, folder / "1_Dense" / "model.safetensors")
    if fits:
        assert loaded(folder).late.projection.shape == shape
        return
    with pytest.raises(FormatError, match=f"has shape {re.escape(str(shape))}.*8 wide"):
        loaded(folder)


def test_only_the_files_of_a_card_are_read_and_others_are_named(write, tmp_path, caplog):
    store = Store(tmp_path / "home")
    folder = store.pull(write())
    assert load("model", store).template is None
    assert not caplog.records
    (folder.path / "chat_template.jinja").write_text("hello")
    (folder.path / "notes").write_text("of no model")
    assert load("model", store).template is None
    assert [record.args[1] for record in caplog.records] == ["'chat_template.jinja'"]


def test_a_file_swapped_between_its_hash_and_its_use_is_not_read(write, tmp_path, monkeypatch):
    store = Store(tmp_path / "home")
    folder = store.pull(write())
    weights = folder.path / "model.safetensors"
    verify = card.ModelFolder.verify

    def swapped(held, sha256):
        verify(held, sha256)
        zeros = {name: torch.zeros_like(t) for name, t in load_file(weights).items()}
        save_file(zeros, tmp_path / "zeros", {"format": "pt"})
        (tmp_path / "zeros").rename(weights)

    with monkeypatch.context() as patch:
        patch.setattr(card.ModelFolder, "verify", swapped)
        with pytest.raises(IntegrityError, match=f"{weights} was changed while"):
            load("model", store)
    with pytest.raises(IntegrityError, match=f"{weights} has changed"):
        load("model", store)


@pytest.mark.parametrize("config", [LLAMA, BERT])
def test_a_model_that_is_only_loaded_says_what_it_can_and_what_it_lacks(write, loaded, config):
    folder = write(config)
    kind = "generate" if config is LLAMA else "embed"
    with pytest.raises(UnsupportedError, match=f"model is of kind '{kind}' and does not generate"):
        loaded(folder).generate("x")
    (folder / "tokenizer.json").unlink()
    wanted = NotFoundError if config is LLAMA else UnsupportedError
    with pytest.raises(wanted):
        loaded(folder).generate("x")
