"""What the products of a training pass are computed in, by a recipe's ``precision`` and machine."""

from __future__ import annotations

import torch

from lmstack.core.processor import multiplies_bfloat16

__all__ = ["dtype_of", "products_of"]


def products_of(precision: str, device: str = "cpu") -> str:
    """A recipe's ``precision``, with ``auto`` resolved for ``device``, "cpu" or "cuda", on this
    machine: a processor that has to take bfloat16 apart multiplies it at a fraction of the rate of
    float32."""
    if precision != "auto":
        return precision
    if device == "cuda":
        return "bfloat16" if torch.cuda.is_bf16_supported() else "float32"
    return "bfloat16" if multiplies_bfloat16() else "float32"


def dtype_of(precision: str, device: str = "cpu") -> torch.dtype:
    """That of the products of ``precision`` that are not in 8 bits."""
    found = products_of("auto" if precision == "int8" else precision, device)
    return torch.bfloat16 if found == "bfloat16" else torch.float32
