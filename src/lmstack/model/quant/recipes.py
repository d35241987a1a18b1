"""The forms that weights can be held in, by name, and what is to be known of the quantized ones
before anything is loaded. No torch.

Not covered: how codes are chosen (`quantize`), and making a model's weights (`model.forms`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

__all__ = ["FILE_FORMS", "FORMS", "RECIPES", "Form", "QuantizationRecipe", "QuantizedForm"]

QuantizedForm = Literal["int8", "q4", "nf4", "file", "file8"]
Form = Literal["float32", "bfloat16", "float16", QuantizedForm]
FORMS: tuple[Form, ...] = get_args(Form)
FILE_FORMS: tuple[QuantizedForm, ...] = ("file", "file8")  # of the blocks of a GGUF file


@dataclass(frozen=True)
class QuantizationRecipe:
    """``version`` is counted up when the numbers that the form gives change: what an older lmstack
    kept is made anew, and the model is served under another digest. ``limit``: the most that
    perplexity may rise, 0.01 for 1 %. ``help``: the form in half a line."""

    version: int
    limit: float
    help: str


# Limits: int8 is there to be forgotten about, and 1 % is less than what models of one size differ
# by from one training to the next. The blocks of a file are not changed at all, so what remains is
# the rounding of activations; on the grid of int8 they may lose what int8 loses. 4 bits are a
# bargain that is known to cost: 10 % is about the step to a model a fifth smaller.
RECIPES: Mapping[QuantizedForm, QuantizationRecipe] = {
    "int8": QuantizationRecipe(7, 0.01, "a byte a weight"),
    "q4": QuantizationRecipe(7, 0.10, "5 bits a weight, with a scale and a min for each 32"),
    "nf4": QuantizationRecipe(8, 0.10, "4.13 bits a weight, the NormalFloat of QLoRA"),
    "file": QuantizationRecipe(7, 0.01, "the blocks of a GGUF file"),
    "file8": QuantizationRecipe(
        1, 0.01, "the blocks of a GGUF file rounded to int8, 4 bits kept in 4"
    ),
}
