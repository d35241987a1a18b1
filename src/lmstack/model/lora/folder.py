"""Adapter folders of PEFT: adapter_config.json and adapter_model.safetensors.

Covers checking and reading them whole into memory (adapters are small) and writing them.
Pickled adapters are refused. Does not cover where tensors belong (`slots`).
"""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor

from lmstack.core import FormatError, NotFoundError, UnsupportedError, shown
from lmstack.core.files import store_error, write_atomic
from lmstack.model.formats.hf import parsed_json, write_tensors
from lmstack.model.lora.config import LoraConfig

__all__ = ["StoredAdapter", "adapter_digest", "read_adapter", "write_adapter"]

_PREFIX = "base_model.model."
_WEIGHTS = "adapter_model.safetensors"
_CONFIG = "adapter_config.json"
_KINDS = ("lora_A", "lora_B", "lora_magnitude_vector")


@dataclass(frozen=True)
class StoredAdapter:
    """``factors``: module name, then kind (``lora_A`` ...), to tensor. ``whole``: parameters of
    modules that were trained whole. ``label`` names the folder in messages. ``digest``: of the
    bytes that all of it was read from. ``base``: the name of the base model, "" where the folder
    does not say."""

    label: str
    digest: str
    config: LoraConfig
    factors: Mapping[str, Mapping[str, Tensor]]
    whole: Mapping[str, Tensor]
    base: str = ""

    def modules(self) -> list[str]:
        return list(self.factors)

    def check(self, name: str, tensor: Tensor | None, shape: tuple[int, ...]) -> None:
        """`FormatError` unless ``tensor`` is there, of ``shape``, and of floating numbers."""
        if tensor is None:
            raise FormatError(f"{self.label} has no tensor {name}", hint="the adapter is damaged")
        if tuple(tensor.shape) != shape or not tensor.is_floating_point():
            raise FormatError(
                f"{self.label}: {name} is {tensor.dtype} of shape {tuple(tensor.shape)}, "
                f"for this model and its config it is {shape}",
                hint="the adapter is damaged, or belongs to another model",
            )

    def factors_of(self, name: str, rows: int, columns: int) -> Mapping[str, Tensor]:
        """Those of the module ``name``, whose weight is (rows, columns), by kind and checked."""
        rank = self.config.rank_of(name)
        shapes: dict[str, tuple[int, ...]] = {"lora_A": (rank, columns), "lora_B": (rows, rank)}
        if self.config.dora:
            shapes["lora_magnitude_vector"] = (rows,)
        found = self.factors[name]
        for kind, shape in shapes.items():
            self.check(f"{name}.{kind}", found.get(kind), shape)
        unused = sorted(set(found) - set(shapes))
        if unused:
            raise UnsupportedError(f"{self.label}: {name}.{unused[0]} is not implemented")
        return found


def read_adapter(path: Path | str) -> StoredAdapter:
    """Everything in the folder, checked as far as that needs no model."""
    folder = Path(path)
    contents = _contents(folder)
    values = parsed_json(contents[_CONFIG], folder / _CONFIG)
    config = LoraConfig.from_peft(values, str(folder / _CONFIG))
    factors: dict[str, dict[str, Tensor]] = defaultdict(dict)
    whole: dict[str, Tensor] = {}
    for stored, tensor in sorted(_tensors(contents[_WEIGHTS], folder / _WEIGHTS).items()):
        name = stored.removeprefix(_PREFIX)
        if ".lora_" not in name:
            whole[name] = tensor
            continue
        module, _, kind = name.removesuffix(".weight").rpartition(".lora_")
        if f"lora_{kind}" not in _KINDS:
            raise UnsupportedError(f"{folder}: {shown(name)} is not implemented")
        factors[module][f"lora_{kind}"] = tensor
    if not factors and not whole:
        raise FormatError(f"{folder} holds no tensors", hint="the adapter is damaged")
    base = values.get("base_model_name_or_path")
    return StoredAdapter(
        label=str(folder),
        digest=_digest(contents),
        config=config,
        factors=factors,
        whole=whole,
        base=base if isinstance(base, str) else "",
    )


def adapter_digest(folder: Path) -> str:
    """Of the names and contents of the files that make up an adapter."""
    return _digest(_contents(folder))


def _digest(contents: Mapping[str, bytes]) -> str:
    digest = hashlib.sha256()
    for name, content in contents.items():
        digest.update(f"{name} {len(content)}\n".encode() + content)
    return f"sha256:{digest.hexdigest()}"


def _contents(folder: Path) -> dict[str, bytes]:
    """The bytes of the adapter's files, each read once."""
    found = {}
    for name in (_CONFIG, _WEIGHTS):
        try:
            found[name] = (folder / name).read_bytes()
        except FileNotFoundError:
            if name == _WEIGHTS and any(folder.glob("adapter_model.bin")):
                raise UnsupportedError(
                    f"{folder} has a pickled adapter, which can run code when opened",
                    hint="convert it where you trust it: save_pretrained(NEW) with PEFT",
                ) from None
            raise NotFoundError(
                f"{folder} has no {name}", hint="give the folder of an adapter"
            ) from None
        except OSError as error:
            raise store_error(error, folder / name, "reading") from error
    return found


def _tensors(content: bytes, path: Path) -> dict[str, Tensor]:
    try:
        tensors: dict[str, Tensor] = load(content)
    except SafetensorError as error:
        raise FormatError(
            f"{path} is not a safetensors file: {error}", hint="fetch it again"
        ) from error
    return tensors


def write_adapter(
    path: Path | str,
    config: LoraConfig,
    tensors: Mapping[str, Tensor],
    extra: Mapping[str, Any],
) -> None:
    """Each file is replaced whole or not at all. ``extra``: further keys of the config."""
    folder = Path(path)
    named = {f"{_PREFIX}{k}": v for k, v in tensors.items()}
    text = json.dumps(config.to_peft() | dict(extra), indent=2, sort_keys=True) + "\n"
    write_tensors(folder / _WEIGHTS, named)
    write_atomic(folder / _CONFIG, text.encode())
