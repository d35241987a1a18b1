"""Forms that are kept: made once, believed only if they are what they say, gone with the model."""

from __future__ import annotations

from contextlib import contextmanager
from types import SimpleNamespace

import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.engine.conftest import byte_vocabulary, tiny_config
from tests.engine.cpu.quantized_models import quantized

from lmstack.core import InputError, StoreError
from lmstack.engine import Engine, EngineConfig, native_problem
from lmstack.engine.cpu.library import multiplies_lines
from lmstack.engine.torch.executor import TorchExecutor
from lmstack.model import Transformer
from lmstack.registry import ModelFolder, Store, load
from lmstack.registry import weight_cache as kept_forms
from lmstack.registry.sampling_defaults import SamplingDefaults
from lmstack.registry.signing import sha256_of

CONFIG = transformers.LlamaConfig(
    vocab_size=40, hidden_size=32, intermediate_size=48, num_hidden_layers=1,
    num_attention_heads=2,
)  # fmt: skip

FLOATS = Transformer(tiny_config())
MODULES = {"float32": FLOATS, "bfloat16": FLOATS, "int8": quantized(FLOATS, "int8")}
MODULES |= {form: quantized(FLOATS, form) for form in ("q4", "file8")}


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "home")


@pytest.fixture
def folder(tmp_path, store) -> ModelFolder:
    torch.manual_seed(0)
    transformers.LlamaForCausalLM(CONFIG).save_pretrained(tmp_path / "tiny")
    return store.pull(tmp_path / "tiny")


def same(one, other) -> bool:
    pairs = zip(one.module.state_dict().items(), other.module.state_dict().items(), strict=True)
    return all(a == b and torch.equal(x, y) for (a, x), (b, y) in pairs)


def kept(store: Store) -> list[str]:
    return sorted(path.name for path in (store.root / "packed").glob("*"))


def stub(digest: str, **sampling: float) -> SimpleNamespace:
    """As much of a folder as its digest needs."""
    card = SimpleNamespace(sampling=SamplingDefaults.from_mapping(sampling))
    return SimpleNamespace(digest=digest, card=card, kind="generate")


@pytest.mark.parametrize(("form", "own"), [("int8", None), ("float32", None), ("q4", "q4")])
def test_the_digest_says_how_the_card_tells_to_sample(form, own):
    """In the form that the files hold, too."""
    plain = kept_forms.served_digest(stub("sha256:x"), form, own)
    warm, hot = (
        kept_forms.served_digest(stub("sha256:x", temperature=t), form, own) for t in (0.5, 1.5)
    )
    digits = sha256_of({"temperature": 0.5}).removeprefix("sha256:")[:16]
    assert warm == f"{plain}+sampling.{digits}"
    assert len({plain, warm, hot}) == 3


SETTINGS = st.tuples(
    st.sampled_from(["tiny", "other"]),
    st.sampled_from(["float32", "bfloat16", "int8", "q4", "file8"]),
    st.sampled_from([6, 7, 8]),
    st.sampled_from(["int8", "bfloat16"]),
)


def named(setting, folders, vocabulary) -> tuple[str, object]:
    """The served digest of a setting, and all that its logits depend on."""
    name, form, recipe, kv = setting
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kept_forms, "_RECIPES", dict.fromkeys(("int8", "q4", "file8"), recipe))
        digest = kept_forms.served_digest(folders[name], form)
    engine = Engine(MODULES[form], vocabulary, EngineConfig(kv_dtype=kv, num_blocks=16))
    quantized = form in ("int8", "q4", "file8")
    return digest + engine.numerics, (name, form, *((recipe, kv) if quantized else ()))


@pytest.mark.skipif(bool(native_problem()), reason="no native ops")
@settings(max_examples=200, deadline=None)
@given(SETTINGS, SETTINGS)
def test_the_digest_changes_with_what_changes_logits_and_only_then(one, other):
    folders = {name: stub(f"sha256:{name}") for name in ("tiny", "other")}
    vocabulary = byte_vocabulary()
    (digest, causes), (second, others) = (named(s, folders, vocabulary) for s in (one, other))
    assert (digest == second) == (causes == others)


