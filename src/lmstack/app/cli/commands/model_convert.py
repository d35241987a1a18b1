"""`lmstack model convert`: a model as one GGUF file for llama.cpp, or as a Hugging Face folder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from lmstack.app.cli.command import command
from lmstack.app.cli.commands._options import ModelOnDisk
from lmstack.app.cli.output import Output
from lmstack.app.formats import size
from lmstack.core import InputError

if TYPE_CHECKING:
    from lmstack.model import GGUFKind
    from lmstack.registry import LoadedModel

__all__ = ["run"]


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


@command(
    "model convert",
    """
    --to FORMAT: gguf: one file for llama.cpp. hf: a folder for transformers.
    --out, -o: The file or folder to write.
    --quantize KIND: How a GGUF file stores matrices: f32, f16, bf16, q8_0 or q4_0. [default: q8_0]
    --dtype TYPE: Type of a folder's weights: float32, float16 or bfloat16. [default: float32]

    lmstack model convert ./my-model --to gguf --out my-model.gguf --quantize q8_0
    lmstack model convert smollm2-135m-instruct --to hf --out ./smollm2
    """,
)
def run(
    out: Output,
    model: ModelOnDisk,
    to: Literal["gguf", "hf"],
    path: Path,
    quantize: Literal["f32", "f16", "bf16", "q8_0", "q4_0"] | None = None,
    dtype: Literal["float32", "float16", "bfloat16"] | None = None,
) -> None:
    """Write a model in the other format, with its tokenizer and chat template.

    A GGUF file is written only where llama.cpp computes what the model does; what it has no
    place for is an error. Weights that were quantized stay as far from the original as they
    were.
    """
    if to == "hf" and quantize is not None:
        raise InputError("--quantize is for --to gguf", hint="use --dtype for a folder")
    if to == "gguf" and dtype is not None:
        raise InputError("--dtype is for --to hf", hint="use --quantize for a GGUF file")
    written = convert(model, to, path, quantize or "q8_0", dtype or "float32")
    if out.as_json:
        out.result(written)
    else:
        out.line(f"{written['path']}   {size(written['size'])}")
