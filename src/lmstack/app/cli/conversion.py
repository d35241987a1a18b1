"""A model into the other format: what `lmstack convert` does. Imports what it uses when called."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from lmstack.core import InputError

if TYPE_CHECKING:
    from lmstack.model import GGUFKind
    from lmstack.registry import LoadedModel

__all__ = ["convert"]


def convert(
    reference: str, to: Literal["gguf", "hf"], path: Path, kind: GGUFKind, dtype: str
) -> dict[str, Any]:
    """Write the model that ``reference`` names to ``path``; what was written. ``kind``: of a
    GGUF file's matrices. ``dtype``: of a folder's weights."""
    import torch

    from lmstack.registry import Store, load

    if path.exists() and (path.is_file() or any(path.iterdir())):
        raise InputError(
            f"{path} is there already", hint="remove it, or name another place", param="out"
        )
    folder = Store().resolve(reference)
    wide = torch.float32 if to == "gguf" else getattr(torch, dtype)
    model = load(folder, dtype=wide)
    if to == "hf":
        model.save(path)
        files = sorted(file for file in path.iterdir() if file.is_file())
        return {"path": str(path), "format": "hf", "size": sum(f.stat().st_size for f in files)}
    from lmstack.model import write_gguf

    name = {"general.name": folder.name}
    write_gguf(model.module, path, kind, name | _vocabulary(model, folder.gguf))
    return {"path": str(path), "format": "gguf", "kind": kind, "size": path.stat().st_size}


def _vocabulary(model: LoadedModel, gguf: Path | None) -> dict[str, Any]:
    """As the model's own file has it, or made of its tokenizer."""
    if gguf is not None:
        from lmstack.model import read_gguf

        with read_gguf(gguf) as file:
            return {k: v for k, v in file.metadata.items() if k.startswith("tokenizer.")}
    from lmstack.text.gguf_writing import gguf_metadata

    template = None if model.template is None else model.template.source
    return gguf_metadata(model.tokenizer, template)