def test_small_integers_on_the_reference_ops_have_a_digest_of_their_own():
    assert TorchExecutor(MODULES["int8"], 4, 16).numerics == "+reference"
    assert TorchExecutor(MODULES["float32"], 4, 16).numerics == ""


def test_a_form_is_made_once(folder, store, monkeypatch):
    first = load("tiny", store, weights="int8")
    assert kept(store) == [f"{folder.digest[7:39]}-int8.safetensors"]

    def never(*_):
        raise AssertionError("made again")

    monkeypatch.setattr("lmstack.model.loading.read_weights", never)
    assert same(load("tiny", store, weights="int8"), first)


def test_each_form_is_kept_for_itself(folder, store):
    load("tiny", store, weights="int8")
    load("tiny", store, weights="q4")
    assert len(kept(store)) == 2
    assert load("tiny", store, weights="q4").module.table.bits == 4


def test_a_flipped_bit_in_a_kept_form_is_refused_at_the_next_start(folder, store, caplog):
    first = load("tiny", store, weights="int8")
    path = kept_forms.cached_file(store.root, folder.digest, "int8")
    whole = path.read_bytes()
    for at in (len(whole) - 7, len(whole) // 2, whole.index(b"norm_eps") + 13):
        changed = bytearray(whole)
        changed[at] ^= 4
        path.unlink()  # who has mapped the old file keeps it
        path.write_bytes(bytes(changed))
        assert same(load("tiny", store, weights="int8"), first)
        assert path.read_bytes() == whole
        assert "bytes are not those" in caplog.text
        caplog.clear()


@pytest.mark.parametrize("data", [b"", b"nonsense", None])
def test_a_damaged_file_is_made_anew(folder, store, data):
    first = load("tiny", store, weights="int8")
    path = kept_forms.cached_file(store.root, folder.digest, "int8")
    whole = path.read_bytes()
    path.unlink()
    path.write_bytes(whole[:-64] if data is None else data)
    assert same(load("tiny", store, weights="int8"), first)
    assert path.read_bytes() == whole


def test_the_file_of_another_model_is_not_believed(folder, store, tmp_path):
    torch.manual_seed(1)
    transformers.LlamaForCausalLM(CONFIG).save_pretrained(tmp_path / "other")
    other = load(tmp_path / "other", store, weights="int8")
    foreign = kept_forms.cached_file(store.root, other.digest.partition("+")[0], "int8")
    path = kept_forms.cached_file(store.root, folder.digest, "int8")
    path.write_bytes(foreign.read_bytes())
    assert not same(load("tiny", store, weights="int8"), other)


@pytest.mark.parametrize("key", [b"", b"another key"])
def test_a_form_that_another_wrote_is_made_anew(folder, store, tmp_path, caplog, key):
    """With the stamp of this model, the weights of another, and a hash that is right."""
    from lmstack.model.formats.mapped.file import read_mapped, write_mapped

    first = load("tiny", store, weights="int8")
    path = kept_forms.cached_file(store.root, folder.digest, "int8")
    whole = path.read_bytes()
    config, weights = read_mapped(path, {})
    weights["final_norm.weight"] = torch.zeros(32)
    write_mapped(path, config, weights, kept_forms.stamp_of(folder, "int8"), key)
    assert same(load("tiny", store, weights="int8"), first)
    assert path.read_bytes() == whole
    assert "not those that were written with the key of this home" in caplog.text


def test_a_form_changed_in_place_changes_no_model_that_is_loaded(folder, store):
    load("tiny", store, weights="int8")
    loaded, other = (load("tiny", store, weights="int8") for _ in range(2))
    path = kept_forms.cached_file(store.root, folder.digest, "int8")
    with path.open("r+b") as file:
        file.seek(8 + int.from_bytes(path.read_bytes()[:8], "little"))
        file.write(bytes(path.stat().st_size - file.tell()))
    assert not any((tensor == 0).all() for tensor in loaded.module.state_dict().values())
    assert same(loaded, other)
    assert same(load("tiny", store, weights="int8"), other)


def test_without_a_key_nothing_is_kept_or_believed(folder, store, monkeypatch):
    first = load("tiny", store, weights="int8")
    path = kept_forms.cached_file(store.root, folder.digest, "int8")
    monkeypatch.setattr(kept_forms, "cache_key", lambda _: None)
    path.unlink()
    assert same(load("tiny", store, weights="int8"), first)
    assert kept(store) == []
    path.write_bytes(b"nonsense")
    assert same(load("tiny", store, weights="int8"), first)
    assert path.read_bytes() == b"nonsense"


def test_a_form_that_another_process_made_meanwhile_is_taken(folder, store, monkeypatch):
    """While this one waited for the lock; nothing is made twice."""
    first = load("tiny", store, weights="int8")
    path = kept_forms.cached_file(store.root, folder.digest, "int8")
    path.rename(path.with_name("made"))
    locked = kept_forms.locked

    def late(lock):
        path.with_name("made").rename(path)
        return locked(lock)

    def never(*_):
        raise AssertionError("made again")

    monkeypatch.setattr(kept_forms, "locked", late)
    monkeypatch.setattr("lmstack.model.loading.read_weights", never)
    assert same(load("tiny", store, weights="int8"), first)


def test_a_full_disk_costs_only_time(folder, store, monkeypatch, caplog):
    from lmstack.core import StoreError

    def full(*_):
        raise StoreError("the disk is full")

    monkeypatch.setattr("lmstack.model.formats.mapped.file.write_mapped", full)
    with caplog.at_level("INFO", "lmstack.registry"):
        assert load("tiny", store, weights="int8").form == "int8"
    assert "not kept: the disk is full" in caplog.text
    assert kept(store) == []


def test_tensors_that_a_config_has_no_place_for_are_made_anew(folder, store):
    from lmstack.model.formats.mapped.file import read_mapped, write_mapped
    from lmstack.model.formats.mapped.header import read_stamp

    first = load("tiny", store, weights="int8")
    path = kept_forms.cached_file(store.root, folder.digest, "int8")
    config, weights = read_mapped(path, {})
    weights["surplus.weight"] = torch.ones(3)
    stamp = {k: v for k, v in read_stamp(path).items() if k in ("model", "form", "recipe")}
    write_mapped(path, config, weights, stamp)
    assert "surplus.weight" in read_mapped(path, stamp)[1]
    assert same(load("tiny", store, weights="int8"), first)


@pytest.mark.parametrize("older", ["1", None])
def test_a_form_of_an_older_recipe_is_made_anew(folder, store, older):
    """One that an lmstack kept which made it otherwise: here, of weights that are all zero."""
    from lmstack.model.formats.mapped.file import read_mapped, write_mapped
    from lmstack.model.formats.mapped.header import read_stamp

    first = load("tiny", store, weights="int8")
    path = kept_forms.cached_file(store.root, folder.digest, "int8")
    whole = path.read_bytes()
    config, weights = read_mapped(path, {})
    weights["final_norm.weight"] = torch.zeros(32)
    stamp = {"model": folder.digest, "form": "int8", "recipe": older}
    write_mapped(path, config, weights, {k: v for k, v in stamp.items() if v is not None})
    assert same(load("tiny", store, weights="int8"), first)
    assert path.read_bytes() == whole
    assert read_stamp(path)["recipe"] == str(kept_forms._RECIPES["int8"])


def test_the_tokenizer_of_a_model_reads_the_text_that_smooths_it(folder, store, monkeypatch):
    from lmstack.model import loading
    from lmstack.model.quant.smoothquant import calibration_text

    class Words:
        def encode(self, text: str) -> list[int]:
            assert text == calibration_text()
            return [len(word) for word in text.split()]

    seen = []
    read = loading.read_weights

    def watched(path, form, ids=None):
        seen.append(ids)
        return read(path, form, ids)

    monkeypatch.setattr(loading, "read_weights", watched)
    kept_forms.load_form(folder, "int8", store.root, Words)
    assert seen == [Words().encode(calibration_text())]


def test_a_home_that_cannot_be_written_costs_only_time(folder, store):
    (store.root / "packed").write_text("a file in the way")
    assert load("tiny", store, weights="int8").form == "int8"


def test_what_is_kept_of_a_model_lies_beside_each_other(tmp_path):
    digest = "sha256:" + "ab" * 32
    image = kept_forms.image_file(tmp_path, digest, "int8")
    assert image == tmp_path / "packed" / f"{'ab' * 16}-int8.image"
    form = kept_forms.cached_file(tmp_path, digest, "int8")
    assert form == image.with_suffix(".safetensors")
    assert kept_forms.is_of(image, digest)
    assert kept_forms.is_of(form, digest)
    assert not kept_forms.is_of(form, "sha256:" + "cd" * 32)


def test_deleting_what_is_kept_of_a_model_leaves_that_of_others(tmp_path, monkeypatch):
    one, other = "sha256:" + "ab" * 32, "sha256:" + "cd" * 32
    for digest in (one, other):
        path = kept_forms.image_file(tmp_path, digest, "q4")
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"x")
    blocked = kept_forms.cached_file(tmp_path, other, "int8")
    blocked.mkdir()
    with pytest.raises(StoreError, match=f"^deleting {blocked} failed: "):
        kept_forms.delete_cached(tmp_path, other)
    blocked.rmdir()
    kept_forms.image_file(tmp_path, other, "q4").write_bytes(b"x")
    kept_forms.delete_cached(tmp_path, one)
    with monkeypatch.context() as patch:  # another process was faster
        gone = tmp_path / "packed" / "gone"
        patch.setattr(type(tmp_path), "glob", lambda *_: [gone])
        kept_forms.delete_cached(tmp_path, one)
    assert [path.name for path in (tmp_path / "packed").iterdir()] == [f"{'cd' * 16}-q4.image"]


