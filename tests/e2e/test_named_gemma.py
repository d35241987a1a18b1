"""Gemma 3 270M beside llama.cpp: 64 greedy tokens after each of ten prompts.

llama.cpp multiplies quantized weights with activations that it rounds to 8 bits; lmstack computes
in float32 with the dequantized weights. So llama.cpp is asked twice. With the same weights as
float32 (widened by the gguf package) it rounds nothing, and every token must be the same. With
the file as it is, a token may be another one where two were nearly equal; then ours must give its
token a logit just below the highest.
"""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np
import pytest
import torch

from lmstack.registry import load
from lmstack.serve import LocalModel

xllamacpp = pytest.importorskip("xllamacpp", reason="llama.cpp is the judge: pip install xllamacpp")
pytestmark = [pytest.mark.weights, pytest.mark.long]

TOKENS = 64
PROMPTS = (
    "The capital of France is", "Once upon a time, in a small village by the sea,",
    "def fibonacci(n):\n", "Water boils at", "The three primary colours are", "In 1969, humans",
    "Q: What is photosynthesis?\nA:", "Dear Sir or Madam,", "1, 1, 2, 3, 5, 8,",
    "Der schnelle braune Fuchs",
)  # fmt: skip


@pytest.fixture(scope="module")
def ours(gemma):
    return load(gemma)


@pytest.fixture(scope="module")
def prompts(ours):
    return [ours.tokenizer.encode(prompt) for prompt in PROMPTS]


def widened(source: Path, target: Path) -> Path:
    """The same model with every tensor in float32, by the gguf package alone."""
    reader = gguf.GGUFReader(source)
    writer = gguf.GGUFWriter(target, reader.get_field("general.architecture").contents())
    for field in reader.fields.values():
        if not field.name.startswith(("GGUF.", "general.architecture", "general.file_type")):
            array = field.types[0] == gguf.GGUFValueType.ARRAY
            inner = field.types[-1] if array else None
            writer.add_key_value(field.name, field.contents(), field.types[0], inner)
    for tensor in reader.tensors:
        values = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
        writer.add_tensor(tensor.name, values.astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return target


def greedy(path: Path, prompts: list[list[int]]) -> list[list[int]]:
    """What llama.cpp goes on with, keys and values kept in float32."""
    settings = xllamacpp.CommonParams()
    settings.model.path = str(path)
    settings.n_ctx, settings.n_parallel, settings.warmup = 512, 1, False
    settings.cpuparams.n_threads = 1  # threads that wait for each other by spinning
    settings.cache_type_k = settings.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
    server = xllamacpp.Server(settings)
    found = []
    for ids in prompts:
        answer = server.handle_completions(
            {"prompt": ids, "max_tokens": TOKENS, "temperature": 0.0, "top_k": 1, "logprobs": 1}
            | {"cache_prompt": False, "ignore_eos": True}
        )
        found.append([token["id"] for token in answer["choices"][0]["logprobs"]["content"]])
    return found


@torch.no_grad()
def behind(ours, prompt: list[int], tokens: list[int]) -> np.ndarray:
    """By how much our logit of each token stays below the highest: 0 where it is our choice.
    Choices that all agree make the same text, one after the other."""
    assert len(tokens) == TOKENS
    logits = ours.module(torch.tensor([prompt + tokens[:-1]])).logits[0, len(prompt) - 1 :]
    chosen = logits.gather(1, torch.tensor(tokens)[:, None])[:, 0]
    return (logits.amax(-1) - chosen).numpy()


def test_text_is_llama_cpps_where_it_computes_with_the_same_numbers(ours, gemma, prompts, tmp_path):
    theirs = greedy(widened(gemma.gguf, tmp_path / "f32.gguf"), prompts)
    for text, prompt, tokens in zip(PROMPTS, prompts, theirs, strict=True):
        assert behind(ours, prompt, tokens).max() < 1e-3, text


def test_text_differs_from_the_quantized_run_only_where_two_tokens_are_close(ours, gemma, prompts):
    gaps = np.stack(
        [
            behind(ours, prompt, tokens)
            for prompt, tokens in zip(prompts, greedy(gemma.gguf, prompts), strict=True)
        ]
    )
    assert gaps.max() < 1
    assert (gaps == 0).mean() > 0.95


def test_engine_goes_on_with_the_same_tokens(ours, prompts, request):
    """The text that people get is that of the logits that were compared."""
    model = LocalModel(ours)
    request.addfinalizer(model.close)
    for prompt in prompts[:3]:
        ids = list(prompt)
        with torch.no_grad():
            for _ in range(TOKENS):
                ids.append(int(ours.module(torch.tensor([ids])).logits[0, -1].argmax()))
        text = model.generate(prompt, max_tokens=TOKENS, temperature=0, ignore_eos=True)
        assert text == ours.tokenizer.decode(ids[len(prompt) :], skip_special_tokens=True)
