"""A `Transformer` with its weights, from whatever holds them: the one way in for other modules."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor

from lmstack.core import FormatError, NotFoundError, UnsupportedError
from lmstack.core.files import store_error
from lmstack.model.config import TransformerConfig
from lmstack.model.formats.assembly import AssemblyPlan, check_weights, meta_module
from lmstack.model.formats.gguf.file import read_gguf
from lmstack.model.formats.gguf.weights import plan_gguf
from lmstack.model.formats.hf import plan_folder
from lmstack.model.formats.mapped.folder import quantized_form, read_quantized_folder
from lmstack.model.forms import DTYPES, Form, Weight, weights_in_form
from lmstack.model.layers import Embedding, Linear
from lmstack.model.quant.importance import importance_of
from lmstack.model.quant.matrix import QuantizedEmbedding, QuantizedLinear
from lmstack.model.quant.smoothquant import may_smooth, smoothing_of
from lmstack.model.transformer import Transformer

__all__ = ["build_module", "check_model", "load_module", "open_model_plan", "read_weights"]


def load_module(
    path: Path | str,
    dtype: torch.dtype = torch.float32,
    *,
    weights: Form | None = None,
) -> Transformer:
    """The model at ``path`` in evaluation mode, its weights in ``dtype``, or in the form that
    ``weights`` names (`forms`).

    ``path``: a Hugging Face folder, a sentence-transformers folder, a GGUF file, or a folder
    with one GGUF file and no config.json.
    """
    if not dtype.is_floating_point:
        raise UnsupportedError(f"weights in {dtype}", hint="use a floating dtype")
    if weights is None:
        named = next((name for name, found in DTYPES.items() if found == dtype), None)
        if named is None:
            with open_model_plan(Path(path)) as plan:
                return build_module(plan.config, plan.tensors(dtype))
        weights = named
    return build_module(*read_weights(Path(path), weights), source=str(path))


def read_weights(
    path: Path, form: Form, ids: Sequence[int] | None = None
) -> tuple[TransformerConfig, dict[str, Weight]]:
    """Config and weights of the model at ``path`` in ``form``. Nothing is mapped but a folder
    that is quantized already. ``ids``: of a text that shows ``int8``, ``q4`` and ``nf4`` which
    activations are large (`calibration_text`); tokens by chance unless given."""
    if os.path.isdir(path) and quantized_form(path) is not None:
        return read_quantized_folder(path, form)
    with open_model_plan(path) as plan:
        smoothing, importance = None, None
        if form in ("int8", "q4", "nf4") and may_smooth(plan.config):
            module = build_module(plan.config, weights_in_form(plan, "bfloat16"))
            seen = ids or _by_chance(plan.config.vocab_size)
            if form == "int8":
                smoothing = smoothing_of(module, seen)
            else:
                importance = importance_of(module, seen)
            del module
        return plan.config, weights_in_form(plan, form, smoothing, importance)


def check_model(path: Path) -> None:
    """Raise what `load_module` would say of the model at ``path`` before it reads any weights:
    of its config, and of tensors that are missing, unknown, or of other shapes."""
    if os.path.isdir(path) and (form := quantized_form(path)) is not None:
        build_module(*read_quantized_folder(path, form), source=str(path))
        return
    with open_model_plan(path):
        return


def _by_chance(vocab_size: int) -> list[int]:
    seed = torch.Generator().manual_seed(0)
    return torch.randint(vocab_size, (512,), generator=seed).tolist()


@contextmanager
def open_model_plan(path: Path) -> Iterator[AssemblyPlan]:
    """What is where in the model at ``path``, which stays open meanwhile."""
    try:
        if not path.exists():
            raise NotFoundError(
                f"{path} does not exist", hint="lmstack model list shows what is here"
            )
        gguf = _gguf_file(path)
    except OSError as error:
        raise store_error(error, path, "reading") from error
    if gguf is None:
        yield plan_folder(path)
        return
    with read_gguf(gguf) as file:
        yield plan_gguf(file)


def build_module(
    config: TransformerConfig,
    weights: Mapping[str, Weight],
    *,
    source: str = "the model",
) -> Transformer:
    """A module that owns ``weights``, in evaluation mode. `FormatError` where they are not those
    of ``config``, which names ``source``."""
    module = meta_module(config, len(weights), source)
    check_weights(module, weights, source)
    state: dict[str, Tensor] = {}
    for key, weight in weights.items():
        if isinstance(weight, Tensor):
            state[key] = weight
            continue
        path = key.removesuffix(".weight")
        replaced = module.get_submodule(path)
        if isinstance(replaced, Embedding):
            module.put(path, QuantizedEmbedding(weight))
        else:
            assert isinstance(replaced, Linear)
            module.put(path, QuantizedLinear(weight, replaced.bias))
        state |= {f"{path}.{name}": tensor for name, tensor in weight.buffers().items()}
    module.load_state_dict(state, assign=True)
    return module.eval()


def _gguf_file(path: Path) -> Path | None:
    if path.is_file():
        if path.suffix != ".gguf":
            raise FormatError(
                f"{path} is a file that is not .gguf", hint="give a folder or a .gguf file"
            )
        return path
    if (path / "config.json").exists():
        return None
    found = sorted(path.glob("*.gguf"))
    if len(found) > 1:
        raise FormatError(
            f"{path} has {len(found)} GGUF files", hint=f"name one, for example {found[0]}"
        )
    return found[0] if found else None
