"""What a form of a model costs, measured: against a computation in float64 of whole texts, and
whatever the length of the text and of the slices in which logits are compared."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.byte_tokens import smollm_bytes

from lmstack.app.inspect import quality
from lmstack.core import EngineError, UnsupportedError
from lmstack.engine import native_problem
from lmstack.registry import LoadedModel, load

LONGEST = 1300  # characters, about as many tokens: two windows and a part of a third
SPEECH = quality.text()
needs_native = pytest.mark.skipif(bool(native_problem()), reason="no native ops here")


def saved(folder: Path, seed: int, kind: str = "llama") -> Path:
    """A tiny model whose next token depends on the text, with a tokenizer of bytes."""
    torch.manual_seed(seed)
    sizes: dict[str, Any] = {"vocab_size": 300, "bos_token_id": 1, "eos_token_id": 2}
    if kind == "llama":
        config = transformers.LlamaConfig(
            **sizes, hidden_size=64, intermediate_size=96, num_hidden_layers=2,
            num_attention_heads=2, max_position_embeddings=640, initializer_range=0.2,
        )  # fmt: skip
        model = transformers.LlamaForCausalLM(config)
    elif kind == "bert":
        config = transformers.BertConfig(
            vocab_size=300, hidden_size=64, intermediate_size=96, num_hidden_layers=2,
            num_attention_heads=2, max_position_embeddings=640, initializer_range=0.2,
        )  # fmt: skip
        model = transformers.BertModel(config)
    else:
        config = transformers.T5Config(
            **sizes, d_model=64, d_kv=32, d_ff=96, num_layers=2, num_heads=2,
            decoder_start_token_id=0, pad_token_id=0,
        )  # fmt: skip
        model = transformers.T5ForConditionalGeneration(config)
    model.save_pretrained(folder)
    smollm_bytes().save(folder)
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved(tmp_path_factory.mktemp("quality") / "one", 0)


@pytest.fixture(scope="module")
def original(folder: Path) -> LoadedModel:
    return load(folder)


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    """Another model with the same tokens: a form that is far off."""
    return load(saved(tmp_path_factory.mktemp("quality") / "two", 1))


def measured(original: LoadedModel, form: LoadedModel, text: str = SPEECH[:700]) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(quality, "text", lambda: text)
        return quality.compare(original, form, lambda _done, _total: None)


@torch.inference_mode()
def plainly(original: LoadedModel, form: LoadedModel, text: str) -> quality.WeightsAgreement:
    """The same figures of decoders in float64, every window computed at once."""
    nlls: list[list[torch.Tensor]] = [[], []]
    divergences, same = [], []
    ids = original.tokenizer.encode(text)
    for start in range(0, len(ids), 512):
        window = torch.tensor(ids[start : start + 512])
        if len(window) < 2:
            continue
        scores = [
            model.module(window[None]).logits[0, :-1].double().log_softmax(-1)
            for model in (original, form)
        ]
        for found, rows in zip(nlls, scores, strict=True):
            found.append(-rows.gather(1, window[1:, None]))
        divergences.append((scores[0].exp() * (scores[0] - scores[1])).sum(-1))
        same.append(scores[0].argmax(-1) == scores[1].argmax(-1))
    one, two = (math.exp(float(torch.cat(found).mean())) for found in nlls)
    agreement = float(torch.cat(same).double().mean())
    count = sum(map(len, same))
    return quality.WeightsAgreement(
        count, one, two, float(torch.cat(divergences).mean()), agreement
    )


def assert_equal(found: quality.WeightsAgreement, expected: quality.WeightsAgreement) -> None:
    assert dataclasses.asdict(found) == pytest.approx(dataclasses.asdict(expected), rel=1e-4)


@settings(max_examples=8, deadline=None)
@given(length=st.integers(2, LONGEST), slice_rows=st.sampled_from([1, 7, 128, 512]))
def test_figures_are_those_of_whole_windows_in_float64(
    original: LoadedModel, other: LoadedModel, length: int, slice_rows: int
) -> None:
    text = SPEECH[:length]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(quality, "_SLICE", slice_rows)
        found = measured(original, other, text)
    assert_equal(found, plainly(original, other, text))
    assert found.change != 0


@needs_native
def test_native_figures_are_near_those_of_the_same_weights_in_float64(
    original: LoadedModel, folder: Path
) -> None:
    form = load(folder, weights="int8")
    text = SPEECH[:LONGEST]
    found, expected = measured(original, form, text), plainly(original, form, text)
    assert found.tokens == expected.tokens > 2 * 512
    assert found.perplexity == pytest.approx(expected.perplexity, rel=0.02)
    assert found.greedy_agreement > 0.9
    assert found.kl_divergence < 0.02


@needs_native
@pytest.mark.parametrize("form", ["int8", "q4"])
def test_slices_do_not_matter_to_native_figures(
    original: LoadedModel, folder: Path, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = load(folder, weights=form)
    found = []
    for rows in (512, 128, 100, 1):
        monkeypatch.setattr(quality, "_SLICE", rows)
        found.append(dataclasses.asdict(measured(original, made)))
    for each in found[1:]:
        assert each == pytest.approx(found[0], rel=1e-6)


def test_a_large_vocabulary_is_compared_in_smaller_slices(
    original: LoadedModel, other: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[int] = []
    expected = dataclasses.asdict(measured(original, other))
    monkeypatch.setattr(quality, "_SCORES", 10 * 300)
    monkeypatch.setattr(quality, "text", lambda: SPEECH[:700])
    found = quality.compare(original, other, lambda done, _total: steps.append(done))
    assert dataclasses.asdict(found) == pytest.approx(expected, rel=1e-6)
    assert steps[:3] == [10, 20, 30]
    assert steps[-1] == expected["tokens"]


@pytest.mark.parametrize("form", ["float32", pytest.param("int8", marks=needs_native)])
def test_an_encoder_decoder_reads_the_text_and_repeats_it_as_it_is_served(
    tmp_path: Path, form: str
) -> None:
    folder = saved(tmp_path / "t5", 0, "t5")
    original = load(folder)
    found = measured(original, load(folder, weights=form))
    with torch.inference_mode():
        ids = torch.tensor([original.tokenizer.encode(SPEECH[:700])[:512]])
        shifted = torch.cat((torch.zeros(1, 1, dtype=torch.long), ids[:, 1:]), 1)
        scores = original.module(ids, None, None, shifted).logits[0, :-1].log_softmax(-1)
    nll = -scores.gather(1, ids[0, 1:, None]).mean()
    assert abs(math.log(found.original_perplexity) - float(nll)) < 0.2  # of one window of two
    assert abs(found.change) < (1e-9 if form == "float32" else 0.01)
    assert (found.kl_divergence == 0) == (form == "float32")


def test_encoders_are_compared_by_the_mean_and_the_lowest_cosine_of_passages(
    tmp_path: Path,
) -> None:
    """One passage that a form spoils is told, however many it does not."""
    one, other = (load(saved(tmp_path / str(seed), seed, "bert")) for seed in (0, 1))
    text = SPEECH[:3000]
    found = measured(one, other, text)
    with pytest.MonkeyPatch.context() as patch, torch.inference_mode():
        patch.setattr(quality, "text", lambda: text)
        parts = [one.tokenizer.encode(part) for part in quality.passages()]
        vectors = [
            [model.module(torch.tensor([ids])).last_hidden_state[0].mean(0) for ids in parts]
            for model in (one, other)
        ]
    cosines = torch.cosine_similarity(*(torch.stack(side).double() for side in vectors))
    expected = quality.Closeness(len(parts), float(cosines.mean()), float(cosines.min()))
    assert dataclasses.asdict(found) == pytest.approx(dataclasses.asdict(expected), rel=1e-4)
    assert found.mean_cosine - found.lowest_cosine > 0.001


def test_every_window_begins_as_every_prompt_does(
    original: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Gemma without its first token is another, far worse model."""
    monkeypatch.setattr(quality, "text", lambda: SPEECH[:LONGEST])
    begun = dataclasses.replace(original, tokenizer=smollm_bytes(adds_bos=True))
    windows, plain = list(quality._windows(begun)), list(quality._windows(original))
    assert [len(window) for window in windows[:2]] == [quality.WINDOW] * 2
    assert {window[0] for window in windows} == {begun.tokenizer.bos_id}
    assert [i for window in windows for i in window[1:]] == [i for w in plain for i in w]


Damage = Callable[[torch.Tensor], Any]


@pytest.mark.parametrize(
    "damage",
    [lambda t: t.fill_(torch.nan), lambda t: t.mul_(1e6)],
    ids=["no numbers", "numbers without end"],
)
def test_a_form_that_does_not_compute_to_numbers_is_an_error(
    original: LoadedModel, folder: Path, damage: Damage
) -> None:
    bad = load(folder)
    with torch.no_grad():
        damage(bad.module.blocks[0].mlp.down.weight)
        damage(bad.module.head.weight)
    with pytest.raises(EngineError, match="perplexity"):
        measured(original, bad)


def test_a_text_of_one_token_is_an_error_and_not_a_division_by_zero(
    original: LoadedModel, other: LoadedModel
) -> None:
    with pytest.raises(UnsupportedError, match="fewer than 2 tokens"):
        measured(original, other, "a")
