"""The forms in which a model's weights can be held, and a model in one of them.

- ``float32``, ``bfloat16``, ``float16``: every weight a float.
- ``int8``: matrices in groups of up to 256 with a float16 scale, symmetric; decoders smoothed
  first (`smoothquant`).
- ``q4``: matrices in 4 bits, groups of 32 with a scale and a min, fitted by `importance`.
- ``nf4``: matrices of blocks in the 4-bit NormalFloat of QLoRA, groups of 64, double-quantized
  scales; tables and heads in int8.
- ``file``: matrices as the blocks of the GGUF file have them (`gguf.matrices`).
- ``file8``: those of 4 bits on the grid of int8 (`progressive`), all others int8 in groups of 64.

In the last five, vectors, classifiers, routers, experts and tables of positions are float32.
Not covered: the weight cache (`formats.mapped`), which keeps a form for the next start.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Mapping

import torch
from torch import Tensor

from lmstack.core import InputError, UnsupportedError, shown
from lmstack.model.config import TransformerConfig
from lmstack.model.formats.assembly import AssemblyPlan, Weight, matrices_of, meta_module
from lmstack.model.formats.gguf.file import GGUFFile
from lmstack.model.formats.gguf.matrices import file_matrix
from lmstack.model.quant.matrix import QuantizedMatrix
from lmstack.model.quant.progressive import fits_lines, on_lines
from lmstack.model.quant.quantize import (
    int8_group,
    int8_narrow,
    nf4_key,
    quantize_int8,
    quantize_nf4,
    quantize_q4,
)
from lmstack.model.quant.recipes import FILE_FORMS, FORMS, Form
from lmstack.model.quant.smoothquant import Smoothing

__all__ = [
    "DTYPES",
    "FORMS",
    "Form",
    "Weight",
    "as_form",
    "int8_weights",
    "is_quantized",
    "weights_in_form",
]

DTYPES: Mapping[Form, torch.dtype] = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}


def as_form(value: object) -> Form:
    """``value``, if it names a form."""
    for form in FORMS:
        if value == form:
            return form
    raise InputError(
        f"weights is {shown(value)}", hint=f"one of: {', '.join(FORMS)}", param="weights"
    )


def is_quantized(form: Form) -> bool:
    """Whether matrices are small integers in ``form``."""
    return as_form(form) not in DTYPES


def weights_in_form(
    plan: AssemblyPlan,
    form: Form,
    smoothing: Smoothing | None = None,
    importance: Mapping[str, Tensor] | None = None,
) -> dict[str, Weight]:
    """Our tensors, the matrices among them in ``form``. A matrix at a time: the floats of all
    are never in memory together. ``smoothing`` changes them before they are rounded;
    ``importance``: of the columns of matrices in ``q4`` and ``nf4``, by name."""
    if not is_quantized(form):
        return dict(plan.tensors(DTYPES[form]))
    if form in FILE_FORMS and not isinstance(plan.source, GGUFFile):
        raise UnsupportedError(
            f"{plan.source.label} holds floats; weights='{form}' keeps the blocks of a GGUF file",
            hint="use weights='int8'",
            param="weights",
        )

    smooth, counts = smoothing or Smoothing(), importance or {}

    def converted(key: str) -> Weight:
        if key not in plan.matrices:
            return smooth(key, plan.read(key, torch.float32))
        paired = plan.matrices[key]
        if form in FILE_FORMS:
            assert isinstance(plan.source, GGUFFile)
            found = file_matrix(plan.source, plan.parts(key), paired=paired)
            if found is not None and form == "file":
                return found
            if found is not None and fits_lines(found):
                return on_lines(found)
        weight = plan.read(key, torch.float32)
        if form == "file8":
            return quantize_int8(weight, paired=paired)
        if form == "q4":
            return quantize_q4(weight, paired=paired, importance=counts.get(key))
        if form == "nf4" and nf4_key(key):
            return quantize_nf4(weight, paired=paired, importance=counts.get(key))
        return _int8(plan.config, key, weight, smooth, paired)

    return plan.each(converted)


def int8_weights(
    config: TransformerConfig, weights: Mapping[str, Tensor], smoothing: Smoothing
) -> dict[str, Weight]:
    """``weights``, some or all floats of a model with ``config``, the matrices among them in
    ``int8`` as `weights_in_form` makes them."""
    matrices = matrices_of(meta_module(config, sys.maxsize, "the model"))
    return {
        key: _int8(config, key, weight.float(), smoothing, matrices[key])
        if key in matrices
        else smoothing(key, weight.float())
        for key, weight in weights.items()
    }


def _int8(
    config: TransformerConfig, key: str, weight: Tensor, smooth: Smoothing, paired: bool
) -> QuantizedMatrix:
    weight = smooth(key, weight)
    group = int8_group(config, key, weight.shape[1])
    made = quantize_int8(weight, group, paired=paired, narrow=int8_narrow(config, key))
    rows, cols = smooth.of_matrix(key)
    return dataclasses.replace(made, row_factors=rows, col_factors=cols)
