"""GGUF files written: a `Transformer`, with whatever metadata comes along.

Matrices are stored in the kind that is asked for, vectors, positions and routers in float32, as
llama.cpp expects; a matrix whose rows are no whole number of blocks falls back to F16. Version 3,
little endian. Not covered: making the metadata of a vocabulary (`lmstack.text` does), splitting.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal, get_args

import torch
from torch import Tensor

from lmstack.core import FormatError, InputError, UnsupportedError, shown
from lmstack.core.files import replaced_file
from lmstack.model.config import TransformerConfig
from lmstack.model.formats.assembly import head_counts
from lmstack.model.formats.gguf.architectures import Architecture
from lmstack.model.formats.gguf.metadata import by_tables, config_from_metadata, metadata_of
from lmstack.model.formats.gguf.quantize import BLOCK, QUANTIZERS
from lmstack.model.formats.layouts import TensorPiece, pieces
from lmstack.model.quant.matrix import float_state
from lmstack.model.transformer import Transformer

__all__ = ["GGUFKind", "write_gguf"]

GGUFKind = Literal["f32", "f16", "bf16", "q8_0", "q4_0"]
_ALIGNMENT = 32
# Numbers of ggml: of a type of tensor, and of a file that is mostly of it.
_TYPES = {"F32": 0, "F16": 1, "Q4_0": 2, "Q8_0": 8, "BF16": 30}
_FILE_TYPES = {"F32": 0, "F16": 1, "Q4_0": 2, "Q8_0": 7, "BF16": 32}
_SIZES = {"F32": 4, "F16": 2, "BF16": 2}
_BLOCK_SIZES = {"Q8_0": 34, "Q4_0": 18}
_DTYPES = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
# Small, and sensitive: never quantized.
_WHOLE = ("position_embd.", "token_types.", "ffn_gate_inp.", "rope_")
_CHUNK = 1 << 22
_UNUSED = 5


@dataclass(frozen=True)
class _Stored:
    """A tensor on its way into a file."""

    name: str
    piece: TensorPiece | None
    values: Tensor | None
    shape: tuple[int, ...]
    kind: str

    @property
    def size(self) -> int:
        count = math.prod(self.shape)
        if self.kind in _BLOCK_SIZES:
            return count // BLOCK * _BLOCK_SIZES[self.kind]
        return count * _SIZES[self.kind]

    def read(self) -> Tensor:
        if self.piece is not None:
            return self.piece.written()
        assert self.values is not None
        return self.values


def write_gguf(
    module: Transformer,
    path: Path | str,
    kind: GGUFKind = "q8_0",
    metadata: Mapping[str, Any] | None = None,
) -> None:
    """A file that llama.cpp loads. ``metadata``: further keys, such as those of the vocabulary,
    whose tokens are filled up to the rows of the embedding table. The file is replaced whole or
    not at all. `UnsupportedError`: no architecture of llama.cpp says all that the config does.
    """
    if kind not in get_args(GGUFKind):
        raise InputError(
            f"kind is {shown(kind)}", hint=f"one of: {', '.join(get_args(GGUFKind))}", param="kind"
        )
    config, tensors = _written_form(module)
    arch, written, tables = _writing(config, set(tensors))
    if arch.untied and "head.weight" not in tensors:
        tensors["head.weight"] = tensors["embed.weight"]
    filled = _fill(dict(metadata or {}), config.vocab_size)
    values = {
        "general.architecture": arch.name,
        "general.file_type": _FILE_TYPES[kind.upper()],
        "general.quantization_version": 2,
        **written,
        **filled,
    }
    stored = list(_stored(config, arch, tensors, kind.upper()))
    stored += [
        _Stored(name, None, torch.tensor(table), (len(table),), "F32")
        for name, table in tables.items()
    ]
    with replaced_file(Path(path)) as partial, partial.open("wb") as file:
        _write(file, values, stored)


def _written_form(module: Transformer) -> tuple[TransformerConfig, dict[str, Tensor]]:
    """Config and tensors without the pooler of a bare encoder: embeddings do without it."""
    config = module.config
    tensors = float_state(module)
    if config.head == "pool":
        config = config.replace(head="none", transform=None)
        tensors = {k: t for k, t in tensors.items() if not k.startswith("transform.")}
    return config, tensors


def _writing(
    config: TransformerConfig, keys: set[str]
) -> tuple[Architecture, dict[str, Any], dict[str, tuple[float, ...]]]:
    """The first architecture whose metadata reads back as ``config``."""
    heads = head_counts(config)
    with torch.device("meta"):
        parameters = Transformer(config).state_dict()
    for arch, metadata, tables in metadata_of(config):
        goal = config.replace(tie_embeddings=False) if arch.untied else config
        try:
            table = arch.table(config.num_experts)
            names = {
                piece.name for key in keys for piece in pieces(key, parameters[key], table, heads)
            }
        except KeyError:
            continue
        if arch.untied:
            names.add("output.weight")
        try:
            back = config_from_metadata(metadata, names, "", tables)
        except (InputError, FormatError):
            continue
        if _alike(back, goal):
            return arch, metadata, tables
    raise UnsupportedError(
        "no architecture of GGUF has this combination of settings",
        hint="save it as a Hugging Face folder: --to hf",
    )


def _alike(one: TransformerConfig, other: TransformerConfig) -> bool:
    """The same but for how they name a table of rotary divisors."""
    same = [c.replace(kinds=by_tables(c.kinds, c.head_dim)) for c in (one, other)]
    return same[0] == same[1]


def _fill(metadata: dict[str, Any], rows: int) -> dict[str, Any]:
    """A vocabulary with as many tokens as the embedding table has rows."""
    tokens = metadata.get("tokenizer.ggml.tokens")
    if tokens is None:
        return metadata
    if len(tokens) > rows:
        raise InputError(
            f"the tokenizer has {len(tokens)} tokens, the model {rows} rows of embeddings",
            hint="they do not belong together",
        )
    missing = rows - len(tokens)
    more: dict[str, list[Any]] = {
        "tokens": [f"[PAD{len(tokens) + i}]" for i in range(missing)],
        "token_type": [_UNUSED] * missing,
        "scores": [-10000.0] * missing,
    }
    for key, values in more.items():
        name = f"tokenizer.ggml.{key}"
        if name in metadata:
            metadata[name] = [*metadata[name], *values]
    return metadata


def _stored(
    config: TransformerConfig, arch: Architecture, tensors: Mapping[str, Tensor], kind: str
) -> Iterator[_Stored]:
    table, heads = arch.table(config.num_experts), head_counts(config)
    for key, tensor in tensors.items():
        # Vectors are stored in float32, and a layout may compute with them.
        held = tensor.cpu() if tensor.dim() > 1 else tensor.cpu().float()
        for piece in pieces(key, held, table, heads):
            shape = piece.shape
            chosen = kind
            if len(shape) < 2 or any(part in piece.name for part in _WHOLE):
                chosen = "F32"
            elif kind in QUANTIZERS and shape[-1] % BLOCK:
                chosen = "F16"
            yield _Stored(piece.name, piece, None, shape, chosen)


def _write(file: BinaryIO, metadata: Mapping[str, Any], stored: list[_Stored]) -> None:
    file.write(b"GGUF" + struct.pack("<IQQ", 3, len(stored), len(metadata)))
    for key, value in metadata.items():
        file.write(_text(key) + _value(key, value))
    offset = 0
    for tensor in stored:
        dims = tensor.shape[::-1]
        file.write(_text(tensor.name) + struct.pack(f"<I{len(dims)}Q", len(dims), *dims))
        file.write(struct.pack("<IQ", _TYPES[tensor.kind], offset))
        offset += _aligned(tensor.size)
    file.write(bytes(_aligned(file.tell()) - file.tell()))
    for tensor in stored:
        flat = tensor.read().reshape(-1)
        for start in range(0, len(flat), _CHUNK):
            file.write(_bytes(flat[start : start + _CHUNK], tensor.kind))
        file.write(bytes(_aligned(tensor.size) - tensor.size))


def _aligned(size: int) -> int:
    return -(-size // _ALIGNMENT) * _ALIGNMENT


def _bytes(flat: Tensor, kind: str) -> bytes:
    if kind in QUANTIZERS:
        packed = QUANTIZERS[kind](flat.float().view(-1, BLOCK))
    else:
        packed = flat.to(_DTYPES[kind]).contiguous().view(torch.uint8)
    return packed.numpy().tobytes()


def _text(text: str) -> bytes:
    data = text.encode("utf-8")
    return struct.pack("<Q", len(data)) + data


def _value(key: str, value: Any) -> bytes:
    """Type and value. Whole numbers are unsigned where they can be, as the format's own are."""
    if isinstance(value, list | tuple):
        kind, pack = _packer(key, value)
        return struct.pack("<IIQ", 9, kind, len(value)) + b"".join(map(pack, value))
    kind, pack = _packer(key, [value])
    return struct.pack("<I", kind) + bytes(pack(value))


def _packer(key: str, values: Any) -> Any:
    if all(isinstance(value, bool) for value in values):
        return 7, struct.Struct("<?").pack
    if all(isinstance(value, str) for value in values):
        return 8, _text
    if all(isinstance(value, int) for value in values):
        low, high = min(values, default=0), max(values, default=0)
        if len(values) == 1 and low >= 0 and high < 1 << 32:
            return 4, struct.Struct("<I").pack
        wide = not -(1 << 31) <= low <= high < 1 << 31
        return (11, struct.Struct("<q").pack) if wide else (5, struct.Struct("<i").pack)
    if all(isinstance(value, int | float) for value in values):
        return 6, struct.Struct("<f").pack
    raise InputError(
        f"metadata {key} is {shown(values)}", hint="texts, numbers or flags, all alike"
    )
