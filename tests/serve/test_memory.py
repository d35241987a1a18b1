"""Models whose weights are larger than the memory that is free."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from lmstack.core import InputError
from lmstack.engine import EngineConfig
from lmstack.registry import KNOWN, ModelFolder
from lmstack.registry.card import Card, FileFacts
from lmstack.serve import forms
from lmstack.serve.forms import check_memory, smaller_model, too_large
from lmstack.serve.local import LocalModel

GIB = 1 << 30
LARGE, SMALL = "qwen2.5-coder-1.5b-instruct", "qwen2.5-coder-0.5b-instruct"


def folder(name: str, *, size: int, parameters: int = 0) -> ModelFolder:
    files: dict[str, FileFacts] = {name: {"sha256": "0" * 64, "size": size}}
    card = Card("big", "generate", "sha256:0", "", "", files, "", parameters=parameters)
    return ModelFolder(Path("nowhere"), card)


@pytest.fixture
def free(monkeypatch: pytest.MonkeyPatch):
    def have(size: int | None) -> None:
        monkeypatch.setattr(forms, "free_memory", lambda: (size, size))

    return have


def refused(model: ModelFolder, form: str) -> tuple[str, str | None]:
    with pytest.raises(InputError) as caught:
        check_memory(model, form)
    return caught.value.message, caught.value.hint


def test_a_file_that_is_larger_than_memory_is_refused_with_one_that_fits(free):
    free(2 * GIB)
    model = folder("m.gguf", size=4 * GIB, parameters=8 * GIB)
    assert refused(model, "file8") == (
        "big needs at least 4.00 GiB of memory for its weights as file8, 2.00 GiB is free",
        f"{SMALL} fits: lmstack pull {SMALL}",
    )
    free(3 * GIB)
    assert refused(model, "file")[1] == f"{LARGE} fits: lmstack pull {LARGE}"
    free(4 * GIB)
    check_memory(model, "file8")


@pytest.mark.parametrize(
    ("form", "size"), [("float32", "4.00"), ("bfloat16", "2.00"), ("float16", "2.00")]
)
def test_floats_are_as_large_as_their_form_and_int8_is_offered_where_it_fits(free, form, size):
    free(GIB + 1)
    model = folder("model.safetensors", size=2 * GIB, parameters=GIB)
    message, hint = refused(model, form)
    assert message.startswith(
        f"big needs at least {size} GiB of memory for its weights as {form}, "
    )
    assert hint == "as int8 they take 1.00 GiB"
    check_memory(model, "int8")
    check_memory(model, "q4")


def test_int8_is_not_offered_where_it_does_not_fit_or_was_refused(free):
    free(GIB - 1)
    model = folder("model.safetensors", size=2 * GIB, parameters=GIB)
    assert refused(model, "bfloat16")[1] == f"{SMALL} fits: lmstack pull {SMALL}"
    assert refused(model, "int8")[1] == f"{SMALL} fits: lmstack pull {SMALL}"
    free(1000)
    assert refused(model, "int8")[1] == "close other programs"


def test_no_writer_is_offered_in_place_of_another_kind(free):
    free(GIB)
    model = folder("model.safetensors", size=4 * GIB, parameters=2 * GIB)
    embedder = dataclasses.replace(model, card=dataclasses.replace(model.card, kind="embed"))
    assert refused(embedder, "float32")[1] == "close other programs"


def test_weights_of_an_unknown_number_are_taken_for_halves(free):
    free(GIB)
    check_memory(folder("model.safetensors", size=GIB), "bfloat16")
    assert "2.00 GiB" in refused(folder("model.safetensors", size=GIB), "float32")[0]


def test_where_the_system_does_not_say_nothing_is_refused(free):
    free(None)
    check_memory(folder("m.gguf", size=1 << 60), "file")
    assert too_large(LARGE) == ""


def test_a_model_is_refused_before_its_files_are_read(free):
    free(GIB)
    model = folder("model.safetensors", size=1 << 40, parameters=1 << 39)
    with pytest.raises(InputError, match=r"big needs at least 1024\.00 GiB .* as bfloat16"):
        LocalModel.load(model, weights="bfloat16")


def test_memory_of_another_device_is_not_compared(free):
    free(1)
    with pytest.raises(Exception, match="nowhere"):  # that the file is missing
        LocalModel.load(
            folder("m.gguf", size=2), weights="bfloat16", engine=EngineConfig(device="cuda:0")
        )


def test_no_base_model_is_recommended(free):
    """It would not answer."""
    base = KNOWN["gemma3-270m"].download
    assert smaller_model(2 * base, free=3 * base) == "smollm2-135m-instruct"


def test_what_can_be_pulled_and_does_not_fit_is_told_with_what_does(free):
    free(GIB)
    assert too_large(LARGE) == (
        f"{LARGE} needs at least 1.02 GiB of memory for its weights, 1.00 GiB is free; {SMALL} fits"
    )
    assert too_large(SMALL) == ""
    free(1000)
    assert too_large(SMALL).endswith("0.00 GiB is free")
    assert too_large("all-minilm-l6-v2") == ""  # not of text: hundreds of MB at most
    assert too_large("hf:org/name") == ""
