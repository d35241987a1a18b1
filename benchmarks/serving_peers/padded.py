"""Sentence vectors with an encoder that takes padded batches, for the runtimes that bring no
pipeline of their own: sorted by length, batches of 32, mean of the states, length 1."""

from __future__ import annotations

import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from side import Job, rates
from tokenizers import Tokenizer

__all__ = ["measure"]

BATCH = 32
Feed = Mapping[str, Any]


def vectors_of(
    tokenizer: Tokenizer, states: Callable[[Feed], np.ndarray], texts: Sequence[str]
) -> np.ndarray:
    encoded = [encoding.ids for encoding in tokenizer.encode_batch(list(texts))]
    order = sorted(range(len(encoded)), key=lambda i: len(encoded[i]))
    found: dict[int, np.ndarray] = {}
    for start in range(0, len(order), BATCH):
        rows = order[start : start + BATCH]
        width = max(len(encoded[i]) for i in rows)
        ids = np.zeros((len(rows), width), np.int64)
        mask = np.zeros((len(rows), width), np.int64)
        for at, row in enumerate(rows):
            ids[at, : len(encoded[row])] = encoded[row]
            mask[at, : len(encoded[row])] = 1
        feed = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
        pooled = (states(feed) * mask[..., None]).sum(1)
        found |= zip(rows, pooled / np.linalg.norm(pooled, axis=1, keepdims=True), strict=True)
    return np.stack([found[i] for i in range(len(texts))]).astype(np.float32)


def measure(side: str, name: str, job: Job, states: Callable[[Feed], np.ndarray]) -> dict[str, Any]:
    """``states``: the last hidden states of a batch, (texts, width, channels)."""
    task = job[name]
    tokenizer = Tokenizer.from_file(str(pathlib.Path(job["paths"]["minilm"]) / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(job["paths"]["minilm_length"])
    run = lambda: vectors_of(tokenizer, states, task["texts"])  # noqa: E731
    np.save(task["vectors"][side], run())
    return {"figures": rates(len(task["texts"]), [run] * task["repeats"])}