@pytest.mark.parametrize(
    ("tokens", "dimensions", "end"),
    [(None, None, ""), (8, None, "+8tokens"), (None, 4, "+4d"), (8, 4, "+8tokens+4d")],
)
def test_the_digest_of_vectors_names_what_was_cut(tokens, dimensions, end):
    assert kept_forms.shaped_digest("sha256:ab", tokens, dimensions) == f"sha256:ab{end}"


@pytest.mark.parametrize(
    ("kind", "form", "recipe"),
    [
        ("generate", "int8", "7"),
        ("embed", "int8", "6"),
        ("late-interaction", "int8", "6"),
        ("embed", "bfloat16", "6"),
    ],
)
def test_a_kept_form_says_what_it_was_made_from(kind, form, recipe):
    stated = kept_forms.stamp_of(SimpleNamespace(digest="sha256:ab", kind=kind), form)
    assert stated == {"model": "sha256:ab", "form": form, "recipe": recipe}


def test_what_most_weights_are_is_kept_and_believed_only_where_it_says_one_of_them(
    tmp_path, monkeypatch
):
    asked = []

    def most(path):
        asked.append(path)
        return "blocks of 4 bits"

    monkeypatch.setattr(kept_forms, "most_of_gguf", most)
    file = SimpleNamespace(gguf=tmp_path / "m.gguf", digest="sha256:" + "ab" * 32)
    kept = tmp_path / "packed" / f"{'ab' * 16}-stored.txt"
    for content in (None, b"blocks of 5 bits", b"\xff"):
        if content is not None:
            kept.write_bytes(content)
        asked.clear()
        assert kept_forms.most_weights(file, tmp_path) == "blocks of 4 bits"
        assert kept_forms.most_weights(file, tmp_path) == "blocks of 4 bits"
        assert (len(asked), kept.read_bytes()) == (1, b"blocks of 4 bits")
    kept.write_bytes(b"floats")
    assert not kept_forms.has_blocks(file, tmp_path)
    assert kept_forms.has_blocks(file)
    assert not kept_forms.has_blocks(SimpleNamespace(gguf=None))


