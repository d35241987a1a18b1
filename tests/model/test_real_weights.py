"""The default models, beside transformers and the gguf package on the same weights.

The oracle for logits is a folder that lmstack wrote from the GGUF file. Whether the weights in
it are right is therefore checked apart, against the gguf package.
"""

from __future__ import annotations

import json

import gguf
import numpy as np
import pytest
import torch
import transformers
from torch.testing import assert_close

from lmstack.core import RemoteError
from lmstack.model import load_module, read_gguf, write_folder

pytestmark = pytest.mark.weights

TEXTS = (
    "a",
    "The capital of France is Paris, and the capital of Italy is",
    "def fibonacci(n):\n    if n < 2:\n        return n\n    return",
    "<|im_start|>user\nWrite a haiku about rain.<|im_end|>\n<|im_start|>assistant\n",
    "Ünïcödé ✓ 漢字 кириллица 🙂 " * 3,
    "0123456789 " * 15,
)


@pytest.fixture(scope="module")
def ours(smollm2):
    return load_module(smollm2.path)


@pytest.fixture(scope="module")
def theirs(ours, tmp_path_factory):
    folder = tmp_path_factory.mktemp("smollm2")
    write_folder(ours, folder)
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    # Mapped weights begin where the file happens to put them, and BLAS sums a single row in
    # another order when that is not a multiple of 64.
    for parameter in model.parameters():
        parameter.data = parameter.data.clone()
    return model


@pytest.fixture(scope="module")
def batches(smollm2):
    from lmstack.registry import load

    tokenizer = load(smollm2).tokenizer
    return [torch.tensor([tokenizer.encode(text)]) for text in TEXTS]


@pytest.mark.long
def test_smollm2_dequantizes_as_the_gguf_package_does(smollm2):
    """Bit for bit."""
    tensors = gguf.GGUFReader(smollm2.gguf).tensors
    with read_gguf(smollm2.gguf) as file:
        for tensor in tensors:
            expected = gguf.dequantize(tensor.data, tensor.tensor_type)
            np.testing.assert_array_equal(file.read(tensor.name).numpy(), expected)


def test_smollm2_rows_of_queries_and_keys_are_in_the_order_of_transformers(smollm2, ours):
    """The permutation of transformers' GGUF loader, written out."""
    config = ours.config
    with read_gguf(smollm2.gguf) as file:
        start = 0
        for name, heads in (("attn_q", config.num_heads), ("attn_k", config.num_kv_heads)):
            stored = file.read(f"blk.7.{name}.weight").numpy()
            rows = stored.shape[0]
            w = stored.reshape(heads, rows // heads // 2, 2, -1)
            expected = w.swapaxes(2, 1).reshape(stored.shape)
            found = ours.blocks[7].attention.qkv.weight[start : start + rows]
            np.testing.assert_array_equal(found.detach().numpy(), expected)
            start += rows


@pytest.mark.long
def test_smollm2_logits_equal_those_of_transformers(ours, theirs, batches):
    with torch.no_grad():
        for ids in batches:
            a = ours(ids, output_hidden_states=True)
            b = theirs(ids, output_hidden_states=True)
            assert_close(a.logits, b.logits)
            for x, y in zip(a.hidden_states, b.hidden_states, strict=True):
                assert_close(x, y)


def test_minilm_hidden_states_equal_those_of_transformers(minilm):
    ours = load_module(minilm.path)
    theirs = transformers.AutoModel.from_pretrained(minilm.path).eval()
    ids = torch.randint(1000, 30000, (3, 200), generator=torch.Generator().manual_seed(0))
    mask = (torch.arange(200) < torch.tensor([200, 77, 1])[:, None]).long()
    with torch.no_grad():
        a = ours(ids, mask, output_hidden_states=True)
        b = theirs(ids, attention_mask=mask, output_hidden_states=True)
        real = mask.bool()
        for x, y in zip(a.hidden_states, b.hidden_states, strict=True):
            assert_close(x[real], y[real])
        assert_close(a.pooled, b.pooler_output)


def test_a_trained_model_of_1480_weights_adds_all_pairs_of_digits(weights_store):
    """Golden: the answers are arithmetic's own, so no other library has to be right."""
    try:
        folder = weights_store.pull("pypi:mathformer==2.0.0#mathformer/addformer").path
    except RemoteError as error:
        pytest.skip(f"mathformer needs the package registry once: {error}")
    module = load_module(folder)
    ids = json.loads((folder / "vocab.json").read_text())
    tokens = {index: token for token, index in ids.items()}
    for a in range(10):
        for b in range(10):
            text = f"{a}+{b}="
            while not text.endswith("</s>"):
                with torch.no_grad():
                    logits = module(torch.tensor([[ids[c] for c in text]])).logits
                text += tokens[int(logits[0, -1].argmax())]
                assert len(text) < 12, text
            assert text == f"{a}+{b}={a + b}</s>"
