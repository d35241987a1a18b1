"""What the files of a model say about it: kind, architecture, size, licence.

Reads headers and configuration only. Does not build anything.
"""

from __future__ import annotations

import json
import math
import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lmstack.core import FormatError, NotFoundError, shown
from lmstack.registry.card import Kind
from lmstack.registry.home import store_error
from lmstack.registry.selection import CONVERT, PICKLES

__all__ = ["Facts", "describe", "json_file"]

_MAX_HEADER = 100_000_000
_FRONT_LICENCE = re.compile(r"^license:\s*(\S[^\n]*)$", re.MULTILINE)


@dataclass(frozen=True)
class Facts:
    kind: Kind
    architecture: str
    parameters: int
    licence: str


def describe(path: Path) -> Facts:
    """Facts of a model folder or ``.gguf`` file; an error says what is missing or damaged."""
    if path.is_file():
        return _gguf(path)
    ggufs = sorted(path.glob("*.gguf"))
    weights = sorted(path.glob("*.safetensors"))
    if weights:
        return _folder(path, weights)
    if len(ggufs) == 1:
        return _gguf(ggufs[0])
    if ggufs:
        names = ", ".join(file.name for file in ggufs)
        raise FormatError(f"{path} has several GGUF files: {names}", hint="name one of them")
    pickles = sorted(file for file in path.glob("*") if file.suffix in PICKLES)
    if pickles:
        raise FormatError(f"{pickles[0]} is a pickle", hint=CONVERT)
    raise FormatError(
        f"{path} has no weights (*.safetensors or *.gguf)",
        hint="give the folder that holds them, or a .gguf file",
    )


def json_file(path: Path) -> dict[str, Any]:
    """The object in a JSON file; `NotFoundError` or `FormatError` that names the file."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise NotFoundError(f"{path} is missing", hint="get the model again, complete") from None
    except (ValueError, RecursionError) as error:
        raise FormatError(
            f"{path} is not valid JSON: {error}", hint="get the model again, complete"
        ) from error
    except OSError as error:
        raise store_error(error, path, "reading") from error
    if not isinstance(value, dict):
        raise FormatError(
            f"{path} holds {shown(value)}, not an object", hint="get the model again, complete"
        )
    return value


def _folder(path: Path, weights: list[Path]) -> Facts:
    config = json_file(path / "config.json")
    names = config.get("architectures") or [""]
    generates = str(names[0]).endswith(("ForCausalLM", "LMHeadModel", "ForConditionalGeneration"))
    embeds = (path / "modules.json").exists() or not generates
    return Facts(
        kind="embed" if embeds else "generate",
        architecture=str(config.get("model_type", "")),
        parameters=sum(_safetensors_parameters(file) for file in weights),
        licence=_readme_licence(path / "README.md"),
    )


def _gguf(path: Path) -> Facts:
    # Imported here: listing models must not wait for torch.
    from lmstack.model import read_gguf

    with read_gguf(path) as file:
        metadata: Mapping[str, Any] = file.metadata
        parameters = sum(math.prod(file.shape(name)) for name in file.names())
    architecture = str(metadata.get("general.architecture", ""))
    return Facts(
        kind="embed" if "bert" in architecture else "generate",
        architecture=architecture,
        parameters=parameters,
        licence=str(metadata.get("general.license", "")),
    )


def _safetensors_parameters(path: Path) -> int:
    """From the header (eight bytes of length, then JSON), which must also fit the file's size."""
    try:
        with path.open("rb") as handle:
            size = struct.unpack("<Q", handle.read(8).ljust(8, b"\xff"))[0]
            header: Any = json.loads(handle.read(size)) if size <= _MAX_HEADER else None
        tensors = [value for name, value in header.items() if name != "__metadata__"]
        end = max((int(tensor["data_offsets"][1]) for tensor in tensors), default=0)
        whole = path.stat().st_size == 8 + size + end
        count = sum(math.prod(int(n) for n in tensor["shape"]) for tensor in tensors)
    except OSError as error:
        raise store_error(error, path, "reading") from error
    except (ValueError, TypeError, AttributeError, LookupError, RecursionError):
        whole, count = False, 0
    if not whole:
        raise FormatError(
            f"{path} is no whole safetensors file",
            hint="it is cut or damaged: get the model again",
        )
    return count


def _readme_licence(path: Path) -> str:
    try:
        text = path.read_text(encoding="utf-8", errors="replace")[:10_000]
    except OSError:
        return ""
    front = text.split("---", 2)[1] if text.startswith("---") and text.count("---") > 1 else ""
    match = _FRONT_LICENCE.search(front)
    return match[1].strip().strip("'\"") if match else ""
