"""Models with a fault planted in them, as folders that `lmstack` serves like any other.

Each is made of the untouched model's files: its weights with noise, or rounded carelessly; its
tokenizer with two entries exchanged, or without the merges that were learned last; its chat
template exchanged for that of another family. Weights are written anew; a tokenizer or a template
stands beside the file of the weights, before what that holds. Not covered: evaluating them
(`regressions.py`).
"""

from __future__ import annotations

import copy
import dataclasses
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from lmstack.registry import LoadedModel
from lmstack.text import ChatTemplate, Tokenizer

__all__ = [
    "LLAMA_2",
    "NO_TURNS",
    "coarse_q4",
    "exchanged",
    "fewer_merges",
    "noisy",
    "templated",
    "text_written",
    "written",
]

# What Meta's Llama 2 was trained with; a model of another family never saw its marks.
LLAMA_2 = (
    "{% for message in messages %}{% if message['role'] == 'assistant' %}"
    " {{ message['content'] }} </s>{% else %}"
    "<s>[INST] {{ message['content'] }} [/INST]{% endif %}{% endfor %}"
)
# The turns of SmolLM2 without the one in which the assistant begins to answer.
NO_TURNS = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{{ message['content'] }}<|im_end|>\n{% endfor %}"
)


def _changed(
    loaded: LoadedModel, change: Callable[[str, torch.Tensor], torch.Tensor]
) -> LoadedModel:
    """With ``change`` of every matrix, by its name."""
    module = copy.deepcopy(loaded.module)
    with torch.no_grad():
        for name, weight in module.named_parameters():
            if weight.ndim == 2:
                weight.copy_(change(name, weight))
    return dataclasses.replace(loaded, module=module, digest=None)


def noisy(loaded: LoadedModel, size: float, seed: int = 0) -> LoadedModel:
    """Normal noise on every matrix, its deviation ``size`` of that of the matrix."""
    generator = torch.Generator().manual_seed(seed)

    def change(_: str, weight: torch.Tensor) -> torch.Tensor:
        noise = torch.randn(weight.shape, generator=generator, dtype=weight.dtype)
        return weight + size * weight.std() * noise

    return _changed(loaded, change)


def coarse_q4(loaded: LoadedModel) -> LoadedModel:
    """Rounded to 15 levels of 4 bits with one scale for a whole row, which its largest weight
    sets, where the form ``q4`` fits a scale and a min to each 32 weights."""

    def change(_: str, weight: torch.Tensor) -> torch.Tensor:
        scale = weight.abs().amax(1, keepdim=True).clamp(min=1e-12) / 7
        return (weight / scale).round() * scale

    return _changed(loaded, change)


def templated(loaded: LoadedModel, source: str) -> LoadedModel:
    """With another chat template."""
    tokenizer = loaded.tokenizer
    names = tokenizer.name_of("bos_token"), tokenizer.name_of("eos_token")
    return dataclasses.replace(loaded, template=ChatTemplate(source, *names), digest=None)


def _with_vocabulary(loaded: LoadedModel, change: Callable[[dict[str, Any]], None]) -> LoadedModel:
    """``change``: of tokenizer.json."""
    tokenizer = loaded.tokenizer
    spec = json.loads(tokenizer.backend.to_str())
    change(spec)
    made = Tokenizer.from_json(json.dumps(spec), tokenizer.config)
    return dataclasses.replace(loaded, tokenizer=made, digest=None)


def exchanged(loaded: LoadedModel, one: str, other: str) -> LoadedModel:
    """The ids of two tokens exchanged, by their texts."""
    ids = [loaded.tokenizer.encode(text, add_special_tokens=False) for text in (one, other)]
    if any(len(each) != 1 for each in ids):
        raise ValueError(f"{one!r} and {other!r} are not one token each: {ids}")
    names = [loaded.tokenizer.token(each[0]) for each in ids]

    def change(spec: dict[str, Any]) -> None:
        vocabulary = spec["model"]["vocab"]
        first, second = names
        vocabulary[first], vocabulary[second] = vocabulary[second], vocabulary[first]

    return _with_vocabulary(loaded, change)


def fewer_merges(loaded: LoadedModel, share: float) -> LoadedModel:
    """Only the first ``share`` of the merges, as from an older tokenizer of the same family: every
    id still means what it meant, and longer pieces are never written."""

    def change(spec: dict[str, Any]) -> None:
        merges = spec["model"]["merges"]
        del merges[int(len(merges) * share) :]

    return _with_vocabulary(loaded, change)


def written(loaded: LoadedModel, folder: Path) -> Path:
    """``loaded`` as a folder, its weights in bfloat16."""
    module = copy.deepcopy(loaded.module).to(torch.bfloat16)
    dataclasses.replace(loaded, module=module).save(folder)
    return folder


def text_written(loaded: LoadedModel, weights: Path, folder: Path) -> Path:
    """The GGUF file ``weights`` with the tokenizer and the template of ``loaded`` beside it."""
    folder.mkdir()
    os.link(weights, folder / weights.name)
    loaded.tokenizer.save(folder)
    if loaded.template is not None:
        (folder / "chat_template.jinja").write_text(loaded.template.source, "utf-8")
    return folder