def test_removing_a_model_removes_its_forms(folder, store):
    load("tiny", store, weights="int8")
    store.remove("tiny")
    assert kept(store) == []


def test_forms_go_with_the_last_of_the_names_of_a_model(folder, store, tmp_path):
    (tmp_path / "tiny").rename(tmp_path / "twin")
    assert store.pull(tmp_path / "twin").digest == folder.digest
    load("tiny", store, weights="int8")
    store.remove("tiny")
    assert len(kept(store)) == 1
    store.remove("twin")
    assert kept(store) == []


def test_an_answer_names_the_form_beside_the_model(folder, store):
    assert load("tiny", store).digest == folder.digest
    assert load("tiny", store, weights="int8").digest == f"{folder.digest}+int8.7"
    assert load("tiny", store, dtype=torch.bfloat16).digest == f"{folder.digest}+bfloat16"


def test_two_names_for_the_weights_must_agree(folder, store):
    assert load("tiny", store, torch.float32, weights="float32").form == "float32"
    with pytest.raises(InputError, match="weights") as caught:
        load("tiny", store, torch.float32, weights="int8")
    assert caught.value.param == "weights"
    with pytest.raises(InputError, match="the dtype is 'int8'") as caught:
        kept_forms.requested_form(None, "int8")
    assert caught.value.param == "dtype"
    assert kept_forms.requested_form(None, None) is None
    assert kept_forms.requested_form(None, "bfloat16") == "bfloat16"
    assert kept_forms.requested_form("q4", None) == "q4"


