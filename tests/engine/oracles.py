"""The tests' tiny model as transformers sees it, and what transformers generates with it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import transformers

from lmstack.model import Transformer, write_folder


def causal_lm(module: Transformer, folder: Path) -> Any:
    write_folder(module, folder)
    return transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


def generated(model: Any, prompt: Sequence[int], **options: Any) -> tuple[list[list[int]], Any]:
    """New tokens of each returned sequence, padding cut, and the whole output."""
    pad = options.setdefault("pad_token_id", 0)
    with torch.inference_mode():
        out = model.generate(
            torch.tensor([list(prompt)]),
            attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
            return_dict_in_generate=True,
            output_scores=True,
            **({"do_sample": False} | options),
        )
    rows = out.sequences[:, len(prompt) :].tolist()
    ends = options.get("eos_token_id") or []
    ends = ends if isinstance(ends, list) else [ends]
    return [_cut(row, ends, pad) for row in rows], out


def _cut(row: list[int], ends: list[int], pad: int) -> list[int]:
    for place, token in enumerate(row):
        if token in ends:
            return row[: place + 1]
    while row and row[-1] == pad:
        row = row[:-1]
    return row


def new_tokens(model: Any, prompt: Sequence[int], **options: Any) -> list[list[int]]:
    """What an encoder-decoder of transformers generates, by the names that options have here."""
    names = {"forced_eos_id": "forced_eos_token_id", "forced_bos_id": "forced_bos_token_id"}
    names |= {"max_tokens": "max_new_tokens", "min_tokens": "min_new_tokens"}
    names |= {"n": "num_return_sequences"}
    given = {names.get(k, k): v for k, v in options.items()}
    with torch.inference_mode():
        out = model.generate(torch.tensor([list(prompt)]), do_sample=False, **given)
    ends = options.get("eos_token_id")
    return [_cut(row, [ends], 0) for row in out[:, 1:].tolist()]
