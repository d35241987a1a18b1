"""What TRL's PPO gave for drawn tensors (`with_trl`), as tensors of answers end to end."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

__all__ = ["LENGTHS", "SETTINGS", "flat", "given", "kept"]


@cache
def kept() -> Any:
    return json.loads(Path(__file__).with_name("trl_ppo.json").read_text())


LENGTHS: list[int] = kept()["lengths"]
SETTINGS: dict[str, float] = kept()["settings"]


def flat(rows: list[list[float]]) -> Tensor:
    """(N,) of padded rows, in float64."""
    parts = [row[:length] for row, length in zip(rows, LENGTHS, strict=True)]
    return torch.tensor([value for part in parts for value in part], dtype=torch.float64)


def given(name: str) -> Tensor:
    return flat(kept()["given"][name])
