"""Hugging Face model folders: config.json and safetensors, read and written.

Covers one file or shards with an index, names with or without the prefix of the base model,
names of older checkpoints, tied output layers. How tensors lie is in `layouts`. Pickled weights
are refused. Not covered: the tokenizer (`lmstack.text`) and generation settings, which live in
the same folder.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from lmstack.core import FormatError, InputError, NotFoundError, UnsupportedError, shown
from lmstack.core.files import replaced_file, store_error, write_atomic
from lmstack.model.config import TransformerConfig
from lmstack.model.families import Family, config_from_json, config_to_json, family_of
from lmstack.model.families.family import renamed
from lmstack.model.formats.assembly import AssemblyPlan, head_counts, meta_module, planned
from lmstack.model.formats.layouts import Table, head_starts, pieces, stored_names
from lmstack.model.lora.layers import refuse_terms
from lmstack.model.quant.matrix import float_state
from lmstack.model.transformer import Transformer

__all__ = [
    "parsed_json",
    "plan_folder",
    "read_folder",
    "read_json",
    "write_folder",
    "write_tensors",
]

_DTYPES = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16, "F64": torch.float64}
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")
_CONFIG_LIMIT = 64 << 20


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in ``path``."""
    try:
        if path.stat().st_size > _CONFIG_LIMIT:
            raise FormatError(f"{path} has {path.stat().st_size} bytes, too many for a config")
        text = path.read_bytes()
    except FileNotFoundError:
        raise NotFoundError(
            f"{path.parent} has no {path.name}", hint="give the folder of a model"
        ) from None
    except OSError as error:
        raise store_error(error, path, "reading") from error
    return parsed_json(text, path)


