"""A native program as a file: the same bits as with torch, refused where anything is amiss."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch
import transformers

from lmstack.core import (
    ContextLengthError,
    FormatError,
    InputError,
    NotFoundError,
    UnsupportedError,
)
from lmstack.engine import native_problem
from lmstack.engine.cpu import image as images
from lmstack.engine.cpu.executor import NativeEncoder
from lmstack.engine.cpu.image import read_image, write_image
from lmstack.model.formats.mapped.file import read_mapped, write_mapped
from lmstack.model.loading import build_module, read_weights

pytestmark = pytest.mark.skipif(bool(native_problem()), reason="no native ops here")

STAMP = {"model": "sha256:1", "form": "int8", "recipe": "x"}
LENGTHS = [1, 5, 17, 30]


def folder_of(path, kind=transformers.BertModel, **more):
    torch.manual_seed(0)
    config = kind.config_class(
        vocab_size=50, hidden_size=64, intermediate_size=128, num_hidden_layers=2,
        num_attention_heads=2, max_position_embeddings=40, **more,
    )  # fmt: skip
    kind(config).save_pretrained(path)
    return path


@pytest.fixture
def kept(tmp_path):
    """An encoder, the file of its weights and the path of its image, written."""
    weights = tmp_path / "int8.safetensors"
    write_mapped(weights, *read_weights(folder_of(tmp_path / "bert"), "int8"), STAMP)
    encoder = NativeEncoder(build_module(*read_mapped(weights, STAMP)))
    path = tmp_path / "int8.image"
    write_image(path, encoder.parts({"head": np.ones((2, 3), np.float32)}), weights, STAMP)
    return encoder, weights, path


def drawn(count=53):
    return np.random.default_rng(1).integers(0, 50, count).astype(np.int32)


def test_an_image_computes_the_same_bits(kept):
    encoder, weights, path = kept
    found = read_image(path, weights, STAMP)
    ids, types = drawn(), [i % 2 for i in range(sum(LENGTHS))]
    for segments in (None, types):
        expected = encoder.varlen_hidden(ids, LENGTHS, segments).numpy()
        np.testing.assert_array_equal(found.varlen_hidden(ids, LENGTHS, segments), expected)
    np.testing.assert_array_equal(found.more["head"], np.ones((2, 3), np.float32))
    assert (found.facts.hidden_size, found.facts.token_types) == (64, 2)


def test_an_image_holds_no_weights_that_the_other_file_holds(kept):
    _, weights, path = kept
    assert path.stat().st_size < weights.stat().st_size / 4


@pytest.mark.parametrize("key", ["model", "form", "recipe"])
def test_an_image_of_something_else_is_refused(kept, key):
    _, weights, path = kept
    with pytest.raises(FormatError, match=key):
        read_image(path, weights, {**STAMP, key: "other"})


def test_an_image_is_refused_after_its_weights_were_made_anew(kept, tmp_path):
    _, weights, path = kept
    config, held = read_mapped(weights, STAMP)
    write_mapped(weights, config, dict(reversed(held.items())), STAMP)
    with pytest.raises(FormatError, match="weights"):
        read_image(path, weights, STAMP)


def test_an_image_of_another_build_is_refused(kept, monkeypatch):
    _, weights, path = kept
    monkeypatch.setattr(images, "headers_fingerprint", lambda: 7)
    with pytest.raises(FormatError, match="headers"):
        read_image(path, weights, STAMP)


@pytest.mark.parametrize("place", [-1, -200, 0.5])
def test_a_changed_byte_is_found(kept, place):
    _, weights, path = kept
    data = bytearray(path.read_bytes())
    at = int(len(data) * place) if isinstance(place, float) else place
    data[at] ^= 1
    path.write_bytes(data)
    with pytest.raises(FormatError):
        read_image(path, weights, STAMP)


def test_an_image_that_is_not_there_is_not_found(kept, tmp_path):
    _, weights, _ = kept
    with pytest.raises(NotFoundError):
        read_image(tmp_path / "none", weights, STAMP)


def test_what_tables_do_not_hold_is_refused(kept):
    _, weights, path = kept
    found = read_image(path, weights, STAMP)
    with pytest.raises(InputError, match="ids"):
        found.varlen_hidden([50], [1])
    with pytest.raises(InputError, match="types"):
        found.varlen_hidden([1], [1], [2])
    with pytest.raises(ContextLengthError, match="position 40"):
        found.varlen_hidden(drawn(41), [41])


def test_positions_that_are_counted_otherwise_have_no_image(tmp_path):
    path = folder_of(tmp_path / "roberta", transformers.RobertaModel, pad_token_id=1)
    module = build_module(*read_weights(path, "int8"))
    with pytest.raises(UnsupportedError, match="positions"):
        NativeEncoder(module).parts({})


def test_running_an_image_loads_no_torch(kept):
    _, weights, path = kept
    script = (
        "import sys; from pathlib import Path;"
        "from lmstack.engine.cpu.image import read_image;"
        f"found = read_image(Path({str(path)!r}), Path({str(weights)!r}), {STAMP!r});"
        "found.varlen_hidden([1, 2, 3], [3]); print('torch' in sys.modules)"
    )
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "False"
