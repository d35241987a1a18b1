"""A `Transformer` with its weights, from whatever holds them: the one way in for other modules."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from lmstack.core import FormatError, NotFoundError, StoreError, UnsupportedError
from lmstack.model.config import TransformerConfig
from lmstack.model.folder import read_folder
from lmstack.model.gguf import read_gguf
from lmstack.model.gguf_weights import read_gguf_weights
from lmstack.model.ops import REFERENCE_OPS, Ops
from lmstack.model.transformer import Transformer

__all__ = ["build_module", "load_module"]


def load_module(
    path: Path | str, dtype: torch.dtype = torch.float32, ops: Ops = REFERENCE_OPS
) -> Transformer:
    """The model at ``path`` in evaluation mode, its weights in ``dtype``.

    ``path``: a Hugging Face folder, a sentence-transformers folder, a GGUF file, or a folder
    with one GGUF file and no config.json.
    """
    if not dtype.is_floating_point:
        raise UnsupportedError(f"weights in {dtype}", hint="use a floating dtype")
    path = Path(path)
    try:
        if not path.exists():
            raise NotFoundError(f"{path} does not exist", hint="lmstack models lists what is here")
        gguf = _gguf_file(path)
    except OSError as error:
        raise StoreError(f"{path} cannot be read: {error.strerror}") from error
    if gguf is not None:
        with read_gguf(gguf) as file:
            return build_module(*read_gguf_weights(file, dtype), ops)
    return build_module(*read_folder(path, dtype), ops)


def build_module(
    config: TransformerConfig, tensors: Mapping[str, Tensor], ops: Ops = REFERENCE_OPS
) -> Transformer:
    """A module that owns ``tensors``, in evaluation mode."""
    with torch.device("meta"):
        module = Transformer(config, ops)
    module.load_state_dict(tensors, assign=True)
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
