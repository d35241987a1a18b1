"""The model that `lmstack plan` is asked about: its config, and its weights where it has some.

A name in the store, a folder (with weights or without), a GGUF file or a bare config.json: no
weight is read, and no file is hashed. Does not cover planning (`engine.planning`).
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lmstack.core import FormatError, InputError, NotFoundError, UnsupportedError

if TYPE_CHECKING:
    from lmstack.engine.weights import WeightForm, Weights
    from lmstack.model import TransformerConfig

__all__ = ["FILE_FORM", "PlannedModel", "find_model"]

FILE_FORM = "file"
_STORED: dict[str, WeightForm] = {
    "F32": "float32",
    "F16": "bfloat16",  # as many bytes
    "BF16": "bfloat16",
}


@dataclass(frozen=True)
class PlannedModel:
    """``gguf``: the file of its weights; ``tensors``: those in safetensors."""

    name: str
    config: TransformerConfig
    gguf: Path | None = None
    tensors: Sequence[Path] = ()

    @property
    def usual_form(self) -> str:
        """The form in which it is served where nothing else is asked for."""
        return FILE_FORM if self.gguf is not None else "bfloat16"

    def weights(self, form: str) -> Weights:
        """Their bytes in ``form``, one of `engine.weights.FORMS` or ``file``: as stored."""
        from lmstack.engine.weights import stored_weights, weights_in
        from lmstack.model import read_gguf

        if form != FILE_FORM:
            return weights_in(self.config, form)  # type: ignore[arg-type]
        if self.gguf is not None:
            with read_gguf(self.gguf) as file:
                return stored_weights(file)
        if not self.tensors:
            raise InputError(
                f"{self.name} has no weights whose form could be taken",
                hint="--weights bfloat16, or float32, int8, q4",
                param="weights",
            )
        return weights_in(self.config, _stored_form(self.tensors[0]))


def find_model(reference: str) -> PlannedModel:
    """What ``reference`` names. Nothing is pulled."""
    from lmstack.registry import Store
    from lmstack.registry.refs import PathRef, parse_ref

    parsed, store, path = parse_ref(reference), Store(), Path(reference)
    if path.suffix == ".json":
        name = Path(os.path.abspath(path)).parent.name if path.stem == "config" else path.stem
        return _from_config(path, name)
    if isinstance(parsed, PathRef):
        path = parsed.path
    elif (store.folder / parsed.name).exists() or not path.is_dir():
        folder = store.resolve(reference)
        if folder.gguf is not None:
            return _from_gguf(folder.gguf, folder.name)
        path = folder.path
        return _from_config(path / "config.json", folder.name, sorted(path.glob("*.safetensors")))
    return _from_path(path)


def _from_path(path: Path) -> PlannedModel:
    if not path.exists():
        raise NotFoundError(
            f"{path} does not exist",
            hint="give a model folder, a .gguf file, a config.json or a name of `lmstack models`",
        )
    name = path.stem if path.suffix == ".gguf" else path.resolve().name
    if path.is_file():
        if path.suffix != ".gguf":
            raise FormatError(
                f"{path} is neither .gguf nor .json", hint="give one of these, or a model's folder"
            )
        return _from_gguf(path, name)
    files = sorted(path.glob("*.gguf"))
    if (path / "config.json").exists() or len(files) != 1:
        return _from_config(path / "config.json", name, sorted(path.glob("*.safetensors")))
    return _from_gguf(files[0], name)


def _from_config(path: Path, name: str, tensors: Sequence[Path] = ()) -> PlannedModel:
    from lmstack.model import TransformerConfig
    from lmstack.model.folder import read_json

    return PlannedModel(name, TransformerConfig.from_hf(read_json(path), str(path)), None, tensors)


def _from_gguf(path: Path, name: str) -> PlannedModel:
    from lmstack.model import read_gguf
    from lmstack.model.gguf_weights import read_gguf_config

    with read_gguf(path) as file:
        return PlannedModel(name, read_gguf_config(file), path)


def _stored_form(path: Path) -> WeightForm:
    """The type of the largest tensor: what most of the weights are stored as."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            parts = [file.get_slice(name) for name in file.keys()]  # noqa: SIM118 - no mapping
            largest = max(parts, key=lambda part: math.prod(part.get_shape()), default=None)
            kind = "F32" if largest is None else str(largest.get_dtype())
    except (OSError, SafetensorError) as error:
        raise FormatError(
            f"{path} is not a safetensors file: {error}", hint="fetch the model again"
        ) from error
    if kind not in _STORED:
        raise UnsupportedError(
            f"{path}: weights are stored as {kind}", hint="--weights bfloat16, or int8, q4"
        )
    return _STORED[kind]
