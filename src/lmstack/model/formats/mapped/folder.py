"""A model folder whose matrices are quantized: config.json beside one mapped file.

transformers cannot read it: the weights are in a file of a name that it does not look for, so it
says that there are none. Everything else in the folder lies as always. Not covered: making the
weights (`forms`) and what they cost in quality.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from lmstack.core import FormatError, UnsupportedError, shown
from lmstack.core.files import write_atomic
from lmstack.model.config import TransformerConfig
from lmstack.model.families import config_to_json
from lmstack.model.formats.assembly import check_weights, meta_module
from lmstack.model.formats.mapped.file import read_mapped, write_mapped
from lmstack.model.formats.mapped.header import QUANTIZED_FILE, read_stamp
from lmstack.model.forms import DTYPES, FORMS, Form, Weight, as_form, is_quantized

__all__ = ["quantized_form", "read_quantized_folder", "write_quantized_folder"]


def quantized_form(folder: Path) -> Form | None:
    """The form of the weights in ``folder``; None where they are not quantized."""
    if not (folder / QUANTIZED_FILE).is_file():
        return None
    found = read_stamp(folder / QUANTIZED_FILE).get("form")
    if found not in FORMS or found in DTYPES:
        raise FormatError(f"{folder / QUANTIZED_FILE} is of form {shown(found)}")
    return as_form(found)


def read_quantized_folder(folder: Path, form: Form) -> tuple[TransformerConfig, dict[str, Weight]]:
    """Config and weights, in the form that they are in or as floats."""
    held = quantized_form(folder)
    if is_quantized(form) and form != held:
        raise UnsupportedError(
            f"{folder} holds weights as {held}, which cannot become {form}",
            hint="make that form from the original model",
            param="weights",
        )
    config, weights = read_mapped(folder / QUANTIZED_FILE, {})
    if is_quantized(form):
        return config, weights
    # Before they are floats: how their rows lie shows no more in those.
    check_weights(meta_module(config, len(weights), str(folder)), weights, str(folder))
    floats = {k: w if isinstance(w, Tensor) else w.dequantized() for k, w in weights.items()}
    return config, {key: weight.to(DTYPES[form]) for key, weight in floats.items()}


def write_quantized_folder(
    folder: Path,
    config: TransformerConfig,
    weights: Mapping[str, Weight],
    form: Form,
    extra: Mapping[str, Any] | None = None,
) -> None:
    """``extra``: further keys of config.json, and ``model_type`` where several families have
    this config."""
    more = dict(extra or {})
    _, values = config_to_json(config, more.pop("model_type", None))
    count = sum(math.prod(weight.shape) for weight in weights.values())
    stamp = {"form": form, "parameters": str(count)}
    write_mapped(folder / QUANTIZED_FILE, config, weights, stamp)
    text = json.dumps(values | {"dtype": "float32"} | more, indent=2, sort_keys=True) + "\n"
    write_atomic(folder / "config.json", text.encode())