@pytest.mark.long
def test_the_usual_form_of_a_model_is_known_without_reading_its_file_again(
    smollm2, store, monkeypatch
):
    from lmstack.serve.forms import usual_form

    assert kept_forms.has_blocks(smollm2, store.root)
    monkeypatch.setattr("lmstack.serve.forms.multiplies_bfloat16", lambda: True)
    form = "bfloat16" if native_problem() else "file8" if multiplies_lines() else "file"
    loaded = load(smollm2, store, weights=form)
    monkeypatch.setattr("lmstack.model.formats.gguf.file.read_gguf", None)
    monkeypatch.setattr("lmstack.model.read_gguf", None)
    assert usual_form(smollm2, store.root) == form
    digest = kept_forms.served_digest(smollm2, usual_form(smollm2, store.root))
    assert digest == loaded.digest


def test_floats_and_what_a_folder_holds_itself_are_not_kept(folder, store, tmp_path):
    load("tiny", store)
    load("tiny", store, torch.bfloat16)
    assert kept(store) == []
    load("tiny", store, weights="int8").save_quantized(tmp_path / "own")
    made = kept(store)
    assert load(tmp_path / "own", store).form == "int8"
    assert kept(store) == made


def test_a_model_with_other_weights_in_place_of_its_own_is_named_by_all_that_it_holds():
    from lmstack.model.quant.matrix import held_weights
    from lmstack.model.replacing import weights_digest

    module = MODULES["float32"]
    own = held_weights(module)
    plain = kept_forms.updated_digest(module, "float32", {})
    assert plain == weights_digest(module.config, own)
    assert kept_forms.updated_digest(module, "int8", {}) == f"{plain}+int8"
    changed = {"final_norm.weight": torch.zeros(32)}
    assert kept_forms.updated_digest(module, "float32", changed) == weights_digest(
        module.config, {**own, **changed}
    )
    assert kept_forms.updated_digest(module, "float32", changed) != plain


@pytest.mark.parametrize(
    ("kinds", "most"),
    [
        ("F32", "floats"), ("F16", "floats"), ("BF16", "floats"), ("Q4_0", "blocks of 4 bits"),
        ("Q4_1", "blocks of 4 bits"), ("Q4_K", "blocks of 4 bits"), ("Q8_0", "blocks"),
        ("F32 Q8_0", "floats"), ("F32 Q8_0 Q8_0", "blocks"), ("Q4_0 Q8_0", "blocks of 4 bits"),
        ("Q4_0 Q8_0 Q8_0", "blocks"), ("F32 Q4_0 Q8_0", "blocks"), ("", "floats"),
    ],
)  # fmt: skip
def test_most_weights_are_those_of_half_of_the_bytes(monkeypatch, tmp_path, kinds, most):
    tensors = {
        f"t{n}": SimpleNamespace(kind=SimpleNamespace(name=kind), size=8)
        for n, kind in enumerate(kinds.split())
    }

    @contextmanager
    def read_gguf(path):
        assert path == tmp_path / "m.gguf"
        yield SimpleNamespace(tensors=tensors)

    monkeypatch.setattr("lmstack.model.read_gguf", read_gguf)
    assert kept_forms.most_of_gguf(tmp_path / "m.gguf") == most
    file = SimpleNamespace(gguf=tmp_path / "m.gguf")
    assert kept_forms.most_weights(file) == most