def parsed_json(text: bytes, path: Path) -> dict[str, Any]:
    """The JSON object that ``text``, read from ``path``, is."""
    try:
        value = json.loads(text.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise FormatError(f"{path} is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise FormatError(f"{path} holds {shown(value)}, not an object")
    return value


class FolderTensors:
    """A `TensorSource` over the safetensors files of a folder, under the names of a family."""

    def __init__(self, folder: Path, family: Family, table: Table) -> None:
        self.label = str(folder)
        self._files: dict[str, Any] = {}
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._dtypes: dict[str, str] = {}
        self._stored: dict[str, str] = {}
        for path in _weight_files(folder):
            self._open(path, family, (family.prefix, *head_starts(table, family.prefix)))

    def _open(self, path: Path, family: Family, headed: tuple[str, ...]) -> None:
        try:
            file: Any = safe_open(path, framework="pt")
            for stored in file.keys():  # noqa: SIM118 - not a mapping
                part = file.get_slice(stored)
                name = self._canonical(stored, family, headed)
                if name in self._files:
                    raise FormatError(f"{self.label} holds {name} twice")
                self._files[name], self._stored[name] = file, stored
                self._shapes[name], self._dtypes[name] = tuple(part.get_shape()), part.get_dtype()
        except FileNotFoundError:
            raise NotFoundError(f"{path.parent} has no {path.name}") from None
        except OSError as error:
            raise store_error(error, path, "reading") from error
        except SafetensorError as error:
            raise FormatError(
                f"{path} is not a safetensors file: {error}", hint="fetch the model again"
            ) from error

    @staticmethod
    def _canonical(stored: str, family: Family, headed: tuple[str, ...]) -> str:
        """The name of today, with the prefix that names of a bare base model have under a head."""
        stored = renamed(stored, family.renames)
        return stored if stored.startswith(headed) else family.prefix + stored

    def names(self) -> Collection[str]:
        return self._files.keys()

    def shape(self, name: str) -> tuple[int, ...]:
        return self._shapes[name]

    def dtype(self, name: str) -> torch.dtype:
        kind = self._dtypes[name]
        if kind not in _DTYPES:
            raise UnsupportedError(
                f"{self.label}: {name} is stored as {kind}",
                hint=f"weights may be {', '.join(_DTYPES)}",
            )
        return _DTYPES[kind]

    def read_into(self, name: str, out: Tensor) -> None:
        self.dtype(name)
        out.copy_(self._files[name].get_tensor(self._stored[name]))


def _weight_files(folder: Path) -> list[Path]:
    index = folder / "model.safetensors.index.json"
    if not index.exists():
        if (folder / "model.safetensors").exists():
            return [folder / "model.safetensors"]
        raise _no_weights(folder)
    shards = read_json(index).get("weight_map")
    if not isinstance(shards, dict) or not shards:
        raise FormatError(f"{index} has no weight_map")
    names = set(shards.values()) if all(isinstance(n, str) for n in shards.values()) else set()
    if not names or any(Path(name).name != name for name in names):
        raise FormatError(f"{index} names files outside its folder: {shown(shards)}")
    return [folder / name for name in sorted(names)]


def _no_weights(folder: Path) -> Exception:
    if any(any(folder.glob(pattern)) for pattern in _PICKLES):
        return UnsupportedError(
            f"{folder} has pickled weights, which can run code when opened",
            hint="convert them where you trust them: "
            "AutoModel.from_pretrained(FOLDER).save_pretrained(NEW) with transformers",
        )
    return NotFoundError(
        f"{folder} has no model.safetensors", hint="give the folder of a model, or a .gguf file"
    )


def read_folder(
    path: Path | str, dtype: torch.dtype | None = None
) -> tuple[TransformerConfig, dict[str, Tensor]]:
    """Config and tensors under our names, in ``dtype`` or as stored."""
    plan = plan_folder(Path(path))
    return plan.config, plan.tensors(dtype)


def plan_folder(folder: Path) -> AssemblyPlan:
    """What is where in a model folder.

    An output layer that the config ties and that the file nevertheless holds with other values
    is untied, as transformers does.
    """
    values = read_json(folder / "config.json")
    label = str(folder / "config.json")
    config, family = config_from_json(values, label), family_of(values, label)
    table = family.table(config)
    source = FolderTensors(folder, family, table)
    config = _fit_head(config, family, table, source)
    ignored = family.ignored
    if config.tie_embeddings:
        ignored += stored_names("head.weight", table)
    module = meta_module(config, len(source.names()), source.label)
    return planned(
        module,
        family.table(config),
        source,
        ignored=ignored,
        alternatives=family.alternatives,
    )


def _fit_head(
    config: TransformerConfig, family: Family, table: Table, source: FolderTensors
) -> TransformerConfig:
    """The config as the tensors have it, where its flags say otherwise."""
    names = set(source.names())
    if config.head == "pool" and stored_names("transform.weight", table)[0] not in names:
        return config.replace(head="none", transform=None)
    (embed,) = stored_names("embed.weight", table)
    if config.encoder is not None and config.share_embeddings:
        others = (n for n in names if n.endswith("embed_tokens.weight") and embed in names)
        if not all(_equal(source, embed, name) for name in others):
            raise UnsupportedError(
                f"{source.label}: encoder and decoder have different embeddings,"
                " though its config shares them"
            )
    if config.head != "lm":
        return config
    (head,) = stored_names("head.weight", table)
    if family.always_tied and head not in names:
        return config.replace(tie_embeddings=True)
    if not config.tie_embeddings or not {embed, head} <= names or _equal(source, embed, head):
        return config
    if source.shape(embed) != source.shape(head):
        return config
    return config.replace(tie_embeddings=False)


def _equal(source: FolderTensors, one: str, other: str) -> bool:
    if one == other or source.shape(one) != source.shape(other):
        return one == other
    left, right = (torch.empty(source.shape(name)) for name in (one, other))
    source.read_into(one, left)
    source.read_into(other, right)
    return torch.equal(left, right)


def _as_it_came(
    config: TransformerConfig, family: Family, written: dict[str, Any], original: Mapping[str, Any]
) -> dict[str, Any]:
    """``original`` if it is of ``family`` and read for the written architecture says ``config``;
    else ``written``."""
    kept = {key: value for key, value in original.items() if key != "torch_dtype"}
    kept["architectures"] = written["architectures"]
    if kept.get("model_type") == family.model_type:
        with contextlib.suppress(InputError, FormatError, UnsupportedError):
            if config_from_json(kept) == config:
                return kept
    return written


def write_folder(
    module: Transformer,
    path: Path | str,
    extra: Mapping[str, Any] | None = None,
    original: Mapping[str, Any] | None = None,
) -> None:
    """config.json and model.safetensors that transformers loads, bit-equal to ``module``.

    ``extra``: further keys of config.json, such as the ids of special tokens; a ``model_type``
    among them is the family to write where several can. ``original``: the config.json that the
    model came with, kept as it is where it says what ``module`` computes. Tensors have the names
    that go with it. Each file is replaced whole or not at all.
    """
    refuse_terms(module)
    folder = Path(path)
    more = dict(extra or {})
    family, values = config_to_json(module.config, more.pop("model_type", None))
    values = _as_it_came(module.config, family, values, original or {}) | more
    # A base model without a head is saved by its own class, which has no prefix.
    prefix = family.prefix if module.config.head in ("none", "pool") else ""
    table, heads = family.table(module.config), head_counts(module.config)
    tensors: dict[str, Tensor] = {}
    for key, tensor in float_state(module).items():
        for piece in pieces(key, tensor.cpu(), table, heads):
            for name in (piece.name, *piece.part.copies):
                stored = family.spelled(name.removeprefix(prefix), values)
                tensors[stored] = piece.written().clone()
    values["dtype"] = str(module.dtype).removeprefix("torch.")
    text = json.dumps(values, indent=2, sort_keys=True) + "\n"
    write_tensors(folder / "model.safetensors", tensors)
    write_atomic(folder / "config.json", text.encode())


def write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """A safetensors file as transformers writes it, whole or not at all."""
    whole = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    with replaced_file(path) as partial:
        try:
            save_file(whole, partial, metadata={"format": "pt"})
        except SafetensorError as error:
            raise OSError(str(error)) from error
